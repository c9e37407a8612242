"""The mesh that is made up behind an idle node, and what is measured of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks import idle
from benchmarks.subjects import idle_neighbours
from meshcore.protocol.routing.graph import Graph
from meshcore.protocol.wire.records import Edge, LinkState, decode_record


@pytest.mark.parametrize("nodes", [7, 10, 100, 1000])
def test_everybody_behind_the_measured_node_can_be_reached(nodes: int) -> None:
    edges = idle_neighbours.edges_of(nodes)
    assert len(edges) == nodes - 1
    graph = Graph("measured")
    near = [idle_neighbours.near(number) for number in range(idle_neighbours.DEGREE)]
    states = [LinkState("measured", 1, 1, 1, tuple(Edge(name, 1000) for name in near))]
    for name in near:  # as these say themselves
        claimed = (Edge("measured", 1000), *(Edge(other, 1000) for other in edges[name]))
        states.append(LinkState(name, 1, 1, 1, claimed))
    for raw in idle_neighbours.records_of(edges):
        record = decode_record(raw)
        if isinstance(record, LinkState):
            states.append(record)
    for state in states:
        graph.update(state, state.origin)
    graph.recompute()
    assert graph.size == nodes
    assert all(graph.reach(name).reachable for name in graph.nodes())  # type: ignore[union-attr]
    assert 4 <= sum(map(len, edges.values())) / len(edges) <= 7 or nodes <= 10


def test_what_a_real_node_used_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def measured() -> Iterator[idle.Idle]:
        with idle.node_in_mesh(tmp_path, 12) as node:
            (found,) = idle.measure([node], 1.0)
            yield found

    with measured() as found:
        assert 0 <= found.cpu < 100
        # Six neighbours beat twice a second each, and so do we.
        assert 6 <= found.received <= 40
        assert 1 <= found.sent <= 40
        assert 10 * idle.MIB < found.rss < 200 * idle.MIB
    assert psutil.Process().children() == []
