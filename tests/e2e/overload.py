"""Both cores overloaded fourfold, and a node's loop blocked: nobody is taken for dead.

`bin/soak overload` loads the machine for a minute, the test for a while, `bin/bench detection`
counts.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from meshcore import Config, Controller, MeshError
from tests.e2e.detection import Mesh, mesh_of
from tests.e2e.mesh_processes import World, eventually

SIZE = 8
BUSY_PER_CORE = 4
CALM = 2.0  # seconds after the load, in which late conclusions would show
CALL_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Overload:
    """What all nodes together told meanwhile, and what became of calls across the mesh."""

    seconds: float
    deaths: list[str]
    steps: dict[str, int]
    answered: int
    failed: list[str]
    slowest_call: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:.0f} s: {len(self.deaths)} deaths, steps {self.steps}, "
            f"{self.answered} calls answered, slowest {self.slowest_call:.2f} s, "
            f"{len(self.failed)} failed"
        )


@asynccontextmanager
async def busy_processes(count: int) -> AsyncIterator[None]:
    """As many processes that do nothing but compute."""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            await process.wait()


async def overload(mesh: Mesh, seconds: float) -> Overload:
    """Load every core fourfold while calls go from one end of the mesh to the other."""
    start = mesh.mark()
    names = list(mesh.nodes)
    answered, failed, slowest = 0, [], 0.0
    async with mesh.world.client(mesh.nodes[names[0]]) as client:
        cores = len(os.sched_getaffinity(0))
        async with busy_processes(BUSY_PER_CORE * cores):
            while time.time() < start + seconds:
                begun = time.monotonic()
                try:
                    await client.call(names[-1], "demo:echo", begun, timeout=CALL_TIMEOUT)
                except MeshError as error:
                    failed.append(repr(error))
                else:
                    answered += 1
                slowest = max(slowest, time.monotonic() - begun)
                await asyncio.sleep(0.2)
        await asyncio.sleep(CALM)
    deaths, steps = [], Counter[str]()
    for name in names:
        for line in mesh.told(name):
            if line["event"] == "status":
                steps[line["new"]] += 1
            if line["event"] == "removed" or line.get("new") == "DEAD":
                deaths.append(f"{name}: {line}")
    return Overload(seconds, deaths, dict(steps), answered, failed, slowest)


def run(seconds: float, *, size: int = SIZE) -> Overload:
    """Raises AssertionError where anybody was taken for dead or a call failed."""

    async def scenario() -> Overload:
        async with mesh_of(size) as mesh:
            return await overload(mesh, seconds)

    measured = asyncio.run(scenario())
    assert measured.deaths == [], measured
    assert measured.failed == [], measured
    assert measured.answered > 0
    return measured


@dataclass(frozen=True, slots=True)
class Blocked:
    """What a neighbour saw of a node whose loop was blocked."""

    steps: list[str]
    was_stalled: bool
    in_flight: list[object]


def block(seconds: float) -> Blocked:
    """Block the loop of a relay; a neighbour, this process, has work in it and behind it."""

    async def scenario() -> Blocked:
        async with World() as world:
            relay, _ = await world.chain("relay", "behind")
            async with Controller(Config(node_id="oscar", peers=[relay.url])) as oscar:
                await oscar.wait_for("behind")
                steps: list[str] = []
                oscar.connectivity.on_status(
                    lambda event: steps.append(f"{event.node_id} {event.new.name}")
                )
                oscar.connectivity.on_change(lambda change: steps.append(repr(change)))
                work = [
                    asyncio.create_task(oscar.call(name, "demo:sleep", 1.0))
                    for name in ("relay", "behind")
                ]
                await eventually(lambda: running(oscar, "relay"), 5.0)
                blocked = asyncio.create_task(oscar.call("relay", "demo:block", seconds))
                was_stalled = False
                while not blocked.done():
                    was_stalled |= oscar.connectivity.nodes["relay"].stalled
                    await asyncio.sleep(0.02)
                in_flight = [await each for each in (*work, blocked)]
                await eventually(lambda: "relay ALIVE" in steps, 5.0, lambda: steps)
                assert not oscar.connectivity.nodes["relay"].stalled
                return Blocked(list(steps), was_stalled, in_flight)

    return asyncio.run(scenario())


async def running(controller: Controller, node_id: str) -> bool:
    return bool((await controller.ping(node_id)).active_work)
