"""Hand-over, stepping aside, and members that are replaced one at a time."""

from __future__ import annotations

import pytest

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.members import Membership
from meshcore.protocol.replication.messages import Append, Lead, Vote
from meshcore.protocol.replication.records import Kind, Replication, Stored
from tests.unit.protocol.replication_world import THREE, A, B, C, D, Group

NEW_C = "c/2"  # the node c, whose disk was lost


def _show(group: Group, *present: str) -> None:
    for own in group.nodes:
        group.take(own, group[own].set_present(present, group.now))


def _members_entries(group: Group, own: str) -> list[list[str]]:
    journal = group[own].journal
    entries = (journal.entry(i) for i in range(journal.first, journal.last + 1))
    return [list(entry.body) for entry in entries if entry.kind is Kind.MEMBERS]


# Hand-over ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("replication", list(Replication))
def test_the_designated_member_leads_and_no_call_is_lost(replication: Replication) -> None:
    group = Group(replication=replication)
    group.lead()
    session = group.open()
    group.slow_disk = {B, C}
    under_way = group.call(A, session, 1)
    group.take(A, group[A].designate(C, group.now))
    assert group.answer(group.call(A, session, 2)) == "not_ready"
    assert group[A].view().role == "primary"
    since = group.now
    group.slow_disk = set()
    group.settle()
    assert group[C].view().role == "primary"
    assert group.now == since  # without a wait
    assert group.answer(under_way) == "1"
    assert group.answer(group.call(C, session, 2)) == "2"
    assert group.wanted(A, effects.Restore)[1:] == []


def test_only_a_member_is_designated_and_only_at_the_primary() -> None:
    group = Group()
    group.lead()
    with pytest.raises(ValueError, match=r"d/1 is no member of this group: a/1, b/1, c/1"):
        group[A].designate(D, group.now)
    with pytest.raises(ValueError, match=r"b/1 is not the primary; that is a/1"):
        group[B].designate(C, group.now)
    assert group[A].designate(A, group.now) == []


def test_it_goes_on_if_the_other_does_not_take_over_in_time() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.cut = {C}
    group.take(A, group[A].designate(C, group.now))
    assert group.answer(group.call(A, session, 1)) == "not_ready"
    group.pass_time(2.0)
    assert group[A].view().role == "primary"
    assert group.answer(group.call(A, session, 1)) == "1"


def test_nobody_but_the_primary_can_tell_somebody_to_lead() -> None:
    group = Group()
    group.lead()
    term = group[A].term
    group.hear(C, B, Lead(term))
    group.hear(C, A, Lead(term - 1))
    assert group[C].view().role == "replica"
    assert group[A].term == term


def test_who_steps_aside_hands_over_and_stands_again_only_when_told() -> None:
    group = Group()
    group.lead()
    group.slow_service = {A}
    session = group.open()
    hangs = group.call(A, session, 1)
    group.take(A, group[A].step_aside(group.now))
    group.settle()
    assert group[A].view().role == "replica"
    assert group.answer(hangs) == "demoted"
    leads = next(own for own in (B, C) if group[own].view().role == "primary")
    assert group.answer(group.call(leads, session, 1)) == "1"
    other = B if leads == C else C
    group.cut = {leads}
    group.pass_time(6.0)
    assert group[other].view().role == "primary"  # with the vote of A
    group.cut = {other}
    group.pass_time(10.0)
    assert group[A].view().role == "replica"  # and it alone has the newest log
    group.take(A, group[A].resume(group.now))
    group.pass_time(6.0)
    assert group[A].view().role == "primary"


def test_who_steps_aside_tries_those_who_do_not_announce_themselves_too() -> None:
    group = Group()
    group.lead()
    _show(group, A)
    group.take(A, group[A].step_aside(group.now))
    group.settle()
    assert group[A].view().role == "replica"


# Members -----------------------------------------------------------------------------------------


