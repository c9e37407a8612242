"""What a replica has the shell do, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from meshcore.protocol.replication.messages import Message
from meshcore.protocol.replication.records import Checkpoint, Entry


@dataclass(slots=True)
class Send:
    """Send this to another replica; it may be lost."""

    to: str
    message: Message


@dataclass(slots=True)
class Persist:
    """Write this to disk and then call `on_persisted(token)`; tokens rise, and so may be merged.

    The order is: term and vote, then the checkpoint, then the entries. Entries replace everything
    from their first index on. A checkpoint replaces the one before; entries below `keep_from` are
    no more needed, and with `reset` none is.
    """

    token: int
    term: int | None = None  # with `voted_for`; None: unchanged
    voted_for: str | None = None
    checkpoint: Checkpoint | None = None
    keep_from: int = 0
    reset: bool = False
    entries: tuple[Entry, ...] = ()


@dataclass(slots=True)
class Execute:
    """Run a call, one after the other, in order, and tell `on_executed` the token and the answer.

    `index` is 0 where the call is in no entry yet (passive, at the primary; and reads).
    """

    epoch: int
    token: int
    index: int
    request: bytes
    time: float
    seed: int
    client: str = ""  # who opened the session
    read_only: bool = False


@dataclass(slots=True)
class Restore:
    """Drop all calls not yet run, and put this state back; what follows is of this epoch."""

    epoch: int
    state: bytes | None  # None: as after `init`


@dataclass(slots=True)
class Capture:
    """In the order of the calls: take the state, and call `on_captured(epoch, index, state)`."""

    epoch: int
    index: int


@dataclass(slots=True)
class Answered:
    """The answer to the request `ref` may leave: its effect is committed."""

    ref: int
    answer: bytes


@dataclass(slots=True)
class Opened:
    """The session that `ref` asked for is open."""

    ref: int
    session: int


class Refusal(StrEnum):
    """Why a request was not answered."""

    NOT_PRIMARY = "not_primary"  # ask `primary`; nothing was done
    NOT_READY = "not_ready"  # ask again soon; nothing was done
    BUSY = "busy"  # too much waits here; nothing was done
    DEMOTED = "demoted"  # it may have an effect: ask the primary with the same number
    EVICTED = "evicted"  # no such session any more: whether it had an effect is not known
    WINDOW = "window"  # its number is too far ahead of, or below, the window; nothing was done
    STOPPED = "stopped"  # this replica has stopped: ask another one with the same number


@dataclass(slots=True)
class Refused:
    """The request `ref` is not answered; `primary` is the replica to ask, where it is known."""

    ref: int
    reason: Refusal
    primary: str | None = None


@dataclass(slots=True)
class StateChanged:
    """Role, term, primary, readiness or members have changed: see `view`."""


@dataclass(slots=True)
class WantLease:
    """Nobody leads: try to get the lease, until `on_lease` or ReleaseLease (leadership `lease`)."""


@dataclass(slots=True)
class ReleaseLease:
    """Give the lease back, or stop trying to get it."""


@dataclass(slots=True)
class Stopped:
    """This replica takes no more part: its disk failed, or it is not like the others any more."""

    reason: str


Reply: TypeAlias = Answered | Opened | Refused  # to a client
Effect: TypeAlias = (
    Send | Persist | Execute | Restore | Capture | Reply | StateChanged | WantLease | ReleaseLease
    | Stopped
)  # fmt: skip
