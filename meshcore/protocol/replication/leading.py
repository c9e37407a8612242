"""The primary: it sends its log to the others, and what a majority has on disk is committed.

Every message carries the number of a *round*, which comes back: a majority of them tells when the
primary was one for certain. Without a majority for `timings.majority` it steps down. Entries are
sent ahead, a few messages at a time; a reply that refuses one says where to go on from. Whoever
needs what the log no longer holds gets the checkpoint in parts.

Only entries of its own term are committed by counting; those before them are committed with the
empty entry that it begins with. Source: Ongaro (2014), sections 3.5, 3.6.2, 6.4.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from meshcore.protocol.replication import quorum
from meshcore.protocol.replication.batching import Batching
from meshcore.protocol.replication.core import Leadership, Role
from meshcore.protocol.replication.effects import ReleaseLease, StateChanged
from meshcore.protocol.replication.messages import Append, Appended, Taken
from meshcore.protocol.replication.records import Kind, Replication
from meshcore.protocol.replication.serving import Serving
from meshcore.protocol.replication.transfer import Sending

IN_FLIGHT_MAX: Final = 8  # messages with entries to one replica
COUNT_MAX: Final = 256  # entries in a message
BYTES_MAX: Final = 32 * 1024  # of a message, unless one entry is larger
AWAY: Final = 10.0  # seconds without a reply: nothing is kept for it any more
KEPT_BYTES_MAX: Final = 64 * 1024 * 1024  # of the log, while a checkpoint is on its way


@dataclass(slots=True)
class Progress:
    """What the primary knows of another replica."""

    next: int  # the entry to send next
    match: int = 0  # its log is like ours, on disk, up to there
    in_flight: deque[int] = field(default_factory=deque)  # last entry of each message under way
    round: int = 0  # the latest that came back
    heard_at: float = 0.0
    sending: Sending | None = None  # a checkpoint


class Leading(Serving):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.peers: dict[str, Progress] = {}  # as primary: members and learners
        self.learners: dict[str, None] = {}
        self._rounds: deque[tuple[int, float]] = deque()  # not confirmed yet, and when they began
        self._confirmed_at = 0.0
        self._beat_at = 0.0
        self._batches = Batching()
        self._flushed = 0  # entries up to there were given to the disk and sent
        self._empty_index = 0
        self._lease_until = 0.0

    # Becoming one, and no more -------------------------------------------------------------------

    def _become_primary(self, now: float) -> None:
        self.role, self.primary = Role.PRIMARY, self.own
        self.ready, self.round, self.confirmed_round = False, 0, 0
        self.learners.clear()
        self._rounds.clear()
        self._confirmed_at = now
        self._flushed = self.journal.last
        self._batches = Batching()
        self.peers = {other: self._new_progress(now) for other in self.others()}
        self._empty_index = self._append(Kind.EMPTY)
        self._emit(StateChanged())
        self._flush(now)
        self._beat(now)

    def _new_progress(self, now: float) -> Progress:
        return Progress(self.journal.last + 1, heard_at=now)

    def _step_down(self, now: float) -> None:
        was, self.role = self.role, Role.FOLLOWER
        if was is Role.PRIMARY:
            if self.primary == self.own:
                self.primary = None
            if self.journal.last > self._flushed:
                self._truncate(self._flushed + 1)  # nobody was told of these
            speculated = self._has_speculated()
            self.ready, self._own_running = False, 0
            self._handing_over = False
            self._refuse_all()
            self.peers.clear()
            self.learners.clear()
            if speculated:
                self._restore(now)
                self._advance(now)
            self._own_from = None
        if self.leadership is Leadership.LEASE and was in (Role.PRIMARY, Role.CANDIDATE):
            self._lease_until = 0.0
            self._emit(ReleaseLease())
        if was is not Role.FOLLOWER:
            # A follower's wait goes on: or those who lack entries, and are refused each time, would
            # keep the one that has them all from ever standing.
            self._emit(StateChanged())
            self._reset_election(now)

    def _majority_until(self) -> float:
        """Until when a majority is known to follow; who is alone is one."""
        if self.members == (self.own,):
            return float("inf")
        return self._confirmed_at + self.timings.majority

    def _has_lost_majority(self, now: float) -> bool:
        return now >= self._majority_until()

    def _may_answer(self, now: float) -> bool:
        return self.leadership is Leadership.ELECTION or now < self._lease_until

    # Sending -------------------------------------------------------------------------------------

    def _flush(self, now: float) -> None:
        """Give to the disk and to the others what was appended in this turn."""
        if self.role is not Role.PRIMARY:
            return
        last = self.journal.last
        waiting = last - self._flushed
        if waiting and self._batches.may_begin(waiting, now):
            while self._flushed < last:  # in the pieces in which it is sent
                entries = self.journal.since(
                    self._flushed + 1, count_max=COUNT_MAX, bytes_max=BYTES_MAX
                )
                self._flushed = entries[-1].index
                self._persist(self._count, entries=entries)
            self._batches.began(last, waiting, now)
        if self._read_since_flush:
            self._beat(now)  # reads need a round that begins after they came
            return
        for name, peer in self.peers.items():
            self._send_entries(name, peer, now)

    def _flush_at(self) -> float:
        """When what has come is to be flushed even if no more comes."""
        return float("inf") if self.journal.last == self._flushed else self._batches.next_at()

    def _beat(self, now: float) -> None:
        """Begin a round: everybody gets a message, with entries or without."""
        self._read_since_flush = False
        self.round += 1
        self._rounds.append((self.round, now))
        self._beat_at = now + self.timings.beat
        for name, peer in self.peers.items():
            if peer.in_flight and now - peer.heard_at > 2 * self.timings.beat:
                peer.in_flight.clear()  # they, or the replies, are lost
                peer.next = peer.match + 1
            if not self._send_entries(name, peer, now):
                self._send_append(name, peer.next - 1)
        self._count_rounds(now)

    def _send_entries(self, name: str, peer: Progress, now: float) -> bool:
        """Send what there is, as far as it may be under way; whether anything was sent."""
        sent = False
        if peer.sending is not None:
            part = peer.sending.resend(now, self.term, self.round)
            if part is not None:
                self._send(name, part)
            return part is not None
        while peer.next <= self._flushed and len(peer.in_flight) < IN_FLIGHT_MAX:
            if self.journal.term_at(peer.next - 1) is None:
                peer.sending = Sending(self.checkpoint)
                self._send(name, peer.sending.part(now, self.term, self.round))
                return True
            entries = self._send_append(name, peer.next - 1, entries=True)
            peer.in_flight.append(entries)
            peer.next = entries + 1
            sent = True
        return sent

    def _send_append(self, name: str, after: int, *, entries: bool = False) -> int:
        """Send an Append; returns the last entry that it holds."""
        term = self.journal.term_at(after)
        if term is None:  # a beat for somebody who is far behind: it is refused, and is a beat
            after, term = self.checkpoint.index, self.checkpoint.term
        held = (
            self.journal.since(after + 1, count_max=COUNT_MAX, bytes_max=BYTES_MAX)
            if entries
            else ()
        )
        self._send(name, Append(self.term, after, term, self.commit, self.round, held))
        return after + len(held)

    def _keep_from(self, index: int, now: float) -> int:
        """Also what follows a checkpoint that is on its way to somebody.

        Or, where that takes longer than from one checkpoint to the next, its end would be the
        beginning of another one, and so on for as long as there is load. It is bounded: then
        somebody as slow as that begins anew.
        """
        keep_from = super()._keep_from(index, now)
        under_way = [
            peer.sending.checkpoint.index
            for peer in self.peers.values()
            if peer.sending is not None and now < peer.heard_at + AWAY
        ]
        if not under_way:
            return keep_from
        bounded = self.journal.tail(index, count_max=index, bytes_max=KEPT_BYTES_MAX)
        return min(keep_from, max(bounded, min(under_way) + 1))

    # Replies -------------------------------------------------------------------------------------

    def _on_appended(self, sender: str, message: Appended, now: float) -> None:
        peer = self._heard(sender, message.term, message.round, now)
        if peer is None:
            return
        if message.ok:
            match = min(message.match, self._flushed)
            if match > peer.match:
                peer.match = match
                peer.next = max(peer.next, match + 1)
                while peer.in_flight and peer.in_flight[0] <= match:
                    peer.in_flight.popleft()
                self._count(now)
        elif message.match < peer.match:
            return  # it comes late, or what was on its disk is gone: no more than once a beat
        elif peer.sending is None and message.match + 1 <= peer.next:
            # Nothing that it could take is under way to it. (Also where they are equal: all came,
            # and the replies are lost; where the log is cut no beat fits on and says so.)
            peer.in_flight.clear()
            peer.next = message.match + 1
        if self.role is Role.PRIMARY:
            self._send_entries(sender, peer, now)

    def _on_taken(self, sender: str, message: Taken, now: float) -> None:
        peer = self._heard(sender, message.term, message.round, now)
        if peer is None or peer.sending is None:
            return
        if message.done and message.index >= peer.sending.checkpoint.index:
            peer.sending = None
            peer.match = max(peer.match, min(message.index, self._flushed))
            peer.next = peer.match + 1
            self._count(now)
            if self.role is Role.PRIMARY:
                self._send_entries(sender, peer, now)
            return
        part = peer.sending.next(message, now, self.term, self.round)
        if part is not None:
            self._send(sender, part)

    def _heard(self, sender: str, term: int, number: int, now: float) -> Progress | None:
        """What is known of who replies in our term."""
        if self.role is not Role.PRIMARY or term != self.term:
            return None
        peer = self.peers.get(sender)
        if peer is not None:
            peer.heard_at = now
            if number > peer.round:
                peer.round = min(number, self.round)
                self._count_rounds(now)
        return peer

    # Counting ------------------------------------------------------------------------------------

    def _count(self, now: float) -> None:
        """Commit what a majority has on disk."""
        if self.role is not Role.PRIMARY:
            return
        index = self._on_disk_at_most()
        if index > self.commit and self.journal.term_at(index) == self.term:
            self._commit_to(index, now)

    def _on_disk_at_most(self) -> int:
        """The last entry that a majority of the members has on disk."""
        values = [
            self._durable if member == self.own else self._match_of(member)
            for member in self.members
        ]
        return int(quorum.agreed(values))

    def _match_of(self, member: str) -> int:
        peer = self.peers.get(member)
        return 0 if peer is None else peer.match

    def _commit_to(self, index: int, now: float) -> None:
        self.commit = index
        self._batches.committed(index, self.journal.last - self._flushed, now)
        self._advance(now)
        self._after_advance(now)

    def _after_advance(self, now: float) -> None:
        """What may go on when more is applied."""
        if self.role is not Role.PRIMARY:
            return
        if not self.ready and self.applied >= self._empty_index:
            if self.replication is Replication.PASSIVE:
                self._own_from, self._ran_to = self._empty_index, 0
            self._become_ready(now)
            self._emit(StateChanged())
        waiting = self.journal.last - self._flushed
        if waiting and self._batches.may_begin(waiting, now):
            self._flush(now)
        if self._backlog:
            self._run_backlog()
        if self._reads:
            self._run_reads()
            self._finish_reads(now)

    def _count_rounds(self, now: float) -> None:
        """How lately a majority has confirmed that this is the primary."""
        values = [
            self.round if member == self.own else self.peers[member].round
            for member in self.members
            if member == self.own or member in self.peers
        ]
        if len(values) < len(self.members):
            return
        self.confirmed_round = max(self.confirmed_round, int(quorum.agreed(values)))
        while self._rounds and self._rounds[0][0] <= self.confirmed_round:
            self._confirmed_at = self._rounds.popleft()[1]
        self._finish_reads(now)

    # The layers above ----------------------------------------------------------------------------

    def _reset_election(self, now: float) -> None:
        """Wait for a primary before standing for election."""
        raise NotImplementedError
