"""Elections: one primary at most in a term, and none that lacks what is committed.

Who hears no primary asks first whether it would be elected (`pre`), which promises nothing; so
nobody who was cut off disturbs a group that works. Then it stands in a new term. Each member votes
once in a term, only for a log at least as new as its own, and its vote is on disk before it is
said. With a lease there are no elections by time: who gets the lease stands in the term that the
lease gives, and where others have more in their logs it gives the lease back and waits.

Source: Ongaro (2014), sections 3.4, 3.6.1, 9.6.
"""

from __future__ import annotations

from typing import Any, Final

from meshcore.protocol.replication import quorum
from meshcore.protocol.replication.core import Leadership, Role
from meshcore.protocol.replication.effects import ReleaseLease, StateChanged, WantLease
from meshcore.protocol.replication.members import Membership
from meshcore.protocol.replication.messages import Lead, Vote, Voted

HURRY: Final = 0.15  # seconds, at most, before standing where the primary is known to be gone


class Voting(Membership):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._election_at = 0.0
        self._heard_at = float("-inf")  # of the primary
        self._lost: dict[str, None] = {}  # who is gone, as the mesh says
        self._votes: dict[str, bool] = {}
        self._is_hand_over = False
        self._wants_lease = False

    # Time ----------------------------------------------------------------------------------------

    def _reset_election(self, now: float) -> None:
        timings = self.timings
        self._election_at = now + self.rng.uniform(timings.election_min, timings.election_max)

    def _hears_primary(self, now: float) -> bool:
        return (
            self.primary is not None
            and self.primary not in self._lost
            and now < self._heard_at + self.timings.election_min
        )

    def _hear(self, sender: str, now: float) -> None:
        """The primary of this term has said something."""
        self._heard_at = now
        self._lost.pop(sender, None)
        self._reset_election(now)
        if self._wants_lease:
            self._wants_lease = False
            self._emit(ReleaseLease())
        if self.primary != sender:
            self.primary = sender
            self._emit(StateChanged())

    def _on_lost(self, replica: str, now: float) -> None:
        if replica not in self.members:
            return
        self._lost[replica] = None
        if replica == self.primary and self.role is Role.FOLLOWER:
            self._election_at = min(self._election_at, now + self.rng.uniform(0.0, HURRY))

    def _on_election_time(self, now: float) -> None:
        self._reset_election(now)
        if self.primary is not None:
            self.primary = None
            self._emit(StateChanged())
        if not self.is_member or self._aside:
            return
        if self.leadership is Leadership.LEASE:
            if not self._wants_lease and self.role is Role.FOLLOWER:
                self._wants_lease = True
                self._emit(WantLease())
            elif self.role is Role.CANDIDATE:
                self._step_down(now)
            return
        self.role = Role.STANDING
        self._votes = {self.own: True}
        last = self.journal
        for other in self.others():
            self._send(other, Vote(self.term + 1, last.last_term, last.last, pre=True))
        self._count_votes(now)

    # Standing ------------------------------------------------------------------------------------

    def _campaign(self, term: int, now: float, *, hand_over: bool = False) -> None:
        """Stand for election in this term; the others are asked once our own vote is on disk."""
        self._set_term(term, now)
        self.role, self.voted_for = Role.CANDIDATE, self.own
        self._votes, self._is_hand_over = {}, hand_over
        self._reset_election(now)
        self._emit(StateChanged())

        def then(at: float) -> None:
            if self.role is not Role.CANDIDATE or self.term != term:
                return
            last = self.journal
            for other in self.others():
                vote = Vote(term, last.last_term, last.last, handover=self._is_hand_over)
                self._send(other, vote)
            self._votes[self.own] = True
            self._count_votes(at)

        self._persist(then, vote=True)

    def _count_votes(self, now: float) -> None:
        granted = sum(self._votes.get(member, False) for member in self.members)
        if granted < quorum.majority(len(self.members)):
            return
        if self.role is Role.STANDING:
            self._campaign(self.term + 1, now)
        elif self.role is Role.CANDIDATE:
            self._become_primary(now)

    def _on_voted(self, sender: str, message: Voted, now: float) -> None:
        if not message.granted and message.term > self.term:
            self._observe(message.term, now)
            return
        if message.pre:
            asked = self.role is Role.STANDING and message.term == self.term + 1
        else:
            asked = self.role is Role.CANDIDATE and message.term == self.term
        if not asked:
            return
        if message.granted:
            self._votes[sender] = True
            self._count_votes(now)
        elif self.leadership is Leadership.LEASE:
            self._step_down(now)  # it has more than we: let it have the lease

    # Voting --------------------------------------------------------------------------------------

    def _on_vote(self, sender: str, message: Vote, now: float) -> None:
        if message.pre:
            self._on_pre_vote(sender, message, now)
            return
        if message.term > self.term:
            self._observe(message.term, now)
        if self._may_vote(sender, message):
            self.voted_for = sender
            self._reset_election(now)
            self._persist(vote=True)
        granted = self.voted_for == sender and message.term == self.term
        term = self.term

        def then(at: float) -> None:
            if self.term == term:
                self._send(sender, Voted(term, granted))

        self._once_vote_is_on_disk(then, now)

    def _may_vote(self, sender: str, message: Vote) -> bool:
        """Once in a term, and only for who lacks nothing of what we have.

        Not only members: who was just made one may not have the entry that says so, and the
        candidate may need its vote. Who is a member is for the candidate to say, as it counts.
        """
        return (
            message.term == self.term
            and self.voted_for is None
            and self.role in (Role.FOLLOWER, Role.STANDING)
            and self._is_new_enough(message.last_term, message.last_index)
        )

    def _is_new_enough(self, last_term: int, last_index: int) -> bool:
        return (last_term, last_index) >= (self.journal.last_term, self.journal.last)

    def _on_pre_vote(self, sender: str, message: Vote, now: float) -> None:
        granted = (
            message.term > self.term
            and self.role is not Role.PRIMARY
            and not self._hears_primary(now)
            and self._is_new_enough(message.last_term, message.last_index)
        )
        self._send(sender, Voted(message.term if granted else self.term, granted, pre=True))

    def _observe(self, term: int, now: float) -> None:
        """There is a newer term: follow in it."""
        self._set_term(term, now)
        self._emit(StateChanged())
        self._step_down(now)
        self._persist(vote=True)

    def _on_lead(self, sender: str, message: Lead, now: float) -> None:
        follows = self.role is Role.FOLLOWER and message.term == self.term
        if not follows or sender != self.primary or not self.is_member or self._aside:
            return
        if self.leadership is Leadership.ELECTION:
            self._campaign(self.term + 1, now, hand_over=True)
        elif not self._wants_lease:
            self._wants_lease = True
            self._emit(WantLease())

    # Leases --------------------------------------------------------------------------------------

    def _on_lease(self, term: int, until: float, now: float) -> None:
        wanted, self._wants_lease = self._wants_lease and self.role is not Role.STOPPED, False
        if not wanted or term <= self.term or not self.is_member or self._aside:
            self._emit(ReleaseLease())
            return
        self._lease_until = until
        self._campaign(term, now)

    def _on_lease_renewed(self, until: float, now: float) -> None:
        if self.role in (Role.PRIMARY, Role.CANDIDATE):
            self._lease_until = until

    def _on_lease_lost(self, now: float) -> None:
        self._wants_lease = False
        if self.role in (Role.PRIMARY, Role.CANDIDATE):
            self._step_down(now)
