"""Reads make no entry; they see all that was answered before, and never what another replaced."""

from __future__ import annotations

import pytest

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.messages import Append, Appended, Voted
from meshcore.protocol.replication.records import Replication
from tests.unit.protocol.replication_world import A, B, C, Group

BOTH = list(Replication)


@pytest.mark.parametrize("replication", BOTH)
def test_a_read_is_no_entry_and_sees_what_was_answered(replication: Replication) -> None:
    group = Group(replication=replication)
    group.lead()
    session = group.open()
    group.call(A, session, 1)
    last = group[A].journal.last
    assert group.answer(group.call(A, session, 2, read_only=True)) == "1"
    assert group[A].journal.last == last
    assert group.wanted(A, effects.Execute)[-1].read_only


@pytest.mark.parametrize("replication", BOTH)
def test_a_primary_that_was_replaced_without_knowing_answers_no_reads(
    replication: Replication,
) -> None:
    group = Group(replication=replication)
    group.lead()
    session = group.open()
    group.pass_time(1.0)
    group.cut = {A}
    for own in (B, C):
        group.take(own, group[own].on_lost(A, group.now))
    group.pass_time(0.5, until=lambda: "primary" in {group[o].view().role for o in (B, C)})
    group.pass_time(0.1)
    leads = next(own for own in (B, C) if group[own].view().role == "primary")
    assert group.answer(group.call(leads, session, 1)) == "1"
    assert group[A].view().role == "primary"  # as it believes
    stale = group.call(A, session, 2, read_only=True)
    group.pass_time(2.0)
    assert group.answer(stale) == "not_primary"


def test_the_round_that_confirms_began_after_the_read_came() -> None:
    group = Group(running=[A])
    group.pass_time(1.0, until=lambda: group[A].view().role == "candidate")
    _elect(group)
    term, last = group[A].term, group[A].journal.last
    group.hear(A, B, Appended(term, True, last, group[A].round))
    assert group[A].ready
    before = group[A].round
    read = group.call(A, 1, 1, read_only=True)
    assert group[A].round > before
    group.hear(A, B, Appended(term, True, last, before))  # it comes late
    group.hear(A, C, Appended(term, True, last, before))
    assert group.answer(read) is None
    group.hear(A, B, Appended(term - 1, True, last, group[A].round))  # of another term
    assert group.answer(read) is None
    group.hear(A, C, Appended(term, True, last, group[A].round))
    assert group.answer(read) == "0"


def _elect(group: Group) -> None:
    group.hear(A, B, Voted(group[A].term + 1, True, pre=True))
    group.hear(A, B, Voted(group[A].term, True))


def test_a_refusal_confirms_as_well() -> None:
    """Who replies in our term follows us, whatever its log is like."""
    group = Group(running=[A])
    group.pass_time(1.0, until=lambda: group[A].view().role == "candidate")
    _elect(group)
    term = group[A].term
    group.hear(A, B, Appended(term, True, group[A].journal.last, group[A].round))
    read = group.call(A, 1, 1, read_only=True)
    group.hear(A, C, Appended(term, False, 0, group[A].round))
    assert group.answer(read) == "0"


def test_reads_wait_for_what_was_committed_when_they_came() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.slow_service = {A}
    group.call(A, session, 1)
    read = group.call(A, session, 2, read_only=True)
    group.settle()
    ran = group.wanted(A, effects.Execute)
    assert [effect.read_only for effect in ran] == [False, True]
    group.slow_service = set()
    group.settle()
    assert group.answer(read) == "1"


def test_many_reads_of_one_turn_are_one_round() -> None:
    group = Group()
    group.lead()
    session = group.open()
    rounds, said = group[A].round, len(group.sent(A, Append))
    refs = [group.call(A, session, n, settle=False, read_only=True) for n in range(1, 51)]
    group.take(A, group[A].flush(group.now))
    assert group[A].round == rounds + 1
    assert len(group.sent(A, Append)) == said + 2
    group.settle()
    assert {group.answer(ref) for ref in refs} == {"0"}


def test_reads_are_bounded() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.cut = {B, C}
    refs = [group.call(A, session, 1, settle=False, read_only=True) for _ in range(4100)]
    assert [group.answer(ref) for ref in refs].count("busy") == 4
