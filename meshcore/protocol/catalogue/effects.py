"""What the catalogue's machines have the shell do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from meshcore.protocol.catalogue.holding import Item
from meshcore.protocol.catalogue.messages import Exchange
from meshcore.protocol.catalogue.records import Origin


@dataclass(frozen=True, slots=True)
class Ask:
    """Deliver this to a registry and report its answer, or that there is none."""

    key: str
    token: int
    message: Exchange
    outside: bool
    connect: bool  # to a registry outside: it has yet to hear who we are


@dataclass(frozen=True, slots=True)
class OriginChanged:
    """What is held of an origin has changed.

    `life`: (also) whether it is there; `resourced`: another registry is believed about that now.
    """

    origin: Origin
    life: bool = False
    resourced: bool = False


@dataclass(frozen=True, slots=True)
class ItemsChanged:
    """These flows of an origin are new, changed or gone; follows the OriginChanged of them."""

    origin: Origin
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class ItemsForgotten:
    """These flows of an origin were deleted a life ago: nothing needs to be known of them."""

    origin: Origin
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OriginDropped:
    """Nobody has heard of an origin for so long that it is forgotten."""

    origin: Origin


Effect: TypeAlias = Ask | OriginChanged | ItemsChanged | ItemsForgotten | OriginDropped
Change: TypeAlias = OriginChanged | ItemsChanged | ItemsForgotten | OriginDropped
