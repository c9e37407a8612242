"""How soon a mesh of processes learns that one was killed, froze, woke, or left.

Every node is a process that tells its events with their times (`meshctl run --json`); nobody is
asked, so that nothing of the measuring loads the mesh. The graph is a ring with chords: whoever
goes, the rest stays connected.

`bin/soak detection` runs rounds in a mesh of 20, the tests one; `bin/bench detection` measures it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.e2e.mesh_processes import NodeProcess, World, eventually

SIZE = 20
SETTLE_TIMEOUT = 30.0
TOLD_TIMEOUT = 15.0  # the bars are far below: what takes longer is wrong, not slow
BATCH = 5  # processes that start at once; more of them only wait for a core

KILLED_DEAD = 1.0  # seconds, until all know, and route around
FROZEN_DEAD = 6.0
ALIVE_AGAIN = 1.0
LEFT_REMOVED = 0.5

Wanted = Callable[[dict[str, Any]], bool]


def name_of(number: int) -> str:
    return f"n{number:02d}"


def dials_of(number: int, size: int) -> list[int]:
    """Whom a node dials: nodes of earlier batches, so that their ports are known.

    Whoever is taken away, the others stay connected.
    """
    if number < BATCH:
        return [0][:number]
    begin = number - number % BATCH
    wanted = {number - BATCH, number - BATCH + 1, number // 3}
    if number == size - 1:
        wanted.add(BATCH - 1)
    return sorted(peer for peer in wanted if peer < begin)


@dataclass
class Mesh:
    """Processes that know each other, and what they told since the last `mark`."""

    world: World
    nodes: dict[str, NodeProcess]
    _marks: dict[str, int] = field(default_factory=dict)

    def mark(self) -> float:
        """Forget what was told so far; the time."""
        self._marks = {name: len(node.lines) for name, node in self.nodes.items()}
        return time.time()

    def told(self, name: str) -> list[dict[str, Any]]:
        return self.nodes[name].lines[self._marks.get(name, 0) :]

    def others(self, *names: str) -> list[str]:
        """Who runs, but these."""
        return [name for name, node in self.nodes.items() if node.is_running and name not in names]

    async def when(self, wanted: Wanted, *, by: list[str], since: float) -> float:
        """Seconds from `since` until the last of `by` had told what is wanted."""

        def first(name: str) -> dict[str, Any] | None:
            return next((line for line in self.told(name) if wanted(line)), None)

        def missing() -> dict[str, object]:
            return {name: self.told(name) for name in by if first(name) is None}

        await eventually(lambda: not missing(), TOLD_TIMEOUT, lambda: f"not told by {missing()}")
        return max(at_of(first(name)) for name in by) - since

    async def settle(self, timeout: float = SETTLE_TIMEOUT) -> None:
        """Everybody knows everybody."""
        running = self.others()

        def ready() -> bool:
            return all(
                known_by(self.nodes[name].lines) >= set(running) - {name} for name in running
            )

        await eventually(ready, timeout, "they do not know each other")

    async def kill(self, victim: str) -> Killed:
        """kill -9: when everybody had another way, and when everybody knew it dead."""
        others, node = self.others(victim), self.nodes[victim]
        start = self.mark()
        await node.kill()
        around = await self.when(lost(victim), by=others, since=start)
        dead = await self.when(step(victim, "DEAD"), by=others, since=start)
        return Killed(victim, around, dead)

    async def freeze(self, victim: str) -> Frozen:
        """SIGSTOP until everybody says DEAD, then SIGCONT until everybody says ALIVE."""
        others, node = self.others(victim), self.nodes[victim]
        start = self.mark()
        node.freeze()
        dead = await self.when(step(victim, "DEAD"), by=others, since=start)
        start = self.mark()
        node.thaw()
        alive = await self.when(is_back(victim), by=others, since=start)
        await asyncio.sleep(1.0)  # what it would conclude wrongly, it would conclude at once
        wrong = [
            line
            for line in self.told(victim)
            if line["event"] == "removed" or line.get("new") == "DEAD"
        ]
        return Frozen(victim, dead, alive, wrong)

    async def stop(self, victim: str) -> float:
        """SIGTERM: seconds until everybody has removed it."""
        others = self.others(victim)
        start = self.mark()
        stopped = asyncio.create_task(self.nodes[victim].stop())
        removed = await self.when(
            lambda line: line["event"] == "removed" and line["node_id"] == victim,
            by=others,
            since=start,
        )
        code, _ = await stopped
        assert code == 0
        return removed

    async def back(self, victim: str) -> None:
        """Start a node again, until everybody knows everybody."""
        await self.nodes[victim].start_again()
        await self.settle()

    async def routes_over(self, victim: str, asked: str) -> list[list[str]]:
        """The ways from one node to all others that lead over the victim."""
        async with self.world.client(self.nodes[asked]) as client:
            ways = [
                (await client.call(asked, "mesh:route", name))["path"]
                for name in self.others(asked)
            ]
        return [way for way in ways if victim in way or not way]


@dataclass(frozen=True, slots=True)
class Killed:
    """Seconds until all had another way, and until all knew it dead."""

    victim: str
    around: float
    dead: float


@dataclass(frozen=True, slots=True)
class Frozen:
    """Seconds from SIGSTOP until DEAD and from SIGCONT until ALIVE everywhere; `wrong` is what the
    woken node then concluded about the others."""

    victim: str
    dead: float
    alive: float
    wrong: list[dict[str, Any]]


def at_of(line: dict[str, Any] | None) -> float:
    assert line is not None
    return datetime.fromisoformat(line["time"]).timestamp()


def step(node_id: str, status: str) -> Wanted:
    """A node's status has become this one."""
    return lambda line: (
        line["event"] == "status" and (line["node_id"], line["new"]) == (node_id, status)
    )


