"""A request has one effect, the same on every replica, however often and however late it comes."""

from __future__ import annotations

import pytest

from meshcore.protocol.replication.messages import Append
from meshcore.protocol.replication.records import Call, Entry, Kind, Replication
from tests.unit.protocol.replication_world import THREE, A, B, C, Group

BOTH = list(Replication)


@pytest.mark.parametrize("replication", BOTH)
def test_a_retry_after_the_answer_gets_the_same_answer_and_has_no_effect(
    replication: Replication,
) -> None:
    group = Group(replication=replication)
    group.lead()
    session = group.open()
    first, other = group.call(A, session, 1), group.call(A, session, 2)
    again = group.call(A, session, 1)
    assert [group.answer(ref) for ref in (first, other, again)] == ["1", "2", "1"]
    assert group.ran(A) == [f"{session}:1", f"{session}:2"]


@pytest.mark.parametrize("replication", BOTH)
def test_a_retry_while_the_first_is_under_way_waits_for_it(replication: Replication) -> None:
    group = Group(replication=replication)
    group.lead()
    session = group.open()
    group.slow_service = set(THREE)
    first, again = group.call(A, session, 1), group.call(A, session, 1)
    assert (group.answer(first), group.answer(again)) == (None, None)
    group.slow_service.clear()
    group.pass_time(1.0)
    assert (group.answer(first), group.answer(again)) == ("1", "1")
    assert group.ran(A) == group.ran(B) == group.ran(C) == [f"{session}:1"]


@pytest.mark.parametrize("replication", BOTH)
def test_a_retry_after_fail_over_gets_the_same_answer(replication: Replication) -> None:
    group = Group(replication=replication)
    group.lead()
    session = group.open()
    first = group.call(A, session, 1)
    group.cut = {A}
    group.pass_time(10.0, until=lambda: "primary" in {group[name].view().role for name in (B, C)})
    group.pass_time(0.2)
    leads = next(name for name in (B, C) if group[name].view().role == "primary")
    again = group.call(leads, session, 1)
    assert group.answer(first) == group.answer(again) == "1"
    assert group.ran(leads) == [f"{session}:1"]


@pytest.mark.parametrize("replication", BOTH)
def test_a_late_copy_of_a_call_that_was_given_up_has_no_effect_anywhere(
    replication: Replication,
) -> None:
    """The client gave number 5 up and says so with number 6, which is still under way."""
    group = Group(replication=replication)
    group.lead()
    session = group.open()
    group.slow_disk = set(THREE)
    newer = group.call(A, session, 6, low=6)
    late = group.call(A, session, 5, low=1)
    group.slow_disk.clear()
    group.pass_time(1.0)
    assert (group.answer(newer), group.answer(late)) == ("1", "window")
    assert group.ran(A) == group.ran(B) == group.ran(C) == [f"{session}:6"]


@pytest.mark.parametrize("steps", [[2, 3], [3]], ids=["one by one", "at once"])
def test_the_log_alone_decides_what_has_an_effect(steps: list[int]) -> None:
    """Not how many of the calls before it this replica happens to have run."""
    group = Group(running=[C])
    entries = [
        Entry(1, 1, Kind.OPEN, "client"),
        Entry(2, 1, Kind.CALL, Call(1, 6, 6, b"newer", 1e9, 7)),
        Entry(3, 1, Kind.CALL, Call(1, 5, 1, b"late", 1e9, 8)),
    ]
    for commit in steps:
        group.hear(C, A, Append(1, 0, 0, commit, 1, tuple(entries)))
    assert group.ran(C) == ["newer"]
    assert group[C].applied == 3


def test_an_unknown_session_is_evicted_and_a_number_outside_the_window_is_named() -> None:
    group = Group()
    group.lead()
    session = group.open()
    assert group.answer(group.call(A, 999, 1)) == "evicted"
    assert group.answer(group.call(A, session, 65)) == "window"  # low is 1: up to 64
    assert group.answer(group.call(A, session, 64)) == "1"
    assert group.answer(group.call(A, session, 65, low=65)) == "2"
    assert group.answer(group.call(A, session, 64, low=65)) == "window"
    assert group.ran(B) == group.ran(A) or group[B].commit < group[A].commit


def test_answers_below_low_are_forgotten() -> None:
    group = Group()
    group.lead()
    session = group.open()
    for number in range(1, 11):
        group.call(A, session, number)
    held = group[A].sessions.get(session)
    assert held is not None
    assert list(held.answers) == list(range(1, 11))
    group.call(A, session, 11, low=11)
    assert (held.low, list(held.answers)) == (11, [11])
