"""A dozen and more processes in any connected shape agree on it, and reach each other.

`bin/soak topologies` builds every shape; the tests build some of them.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.mesh_processes import NodeProcess, World, eventually

AGREE_SECONDS = 5.0  # from the last `ready`
MEAN_PING_SECONDS = 0.020
Dials = list[tuple[int, int]]  # who dials whom


def star(size: int, rng: random.Random) -> Dials:
    return [(leaf, 0) for leaf in range(1, size)]


def tree(size: int, rng: random.Random) -> Dials:
    return [(child, (child - 1) // 2) for child in range(1, size)]


def ring(size: int, rng: random.Random) -> Dials:
    return [(number, (number + 1) % size) for number in range(size)]


def chain(size: int, rng: random.Random) -> Dials:
    return [(number, number + 1) for number in range(size - 1)]


def connected(size: int, rng: random.Random) -> Dials:
    """A random tree and half as many edges more, each dialled from either end."""
    edges = {(child, rng.randrange(child)) for child in range(1, size)}
    while len(edges) < size + size // 2:
        edges.add(tuple(sorted(rng.sample(range(size), 2), reverse=True)))  # type: ignore[arg-type]
    return [edge if rng.random() < 0.5 else edge[::-1] for edge in sorted(edges)]


def both_ends(size: int, rng: random.Random) -> Dials:
    """A ring with chords in which both ends dial each other."""
    edges = [*ring(size, rng), *[(number, number + size // 2) for number in range(size // 2)]]
    return [*edges, *[edge[::-1] for edge in edges]]


SHAPES: dict[str, Callable[[int, random.Random], Dials]] = {
    "star": star,
    "tree": tree,
    "ring": ring,
    "chain": chain,
    "random": connected,
    "both_ends": both_ends,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """`agreed_seconds` counts from the last ready; `pings_seconds` has one for each pair."""

    agreed_seconds: float
    pings_seconds: list[float]

    def __str__(self) -> str:
        mean = statistics.mean(self.pings_seconds) * 1000
        return (
            f"agreed {self.agreed_seconds:.2f} s after the last ready, {len(self.pings_seconds)}"
            f" pings: mean {mean:.2f} ms, worst {max(self.pings_seconds) * 1000:.1f} ms"
        )


async def build_and_check(shape: str, size: int, seed: int = 0) -> Measured:
    """Start the shape all at once, and check that everybody agrees and answers everybody."""
    dials = SHAPES[shape](size, random.Random(seed))
    names = [f"n{number:02}" for number in range(size)]
    edges = sorted({tuple(sorted((names[one], names[other]))) for one, other in dials})
    async with World() as world:
        urls = [f"tcp://127.0.0.1:{port}" for port in free_ports(size)]
        nodes = [
            world.node(
                name,
                listen=[urls[number]],
                peers=[urls[other] for one, other in dials if one == number],
            )
            for number, name in enumerate(names)
        ]
        for node in nodes:
            await node.launch()
        for node in nodes:
            await node.ready()
        last_ready = max(node.ready_at for node in nodes)
        await agree(world, nodes, edges)
        agreed = time.monotonic() - last_ready
        assert agreed < AGREE_SECONDS, f"{shape}: agreed only after {agreed:.1f} s"
        pings = await ping_all_pairs(world, nodes)
        assert statistics.mean(pings) <= MEAN_PING_SECONDS, f"{shape}: {statistics.mean(pings)} s"
        return Measured(agreed, pings)


async def agree(world: World, nodes: list[NodeProcess], edges: list[tuple[str, ...]]) -> None:
    """Return when every node tells exactly these nodes and edges, asked through one client."""
    names = [node.node_id for node in nodes]
    views: dict[str, Any] = {}

    async def same() -> bool:
        for name in names:
            if views.get(name) == (names, edges):
                continue
            told = await client.call(name, "mesh:edges", timeout=5)
            reached = await client.call(name, "mesh:actions", timeout=5)
            known = next((row["nodes"] for row in reached if row["directive"] == "demo:echo"), [])
            views[name] = (known, [(edge["from"], edge["to"]) for edge in told])
        return all(view == (names, edges) for view in views.values())

    def missing() -> str:
        return "; ".join(f"{n}: {v}" for n, v in views.items() if v != (names, edges))

    async with world.client(nodes[0]) as client:
        for name in names:
            await client.wait_for(name, timeout=AGREE_SECONDS)
        await eventually(same, AGREE_SECONDS, missing)
        rows = await client.call(names[-1], "mesh:nodes", timeout=5)
        assert sorted(row["node_id"] for row in rows) == names
        assert {row["status"] for row in rows} == {"ALIVE"}


async def ping_all_pairs(world: World, nodes: list[NodeProcess]) -> list[float]:
    """The round trip of every ordered pair, one after the other; each must be answered."""
    pings = []
    for node in nodes:
        async with world.client(node) as client:
            await client.ping(node.node_id)
            for other in nodes:
                if other is not node:
                    pings.append((await client.ping(other.node_id, timeout=5)).round_trip)
    assert len(pings) == len(nodes) * (len(nodes) - 1)
    return pings


def free_ports(count: int) -> list[int]:
    """Ports that are free, each once, and that the system gives to nobody who asks for any.

    Both ends dial, so addresses must be known before anybody listens: ports of the system's own
    choice could be given away again until then.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: dict[int, None] = {}
    with ExitStack() as stack:
        while len(found) < count:
            port = random.SystemRandom().randrange(10_000, first)
            one = stack.enter_context(socket.socket())
            with suppress(OSError):  # taken: another one
                one.bind(("127.0.0.1", port))
                found[port] = None
    return list(found)


def run(shape: str, size: int, seed: int = 0) -> Measured:
    return asyncio.run(build_and_check(shape, size, seed))