def lost(node_id: str) -> Wanted:
    """No way leads to a node any more, so none leads over it."""
    return lambda line: (
        line["event"] == "status" and line["node_id"] == node_id and not line["reachable"]
    )


def is_back(node_id: str) -> Wanted:
    """ALIVE again, or added again where it had been removed."""
    return lambda line: (
        step(node_id, "ALIVE")(line) or (line["event"] == "added" and line["node_id"] == node_id)
    )


def known_by(lines: list[dict[str, Any]]) -> set[str]:
    known: set[str] = set()
    for line in lines:
        if line["event"] == "added":
            known.add(line["node_id"])
        elif line["event"] == "removed":
            known.discard(line["node_id"])
    return known


@asynccontextmanager
async def mesh_of(size: int = SIZE, *arguments: str) -> AsyncIterator[Mesh]:
    """A settled mesh of processes."""
    async with World() as world:
        nodes: dict[str, NodeProcess] = {}

        async def start(numbers: Iterable[int]) -> None:
            batch = []
            for number in numbers:
                name = name_of(number)
                peers = [nodes[name_of(peer)] for peer in dials_of(number, size)]
                batch.append(world.node(name, *arguments, peers=peers))
            for node in batch:
                await node.launch()
            for node in batch:
                await node.ready()
                nodes[node.node_id] = node

        await start([0])
        await start(range(1, min(size, BATCH)))
        for begin in range(BATCH, size, BATCH):
            await start(range(begin, min(size, begin + BATCH)))
        mesh = Mesh(world, nodes)
        await mesh.settle()
        yield mesh


def run(size: int, rounds: int, told: Callable[[str], object] = print) -> None:
    """Rounds of everything that can happen to a node; AssertionError where a bar is missed."""

    async def scenario() -> None:
        async with mesh_of(size) as mesh:
            for number in range(rounds):
                victim = name_of(1 + (7 * number + 3) % (size - 1))
                frozen = await mesh.freeze(victim)
                told(f"{victim}: {frozen}")
                assert frozen.dead <= FROZEN_DEAD, frozen
                assert frozen.alive <= ALIVE_AGAIN, frozen
                assert frozen.wrong == [], frozen
                killed = await mesh.kill(victim)
                told(f"{victim}: {killed}")
                assert killed.around <= KILLED_DEAD, killed
                assert killed.dead <= KILLED_DEAD, killed
                for asked in mesh.others(victim)[::7]:
                    assert await mesh.routes_over(victim, asked) == []
                await mesh.back(victim)
                removed = await mesh.stop(victim)
                told(f"{victim}: left, removed everywhere after {removed:.3f} s")
                assert removed <= LEFT_REMOVED
                await mesh.back(victim)

    asyncio.run(scenario())
