"""The machine: what it is, and whether it is quiet enough to measure on.

Foreign load turns 1.3 x into 1.7 x. So a round starts only when other processes leave the machine
alone, and it is thrown away when they did not while it ran. "Other" is everything that is not this
process or one of its descendants.

`describe()` gives the facts that every table prints. `ForeignLoad` measures the share of one core
that others used since `restart()`: busy time of all cores from the kernel's totals, minus the time
of our own process tree (with its reaped children, so a child that ends is not counted as foreign).
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import psutil


def describe() -> dict[str, object]:
    """The facts without which a figure means nothing: cores, CPU, kernel, versions, date."""
    import zmq

    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.__version__,
        "uvloop": package_version("uvloop"),
        "msgpack": package_version("msgpack"),
    }


def package_version(name: str) -> str | None:
    """Version of an installed distribution, or None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# The kernel's totals come in ticks of 10 ms: over a shorter time a single tick looks like a crowd.
WINDOW_MIN = 0.1  # seconds


class ForeignLoad:
    """Share of one core that processes outside our own tree use."""

    def __init__(self) -> None:
        self._root = psutil.Process()
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self._busy, self._own, self._at = _busy_time(), _tree_time(self._root), time.monotonic()

    def share(self) -> float:
        """Cores used by others since `restart()`: 0.12 is 12 % of one core, 2.0 two full ones."""
        elapsed = time.monotonic() - self._at
        if elapsed < WINDOW_MIN:
            return 0.0
        busy = _busy_time() - self._busy
        own = _tree_time(self._root) - self._own
        return max(0.0, (busy - own) / elapsed)


_BUSY = ("user", "nice", "system", "irq", "softirq")


def _busy_time() -> float:
    # With interrupts: on loopback they run inside a process's turn, whose own time includes them.
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in _BUSY))


def _tree_time(root: psutil.Process) -> float:
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # it ended: its time is now in its parent's children_*
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RoundLoad:
    """What disturbed a round that was kept: share of a core, and the rounds lost before it."""

    foreign: float
    quiet: bool
    thrown_away: int


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """When a round may start and when it counts. Durations in seconds, shares in cores.

    `wait_max` and `repeats_max` are for all rounds of a question together: a machine that stays
    busy costs a run minutes, not hours.
    """

    share_max: float = 0.12
    sample: float = 0.5
    wait_max: float = 90.0
    repeats_max: int = 5


class Gate:
    """Waits for a quiet machine and judges the rounds; every wait and repeat is bounded."""

    def __init__(
        self,
        settings: GateSettings,
        *,
        load: ForeignLoad | None = None,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._load = load or ForeignLoad()
        self._sleep = sleep
        self._say = say or _to_stderr
        self._wait_left = settings.wait_max
        self._repeats_left = settings.repeats_max

    def wait_until_quiet(self) -> float:
        """Return once others use less than the limit, or when `wait_max` is used up.

        Gives the last share seen. The first look is free: waiting begins with the second.
        """
        share = self._sample()
        if share > self._settings.share_max and self._wait_left > 0:
            self._say(
                f"other processes use {share:.0%} of a core; "
                f"waiting up to {self._wait_left:.0f} s for a quiet machine"
            )
        while share > self._settings.share_max and self._wait_left > 0:
            self._wait_left -= self._settings.sample
            share = self._sample()
        return share

    def _sample(self) -> float:
        self._load.restart()
        self._sleep(self._settings.sample)
        return self._load.share()

    def run_round(self, measure: Callable[[], T], label: str) -> tuple[T, RoundLoad]:
        """One round that counts: repeated while it was disturbed, then kept and marked so."""
        thrown_away = 0
        while True:
            self.wait_until_quiet()
            self._load.restart()
            result = measure()
            share = self._load.share()
            quiet = share <= self._settings.share_max
            if quiet or self._repeats_left <= 0:
                if not quiet:
                    self._say(f"{label}: kept, although others used {share:.0%} of a core")
                return result, RoundLoad(foreign=share, quiet=quiet, thrown_away=thrown_away)
            thrown_away += 1
            self._repeats_left -= 1
            self._say(f"{label}: others used {share:.0%} of a core; thrown away, once more")


def _to_stderr(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
