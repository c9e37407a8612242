"""One replica of a replicated service: the whole machine, as its shell drives it.

Inputs are calls with the time; each returns effects, in the order in which they must happen. The
shell sends messages (they may be lost), writes to disk, runs calls one after the other, and passes
answers on. It calls `flush` at the end of a turn, so that all calls of the turn become one write
and one message to each of the others.

The promise: an answered call is in the log of a majority of the members, on disk; it is lost only
if as many disks are. A call has one effect, however often it is asked for. Answers come from a
state that contains all calls that were answered before they were asked for.

It is Raft (Ongaro, Consensus: Bridging Theory and Practice, 2014), with a passive mode in which
the primary runs calls before they are in the log. See `core` for the layers.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from meshcore.protocol.replication.core import Leadership, ReplicaTimings, Role
from meshcore.protocol.replication.effects import Effect, Restore, StateChanged
from meshcore.protocol.replication.following import Following
from meshcore.protocol.replication.messages import (
    Append,
    Appended,
    Lead,
    Message,
    Part,
    Taken,
    Vote,
    Voted,
)  # fmt: skip
from meshcore.protocol.replication.records import Entry, Replication, Stored
from meshcore.protocol.replication.serving import Submitted

CHECKPOINT_INTERVAL = 5.0  # seconds
CHECKPOINT_LOG_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class View:
    """What a replica is and knows.

    `role`: primary, replica, candidate, learner, spare (waits to be taken in) or stopped.
    `state`: joining (knows no primary yet), checkpoint (gets one), replay (has yet to apply what
    was committed when it came), ready, or stopped.
    """

    own: str
    role: str
    state: str
    term: int
    primary: str | None
    members: tuple[str, ...]
    learners: tuple[str, ...]
    commit: int
    applied: int
    first: int
    last: int
    checkpoint_index: int
    checkpoint_number: int
    sessions: int
    reason: str


class Replica(Following):
    """One replica.

    Args:
        own: its id; where it is not among the members it is a spare.
        stored: what is on its disk.
        size: how many members the group is to have.
        replication: who runs calls.
        rng: draws timeouts, and the seeds of the calls.
        checkpoint_interval: seconds between two checkpoints, where something was called.
        checkpoint_log_bytes: size of the log that causes one sooner.
        is_same: whether an answer in a replay (passive) is that of the primary.
    """

    def __init__(
        self,
        own: str,
        stored: Stored,
        *,
        size: int,
        replication: Replication,
        rng: random.Random,
        timings: ReplicaTimings | None = None,
        leadership: Leadership = Leadership.ELECTION,
        checkpoint_interval: float = CHECKPOINT_INTERVAL,
        checkpoint_log_bytes: int = CHECKPOINT_LOG_BYTES,
        is_same: Callable[[bytes, bytes], bool] = operator.eq,
    ) -> None:
        super().__init__(
            own, stored, size=size, replication=replication, leadership=leadership, rng=rng,
            timings=timings or ReplicaTimings(), checkpoint_interval=checkpoint_interval,
            checkpoint_log_bytes=checkpoint_log_bytes, is_same=is_same,
        )  # fmt: skip
        self._on: dict[type, Any] = {
            Append: self._on_append, Appended: self._on_appended, Vote: self._on_vote,
            Voted: self._on_voted, Part: self._on_part, Taken: self._on_taken, Lead: self._on_lead,
        }  # fmt: skip

    # Inputs --------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Effect]:
        """Once, before everything else: the service is put into its last known state."""
        self._reset_election(now)
        if self.term == 0:  # a new group: nobody can lead yet
            self._election_at = now + self.rng.uniform(0.0, self.timings.beat)
        self._emit(Restore(self.epoch, self.checkpoint.state))
        self._emit(StateChanged())
        return self._take()

    def on_message(self, sender: str, message: Message, now: float) -> list[Effect]:
        """What another replica of this group says."""
        if self.role is not Role.STOPPED and sender != self.own:
            self._on[type(message)](sender, message, now)
            self._look(now)
        return self._take()

    def on_persisted(self, token: int, now: float) -> list[Effect]:
        """Everything up to this token is on disk."""
        if self.role is not Role.STOPPED:
            self._on_persisted(token, now)
            self._look(now)
        return self._take()

    def on_persist_failed(self, token: int, reason: str, now: float) -> list[Effect]:
        """The disk failed: nothing can be promised any more."""
        return self.fail(f"its disk failed: {reason}", now)

    def fail(self, reason: str, now: float) -> list[Effect]:
        """This replica cannot go on."""
        self._stop(reason)
        return self._take()

    def on_executed(
        self, epoch: int, outcomes: Iterable[tuple[int, bytes]], now: float
    ) -> list[Effect]:
        """Calls were run, in order: the token and the answer of each."""
        if self.role is not Role.STOPPED:
            self._on_executed(epoch, outcomes, now)
            self._look(now)
        return self._take()

    def on_captured(self, epoch: int, index: int, state: bytes, now: float) -> list[Effect]:
        """The state was taken."""
        if self.role is not Role.STOPPED:
            self._on_captured(epoch, index, state, now)
        return self._take()

    def on_tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        if self.role is Role.STOPPED:
            return self._take()
        if self.role is Role.PRIMARY:
            if self._has_lost_majority(now) or not self._may_answer(now):
                self._step_down(now)
            else:
                self._look_at_hand_over(now)
        if self.role is Role.PRIMARY:
            self._flush(now)
            if now >= self._beat_at:
                self._beat(now)
                self._look_at_members(now)
        elif now >= self._election_at:
            self._on_election_time(now)
        if self._checkpoint_at is not None and now >= self._checkpoint_at:
            self._look_at_checkpoint(now)
        return self._take()

    def next_deadline(self) -> float | None:
        """When `on_tick` wants to be called."""
        if self.role is Role.STOPPED:
            return None
        at = self._election_at
        if self.role is Role.PRIMARY:
            at = min(self._beat_at, self._majority_until(), self._flush_at())
            if self._handing_over:
                at = min(at, self._hand_over_until)
            if self.leadership is Leadership.LEASE:
                at = min(at, self._lease_until)
        return at if self._checkpoint_at is None else min(at, self._checkpoint_at)

    def flush(self, now: float) -> list[Effect]:
        """The end of a turn: write and send what was asked for in it."""
        self._flush(now)
        return self._take()

    # Clients -------------------------------------------------------------------------------------

    def open(self, ref: int, client: str, now: float) -> list[Effect]:
        """Open a session; `ref` is the shell's, and comes back in `Opened` or `Refused`."""
        self._open(ref, client, now)
        return self._take()

    def submit(self, call: Submitted, now: float) -> list[Effect]:
        """Call the service; `call.ref` comes back in `Answered` or `Refused`, now or later."""
        self._submit(call, now)
        return self._take()

    def attend(self, ref: int, *, session: int, number: int, now: float) -> list[Effect]:
        """Answer once that request has had its effect here: active groups, any replica."""
        self._attend(ref, session, number, now)
        return self._take()

    def forget(self, ref: int) -> None:
        """Whoever asked is gone."""
        self._forget(ref)

    # The group -----------------------------------------------------------------------------------

    def set_present(self, replicas: Iterable[str], now: float) -> list[Effect]:
        """Who announces itself for this group now, in whatever role."""
        self._set_present(replicas, now)
        return self._take()

    def on_lost(self, replica: str, now: float) -> list[Effect]:
        """The mesh says that this one is gone: a hint, which saves the wait for its beats."""
        self._on_lost(replica, now)
        return self._take()

    def designate(self, replica: str, now: float) -> list[Effect]:
        """Hand over to this member; ValueError where that cannot be."""
        self._designate(replica, now)
        return self._take()

    def step_aside(self, now: float) -> list[Effect]:
        """The service does not answer: let somebody else lead, and do not stand until `resume`."""
        self._step_aside(now)
        return self._take()

    def resume(self, now: float) -> list[Effect]:
        """The service answers again."""
        self._aside = False
        return self._take()

    def set_checkpoints(
        self, *, interval: float | None = None, log_bytes: int | None = None, now: float
    ) -> list[Effect]:
        """Other times for checkpoints, from now on."""
        if interval is not None:
            self.checkpoint_interval = interval
            self._checkpoint_at = None
        if log_bytes is not None:
            self.checkpoint_log_bytes = log_bytes
        self._look_at_checkpoint(now)
        return self._take()

    def on_lease(self, term: int, until: float, now: float) -> list[Effect]:
        """The lease that was wanted is ours, until then by our clock."""
        self._on_lease(term, until, now)
        return self._take()

    def on_lease_renewed(self, until: float, now: float) -> list[Effect]:
        self._on_lease_renewed(until, now)
        return self._take()

    def on_lease_lost(self, now: float) -> list[Effect]:
        self._on_lease_lost(now)
        return self._take()

    # State ---------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """What may follow from any input."""
        self._after_advance(now)
        if self._handing_over:
            self._look_at_hand_over(now)
        ready = self.ready
        if self.role is not Role.PRIMARY:
            ready = self._goal is not None and self.applied >= self._goal
        if ready and not self._is_ready:
            self._is_ready = True
            self._emit(StateChanged())

    def view(self) -> View:
        """What this replica is and knows now."""
        return View(
            own=self.own,
            role=self._role_name(),
            state=self._state_name(),
            term=self.term,
            primary=self.primary,
            members=self.members,
            learners=tuple(self.learners),
            commit=self.commit,
            applied=self.applied,
            first=self.journal.first,
            last=self.journal.last,
            checkpoint_index=self.checkpoint.index,
            checkpoint_number=self.checkpoint.number,
            sessions=len(self.sessions),
            reason=self.reason,
        )

    def _role_name(self) -> str:
        if self.role is Role.STANDING:
            return "candidate"
        if self.role is Role.FOLLOWER and not self.is_member:
            return "spare" if self.primary is None else "learner"
        return str(self.role.value)

    def _state_name(self) -> str:
        if self.role is Role.STOPPED:
            return "stopped"
        if self.role is Role.PRIMARY:
            return "ready" if self.ready else "replay"
        if self._installing or self._receiving.offset:
            return "checkpoint"
        if self._is_ready:
            return "ready"
        return "joining" if self._goal is None else "replay"

    def check_invariants(self) -> None:
        """For tests and the simulator: what must hold after every step."""
        self.journal.check_invariants()
        assert self.checkpoint.index <= self.applied <= self._issued <= self.commit
        assert self.commit <= self.journal.last
        assert self.journal.first <= self.checkpoint.index + 1
        assert self._durable <= self.journal.last
        indexes = [index for index, _ in self._members]
        assert indexes == sorted(indexes)
        assert len(self._replaying) == sum(isinstance(what, Entry) for _, what in self._running)
        if self.role is not Role.PRIMARY:
            waiting = [*self._waiting, *self._reads, *self._queued, *self._backlog]
            assert not waiting, f"{self.role.value} keeps {waiting}"
        assert self._votes_unsaved == sum(writing.vote for writing in self._writing)
