"""What clients want: sessions, calls, reads. Only the primary serves them.

*Active*: a call becomes an entry, is committed, is run by every replica; the primary answers when
it has run it. *Passive*: the primary runs it, and with its answer it becomes an entry; the answer
leaves when that is committed. A request that comes again, while the first is under way or after
it, gets the same answer, and no second effect.

A read is no entry. It is run after everything that was committed when it came, and its answer
leaves once a majority has confirmed, in a round of beats that began after that, that the primary is
one; a passive primary's state may be ahead of what is committed, so there the answer also waits
until all that was run before it is committed.

Source: Ongaro (2014), sections 6.3 and 6.4.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from meshcore.protocol.replication.applying import AHEAD_MAX, Applying
from meshcore.protocol.replication.core import Leadership, Role
from meshcore.protocol.replication.effects import Answered, Opened, Refusal, Refused
from meshcore.protocol.replication.records import Call, Entry, Kind, Replication
from meshcore.protocol.replication.sessions import WINDOW

WAITING_MAX: Final = 4096  # requests under way at the primary, and as many reads
QUEUED_MAX: Final = 1024  # requests that wait until a new primary is ready
REFS_MAX: Final = 16  # that wait for one request
CLIENT_CHARS_MAX: Final = 256

Key = tuple[int, int]


@dataclass(slots=True)
class Read:
    ref: int
    request: bytes
    time: float
    seed: int
    client: str
    round: int  # that must be confirmed
    barrier: int  # that must be applied, before it is run and before it is answered
    running: bool = False
    answer: bytes | None = None


@dataclass(slots=True)
class Submitted:
    """A call of a client, as it came; `ref` is the shell's, `time` in Unix seconds."""

    ref: int
    session: int
    number: int
    low: int
    request: bytes
    time: float
    read_only: bool = False