def test_a_member_that_lost_its_disk_is_replaced_by_its_new_self() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.call(A, session, 1)
    group.nodes.pop(C)
    group.start(NEW_C, Stored.new(THREE))
    _show(group, A, B, NEW_C)
    group.pass_time(2.0)
    assert _members_entries(group, A) == [[A, B], [A, B, NEW_C]]  # one at a time
    assert group[A].members == group[B].members == group[NEW_C].members == (A, B, NEW_C)
    assert group.ran(NEW_C) == group.ran(A)
    assert group[NEW_C].view().role == "replica"
    assert group.answer(group.call(A, session, 2)) == "2"


def test_a_learner_neither_counts_nor_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Membership, "_is_fit", lambda machine, learner, now: False)
    group = Group((A, B), size=3)
    group.start(D, Stored.new((A, B)))
    group.lead()
    session = group.open()
    _show(group, A, B, D)
    group.pass_time(1.0)
    assert group[A].view().learners == (D,)
    assert group[D].view().role == "learner"
    group.cut = {B}
    ref = group.call(A, session, 1)
    group.pass_time(0.7)
    assert group[D].journal.last == group[A].journal.last  # it has it, on disk
    assert group.answer(ref) is None
    group.hear(D, A, Lead(group[A].term))
    assert group.sent(D, Vote) == []


def test_who_has_nothing_on_its_disk_yet_is_made_no_member() -> None:
    group = Group((A, B), size=3)
    group.start(D, Stored.new((A, B)))
    group.lead()
    group.slow_disk = {D}
    _show(group, A, B, D)
    group.pass_time(3.0)
    assert group[A].members == (A, B)
    group.slow_disk = set()
    group.pass_time(1.0)
    assert group[A].members == group[D].members == (A, B, D)


def test_a_change_is_in_force_when_appended_and_waits_for_the_one_before() -> None:
    group = Group(running=[A, B])
    group.start(NEW_C, Stored.new(THREE))
    group.lead()
    group.slow_disk = {A, B}
    _show(group, A, B, NEW_C)
    group.pass_time(1.0, until=lambda: group[A].members != THREE)
    assert group[A].members == (A, B)
    group.pass_time(1.0)
    assert _members_entries(group, A) == [[A, B]]  # not committed: nothing more
    group.slow_disk = set()
    since = group.now
    group.settle()
    assert _members_entries(group, A) == [[A, B], [A, B, NEW_C]]
    assert group.now == since  # the second does not wait for a beat


def test_a_lost_member_stays_until_its_new_self_has_learnt() -> None:
    group = Group(running=[A, B])
    group.start(NEW_C, Stored.new(THREE))
    group.lead()
    group.slow_disk = {NEW_C}
    _show(group, A, B, NEW_C)
    group.pass_time(3.0)
    assert group[A].members == THREE
    group.slow_disk = set()
    group.pass_time(1.0)
    assert group[A].members == (A, B, NEW_C)


def test_a_disk_lost_while_an_absent_member_is_replaced_stops_nothing() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.cut = {C}
    _show(group, A, B)
    group.pass_time(70.0)
    group.start(D, Stored.new(THREE))
    group.slow_disk = {D}
    _show(group, A, B, D)
    group.pass_time(1.0)
    assert group[A].view().learners == (D,)
    group.nodes.pop(B)
    group.start("b/2", Stored.new(THREE))
    group.cut = set()
    _show(group, A, "b/2", C, D)
    group.pass_time(10.0)
    leads = next(own for own in (A, C) if group[own].view().role == "primary")
    group.slow_disk = set()
    group.pass_time(20.0)
    assert len(group[leads].members) == 3
    assert {A, C} < set(group[leads].members)
    assert group.answer(group.call(leads, session, 1)) == "1"


