"""What the node tells the store, what the store gives back after a restart, and what a search asks.

All times are Unix seconds of this machine's wall clock, None where there is none (a node that is no
registry keeps none). `incarnation` and `version` are those of the origin: together they say which
of two descriptions is the newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from meshcore.protocol.catalogue.records import Flow, Origin

ONLINE, STALE, OFFLINE = "online", "stale", "offline"  # status of an origin

PAGE_MAX = 1000  # records on a page


@dataclass(frozen=True, slots=True)
class PutOrigin:
    """An origin as it is now; it comes before the first of its flows.

    `registry` is the id of the registry that told of it, `direct` whether it did so itself, `at`
    when this was taken, `ttl` for how many seconds it holds (None: until it is told otherwise).
    """

    origin: Origin
    organization: str
    registry: str
    incarnation: int
    version: int
    direct: bool
    status: str
    heartbeat: float | None
    at: float
    ttl: float | None


@dataclass(frozen=True, slots=True)
class PutFlow:
    """A record as its origin describes it now, or that it was deleted.

    `at` becomes `created` when the record is new here, and `modified` when (incarnation, version)
    is newer than what is kept. A deleted record is kept, so that `created` survives its return.
    """

    origin: Origin
    flow: Flow
    incarnation: int
    version: int
    deleted: bool
    at: float | None


@dataclass(frozen=True, slots=True)
class DropFlow:
    """Forget a record altogether, deleted or not."""

    origin: Origin
    url: str


@dataclass(frozen=True, slots=True)
class DropOrigin:
    """Forget an origin with all its records."""

    origin: Origin


Change: TypeAlias = PutOrigin | PutFlow | DropFlow | DropOrigin


class StoredFlow(NamedTuple):
    """A record as it was on disk."""

    flow: Flow
    incarnation: int
    version: int
    deleted: bool


class StoredOrigin(NamedTuple):
    """An origin as it was on disk; who was online then is stale until heard of."""

    put: PutOrigin
    flows: list[StoredFlow]


@dataclass(frozen=True, slots=True)
class Search:
    """A query, the order `by` columns, and page `p` (from 0) of `pp` records."""

    q: str = ""
    by: str = ""
    p: int = 0
    pp: int = 10