class Serving(Applying):
    ready = False  # as primary: everything of its predecessors is applied
    round = 0  # of beats
    confirmed_round = 0
    _handing_over = False

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._waiting: dict[Key, list[int]] = {}
        self._lows: dict[int, int] = {}  # of sessions, as their calls under way or done say
        self._attending: dict[Key, list[int]] = {}
        self._opening: dict[int, int] = {}  # index of an OPEN -> ref
        self._queued: deque[Submitted | tuple[int, str]] = deque()
        self._backlog: deque[Submitted] = deque()  # passive: the shell has enough to run
        self._own_running = 0
        self._reads: deque[Read] = deque()
        self._evicting: dict[int, None] = {}
        self._read_since_flush = False

    # Requests ------------------------------------------------------------------------------------

    def _open(self, ref: int, client: str, now: float) -> None:
        refusal = self._why_not()
        if refusal is not None:
            self._refuse(ref, refusal)
        elif not self.ready:
            self._enqueue(ref, (ref, client[:CLIENT_CHARS_MAX]))
        elif len(self._opening) >= WAITING_MAX:
            self._refuse(ref, Refusal.BUSY)
        else:
            self._opening[self._append(Kind.OPEN, client[:CLIENT_CHARS_MAX])] = ref

    def _submit(self, call: Submitted, now: float) -> None:
        refusal = self._why_not()
        if refusal is not None:
            self._refuse(call.ref, refusal)
        elif not self.ready:
            self._enqueue(call.ref, call)
        elif call.read_only:
            self._read(call, now)
        else:
            self._take_call(call, now)

    def _take_call(self, call: Submitted, now: float) -> None:
        key = call.session, call.number
        waiting = self._waiting.get(key)
        if waiting is not None:
            self._add_ref(waiting, call.ref)
            return
        held = self.sessions.get(call.session)
        if held is None or call.session in self._evicting:
            self._refuse(call.ref, Refusal.EVICTED)
            return
        answer = held.answers.get(call.number)
        # A late copy of a call that its client gave up is behind what later calls say: once they
        # are in the log it has no effect, so that a passive primary must not run it either.
        low = max(held.low, call.low, self._lows.get(call.session, 0))
        if answer is not None:
            self._answer(call.ref, answer, now)
        elif not low <= call.number < low + WINDOW:
            self._refuse(call.ref, Refusal.WINDOW)
        elif len(self._waiting) >= WAITING_MAX:
            self._refuse(call.ref, Refusal.BUSY)
        else:
            self._waiting[key] = [call.ref]
            self._lows[call.session] = low
            if self.replication is Replication.PASSIVE:
                self._backlog.append(call)
                self._run_backlog()
            else:
                self._append(Kind.CALL, self._body_of(call, None))

    def _body_of(self, call: Submitted, answer: bytes | None, seed: int | None = None) -> Call:
        drawn = self.rng.getrandbits(53) if seed is None else seed
        return Call(call.session, call.number, call.low, call.request, call.time, drawn, answer)

    def _run_backlog(self) -> None:
        while self._backlog and len(self._running) < AHEAD_MAX:
            self._run_own(self._backlog.popleft())

    def _run_own(self, call: Submitted) -> None:
        """Run a call that is no entry yet (passive)."""
        seed = self.rng.getrandbits(53)
        self._own_running += 1

        def then(answer: bytes, now: float) -> None:
            self._own_running -= 1
            self._ran_to = self._append(Kind.CALL, self._body_of(call, answer, seed))
            self._run_backlog()

        self._run((call.request, call.time, seed, self._client_of(call.session)), then)

    def _client_of(self, session: int) -> str:
        """Who opened it; "" where it is gone."""
        held = self.sessions.get(session)
        return "" if held is None else held.client

    def _attend(self, ref: int, session: int, number: int, now: float) -> None:
        """Answer when that request has had its effect here (active)."""
        if self.role is Role.STOPPED:
            self._refuse(ref, Refusal.STOPPED)
            return
        if self.replication is not Replication.ACTIVE or self.leadership is Leadership.LEASE:
            self._refuse(ref, Refusal.NOT_PRIMARY)
            return
        held = self.sessions.get(session)
        answer = None if held is None else held.answers.get(number)
        if answer is not None:
            self._emit(Answered(ref, answer))
        elif held is not None and number < held.low:
            self._refuse(ref, Refusal.WINDOW)
        elif len(self._attending) >= WAITING_MAX:
            self._refuse(ref, Refusal.BUSY)
        else:
            self._add_ref(self._attending.setdefault((session, number), []), ref)

    def _add_ref(self, refs: list[int], ref: int) -> None:
        """One more asks for the same request; who asked first has long asked again."""
        if len(refs) >= REFS_MAX:
            self._refuse(refs.pop(0), Refusal.DEMOTED)
        refs.append(ref)

    def _answer_attending(self) -> None:
        """Those whose request had its effect in a checkpoint that was taken over."""
        for key in list(self._attending):
            held = self.sessions.get(key[0])
            answer = None if held is None else held.answers.get(key[1])
            if answer is not None:
                for ref in self._attending.pop(key):
                    self._emit(Answered(ref, answer))

    def _forget(self, ref: int) -> None:
        for table in (self._waiting, self._attending):
            for key, refs in table.items():
                if ref in refs:
                    refs.remove(ref)
                    if not refs and table is self._attending:
                        del table[key]
                    return

    # Reads ---------------------------------------------------------------------------------------

    def _read(self, call: Submitted, now: float) -> None:
        if len(self._reads) >= WAITING_MAX:
            self._refuse(call.ref, Refusal.BUSY)
            return
        seed = self.rng.getrandbits(53)
        client = self._client_of(call.session)
        read = Read(call.ref, call.request, call.time, seed, client, self.round + 1, self.commit)
        self._reads.append(read)
        self._read_since_flush = True
        self._run_reads()

    def _run_reads(self) -> None:
        for read in self._reads:
            if read.running:
                continue
            if self._issued < read.barrier or len(self._running) >= AHEAD_MAX:
                return
            read.running = True
            self._run_read(read)

    def _run_read(self, read: Read) -> None:
        def then(answer: bytes, now: float) -> None:
            read.answer = answer
            read.barrier = max(read.barrier, self._ran_to)
            self._finish_reads(now)

        self._run((read.request, read.time, read.seed, read.client), then, read_only=True)

    def _finish_reads(self, now: float) -> None:
        reads = self._reads
        while reads and (answer := reads[0].answer) is not None and self._may_read(reads[0]):
            self._answer(reads.popleft().ref, answer, now)

    def _may_read(self, read: Read) -> bool:
        """Whether nobody can have led meanwhile, and nothing that was read can be lost."""
        return self.confirmed_round >= read.round and self.applied >= read.barrier

    # What has had its effect ---------------------------------------------------------------------

    def _on_applied_call(self, body: Call, answer: bytes, now: float) -> None:
        key = body.session, body.number
        for ref in self._waiting.pop(key, ()):
            self._answer(ref, answer, now)
        if self._attending:
            for ref in self._attending.pop(key, ()):
                self._emit(Answered(ref, answer))

    def _on_applied_again(self, body: Call, now: float) -> None:
        held = self.sessions.get(body.session)
        answer = None if held is None else held.answers.get(body.number)
        for ref in self._waiting.pop((body.session, body.number), ()):
            if answer is None:
                self._refuse(ref, Refusal.EVICTED if held is None else Refusal.WINDOW)
            else:
                self._answer(ref, answer, now)

    def _on_applied_plain(self, entry: Entry, now: float) -> None:
        if entry.kind is Kind.OPEN:
            ref = self._opening.pop(entry.index, None)
            if ref is not None:
                self._emit(Opened(ref, entry.index))
            if self.ready:
                self._evict()
        elif entry.kind is Kind.EVICT:
            for session in entry.body:
                self._evicting.pop(session, None)
                self._lows.pop(session, None)

    def _evict(self) -> None:
        """Evict whom it hit, but nobody whose request is under way."""
        victims = self.sessions.victims()
        if not victims:
            return
        busy = {session for session, _ in self._waiting}
        found = [s for s in victims if s not in busy and s not in self._evicting]
        if found:
            self._evicting.update(dict.fromkeys(found))
            self._append(Kind.EVICT, found)

    def _become_ready(self, now: float) -> None:
        """Everything of the primaries before is applied: serve those who wait."""
        self.ready = True
        queued, self._queued = self._queued, deque()
        for waiting in queued:
            if isinstance(waiting, Submitted):
                self._submit(waiting, now)
            else:
                self._open(*waiting, now)

    # Answers -------------------------------------------------------------------------------------

    def _answer(self, ref: int, answer: bytes, now: float) -> None:
        if self._may_answer(now):
            self._emit(Answered(ref, answer))
        else:
            self._refuse(ref, Refusal.DEMOTED)

    def _may_answer(self, now: float) -> bool:
        """Whether this primary still is one, as far as it can know without asking."""
        return True

    def _why_not(self) -> Refusal | None:
        if self.role is Role.PRIMARY:
            return Refusal.NOT_READY if self._handing_over else None
        return Refusal.STOPPED if self.role is Role.STOPPED else Refusal.NOT_PRIMARY

    def _enqueue(self, ref: int, what: Submitted | tuple[int, str]) -> None:
        if len(self._queued) >= QUEUED_MAX:
            self._refuse(ref, Refusal.BUSY)
        else:
            self._queued.append(what)

    def _refuse(self, ref: int, reason: Refusal) -> None:
        self._emit(Refused(ref, reason, None if self.primary == self.own else self.primary))

    def _refuse_all(self) -> None:
        stopped = self.role is Role.STOPPED
        maybe = Refusal.STOPPED if stopped else Refusal.DEMOTED
        never = Refusal.STOPPED if stopped else Refusal.NOT_PRIMARY
        for refs in self._waiting.values():
            for ref in refs:
                self._refuse(ref, maybe)
        for ref in self._opening.values():
            self._refuse(ref, never)  # a session more does no harm
        for read in self._reads:
            self._refuse(read.ref, never)
        for queued in self._queued:
            self._refuse(queued.ref if isinstance(queued, Submitted) else queued[0], never)
        if stopped:
            for refs in self._attending.values():
                for ref in refs:
                    self._refuse(ref, maybe)
            self._attending.clear()
        for held in (self._waiting, self._opening, self._reads, self._queued, self._backlog):
            held.clear()
        self._evicting.clear()
        self._lows.clear()

    def _has_speculated(self) -> bool:
        """Whether the service has run what may never be committed (passive)."""
        return self._own_running > 0 or (self._own_from is not None and self._ran_to > self.commit)
