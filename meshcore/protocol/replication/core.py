"""What all parts of a replica share: its term, its log, its disk, its effects.

The parts are layers, each in a module and a class that builds on the one below::

    Core         term, role, journal, members, what is on disk
    Applying     committed entries in order: calls to run, sessions, checkpoints
    Serving      requests of clients, reads
    Leading      the primary: replication, commit, steps down
    Membership   the primary: hand-over, who is replaced by whom
    Voting       elections, leases
    Following    takes over the primary's log or checkpoint
    Replica      the outside: messages, time, views

A layer calls those below it, and what is above it by the few methods that `Core` names.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from meshcore.protocol.replication.effects import (
    Effect,
    Persist,
    ReleaseLease,
    Send,
    StateChanged,
    Stopped,
)  # fmt: skip
from meshcore.protocol.replication.journal import Journal
from meshcore.protocol.replication.messages import Message
from meshcore.protocol.replication.records import Checkpoint, Entry, Kind, Replication, Stored


@dataclass(frozen=True, slots=True)
class ReplicaTimings:
    """Seconds; the group has beats of its own, quicker than those of the mesh.

    Attributes:
        beat: between two beats of the primary. Lower: deaths are noticed sooner, and more traffic.
        election_min, election_max: a follower that hears no beat for a time drawn from this range
            stands for election. Three beats and more, or lost ones cause elections.
        majority: a primary that hears no majority for so long steps down.
        replace_after: a member that is not there for so long is replaced by a spare.
    """

    beat: float = 0.3
    election_min: float = 1.0
    election_max: float = 1.5
    majority: float = 1.5
    replace_after: float = 60.0


class Leadership(Enum):
    """Who may lead: whom a majority elects, or who holds a lease given by somebody else."""

    ELECTION = "election"
    LEASE = "lease"


class Role(Enum):
    FOLLOWER = "replica"
    STANDING = "standing"  # asks whether it would be elected: no term yet
    CANDIDATE = "candidate"
    PRIMARY = "primary"
    STOPPED = "stopped"


@dataclass(slots=True)
class Writing:
    """A Persist that is not on disk yet, and what follows when it is."""

    token: int
    last: int  # the last entry of ours that is on disk then; 0: none more
    vote: bool  # it holds a term and a vote
    then: Callable[[float], None] | None


class Core:
    """See `Replica` for the arguments."""

    def __init__(
        self,
        own: str,
        stored: Stored,
        *,
        size: int,
        replication: Replication,
        leadership: Leadership,
        rng: random.Random,
        timings: ReplicaTimings,
    ) -> None:
        self.own = own
        self.size = size
        self.replication = replication
        self.leadership = leadership
        self.rng = rng
        self.timings = timings
        self.role = Role.FOLLOWER
        self.term = stored.term
        self.voted_for = stored.voted_for
        self.primary: str | None = None
        self.checkpoint: Checkpoint = stored.checkpoint
        self.reason = ""  # why it has stopped
        kept = [e for e in stored.entries if stored.entries[0].index <= stored.checkpoint.index + 1]
        before = stored.checkpoint.index, stored.checkpoint.term
        if kept and kept[0].index <= stored.checkpoint.index:
            # The term of the entry before the first one is not kept: that entry stands for it.
            before = kept[0].index, kept[0].term
            kept = kept[1:]
        self.journal = Journal(*before)
        self.journal.extend(kept)
        self.commit = stored.checkpoint.index
        self._out: list[Effect] = []
        self._durable = self.journal.last  # our own log is on disk up to there
        self._members = [(stored.checkpoint.index, stored.checkpoint.members)]
        for entry in kept:
            self._note_members(entry)
        self._writing: deque[Writing] = deque()
        self._votes_unsaved = 0
        self._installing = False  # a checkpoint of the primary is being written
        self._token = 0
        self._out.clear()  # `begin` tells what there is

    # Effects -------------------------------------------------------------------------------------

    def _take(self) -> list[Effect]:
        effects, self._out = self._out, []
        return effects

    def _emit(self, effect: Effect) -> None:
        self._out.append(effect)

    def _send(self, to: str, message: Message) -> None:
        self._out.append(Send(to, message))

    # Members -------------------------------------------------------------------------------------

    @property
    def members(self) -> tuple[str, ...]:
        """Who votes: as the last MEMBERS entry of the log says, committed or not."""
        return self._members[-1][1]

    def members_at(self, index: int) -> tuple[str, ...]:
        """Who voted after the entry `index`."""
        for since, members in reversed(self._members):
            if since <= index:
                return members
        return self._members[0][1]

    @property
    def is_member(self) -> bool:
        return self.own in self.members

    def others(self) -> list[str]:
        return [member for member in self.members if member != self.own]

    def _note_members(self, entry: Entry) -> None:
        if entry.kind is Kind.MEMBERS and entry.index > self._members[-1][0]:
            self._members.append((entry.index, tuple(entry.body)))
            self._emit(StateChanged())

    # The log and the disk ------------------------------------------------------------------------

    def _append(self, kind: Kind, body: object = None) -> int:
        """Append an entry of our own term; `flush` writes and sends it."""
        index = self.journal.last + 1
        entry = Entry(index, self.term, kind, body)
        self.journal.append(entry)
        self._note_members(entry)
        return index

    def _truncate(self, index: int) -> None:
        """Drop entries that the primary does not have; none of them is committed."""
        assert index > self.commit
        self.journal.truncate(index)
        self._durable = min(self._durable, index - 1)
        for writing in self._writing:
            writing.last = min(writing.last, index - 1)
        while self._members[-1][0] >= index:
            self._members.pop()
            self._emit(StateChanged())

    def _persist(
        self,
        then: Callable[[float], None] | None = None,
        *,
        vote: bool = False,
        entries: tuple[Entry, ...] = (),
        checkpoint: Checkpoint | None = None,
        keep_from: int = 0,
        reset: bool = False,
    ) -> None:
        self._token += 1
        last = entries[-1].index if entries else 0
        self._writing.append(Writing(self._token, last, vote, then))
        self._votes_unsaved += vote
        term, voted_for = (self.term, self.voted_for) if vote else (None, None)
        self._emit(Persist(self._token, term, voted_for, checkpoint, keep_from, reset, entries))

    def _on_persisted(self, token: int, now: float) -> None:
        while self._writing and self._writing[0].token <= token:
            writing = self._writing.popleft()
            self._durable = max(self._durable, writing.last)
            self._votes_unsaved -= writing.vote
            if writing.then is not None:
                writing.then(now)

    def _once_vote_is_on_disk(self, then: Callable[[float], None], now: float) -> None:
        """Do this once our term and vote are on disk: at once if they are."""
        if self.role is Role.STOPPED:
            return
        if self._votes_unsaved:
            self._persist(then)
        else:
            then(now)

    def _set_term(self, term: int, now: float) -> None:
        """A newer term: nobody has our vote in it yet."""
        assert term > self.term
        self.term, self.voted_for, self.primary = term, None, None

    # The layers above ----------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        """Take no more part, for good."""
        if self.role is Role.STOPPED:
            return
        if self.leadership is Leadership.LEASE:
            self._emit(ReleaseLease())  # held or wanted: somebody else needs it
        self.role, self.primary, self.reason = Role.STOPPED, None, reason
        self._writing.clear()
        self._votes_unsaved = 0
        self._refuse_all()
        self._emit(StateChanged())
        self._emit(Stopped(reason))

    def _refuse_all(self) -> None:
        """Refuse every request that waits: this replica will not answer it."""
        raise NotImplementedError

    def _step_down(self, now: float) -> None:
        """Be a follower."""
        raise NotImplementedError
