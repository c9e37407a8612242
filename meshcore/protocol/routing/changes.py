"""What the database tells its owner, besides what it has to send."""

from __future__ import annotations

from dataclasses import dataclass


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