def _where_c_is_absent() -> Group:
    """For so long that D, a spare, may take its place; but nobody has heard of D yet."""
    group = Group()
    group.start(D, Stored.new(THREE))
    group.lead()
    group.cut = {C}
    _show(group, A, B)
    group.pass_time(61.0)
    return group


def test_a_spare_joins_before_the_absent_one_leaves() -> None:
    group = _where_c_is_absent()
    _show(group, A, B, D)
    group.pass_time(2.0)
    assert _members_entries(group, A) == [[A, B, C, D], [A, B, D]]


def test_an_absent_member_that_is_back_before_it_left_stays_and_the_new_one_leaves() -> None:
    group = _where_c_is_absent()
    group.slow_disk = {B}
    _show(group, A, B, D)
    group.pass_time(1.0)
    assert group[A].members == (A, B, C, D)
    group.cut = set()
    _show(group, A, B, C, D)
    group.slow_disk = set()
    group.pass_time(1.0)
    assert _members_entries(group, A) == [[A, B, C, D], [A, B, C]]


def test_who_learnt_for_nothing_is_a_spare_again() -> None:
    group = _where_c_is_absent()
    group.slow_disk = {D}
    _show(group, A, B, D)
    group.pass_time(1.0)
    assert group[A].view().learners == (D,)
    group.cut = set()
    _show(group, A, B, C, D)
    group.pass_time(1.0)
    assert group[A].view().learners == ()
    assert group[A].members == THREE


def test_nobody_is_removed_if_those_who_are_left_are_no_majority() -> None:
    group = Group(running=[A, B])
    group.lead()
    _show(group, A, NEW_C)  # B is there, but does not announce itself
    group.pass_time(0.4)
    assert group[A].members == THREE


def test_a_member_that_is_away_for_long_is_replaced_where_a_spare_waits() -> None:
    group = Group()
    group.start(D, Stored.new(THREE))
    group.lead()
    _show(group, A, B)
    group.cut = {C}
    group.pass_time(70.0)
    assert group[A].members == THREE  # nobody to take its place
    assert group[D].view().role == "spare"
    _show(group, A, B, D)
    group.pass_time(2.0)
    assert group[A].members == (A, B, D)
    group.cut = set()
    group.pass_time(5.0)
    assert group[C].view().role != "primary"
    assert group[A].view().role == "primary"


def test_who_comes_back_in_time_is_not_replaced() -> None:
    group = Group()
    group.start(D, Stored.new(THREE))
    group.lead()
    for _ in range(3):
        _show(group, A, B, D)
        group.pass_time(50.0)
        _show(group, A, B, C, D)
        group.pass_time(1.0)
    assert group[A].members == THREE


def test_a_learner_that_does_not_answer_makes_room_for_another() -> None:
    group = Group(running=[A, B])
    group.start(D, Stored.new(THREE))
    group.lead()
    _show(group, A, B, NEW_C, D)  # NEW_C announces itself, and that is all it does
    group.pass_time(5.0)
    assert group[A].view().learners == (NEW_C,)
    group.pass_time(10.0)
    assert group[A].members == (A, B, D)


def test_a_new_primary_goes_on_with_the_members_as_they_were_changed() -> None:
    group = Group()
    group.start(D, Stored.new(THREE))
    group.lead()
    group.nodes.pop(C)
    group.start(NEW_C, Stored.new(THREE))
    _show(group, A, B, NEW_C, D)
    group.pass_time(2.0)
    changed = group[A].members
    assert changed == (A, B, NEW_C)
    group.cut = {A}
    group.pass_time(6.0)
    leads = [own for own in group.nodes if own != A and group[own].view().role == "primary"]
    assert len(leads) == 1
    assert set(group[leads[0]].members) == set(changed)


