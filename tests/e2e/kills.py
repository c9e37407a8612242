"""Nodes die by kill -9 and come back, again and again, while others go on working.

Two ways lead from this process, which is a node itself ("oscar"), to gamma:

    oscar ─ beta  ─ gamma ─ lima        beta and delta relay, gamma and lima are at the far end;
      └─── delta ────┘                  "caller" is a process that sends work to gamma

`bin/soak kills` runs ten rounds for each role, the tests fewer.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshcore import Config, Controller, MeshError, PeerLostError
from tests.e2e.mesh_processes import NodeProcess, World, eventually

BACK_SECONDS = 2.0  # from `ready` until links and calls are back
PROMPT_SECONDS = 2.0  # until calls in flight to the victim have failed
EDGES = [
    ("beta", "gamma"),
    ("beta", "oscar"),
    ("delta", "gamma"),
    ("delta", "oscar"),
    ("gamma", "lima"),
]
PROGRAM = Path(__file__).parent / "programs" / "caller.py"


@dataclass
class Traffic:
    """Calls to one node, one after the other, and what became of them."""

    controller: Controller
    recipient: str
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0

    async def run(self) -> None:
        while True:
            start = time.monotonic()
            try:
                assert await self.controller.call(self.recipient, "demo:echo", start) == start
            except MeshError as error:
                self.failed.append(repr(error))
                await asyncio.sleep(0.05)
            else:
                self.answered += 1
                self.slowest = max(self.slowest, time.monotonic() - start)
            await asyncio.sleep(0.005)

    def check(self) -> None:
        """Nobody noticed anything since the last check."""
        assert self.failed == [], f"{self.recipient}: {self.failed}"
        assert self.answered > 0
        self.answered = 0


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds: until calls in flight had failed; from `ready` until links and calls were back."""

    victim: str
    failed_after: float
    links_back_after: float
    calls_back_after: float
    slowest_other: float

    def __str__(self) -> str:
        return (
            f"{self.victim}: in flight failed after {self.failed_after:.3f} s; back after ready:"
            f" links {self.links_back_after:.3f} s, calls {self.calls_back_after:.3f} s;"
            f" slowest other call {self.slowest_other:.3f} s"
        )


