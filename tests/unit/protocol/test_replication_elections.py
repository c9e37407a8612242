"""Who may lead: votes, logs, terms on disk before they are said; nobody disturbs who works."""

from __future__ import annotations

import pytest

from meshcore.protocol.replication import effects, quorum
from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.messages import Append, Appended, Lead, Vote, Voted
from meshcore.protocol.replication.records import Checkpoint, Entry, Kind, Stored
from tests.unit.protocol.replication_world import THREE, A, B, C, D, Group


def _with_log(*terms: int, term: int = 0) -> Stored:
    entries = tuple(Entry(i, t, Kind.EMPTY) for i, t in enumerate(terms, 1))
    return Stored(term or max(terms), None, Checkpoint(0, 0, THREE, [], None), entries)


def _roles(group: Group) -> dict[str, str]:
    return {own: group[own].view().role for own in group.nodes}


@pytest.mark.parametrize(
    ("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)
def test_a_majority_is_more_than_half(count: int, needed: int) -> None:
    assert quorum.majority(count) == needed


def test_a_new_group_elects_one() -> None:
    group = Group()
    group.pass_time(2.0)
    assert sorted(_roles(group).values()) == ["primary", "replica", "replica"]
    assert {group[own].view().primary for own in THREE} == {
        own for own, role in _roles(group).items() if role == "primary"
    }
    assert {group[own].view().state for own in THREE} == {"ready"}


def test_one_of_three_elects_nobody_and_its_term_stays() -> None:
    group = Group(running=[A])
    group.pass_time(30.0)
    assert _roles(group) == {A: "candidate"}
    assert group[A].term == 0  # pre-votes promise nothing


def test_a_group_of_one_leads_itself_and_stays_so_over_a_pause() -> None:
    group = Group((A,))
    group.pass_time(1.0)
    assert _roles(group) == {A: "primary"}
    term = group[A].term
    group.now += 30.0
    group.pass_time(1.0)
    assert (group[A].term, _roles(group)) == (term, {A: "primary"})


@pytest.mark.parametrize(
    ("last_term", "last_index", "granted"),
    [(2, 3, True), (2, 4, True), (3, 1, True), (2, 2, False), (1, 9, False), (0, 0, False)],
)
@pytest.mark.parametrize("pre", [True, False])
def test_votes_are_for_logs_at_least_as_new(
    last_term: int, last_index: int, granted: bool, pre: bool
) -> None:
    group = Group(running=[A], stored=_with_log(1, 2, 2))
    group.hear(A, B, Vote(7, last_term, last_index, pre=pre))
    assert [voted.granted for voted in group.sent(A, Voted)] == [granted]


def test_a_vote_is_given_once_in_a_term_also_after_a_restart() -> None:
    group = Group(running=[A])
    group.hear(A, B, Vote(1, 0, 0))
    group.hear(A, C, Vote(1, 0, 0))
    group.hear(A, B, Vote(1, 0, 0))  # it did not get the reply
    group.restart(A)
    group.hear(A, C, Vote(1, 0, 0))
    group.hear(A, B, Vote(1, 0, 0))
    assert [v.granted for v in group.sent(A, Voted)] == [True, False, True, False, True]


def test_a_vote_is_on_disk_before_it_is_said() -> None:
    group = Group(running=[A])
    group.slow_disk = {A}
    group.hear(A, B, Vote(1, 0, 0))
    group.hear(A, B, Vote(1, 0, 0))
    assert group.sent(A, Voted) == []
    group.write(A)
    assert group.nodes[A].disk.voted_for == B
    assert group.sent(A, Voted) == [Voted(1, True)] * 2


def test_a_candidate_asks_and_counts_itself_only_when_its_own_vote_is_on_disk() -> None:
    group = Group(running=[A])
    group.slow_disk = {A}
    group.pass_time(1.0, until=lambda: bool(group.sent(A, Vote)))
    group.hear(A, B, Voted(1, True, pre=True))
    assert not [vote for vote in group.sent(A, Vote) if not vote.pre]
    group.hear(A, B, Voted(1, True))
    assert group[A].view().role == "candidate"  # B's vote alone is one of three
    group.write(A)
    group.settle()
    assert group[A].view().role == "primary"


def test_nobody_votes_for_itself_in_the_name_of_another() -> None:
    group = Group(running=[A])
    group.pass_time(1.0, until=lambda: bool(group.sent(A, Vote)))
    group.hear(A, B, Voted(1, True, pre=True))
    for _ in range(3):
        group.hear(A, A, Voted(1, True))
        group.hear(A, D, Voted(1, True))  # no member
    assert group[A].view().role == "candidate"


def test_votes_of_another_term_or_kind_do_not_count() -> None:
    group = Group(running=[A])
    group.pass_time(1.0, until=lambda: bool(group.sent(A, Vote)))
    group.hear(A, B, Voted(1, True))  # that is no answer to a pre-vote
    assert group[A].term == 0
    group.hear(A, B, Voted(1, True, pre=True))
    group.hear(A, C, Voted(1, True, pre=True))
    assert (group[A].term, group[A].view().role) == (1, "candidate")


def test_who_hears_its_primary_does_not_say_yes_to_a_pre_vote() -> None:
    group = Group()
    group.lead(A)
    group.pass_time(0.5)
    said = len(group.sent(B, Voted))
    group.hear(B, C, Vote(group[B].term + 1, 9, 9, pre=True), settle=False)
    assert group.sent(B, Voted)[said:] == [Voted(group[B].term, False, pre=True)]


def test_who_was_cut_off_comes_back_without_disturbing_anybody() -> None:
    group = Group()
    group.lead(A)
    term = group[A].term
    group.cut = {C}
    group.pass_time(30.0)
    group.cut = set()
    group.pass_time(3.0)
    assert group[A].term == group[C].term == term
    assert _roles(group) == {A: "primary", B: "replica", C: "replica"}


def test_a_primary_without_majority_steps_down() -> None:
    group = Group()
    group.lead(A)
    group.pass_time(1.0)
    group.cut = {A}
    group.pass_time(1.6)
    assert group[A].view().role != "primary"
    assert group.answer(group.call(A, 1, 1)) == "not_primary"


def test_the_death_of_a_primary_is_noticed_by_its_silence() -> None:
    group = Group()
    group.lead(A)
    group.pass_time(1.0)
    group.cut, since = {A}, group.now
    group.pass_time(5.0, until=lambda: "primary" in (_roles(group)[B], _roles(group)[C]))
    assert group.now - since < 3.2


def test_the_hint_that_a_primary_is_gone_saves_the_wait() -> None:
    group = Group()
    group.lead(A)
    group.pass_time(1.0)
    group.cut, since = {A}, group.now
    for own in (B, C):
        group.take(own, group[own].on_lost(A, group.now))
    group.pass_time(5.0, until=lambda: "primary" in (_roles(group)[B], _roles(group)[C]))
    assert group.now - since < 0.2


def test_a_wrong_hint_does_no_harm() -> None:
    group = Group()
    group.lead(A)
    term = group[A].term
    group.take(B, group[B].on_lost(A, group.now))
    group.pass_time(3.0)
    assert _roles(group)[A] == "primary"
    assert group[A].term == term


def test_a_newer_term_makes_a_primary_follow_and_is_on_disk_before_it_is_answered() -> None:
    group = Group()
    group.lead(A)
    term = group[A].term
    group.slow_disk = {A}
    group.hear(A, B, Append(term + 5, 0, 0, 0, 1))
    assert (group[A].view().role, group[A].term) == ("replica", term + 5)
    assert not [reply for reply in group.sent(A, Appended) if reply.term == term + 5]
    group.write(A)
    assert [reply for reply in group.sent(A, Appended) if reply.term == term + 5]


def test_an_older_primary_is_told_of_the_newer_term() -> None:
    group = Group(running=[A], stored=_with_log(1, term=4))
    group.hear(A, B, Append(3, 1, 1, 0, 8))
    assert group.sent(A, Appended) == [Appended(4, False, 0, 8)]


def test_who_is_no_member_does_not_stand() -> None:
    group = Group(running=[D])
    group.pass_time(10.0)
    group.hear(D, A, Lead(0))
    assert group.sent(D, Vote) == []
    assert group[D].view().role == "spare"


# Leases --------------------------------------------------------------------------------------


def _leased() -> Group:
    group = Group(leadership=Leadership.LEASE)
    group.pass_time(2.0)
    group.take(A, group[A].on_lease(10, group.now + 5.0, group.now))
    group.settle()
    assert group[A].view().role == "primary"
    return group


def test_without_a_lease_nobody_stands() -> None:
    group = Group(leadership=Leadership.LEASE)
    group.pass_time(10.0)
    assert {own for own in THREE if group.wanted(own, effects.WantLease)} == set(THREE)
    assert not any(group.sent(own, Vote) for own in THREE)


def test_the_term_is_that_of_the_lease_and_the_others_stop_wanting_it() -> None:
    group = _leased()
    assert group[A].term == group[B].term == 10
    assert group.wanted(B, effects.ReleaseLease)
    assert group.wanted(C, effects.ReleaseLease)


def test_answers_leave_only_while_the_lease_lasts() -> None:
    group = _leased()
    session = group.open()
    assert group.answer(group.call(A, session, 1)) == "1"
    group.slow_disk = set(THREE)
    group.slow_service = {A}
    late = group.call(A, session, 2)
    read = group.call(A, session, 3, read_only=True)
    group.now += 5.0  # paused; nothing but the time has changed
    group.slow_disk.clear()
    group.slow_service.clear()
    group.settle()
    assert {group.answer(late), group.answer(read)} <= {"demoted", "not_primary"}
    group.pass_time(0.1)
    assert group[A].view().role != "primary"
    assert group.wanted(A, effects.ReleaseLease)


def test_a_renewed_lease_goes_on_and_a_lost_one_ends_at_once() -> None:
    group = _leased()
    session = group.open()
    for number in range(1, 4):
        until = group.now + 5.0
        group.take(A, group[A].on_lease_renewed(until, group.now))
        group.pass_time(3.0)
        assert group.answer(group.call(A, session, number)) == str(number)
    group.take(A, group[A].on_lease_lost(group.now))
    assert group[A].view().role == "replica"
    assert group.answer(group.call(A, session, 4)) == "not_primary"


def test_who_lacks_what_others_have_gives_the_lease_back() -> None:
    group = Group(running=[A, B], leadership=Leadership.LEASE, stored=_with_log(1))
    group.nodes.pop(B)
    group.start(B, _with_log(1, 2))
    group.pass_time(2.0)
    group.take(A, group[A].on_lease(10, group.now + 5.0, group.now))
    group.settle()
    assert group[A].view().role == "replica"
    assert group.wanted(A, effects.ReleaseLease)
    group.take(B, group[B].on_lease(11, group.now + 5.0, group.now))
    group.settle()
    assert group[B].view().role == "primary"


def test_a_lease_that_nobody_wanted_any_more_or_of_an_old_term_is_given_back() -> None:
    group = _leased()
    said = len(group.wanted(B, effects.ReleaseLease))
    group.take(B, group[B].on_lease(11, group.now + 5.0, group.now))
    assert len(group.wanted(B, effects.ReleaseLease)) == said + 1
    assert group[B].view().role == "replica"
