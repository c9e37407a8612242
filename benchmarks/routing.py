"""What does routing cost: the tables of a random graph in full, and after one edge has changed?

Every node has about eight edges, drawn by a fixed seed; costs are drawn from 16 buckets, as
measured latencies are. `full` computes the tree and every table entry from nothing; `one edge` is
an update of one edge's cost by one end, and what follows from it. Bars: 1,000 nodes in full
≤ 5 ms, 10,000 ≤ 80 ms; one edge: median ≤ 1/20, 99 % ≤ 1/5 of full.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

from meshcore.protocol.routing.graph import Graph
from meshcore.protocol.wire.records import Edge, LinkState

DEGREE = 8
BARS_MS = {1_000: 5.0, 10_000: 80.0}
CHANGES = 400
COSTS = [50 * 2 ** (bucket // 2) + 25 * (bucket % 2) for bucket in range(16)]  # microseconds


def random_mesh(nodes: int, rng: random.Random) -> dict[str, dict[str, int]]:
    """A connected random graph of about `DEGREE` edges a node: {id: {neighbour: cost}}."""
    names = [f"node-{number:05d}" for number in range(nodes)]
    mesh: dict[str, dict[str, int]] = {name: {} for name in names}

    def link(a: str, b: str) -> None:
        mesh[a][b] = mesh[b][a] = rng.choice(COSTS)

    for number in range(1, nodes):
        link(names[number], names[rng.randrange(number)])
    while sum(map(len, mesh.values())) < nodes * DEGREE:
        a, b = rng.sample(names, 2)
        link(a, b)
    return mesh


def state_of(origin: str, sequence: int, edges: dict[str, int]) -> LinkState:
    return LinkState(origin, 1, sequence, 1, tuple(Edge(to, cost) for to, cost in edges.items()))


def measure(nodes: int, rounds: int, rng: random.Random) -> tuple[list[float], list[float]]:
    """Milliseconds of full computations, and of updates of one edge."""
    mesh = random_mesh(nodes, rng)
    full, single = [], []
    for _ in range(rounds):
        graph = Graph("node-00000")
        for origin, edges in mesh.items():
            graph.update(state_of(origin, 1, edges), origin)
        begun = time.perf_counter()
        graph.recompute()
        full.append(1000 * (time.perf_counter() - begun))
    names = list(mesh)
    for sequence in range(2, CHANGES):
        origin = rng.choice(names)
        edges = mesh[origin]
        neighbour = rng.choice(list(edges))
        others = [cost for cost in COSTS if cost != edges[neighbour]]
        edges[neighbour] = mesh[neighbour][origin] = rng.choice(others)
        mine, theirs = state_of(origin, sequence, edges), state_of(neighbour, 1, mesh[neighbour])
        graph.update(theirs, neighbour)
        begun = time.perf_counter()
        graph.update(mine, origin)
        graph.recompute()
        single.append(1000 * (time.perf_counter() - begun))
    return full, single


def run(report: Callable[[str], object], *, rounds: int = 5) -> None:
    """Measure both sizes and tell each line to `report`."""
    for nodes, bar in BARS_MS.items():
        full, single = measure(nodes, rounds, random.Random(nodes))
        whole = statistics.median(full)
        median, late = statistics.median(single), statistics.quantiles(single, n=100)[98]
        report(
            f"routing {nodes:6,} nodes: full {whole:6.2f} ms ({min(full):.2f}-{max(full):.2f}, "
            f"bar {bar:g}); one edge: median {median:.3f} ms = 1/{whole / median:.0f} (bar 1/20), "
            f"99 % {late:.3f} ms = 1/{whole / late:.1f} (bar 1/5)"
        )


if __name__ == "__main__":
    run(lambda line: print(line, file=sys.stdout))
