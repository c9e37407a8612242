"""Rules of replicas that a simulated group meets rarely, each with a machine by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.messages import Append, Appended, Vote, Voted
from meshcore.protocol.replication.records import Checkpoint, Entry, Kind, Replication, Stored
from meshcore.protocol.replication.replica import Replica
from meshcore.sim.replicas.planted import planted

A, B, C, D = "a/1", "b/1", "c/1", "d/1"
MEMBERS = (A, B, C)


class Driven:
    """A replica whose disk is quick, and what it said."""

    def __init__(self, own: str = A, entries: Sequence[Entry] = (), **settings: Any) -> None:
        stored = Stored(
            max((entry.term for entry in entries), default=0), None,
            Checkpoint(0, 0, MEMBERS, [], None), tuple(entries),
        )  # fmt: skip
        self.machine = Replica(
            own, stored, size=3, replication=Replication.ACTIVE, rng=random.Random(1), **settings
        )
        self.now = 0.0
        self.all: list[effects.Effect] = []
        self.take(self.machine.begin(0.0))

    def take(self, produced: list[effects.Effect]) -> None:
        self.all += produced
        for effect in produced:
            if isinstance(effect, effects.Persist):
                self.take(self.machine.on_persisted(effect.token, self.now))

    def hear(self, sender: str, message: Any) -> None:
        self.take(self.machine.on_message(sender, message, self.now))

    def tick(self) -> None:
        at = self.machine.next_deadline()
        assert at is not None
        self.now = max(self.now, at)
        self.take(self.machine.on_tick(self.now))

    def lead(self) -> None:
        """Be elected, by B."""
        self.tick()
        self.hear(B, Voted(self.machine.term + 1, True, pre=True))
        self.hear(B, Voted(self.machine.term, True))
        assert self.machine.role.value == "primary"

    def sent(self, kind: type) -> list[Any]:
        return [e.message for e in self.all
                if isinstance(e, effects.Send) and isinstance(e.message, kind)]  # fmt: skip


def _of_older_terms() -> list[Entry]:
    return [Entry(1, 1, Kind.EMPTY), Entry(2, 2, Kind.OPEN, "x")]


def _commits_by_counting_older_terms() -> bool:
    """A majority has what earlier primaries appended, and not yet the empty entry of this one."""
    primary = Driven(entries=_of_older_terms())
    primary.lead()
    primary.hear(B, Appended(primary.machine.term, True, 2, 1))
    committed = primary.machine.commit > 0
    primary.hear(B, Appended(primary.machine.term, True, 3, 1))
    assert primary.machine.commit == 3  # with its own entry those before it are committed
    return committed


def test_entries_of_older_terms_are_not_committed_by_counting() -> None:
    assert not _commits_by_counting_older_terms()


def test_the_planted_bug_that_counts_older_terms_is_found() -> None:
    with planted("older-terms"):
        assert _commits_by_counting_older_terms()


def test_who_was_just_made_a_member_votes_before_it_knows() -> None:
    """The entry that made it one did not reach it; without its vote nobody is ever elected."""
    learner = Driven("d/1")
    learner.hear(A, Vote(1, 1, 9))
    assert learner.sent(Voted) == [Voted(1, True)]
    learner.hear(B, Vote(1, 1, 9))
    assert learner.sent(Voted)[1:] == [Voted(1, False)]  # once in a term, like everybody


def test_who_was_just_made_a_member_says_yes_to_a_pre_vote() -> None:
    learner = Driven("d/1")
    learner.hear(A, Vote(1, 1, 9, pre=True))
    assert learner.sent(Voted) == [Voted(1, True, pre=True)]


def test_a_stopped_replica_does_not_stand_when_the_lease_comes() -> None:
    replica = Driven(leadership=Leadership.LEASE)
    replica.tick()
    assert effects.WantLease() in replica.all
    replica.take(replica.machine.on_persist_failed(99, "no space left", replica.now))
    assert effects.ReleaseLease() in replica.all
    said = len(replica.all)
    replica.take(replica.machine.on_lease(7, replica.now + 2.0, replica.now))
    assert replica.all[said:] == [effects.ReleaseLease()]
    assert (replica.machine.role.value, replica.machine.term) == ("stopped", 0)


def test_a_vote_that_was_being_written_is_not_said_after_the_stop() -> None:
    replica = Driven()
    voting = replica.machine.on_message(B, Vote(1, 0, 0), 0.1)
    assert any(isinstance(effect, effects.Persist) for effect in voting)
    after = replica.machine.on_persist_failed(1, "no space left", 0.2)
    assert not [effect for effect in (*voting, *after) if isinstance(effect, effects.Send)]
    replica.machine.check_invariants()


def _members_after(pause: float) -> tuple[str, ...]:
    """C is away for longer than `replace_after`, D learns; then the primary may pause."""
    primary = Driven()
    primary.lead()
    machine = primary.machine
    primary.hear(B, Appended(machine.term, True, 1, 1))
    assert machine.ready
    primary.take(machine.set_present([A, B, D], primary.now))
    while primary.now < 61.0 and not machine.learners:
        primary.tick()
        number = max(append.round for append in primary.sent(Append))
        primary.hear(B, Appended(machine.term, True, machine.journal.last, number))
    assert list(machine.learners) == [D]
    # What both said before the pause is read after it, and so is what was announced.
    primary.now += pause
    for sender in (B, D):
        primary.hear(sender, Appended(machine.term, True, machine.journal.last, number))
    primary.take(machine.set_present([A, B, D], primary.now))
    return machine.members


def test_a_primary_replaces_who_is_away_for_long() -> None:
    assert _members_after(0.0) == (*MEMBERS, D)


def test_a_primary_that_was_paused_replaces_nobody_by_old_announcements() -> None:
    assert _members_after(5.0) == MEMBERS


def test_who_refuses_a_vote_goes_on_waiting_for_its_own_turn() -> None:
    """Or those who lack entries would keep the one that has them from ever standing (100141)."""
    members = ("a/1", "b/1", "c/1")
    entry = Entry(1, 1, Kind.EMPTY)
    stored = Stored(1, None, Checkpoint(0, 0, members, [], None), (entry,))
    machine = Replica(
        "a/1", stored, size=3, replication=Replication.PASSIVE, rng=random.Random(1),
        leadership=Leadership.LEASE,
    )  # fmt: skip
    machine.begin(0.0)
    at = machine.next_deadline()
    assert at is not None
    for term in range(2, 12):  # others get the lease, one after the other, and lack the entry
        machine.on_message("b/1", Vote(term, 0, 0), at * term / 12)
    assert machine.next_deadline() == at
    assert any(isinstance(effect, effects.WantLease) for effect in machine.on_tick(at))
