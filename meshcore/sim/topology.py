"""Edges of well-known shapes, as pairs (who dials, who is dialled).

`shape` deals the directions and the order at random, as machines do that start when they like;
`both_ways` has every edge dialled from both ends.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

Edges = list[tuple[str, str]]

SHAPES = ("chain", "ring", "star", "tree", "full", "random")


def names(count: int) -> list[str]:
    """Ids that sort as they count."""
    digits = max(2, len(str(count - 1)))
    return [f"n{number:0{digits}d}" for number in range(count)]


def chain(nodes: Sequence[str]) -> Edges:
    return list(pairwise(nodes))


def ring(nodes: Sequence[str]) -> Edges:
    closing = [(nodes[-1], nodes[0])] if len(nodes) > 2 else []
    return chain(nodes) + closing


def star(nodes: Sequence[str]) -> Edges:
    return [(nodes[0], leaf) for leaf in nodes[1:]]


def tree(nodes: Sequence[str], branches: int = 2) -> Edges:
    return [(nodes[(at - 1) // branches], nodes[at]) for at in range(1, len(nodes))]


def full(nodes: Sequence[str]) -> Edges:
    return [(a, b) for at, a in enumerate(nodes) for b in nodes[at + 1 :]]


def random_graph(nodes: Sequence[str], degree: float, rng: random.Random) -> Edges:
    """A connected graph whose nodes have `degree` edges on average."""
    edges = {(nodes[rng.randrange(at)], nodes[at]): None for at in range(1, len(nodes))}
    most = len(nodes) * (len(nodes) - 1) // 2
    wanted = min(most, max(len(edges), round(len(nodes) * degree / 2)))
    while len(edges) < wanted:
        one, other = sorted(rng.sample(range(len(nodes)), 2))
        edges[nodes[one], nodes[other]] = None
    return list(edges)


def shape(
    kind: str,
    nodes: Sequence[str],
    rng: random.Random,
    *,
    both_ways: float = 0.0,
    degree: float = 3.0,
) -> Edges:
    """The edges of one of `SHAPES`, in any order and direction.

    Args:
        kind: which shape.
        nodes: their ids; the first is the hub of a star and the root of a tree.
        rng: of order and directions.
        both_ways: the share of edges that both ends dial, 0 to 1.
        degree: edges of a node on average, in a random graph.
    """
    if kind == "random":
        edges = random_graph(nodes, degree, rng)
    else:
        shapes = {"chain": chain, "ring": ring, "star": star, "tree": tree, "full": full}
        edges = shapes[kind](nodes)
    dialled: Edges = []
    for edge in edges:
        one, other = edge if rng.random() < 0.5 else (edge[1], edge[0])
        dialled.append((one, other))
        if rng.random() < both_ways:
            dialled.append((other, one))
    rng.shuffle(dialled)
    return dialled
