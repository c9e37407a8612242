"""Committed entries in their order: calls to run, sessions, checkpoints.

The shell runs one thing after the other (`Execute`, `Capture`), so results come back in the order
in which they were asked for. Several calls are handed over ahead; entries that are no calls wait
until the calls before them are done, so that the table of sessions is that of one index.

A passive primary runs calls before they are entries (`serving`); such entries are not run again:
when one is committed its answer is recorded. Its service is then ahead of what is committed, so
that a state taken from it is kept back until all its effects are committed, and once it leads no
more it puts the last checkpoint back and goes on from there.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from meshcore.protocol.replication.core import Core, Leadership, ReplicaTimings, Role
from meshcore.protocol.replication.effects import Capture, Execute, Restore
from meshcore.protocol.replication.records import Call, Checkpoint, Entry, Kind, Replication, Stored
from meshcore.protocol.replication.sessions import Sessions

AHEAD_MAX: Final = 256  # calls that the shell has and has not run yet
RETAIN: Final = 1000  # entries before a checkpoint that are kept for replicas that are behind


_CALL, _STOPPED = Kind.CALL, Role.STOPPED  # an enum's attribute costs five times a global
# What the shell runs, by its token: an entry, or what follows on something that is no entry (yet).
Running = tuple[int, Entry | Callable[[bytes, float], None]]


class Applying(Core):
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
        checkpoint_interval: float,
        checkpoint_log_bytes: int,
        is_same: Callable[[bytes, bytes], bool],
    ) -> None:
        super().__init__(
            own, stored, size=size, replication=replication, leadership=leadership, rng=rng,
            timings=timings,
        )  # fmt: skip
        self.sessions = Sessions(self.checkpoint.sessions)
        self.checkpoint_interval = checkpoint_interval
        self.checkpoint_log_bytes = checkpoint_log_bytes
        self._is_same = is_same
        self.applied = self.checkpoint.index  # all entries up to there have had their effect
        self.epoch = 0
        self._issued = self.applied  # entries up to there are applied, or with the shell
        self._running: deque[Running] = deque()
        self._replaying: dict[tuple[int, int], None] = {}  # requests of entries with the shell
        self._replaying_low: dict[int, int] = {}  # what those say of their sessions
        self._run_token = 0
        self._own_from: int | None = None  # later calls were run here before they were entries
        self._ran_to = 0  # the last of those
        self._capturing = False
        self._captured: tuple[int, bytes] | None = None  # a state whose effects may be lost yet
        self._checkpoint_at: float | None = None

    # Running -------------------------------------------------------------------------------------

    def _run(
        self,
        call: tuple[bytes, float, int, str],
        then: Callable[[bytes, float], None],
        *,
        read_only: bool = False,
    ) -> None:
        """Have something run that is no entry."""
        self._run_token += 1
        self._running.append((self._run_token, then))
        self._emit(Execute(self.epoch, self._run_token, 0, *call, read_only))

    def _on_executed(self, epoch: int, outcomes: Iterable[tuple[int, bytes]], now: float) -> None:
        for token, answer in outcomes:
            if epoch != self.epoch or not self._running:
                return
            expected, what = self._running.popleft()
            assert expected == token, f"{expected} was to be run next, not {token}"
            if isinstance(what, Entry):
                self._replayed(what, answer, now)
            else:
                what(answer, now)
            if self.role is _STOPPED:
                return
        self._advance(now)

    def _restore(self, now: float) -> None:
        """Put the last checkpoint back, and go on from there."""
        self.epoch += 1
        self._running.clear()
        self._replaying.clear()
        self._replaying_low.clear()
        self._capturing, self._captured = False, None
        self._own_from = None
        self.sessions = Sessions(self.checkpoint.sessions)
        self.applied = self._issued = self.checkpoint.index
        self._emit(Restore(self.epoch, self.checkpoint.state))

    def _install(self, checkpoint: Checkpoint, now: float) -> None:
        """Take over what the primary holds: our own log has nothing that is needed."""
        self.checkpoint = checkpoint
        self.journal.reset(checkpoint.index, checkpoint.term)
        self.commit = self._durable = checkpoint.index
        for writing in self._writing:
            writing.last = 0
        self._members = [(checkpoint.index, checkpoint.members)]
        self._restore(now)

    # Applying ------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Hand over, or apply, what is committed."""
        while self._issued < self.commit and self.role is not _STOPPED:
            entry = self.journal.entry(self._issued + 1)
            if entry.kind is not _CALL:
                if self._replaying:
                    return
                self._apply_plain(entry, now)
            elif self._own_from is not None and entry.index > self._own_from:
                self._issued = entry.index
                self._apply_call(entry, entry.body.answer, now)
            elif len(self._running) >= AHEAD_MAX or not self._replay(entry, now):
                return
        if self._checkpoint_at is None or now >= self._checkpoint_at or self._is_log_long():
            self._look_at_checkpoint(now)

    def _replay(self, entry: Entry, now: float) -> bool:
        """Have a call run; False where that must wait for those before it."""
        body: Call = entry.body
        key = body.session, body.number
        held = self.sessions.get(body.session)
        if held is None or not self._is_new(*key):
            # It had its effect before (or its session is gone): it has none now.
            if self._replaying:
                return False
            self._issued = self.applied = entry.index
            self._on_applied_again(body, now)
            return True
        self._issued = entry.index
        self._replaying[key] = None
        if body.low > self._replaying_low.get(body.session, 0):
            self._replaying_low[body.session] = body.low

        self._run_token = token = self._run_token + 1
        self._running.append((token, entry))
        self._out.append(
            Execute(self.epoch, token, entry.index, body.request, body.time, body.seed, held.client)
        )
        return True

    def _replayed(self, entry: Entry, answer: bytes, now: float) -> None:
        body: Call = entry.body
        del self._replaying[body.session, body.number]
        if not self._replaying:
            self._replaying_low.clear()
        if body.answer is None:
            self._apply_call(entry, answer, now)
        elif self._is_same(answer, body.answer):
            self._apply_call(entry, body.answer, now)
        else:
            self._stop(f"the service answered otherwise in the replay of entry {entry.index}")

    def _is_new(self, session: int, number: int) -> bool:
        """Whether a request in the log has yet to have its effect.

        The entries before it alone decide that, and not how many of them this replica happens to
        have run: those that are with the shell count like those that are applied.
        """
        return (
            (session, number) not in self._replaying
            and number >= self._replaying_low.get(session, 0)
            and self.sessions.is_new(session, number)
        )

    def _apply_call(self, entry: Entry, answer: bytes, now: float) -> None:
        body: Call = entry.body
        self.sessions.record(body.session, body.number, body.low, answer, entry.index)
        self.applied = entry.index
        self._on_applied_call(body, answer, now)
        self._on_applied(now)

    def _apply_plain(self, entry: Entry, now: float) -> None:
        self._issued = self.applied = entry.index
        if entry.kind is Kind.OPEN:
            self.sessions.open(entry.index, entry.body)
        elif entry.kind is Kind.EVICT:
            self.sessions.evict(entry.body)
        self._on_applied_plain(entry, now)
        self._on_applied(now)

    def _on_applied(self, now: float) -> None:
        if self._captured is not None and self._captured[0] == self.applied:
            (index, state), self._captured = self._captured, None
            self._keep(index, state, now)

    # Checkpoints ---------------------------------------------------------------------------------

    def _is_log_long(self) -> bool:
        return self.journal.bytes_after(self.checkpoint.index) > self.checkpoint_log_bytes

    def _look_at_checkpoint(self, now: float) -> None:
        """Take one if it is time, and there is something new to keep."""
        is_new = self._issued > self.checkpoint.index
        if self._capturing or not is_new or self.role is Role.STOPPED:
            self._checkpoint_at = None
            return
        if self._checkpoint_at is None:
            self._checkpoint_at = now + self.checkpoint_interval
        if now >= self._checkpoint_at or self._is_log_long():
            self._capturing = True
            self._checkpoint_at = None
            self._emit(Capture(self.epoch, self._issued))

    def _on_captured(self, epoch: int, index: int, state: bytes, now: float) -> None:
        if epoch != self.epoch or not self._capturing:
            return
        index = self.applied if self._own_from is None else max(self._ran_to, self.applied)
        if self._may_keep(index):
            self._keep(index, state, now)
        else:
            self._captured = index, state

    def _may_keep(self, index: int) -> bool:
        """Whether a state may be a checkpoint: all its effects are committed."""
        return index <= self.applied

    def _keep(self, index: int, state: bytes, now: float) -> None:
        term = self.journal.term_at(index)
        if term is None or index <= self.checkpoint.index or self._installing:
            self._capturing = False
            return
        checkpoint = Checkpoint(
            index, term, self.members_at(index), self.sessions.plain(), state,
            self.checkpoint.number + 1,
        )  # fmt: skip
        keep_from = self._keep_from(index, now)

        # It is what is put back from now on; the log is cut only when it is on disk.
        self.checkpoint = checkpoint
        self._members = [
            (index, checkpoint.members),
            *(item for item in self._members if item[0] > index),
        ]

        def then(at: float) -> None:
            self._capturing = False
            self.journal.cut(keep_from)
            self._look_at_checkpoint(at)

        self._persist(then, checkpoint=checkpoint, keep_from=keep_from)

    def _keep_from(self, index: int, now: float) -> int:
        """From where the log is kept, beside a checkpoint after `index`."""
        return self.journal.tail(index, count_max=RETAIN, bytes_max=self.checkpoint_log_bytes)

    # The layers above ----------------------------------------------------------------------------

    def _on_applied_call(self, body: Call, answer: bytes, now: float) -> None:
        """A request has had its effect."""
        raise NotImplementedError

    def _on_applied_again(self, body: Call, now: float) -> None:
        """A request is in the log a second time."""
        raise NotImplementedError

    def _on_applied_plain(self, entry: Entry, now: float) -> None:
        raise NotImplementedError
