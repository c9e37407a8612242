"""What does it cost that a call outlives its machine?

Three processes serve a counter twice, active and passive, their logs on disk; one of them also
serves it alone, not replicated, and offers a plain action, the fastest call there is (it is eager
and does nothing). One client process calls with 64 in flight: the plain action, the service, the
active group, the passive group, in turn; and one at a time, for the round trip.

Bars: a passive group of three does at least 1,000 calls/s; an active one at least a sixth of the
plain calls of the same round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.results import Bar, Report
from benchmarks.rounds import Options
from meshcore import Config, Controller
from meshcore.runtime import loop as event_loop
from tests.e2e.mesh_processes import World

IN_FLIGHT = 64
SECONDS, QUICK_SECONDS = 3.0, 0.5
ALONE = 200  # calls one at a time
PLAIN, SERVICE = "plain call", "service, not replicated"
ACTIVE, PASSIVE = "active, three", "passive, three"
CALLS, ROUND_TRIP, READS = f"{IN_FLIGHT} in flight", "round trip p50", "reads"
COUNTER = "benchmarks.subjects.counter:Counter"
NODES = ("a", "b", "c")
Call = Callable[[], Awaitable[Any]]

BARS = (
    Bar(subject=PASSIVE, metric=CALLS, compare="value", limit=1000.0,
        says="calls/s of a passive group of three"),
    Bar(subject=ACTIVE, metric=CALLS, against=(PLAIN,), limit=1 / 6,
        says="calls/s of an active group of three against plain calls"),
)  # fmt: skip


def run(options: Options) -> Report:
    """Rounds in one mesh."""
    title = "calls of replicated groups, logs on disk"
    report = Report("services", title, limit=PLAIN, quick=options.quick)
    report.metric(ROUND_TRIP, "µs")
    report.metric(CALLS, "calls/s", "higher")
    report.metric(READS, "calls/s", "higher", ratio=False)
    report.bars += BARS
    with asyncio.Runner(loop_factory=event_loop.loop_factory()) as runner:
        mesh = _Mesh()
        runner.run(mesh.begin())
        try:
            gate = options.gate()
            for number in range(options.rounds):
                figures, load = gate.run_round(
                    lambda: runner.run(mesh.measure(QUICK_SECONDS if options.quick else SECONDS)),
                    f"services, round {number + 1} of {options.rounds}",
                )
                report.rounds.append(load)
                for subject, measured in figures.items():
                    for name, value in measured.items():
                        report.figure(subject, name, value)
        finally:
            runner.run(mesh.end())
    return report


class _Mesh:
    """Three nodes, and a client in this process."""

    async def begin(self) -> None:
        self._world = World()
        await self._world.__aenter__()
        nodes: list[Any] = []
        for name in NODES:
            services = [
                part
                for group, kind in (("act", "active"), ("pas", "passive"))
                for part in ("--service", f"{group}={COUNTER},replication={kind},replicas=3")
            ]
            alone = ("--service", f"one={COUNTER}") if name == NODES[0] else ()
            nodes.append(await self._world.start(name, *alone, *services, peers=nodes[:1]))
        self._controller = Controller(Config(peers=[node.url for node in nodes]))
        await self._controller.start()
        controller = self._controller
        await controller.wait_for("a")
        service = controller.group("one", policy="first", timeout=30.0)
        active = controller.group("act", timeout=30.0)
        passive = controller.group("pas", timeout=30.0)
        self._calls: dict[str, tuple[Call, Call]] = {
            PLAIN: (lambda: controller.call("a", "demo:echo", 1),) * 2,
            SERVICE: (lambda: service.add(1), lambda: service.read()),
            ACTIVE: (lambda: active.add(1), lambda: active.read()),
            PASSIVE: (lambda: passive.add(1), lambda: passive.read()),
        }
        for call, _ in self._calls.values():
            await call()

    async def measure(self, seconds: float) -> dict[str, dict[str, float]]:
        figures = {}
        for subject, (call, read) in self._calls.items():
            times = []
            for _ in range(ALONE):
                start = time.perf_counter_ns()
                await call()
                times.append(time.perf_counter_ns() - start)
            figures[subject] = {
                ROUND_TRIP: sorted(times)[len(times) // 2] / 1000,
                CALLS: await _rate(call, seconds),
                READS: await _rate(read, seconds),
            }
        return figures

    async def end(self) -> None:
        await self._controller.stop()
        await self._world.__aexit__(None, None, None)


async def _rate(call: Call, seconds: float) -> float:
    """Calls per second, so many in flight."""
    count, end = 0, time.perf_counter() + seconds

    async def worker() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - start)
