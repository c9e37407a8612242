"""What does a node cost that has nothing to do, and does it matter how large its mesh is?

One real process (`meshctl run`) with six neighbours, in a mesh of 10, 100 and 1,000 nodes of which
all but these seven are told of and do not exist (`subjects/idle_neighbours.py`). Nothing happens in
the mesh; CPU is what the kernel counts for the whole process, libzmq's thread included, control
messages are what the node counts itself, memory is its resident set.

Bars: CPU ≤ 1 % of a core; messages flat: at most a tenth more with 1,000 nodes than with 10;
memory ≤ 60 MiB and 2 kB for each node.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import START_TIMEOUT, SubjectError, Worker
from benchmarks.results import Bar, Report
from benchmarks.rounds import Options
from benchmarks.start import environment_of, meshctl

SIZES = (10, 100, 1000)
CPU, MESSAGES, MEMORY, PER_NODE = "CPU", "messages", "memory", "memory per known node"
MIB = 2**20
MEMORY_BASE_MIB, MEMORY_PER_NODE_BYTES = 60.0, 2000
SETTLE = 8.0  # seconds until joining, its repair and the first measured costs are through
QUICK_SETTLE = 4.0
WINDOW, QUICK_WINDOW = 20.0, 5.0
FLAT = 1.1
LEARN_TIMEOUT = 90.0


def subject_of(size: int) -> str:
    return f"in a mesh of {size:,}"


def _bars() -> list[Bar]:
    first = subject_of(SIZES[0])
    bars = []
    for size in SIZES:
        name, room = subject_of(size), MEMORY_BASE_MIB + size * MEMORY_PER_NODE_BYTES / MIB
        bars.append(Bar(subject=name, metric=CPU, compare="value", limit=1.0))
        bars.append(Bar(subject=name, metric=MEMORY, compare="value", limit=round(room, 1)))
        if name != first:
            says = f"messages {name} to those {first}"
            bars.append(Bar(subject=name, metric=MESSAGES, against=(first,), limit=FLAT, says=says))
    return bars


@dataclass(frozen=True)
class Idle:
    """What a node used: percent of a core, control messages a second (in, out), bytes."""

    cpu: float
    received: float
    sent: float
    rss: int


def run(options: Options) -> Report:
    """All sizes alive at once, measured at the same time: they sleep, so they do not compete."""
    report = Report("idle", "a node with nothing to do, six neighbours", quick=options.quick)
    report.metric(CPU, "% of a core", digits=2, ratio=False)
    report.metric(MESSAGES, "control messages/s, both ways", digits=1, ratio=False)
    report.metric(MEMORY, "MiB", digits=1, ratio=False)
    report.metric(PER_NODE, "bytes", ratio=False)
    report.bars += _bars()
    gate = options.gate()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshcore-bench-")))
        nodes = [stack.enter_context(node_in_mesh(folder, size)) for size in SIZES]
        time.sleep(QUICK_SETTLE if options.quick else SETTLE)
        window = QUICK_WINDOW if options.quick else WINDOW
        for number in range(1, options.rounds + 1):
            measured, load = gate.run_round(
                lambda: measure(nodes, window), f"idle, round {number} of {options.rounds}"
            )
            report.rounds.append(load)
            for size, idle in zip(SIZES, measured, strict=True):
                name = subject_of(size)
                report.figure(name, CPU, idle.cpu)
                report.figure(name, MESSAGES, idle.received + idle.sent)
                report.figure(name, MEMORY, idle.rss / MIB)
                if size != SIZES[0]:
                    more = (idle.rss - measured[0].rss) / (size - SIZES[0])
                    report.figure(name, PER_NODE, more)
    return report


def measure(nodes: list[dict[str, Any]], window: float) -> list[Idle]:
    """What each node used in so many seconds, all in the same ones."""
    processes = [psutil.Process(node["pid"]) for node in nodes]
    counted = asyncio.run(_control(nodes))
    time.sleep(0.3)  # the asking itself must not count
    before = [process.cpu_times() for process in processes]
    begun = time.monotonic()
    time.sleep(window)
    after = [process.cpu_times() for process in processes]
    elapsed = time.monotonic() - begun
    sizes = [process.memory_info().rss for process in processes]
    counted_later = asyncio.run(_control(nodes))
    found = []
    for number in range(len(nodes)):
        used = _seconds(after[number]) - _seconds(before[number])
        then, one, other = counted_later[number]["at"], counted_later[number], counted[number]
        span = then - other["at"]
        found.append(
            Idle(
                100 * used / elapsed,
                (one["received"] - other["received"]) / span,
                (one["sent"] - other["sent"]) / span,
                sizes[number],
            )
        )
    return found


def _seconds(times: Any) -> float:
    return float(times.user + times.system)


async def _control(nodes: list[dict[str, Any]]) -> list[dict[str, float]]:
    """What each node has counted of its own control messages by now, but for its clients'."""
    from meshcore import Config, Controller

    found = []
    for node in nodes:
        async with Controller(Config(ephemeral=True, peers=[node["listen"][0]])) as client:
            status = await client.call(node["node_id"], "mesh:status", timeout=10)
            counts = {
                way: sum(
                    count
                    for kind, count in status["control"][way].items()
                    if kind not in ("hello", "welcome", "bye", "view")
                )
                for way in ("received", "sent")
            }
            found.append({"at": time.monotonic(), **counts})
    return found


@contextlib.contextmanager
def node_in_mesh(folder: Path, size: int) -> Iterator[dict[str, Any]]:
    """The measured node, when it knows everybody; its ready line."""
    node_id = f"measured-{size}"
    command = [*meshctl(), "run", "--json", "--id", node_id, "--listen", "tcp://127.0.0.1:0"]
    command += ["--data-dir", str(folder / node_id)]
    out, errors = folder / f"{node_id}.out", folder / f"{node_id}.err"
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(
            command, env=environment_of(folder), stdout=stdout, stderr=stderr
        )
    try:
        ready = _ready(process, out, errors)
        neighbours = Worker("client", "idle_neighbours", {"nodes": size}, ready["listen"][0])
        try:
            neighbours.wait_ready(LEARN_TIMEOUT)
            yield ready
        finally:
            neighbours.stop()
    finally:
        process.terminate()
        process.wait(20)


def _ready(process: subprocess.Popen[bytes], out: Path, errors: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT
    while b"\n" not in out.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SubjectError(f"no ready line: {errors.read_text(errors='replace')[-300:]}")
        time.sleep(0.02)
    return dict(json.loads(out.read_bytes().splitlines()[0]))
