"""What replicas of one group say to each other, and the plain form of it.

Each message is a tuple whose plain form is a list that begins with its number, so that it travels
as a MessagePack value; `decode` checks every field, because a peer may send anything.

Source: Ongaro, Consensus: Bridging Theory and Practice (2014), chapters 3, 4, 6 and 9.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from meshcore.protocol.replication.records import Entry


@dataclass(slots=True)
class Vote:
    """Asks for a vote in `term`; with `pre` whether there would be one, and nothing is promised.

    `handover`: the primary asked for it, so that voters need not have missed it.
    """

    term: int
    last_term: int
    last_index: int
    pre: bool = False
    handover: bool = False


@dataclass(slots=True)
class Voted:
    term: int
    granted: bool
    pre: bool = False


@dataclass(slots=True)
class Append:
    """The primary's beat, with entries after (`prev_index`, `prev_term`).

    `round` comes back in `Appended`: a majority of them shows that the primary was one at the time.
    """

    term: int
    prev_index: int
    prev_term: int
    commit: int
    round: int
    entries: tuple[Entry, ...] = ()


@dataclass(slots=True)
class Appended:
    """`match`: our log is like the primary's, and on disk, up to there; where it was refused
    (`ok` false) it is a guess of where it may be."""

    term: int
    ok: bool
    match: int
    round: int


@dataclass(slots=True)
class Part:
    """A part of a checkpoint, for a replica that needs what the log no longer holds."""

    term: int
    index: int  # of the checkpoint
    index_term: int
    members: tuple[str, ...]
    sessions: list[Any]  # of the table, as many as this part holds
    number: int
    offset: int  # sessions and bytes in the parts before
    data: bytes
    last: bool
    initial: bool  # there is no state: as after `init`
    round: int


@dataclass(slots=True)
class Taken:
    """So much of the checkpoint is there; once it is whole and on disk, `done`."""

    term: int
    index: int
    offset: int
    done: bool
    round: int


@dataclass(slots=True)
class Lead:
    """The primary hands over: stand for election now."""

    term: int


Message: TypeAlias = Vote | Voted | Append | Appended | Part | Taken | Lead
