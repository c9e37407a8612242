"""What a group of replicas agrees on: entries of its log, and checkpoints.

A *replica id* is `node/state`: the node that runs it and the id of its state, drawn when that
state was made. A replica that lost its disk is another replica. Nobody changes a record once it
is made (they are not frozen because that costs three times as much, several times per call).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

ENTRY_BYTES: Final = 48  # what an entry takes beside its contents, for bounds


class Kind(IntEnum):
    """What an entry does."""

    EMPTY = 0  # the first of a term: with it everything before it is committed
    CALL = 1
    OPEN = 2  # a client session; its id is the index of this entry
    EVICT = 3  # sessions that are no more
    MEMBERS = 4  # who votes, from this entry on


class Replication(IntEnum):
    """Who runs a call: each replica, or the primary first."""

    ACTIVE = 1
    PASSIVE = 2


@dataclass(slots=True)
class Call:
    """The contents of a CALL.

    `time` (Unix seconds) and `seed` are what the service is given for its clock and its random
    numbers, so that every replica draws the same. `answer` is what it gave (passive), as bytes that
    the shell made; None where it has yet to run (active).
    """

    session: int
    number: int  # of the request in its session
    low: int  # requests below this number have been answered, as the client knows
    request: bytes  # the method and its arguments, as the shell encodes them
    time: float
    seed: int
    answer: bytes | None = None


@dataclass(slots=True)
class Entry:
    """One entry of the log; `body` is a Call, the client of an OPEN, ids, or None."""

    index: int  # from 1
    term: int
    kind: Kind
    body: Any = None

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        body = self.body
        if type(body) is Call:
            return ENTRY_BYTES + len(body.request) + len(body.answer or b"")
        if self.kind is Kind.OPEN:
            return ENTRY_BYTES + len(body)
        return ENTRY_BYTES + sum(len(str(item)) for item in body or ())


class Batch(tuple[Entry, ...]):
    """Entries that are written and sent together: they become bytes once (`plain.pack`)."""

    data: bytes = b""


@dataclass(slots=True)
class Checkpoint:
    """The state after the entry `index` of `term`, and what else is needed to go on from there.

    `state` is what the service gave, as bytes; None: as it is after its `init` (index 0).
    `sessions` is the plain form of the session table, `number` counts the checkpoints of a group
    as this replica has seen them.
    """

    index: int
    term: int
    members: tuple[str, ...]
    sessions: list[Any]
    state: bytes | None
    number: int = 0


@dataclass(slots=True)
class Stored:
    """What a replica finds on its disk when it starts."""

    term: int
    voted_for: str | None
    checkpoint: Checkpoint
    entries: tuple[Entry, ...] = ()  # in order, without gaps; they may begin before the checkpoint

    @classmethod
    def new(cls, members: tuple[str, ...]) -> Stored:
        """A group that was just formed."""
        return cls(0, None, Checkpoint(0, 0, members, [], None))


def node_of(replica: str) -> str:
    """The node that runs a replica."""
    return replica.rpartition("/")[0]
