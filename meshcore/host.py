"""The machine that a node runs on, as others are told: by psutil.

A description of a host is a nested dict; whatever cannot be told there is None:

    name, os, cores, cpu: {model, speed (MHz), usage (0-100)},
    ram: {total (bytes), free (bytes), used_perc (0-100)}

`describe` gives what does not change and costs a look at the machine once; `load` the rest, cheaply
and without waiting: the usage is that since the last look (at first: since the machine started),
and looks that follow each other within LOAD_INTERVAL are one.
"""

from __future__ import annotations

import copy
import functools
import ipaddress
import os
import platform
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
LOAD_INTERVAL = 0.5  # seconds; the kernel counts in hundredths, shorter looks say 0 or 100
_CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """What does not change, without the load."""
    return copy.deepcopy(_facts())


@functools.cache
def _facts() -> dict[str, Any]:
    import psutil  # 15 ms to import, which the command line need not pay

    return {
        "name": platform.node() or None,
        "os": f"{platform.system()} {platform.release()}".strip() or None,
        "cores": _or_none(psutil.cpu_count),
        "cpu": {"model": _or_none(_cpu_model), "speed": _or_none(_cpu_speed)},
        "ram": {"total": _or_none(lambda: psutil.virtual_memory().total)},
    }


class _Load:
    """The last look at the load, for everybody in this process who asks."""

    def __init__(self) -> None:
        self.looked_at: float | None = None
        self.usage: float | None = None
        self.ram: dict[str, Any] = {"free": None, "used_perc": None}

    def look(self, now: float) -> None:
        import psutil

        if self.looked_at is not None and now - self.looked_at < LOAD_INTERVAL:
            return
        usage = _or_none(lambda: float(psutil.cpu_percent(interval=None)))
        # psutil's own first answer is about the moments since it was imported.
        self.usage = usage if self.looked_at is not None else _or_none(_usage_since_boot)
        memory = _or_none(psutil.virtual_memory)
        if memory is not None:
            self.ram = {"free": int(memory.available), "used_perc": float(memory.percent)}
        self.looked_at = now


_LOAD = _Load()


def _usage_since_boot() -> float | None:
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests are counted in user and nice already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return round(100.0 * (1.0 - idle / total), 1) if total > 0 else None


def load() -> dict[str, Any]:
    """What changes all the time: `{"cpu": {"usage"}, "ram": {"free", "used_perc"}}`."""
    _LOAD.look(time.monotonic())
    return {"cpu": {"usage": _LOAD.usage}, "ram": dict(_LOAD.ram)}


def with_load(described: dict[str, Any], measured: dict[str, Any] | None = None) -> dict[str, Any]:
    """A whole description: that, with the load put in (of this machine and moment by default)."""
    now = load() if measured is None else measured
    return {
        **described,
        "cpu": {**described.get("cpu", {}), **now.get("cpu", {})},
        "ram": {**described.get("ram", {}), **now.get("ram", {})},
    }


def as_told(value: Any) -> dict[str, Any]:
    """A description that came from another node: every key is there, what is odd is None.

    Where the node has told nothing of its host, or nothing that is one, it is empty.
    """
    if not isinstance(value, dict) or not value:
        return {}
    cpu, ram = _section(value, "cpu"), _section(value, "ram")
    return {
        "name": _text(value.get("name")),
        "os": _text(value.get("os")),
        "cores": _number(value.get("cores")),
        "cpu": {
            "model": _text(cpu.get("model")),
            "speed": _number(cpu.get("speed")),
            "usage": _number(cpu.get("usage")),
        },
        "ram": {
            "total": _number(ram.get("total")),
            "free": _number(ram.get("free")),
            "used_perc": _number(ram.get("used_perc")),
        },
    }


def dialable_addresses() -> list[str]:
    """The addresses of this machine's interfaces as they stand in a URL.

    Loopback is left out where there is any other: to others it would mean themselves.
    """
    import psutil

    found: dict[str, bool] = {}
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET:
                found[one.address] = one.address.startswith("127.")
            elif one.family == socket.AF_INET6 and "%" not in one.address:
                found[f"[{one.address}]"] = one.address == "::1"
    others = sorted(address for address, is_loopback in found.items() if not is_loopback)
    return others or sorted(found)


def networks() -> list[str]:
    """The networks of this machine's interfaces, loopback included: `10.1.0.0/16`, `::1/128`."""
    import psutil

    found = ["127.0.0.0/8", "::1/128"]
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            # An address with a zone is of one link alone, and no URL can name it.
            if one.family not in (socket.AF_INET, socket.AF_INET6) or "%" in one.address:
                continue
            try:
                bits = int(ipaddress.ip_address(one.netmask or "")).bit_count()
                found.append(str(ipaddress.ip_network(f"{one.address}/{bits}", strict=False)))
            except ValueError:  # a point-to-point interface may have no netmask
                found.append(one.address)
    return list(dict.fromkeys(found))


def pid() -> int:
    """Of this process."""
    return os.getpid()


def process_description() -> str:
    """How this process is named to somebody who claims the same node id."""
    return f"pid {os.getpid()} on host {platform.node()}"


def _or_none(ask: Callable[[], T | None]) -> T | None:
    """What the machine says; None where it cannot tell, as in some containers and systems."""
    try:
        return ask()
    except (OSError, NotImplementedError, AttributeError, ValueError, RuntimeError):
        return None


def _cpu_model() -> str | None:
    if _CPUINFO.exists():
        with _CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, text = line.partition(":")
                if key.strip().lower() in ("model name", "cpu model", "hardware") and text.strip():
                    return text.strip()
    return platform.processor() or platform.machine() or None


def _cpu_speed() -> float | None:
    """Megahertz: the highest where it is known, since the present one changes all the time."""
    import psutil

    frequency: Any = psutil.cpu_freq()  # None in some virtual machines, whatever its types say
    if frequency is None:
        return None
    return float(frequency.max or frequency.current) or None


def _section(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
