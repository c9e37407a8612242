"""What the topology says about one node: routing fills it in, the roster concludes from it."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class NodeStatus(IntEnum):
    """How alive a node is believed to be."""

    ALIVE = 0
    SLOW = 1
    WARNING = 2
    DEAD = 3


class Reach(NamedTuple):  # made by the thousand: a frozen dataclass costs 2 µs, this 0.3
    """One node as the link states of all origins show it, seen from one observer.

    `reachable`: a chain of edges, advertised by both ends and none of them down, leads to it.
    `hops`, `cost` (microseconds) and `next_hop` are 0, 0 and None where it is not reachable and for
    the observer itself. `warn`: every usable edge to it is WARN. `gone` and `silent` count the
    reachable neighbours of it whose edge to it is DOWN for that reason; `silent_since` is the last
    sign of life that any of them knows of, on our own clock; None where they do not know the last
    one, because others who were linked to it are out of reach with it. `left`: its last link state
    says that it leaves.
    """

    node_id: str
    incarnation: int
    life: int
    reachable: bool
    hops: int = 0
    cost: int = 0
    next_hop: str | None = None
    warn: bool = False
    gone: int = 0
    silent: int = 0
    silent_since: float | None = None
    left: bool = False
