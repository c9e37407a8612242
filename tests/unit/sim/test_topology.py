"""The shapes are what their names say."""

from __future__ import annotations

import random

import pytest

from meshcore.sim import topology
from meshcore.sim.checkers import hops_from


def adjacency(edges: topology.Edges) -> dict[str, dict[str, None]]:
    links: dict[str, dict[str, None]] = {}
    for one, other in edges:
        links.setdefault(one, {})[other] = None
        links.setdefault(other, {})[one] = None
    return links


@pytest.mark.parametrize("kind", topology.SHAPES)
@pytest.mark.parametrize("size", [2, 3, 9, 40])
def test_every_shape_connects_all_nodes_without_loops_or_doubles(kind: str, size: int) -> None:
    nodes = topology.names(size)
    edges = topology.shape(kind, nodes, random.Random(size))
    links = adjacency(edges)
    assert sorted(links) == nodes
    assert len(hops_from(nodes[0], links)) == size
    assert all(one != other for one, other in edges)
    assert len({frozenset(edge) for edge in edges}) == len(edges)


def test_the_shapes_have_their_degrees() -> None:
    nodes = topology.names(10)
    assert len(topology.chain(nodes)) == 9
    assert len(topology.ring(nodes)) == 10
    assert len(topology.full(nodes)) == 45
    assert len(adjacency(topology.star(nodes))[nodes[0]]) == 9
    assert max(len(others) for others in adjacency(topology.tree(nodes)).values()) == 3
    assert len(topology.random_graph(nodes, 4.0, random.Random(1))) == 20


def test_both_ways_dials_every_edge_from_either_end() -> None:
    edges = topology.shape("ring", topology.names(5), random.Random(2), both_ways=1.0)
    assert len(edges) == 10
    assert all((other, one) in edges for one, other in edges)
