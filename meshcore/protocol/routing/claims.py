"""What origins claim, compared: what has changed, and how urgent that is."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from meshcore.protocol.wire.records import Edge, LinkState


class Urgency(IntEnum):
    """What a change asks for."""

    NONE = 0  # nothing that anybody could ask for has changed
    LATER = 1  # it may wait for more
    AT_ONCE = 2  # an edge or a node is lost: what flows there now is lost until we act


class Down(NamedTuple):
    """An edge that is down, and when its far end had been heard last, on our own clock.

    Ages are as old as the record that tells them, and records of one death come seconds apart.
    """

    edge: Edge
    since: float


def same_claim(one: Edge | None, other: Edge) -> bool:
    """Whether nothing that counts has changed; of two edges that are not down."""
    return one is not None and (one.cost, one.state, one.life) == (
        other.cost,
        other.state,
        other.life,
    )


def face(record: LinkState) -> tuple[int, int, bool]:
    """What a link state says besides its edges that a table entry shows."""
    return record.incarnation, record.life, record.left