class Square:
    """The mesh of this module; see above."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.nodes: dict[str, NodeProcess] = {}
        self.oscar: Controller
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Square]:
        start = self.world.start
        for node_id in ("beta", "delta"):
            self.nodes[node_id] = await start(node_id)
        relays = list(self.nodes.values())
        self.nodes["gamma"] = await start("gamma", peers=relays)
        self.nodes["lima"] = await start("lima", peers=[self.nodes["gamma"]], listen=())
        peers = [relay.url for relay in relays]
        async with Controller(Config(node_id="oscar", peers=peers)) as self.oscar:
            await eventually(self.all_edges, 10, lambda: str(self.oscar.router.get_edges()))
            try:
                yield self
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def all_edges(self) -> bool:
        edges = [tuple(sorted(edge[:2])) for edge in self.oscar.router.get_edges()]
        return sorted(edges) == sorted(tuple(sorted(edge)) for edge in EDGES)

    def traffic(self, recipient: str) -> Traffic:
        traffic = Traffic(self.oscar, recipient)
        self._tasks.append(asyncio.create_task(traffic.run()))
        return traffic


async def kill_round(square: Square, victim: str, others: list[Traffic]) -> Round:
    """Kill the victim with work in flight to it, start it again, and measure."""
    node, oscar = square.nodes[victim], square.oscar
    in_flight = [asyncio.create_task(_lost(oscar, victim)) for _ in range(3)]
    others_work = asyncio.create_task(oscar.call("gamma" if victim != "gamma" else "beta",
                                                 "demo:sleep", 1.5))  # fmt: skip
    await eventually(lambda: _sleeping(oscar, victim, 3), 5)
    killed_at = time.monotonic()
    await node.kill()
    failed_at = max(await asyncio.gather(*in_flight))
    await node.launch()
    await node.ready()
    calls_back = asyncio.create_task(_until_called(oscar, victim))
    await eventually(square.all_edges, 10, lambda: str(oscar.router.get_edges()), interval=0.005)
    links_at = time.monotonic()
    calls_at = await calls_back
    assert await others_work == 1.5
    for traffic in others:
        traffic.check()
    slowest = max(traffic.slowest for traffic in others)
    return Round(
        victim, failed_at - killed_at, links_at - node.ready_at, calls_at - node.ready_at, slowest
    )


async def _lost(oscar: Controller, victim: str) -> float:
    """Work that must end because its node is lost; when it did."""
    try:
        await oscar.call(victim, "demo:sleep", 60, timeout=60)
    except PeerLostError as error:
        if (error.node_id, error.may_have_run) == (victim, True):
            return time.monotonic()
        raise
    raise AssertionError("the call was answered")


async def _sleeping(oscar: Controller, victim: str, count: int) -> bool:
    work = (await oscar.ping(victim)).active_work
    return sum(one["directive"] == "demo:sleep" for one in work) >= count


async def _until_called(oscar: Controller, victim: str) -> float:
    end = time.monotonic() + 10
    while True:
        with suppress(MeshError):
            await oscar.call(victim, "demo:echo", 1, timeout=1)
            return time.monotonic()
        assert time.monotonic() < end, f"{victim} answers no calls"
        await asyncio.sleep(0.02)


def check(measured: Round) -> Round:
    assert measured.failed_after < PROMPT_SECONDS, measured
    assert measured.links_back_after < BACK_SECONDS, measured
    assert measured.calls_back_after < BACK_SECONDS, measured
    return measured


async def kill_nodes(victims: list[str], rounds: int) -> list[Round]:
    """`rounds` kills of each victim in turn."""
    measured = []
    async with World() as world, Square(world).up() as square:
        traffic = {name: square.traffic(name) for name in square.nodes}
        for number in range(rounds * len(victims)):
            victim = victims[number % len(victims)]
            # Who is cut off by this death is no other: lima hangs on gamma alone.
            cut = {victim, "lima"} if victim == "gamma" else {victim}
            others = [each for name, each in traffic.items() if name not in cut]
            for each in others:
                each.slowest = 0.0
            measured.append(check(await kill_round(square, victim, others)))
            for name in cut:
                traffic[name].failed.clear()
        for node in square.nodes.values():
            status = await square.oscar.call(node.node_id, "mesh:status")
            assert status["work"]["active"] == [], (node.node_id, status["work"])
    return measured


@dataclass(frozen=True, slots=True)
class CallerRound:
    """Seconds: until its work at gamma had ended, from its `ready` to its first answer."""

    cancelled_after: float
    back_after: float

    def __str__(self) -> str:
        return (
            f"caller: its work elsewhere ended after {self.cancelled_after:.3f} s;"
            f" first answer {self.back_after:.3f} s after its ready"
        )


async def kill_caller(rounds: int) -> list[CallerRound]:
    """Kill the process that sends the work: what it asked for ends, and a new life is served."""
    measured = []
    async with World() as world, Square(world).up() as square:
        other = square.traffic("gamma")
        for _ in range(rounds):
            caller = await _Caller.start(world, square.nodes["beta"].url)
            await eventually(lambda: _sleeping(square.oscar, "gamma", 1), 5)
            killed_at = time.monotonic()
            await caller.kill()
            await eventually(lambda: _idle(square.oscar), 5, "work of the dead goes on")
            measured.append(CallerRound(time.monotonic() - killed_at, caller.back_after))
            assert caller.back_after < BACK_SECONDS
            assert measured[-1].cancelled_after < PROMPT_SECONDS
            other.check()
    return measured


async def _idle(oscar: Controller) -> bool:
    return (await oscar.call("gamma", "mesh:status"))["work"]["active"] == []


class _Caller:
    """A process of programs/caller.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.back_after = 0.0

    @classmethod
    async def start(cls, world: World, url: str) -> _Caller:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            url,
            stdout=asyncio.subprocess.PIPE,
            env=world.environment,
            start_new_session=True,
        )
        world.groups.append(process.pid)
        caller = cls(process)
        await caller._line(b"ready")
        ready_at = time.monotonic()
        await caller._line(b"answered")
        caller.back_after = time.monotonic() - ready_at
        return caller

    async def _line(self, expected: bytes) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        assert line.strip() == expected, line

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()


def run(role: str, rounds: int) -> list[Any]:
    """`role`: leaf, relay or controller."""
    if role == "controller":
        return asyncio.run(kill_caller(rounds))
    victims = {"leaf": ["lima"], "relay": ["beta", "gamma"]}[role]
    return asyncio.run(kill_nodes(victims, max(1, rounds // len(victims))))
