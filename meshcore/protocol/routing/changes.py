"""What the database tells its owner, besides what it has to send."""

from __future__ import annotations

from dataclasses import dataclass

from meshcore.identity import NUMBER_MAX
from meshcore.protocol.routing.store import Held, Store
from meshcore.protocol.wire.records import LinkState


@dataclass(frozen=True, slots=True)
class Changed:
    """The record (origin, kind) is another one now; or gone, when a newer life ended it."""

    origin: str
    kind: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Nothing is held of this origin any more."""

    origin: str


@dataclass(frozen=True, slots=True)
class OutdoneBy:
    """A record of our own id that we cannot outbid; `life` is 0 where it does not say.

    `scale` and `born`: the age of that life, as it says itself.
    """

    incarnation: int
    life: int
    scale: int = 0
    born: float = 0.0


def outdone_by(held: Held, store: Store, incarnation: int) -> OutdoneBy | None:
    """What a record of our own id says that we, of this incarnation, must not or cannot outbid."""
    if held.incarnation < incarnation:
        return None
    record, own = held.record, store.get(held.origin, held.kind)
    life = record.life if isinstance(record, LinkState) else 0
    stranger = own and isinstance(own.record, LinkState) and own.record.life != life
    last = held.sequence >= NUMBER_MAX - 1  # nothing is greater
    if held.incarnation > incarnation or stranger or last:
        age = (record.scale, record.born) if isinstance(record, LinkState) else (0, 0.0)
        return OutdoneBy(held.incarnation, life, *age)
    return None