def test_a_change_that_nobody_else_got_is_rolled_back() -> None:
    group = Group(running=[A, B, C])
    group.start(NEW_C, Stored.new(THREE))
    group.lead()
    group.loses = lambda sender, target, message: (
        isinstance(message, Append) and any(e.kind is Kind.MEMBERS for e in message.entries)
    )
    group.take(A, group[A].set_present([A, B, NEW_C], group.now))
    group.pass_time(1.0, until=lambda: group[A].members != THREE)
    assert group[A].members == (A, B)
    group.cut = {A}
    group.pass_time(5.0)
    group.cut = set()
    group.pass_time(2.0)
    assert group[A].members == group[B].members == THREE


# Checkpoints ---------------------------------------------------------------------------------


def test_checkpoints_come_by_time_only_if_something_was_called() -> None:
    group = Group(checkpoint_interval=5.0)
    group.lead()
    group.pass_time(30.0)
    before = group[A].checkpoint.number
    group.pass_time(30.0)
    assert group[A].checkpoint.number == before
    group.call(A, group.open(), 1)
    group.pass_time(6.0)
    assert [group[own].checkpoint.number for own in THREE] == [before + 1] * 3


def test_checkpoints_come_by_the_size_of_the_log_and_cut_it_when_on_disk() -> None:
    group = Group(checkpoint_interval=1e6, checkpoint_log_bytes=20_000)
    group.lead()
    session = group.open()
    for number in range(1, 40):
        group.call(A, session, number, low=number, request="x" * 1000)
    assert group[A].checkpoint.number >= 1
    assert group[A].journal.first > 1
    assert min(group.nodes[A].disk.entries) >= group[A].journal.first
    first = group[A].journal.first
    group.slow_disk = {A}
    for number in range(40, 80):
        group.call(A, session, number, low=number, request="x" * 1000)
    assert group[A].journal.first == first
    group.slow_disk = set()
    group.pass_time(0.5)
    assert group[A].journal.first > first


def test_a_restart_goes_on_from_the_checkpoint() -> None:
    group = Group(checkpoint_interval=1.0)
    group.lead()
    session = group.open()
    group.call(A, session, 1)
    group.pass_time(2.0)
    group.call(A, session, 2)
    group.pass_time(0.5)
    node = group.restart(B)
    assert node.machine.applied == node.machine.checkpoint.index > 0
    group.pass_time(2.0)
    assert group.ran(B) == group.ran(A) == [f"{session}:1", f"{session}:2"]
    held = group[B].sessions.get(session)
    assert held is not None
    assert held.answers == {1: b"1", 2: b"2"}


def test_new_intervals_count_from_now() -> None:
    group = Group(checkpoint_interval=1e6)
    group.lead()
    group.call(A, group.open(), 1)
    group.pass_time(10.0)
    assert group[A].checkpoint.number == 0
    group.take(A, group[A].set_checkpoints(interval=1.0, now=group.now))
    group.pass_time(1.1)
    assert group[A].checkpoint.number == 1
    assert group[B].checkpoint.number == 0


def test_the_least_recently_used_sessions_are_evicted_by_an_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshcore.protocol.replication.sessions.SESSIONS_MAX", 4)
    group = Group()
    group.lead()
    opened = [group.open() for _ in range(4)]
    group.call(A, opened[0], 1)  # used since
    new = group.open()
    group.pass_time(0.5)
    assert group.answer(group.call(A, opened[1], 1)) == "evicted"
    for session in (opened[0], opened[2], opened[3], new):
        assert str(group.answer(group.call(A, session, 2))).isdigit()
    assert len(group[A].sessions) == len(group[B].sessions) == 4


def test_a_session_whose_call_is_under_way_is_not_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshcore.protocol.replication.sessions.SESSIONS_MAX", 1)
    group = Group()
    group.lead()
    first = group.open()
    group.slow_service = set(THREE)
    ref = group.call(A, first, 1)
    other = group.new_ref()
    group.take(A, group[A].open(other, "other", group.now))
    group.pass_time(0.5)
    group.slow_service = set()
    group.pass_time(0.5)
    assert group.answer(ref) == "1"
