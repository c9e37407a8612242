"""What is acknowledged is on disk, what is committed stays, what differs is replaced."""

from __future__ import annotations

import pytest

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.leading import BYTES_MAX, COUNT_MAX, IN_FLIGHT_MAX
from meshcore.protocol.replication.messages import Append, Appended
from meshcore.protocol.replication.records import Call, Checkpoint, Entry, Kind, Replication, Stored
from tests.unit.protocol.replication_world import THREE, A, B, C, Group


def _entries(*terms: int, first: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry(i, t, Kind.OPEN, f"{t}") for i, t in enumerate(terms, first))


def _with_log(*terms: int) -> Stored:
    return Stored(max(terms, default=0), None, Checkpoint(0, 0, THREE, [], None), _entries(*terms))


def _terms(group: Group, own: str) -> list[int]:
    journal = group[own].journal
    return [journal.entry(i).term for i in range(journal.first, journal.last + 1)]


def test_entries_are_acknowledged_when_they_are_on_disk() -> None:
    group = Group(running=[B])
    group.slow_disk = {B}
    group.hear(B, A, Append(1, 0, 0, 0, 1, _entries(1, 1)))
    group.hear(B, A, Append(1, 2, 1, 0, 2))  # a beat after them
    assert all(reply.match == 0 for reply in group.sent(B, Appended))
    group.write(B)
    assert max(reply.match for reply in group.sent(B, Appended)) == 2
    assert sorted(group.nodes[B].disk.entries) == [1, 2]


def test_the_primary_counts_its_own_disk_like_any_other() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.cut, group.slow_disk = {C}, {A}
    ref = group.call(A, session, 1)
    assert group.answer(ref) is None  # B alone is one of three
    group.slow_disk.clear()
    group.settle()
    assert group.answer(ref) == "1"


def test_an_answer_waits_for_a_majority_on_disk() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.slow_disk = {B, C}
    ref = group.call(A, session, 1)
    assert group.answer(ref) is None
    assert group.ran(A) == []
    group.write(B)
    group.settle()
    assert group.answer(ref) == "1"


@pytest.mark.parametrize(
    ("have", "prev", "sent", "after"),
    [
        ((1, 1), (0, 0), (1, 1), [1, 1]),  # the same again
        ((1, 1), (1, 1), (2,), [1, 2]),  # another one there
        ((1, 1, 1), (1, 1), (2, 2), [1, 2, 2]),
        ((1, 1, 1), (1, 1), (1,), [1, 1, 1]),  # an older message: nothing is cut off
        ((1, 1, 1), (1, 1), (), [1, 1, 1]),
        ((), (0, 0), (1, 2), [1, 2]),
        ((1,), (3, 2), (2,), [1]),  # a gap
        ((1, 1), (2, 2), (2,), [1, 1]),  # it does not fit on
    ],
)
def test_the_log_becomes_that_of_the_primary(
    have: tuple[int, ...], prev: tuple[int, int], sent: tuple[int, ...], after: list[int]
) -> None:
    group = Group(running=[B], stored=_with_log(*have))
    group.hear(B, A, Append(3, *prev, 0, 1, _entries(*sent, first=prev[0] + 1)))
    assert _terms(group, B) == after
    disk = group.nodes[B].disk.entries
    assert [disk[index][1] for index in sorted(disk)] == after


def test_a_replaced_entry_that_was_being_written_is_not_acknowledged() -> None:
    group = Group(running=[B])
    group.slow_disk = {B}
    group.hear(B, A, Append(1, 0, 0, 0, 1, _entries(1, 1, 1)))
    group.hear(B, C, Append(2, 1, 1, 0, 1, _entries(2, first=2)))
    group.write(B)
    replies = group.sent(B, Appended)
    assert [(r.term, r.match) for r in replies if r.ok] == [(2, 2)]
    assert [group.nodes[B].disk.entries[i][1] for i in (1, 2)] == [1, 2]
    assert sorted(group.nodes[B].disk.entries) == [1, 2]


def test_what_only_an_old_primary_has_is_replaced_and_its_client_is_told() -> None:
    group = Group()
    group.lead(A)
    session = group.open()
    group.cut = {A}
    lost = group.call(A, session, 1, request="lost")
    group.pass_time(4.0)
    assert group.answer(lost) == "demoted"  # it may have had an effect, for all that A knows
    leads = next(own for own in (B, C) if group[own].view().role == "primary")
    kept = group.call(leads, session, 1, request="kept")
    group.cut = set()
    group.pass_time(1.0)
    assert group.answer(kept) == "1"
    assert group.ran(A) == group.ran(B) == group.ran(C) == ["kept"]


def test_a_restart_of_all_loses_nothing_that_was_answered() -> None:
    group = Group()
    group.lead()
    session = group.open()
    for number in range(1, 6):
        assert group.answer(group.call(A, session, number)) == str(number)
    for own in THREE:
        group.restart(own)
    group.pass_time(4.0)
    leads = next(own for own in THREE if group[own].view().role == "primary")
    assert group.ran(leads) == [f"{session}:{number}" for number in range(1, 6)]
    assert group.answer(group.call(leads, session, 3)) == "3"


def test_a_new_primary_serves_when_everything_before_is_applied() -> None:
    group = Group()
    group.lead(A)
    session = group.open()
    group.call(A, session, 1)
    group.cut = {A}
    group.slow_service = {B, C}
    group.pass_time(5.0, until=lambda: "primary" in {group[o].view().role for o in (B, C)})
    group.pass_time(0.2)
    leads = next(own for own in (B, C) if group[own].view().role == "primary")
    assert group[leads].view().state == "replay"
    waits = group.call(leads, session, 2)
    assert group.answer(waits) is None
    group.slow_service = set()
    group.settle()
    assert group[leads].view().state == "ready"
    assert group.answer(waits) == "2"


def test_too_many_requests_before_it_is_ready_are_refused() -> None:
    group = Group()
    group.settle()
    group.slow_disk = {B, C}
    group.now = group[A]._election_at
    group.take(A, group[A].on_tick(group.now))
    group.settle()
    for own in (B, C):
        group.write(own)  # their votes
    group.settle()
    assert group[A].view().role == "primary"
    refs = [group.call(A, 1, number, settle=False) for number in range(1030)]
    assert [group.answer(ref) for ref in refs].count("busy") == 1030 - 1024
    assert [group.answer(ref) for ref in refs].count(None) == 1024


def test_one_turn_is_one_write_and_one_message_to_each() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.pass_time(0.01)
    said = len(group.sent(A, Append))
    written = len(group.wanted(A, effects.Persist))
    for number in range(1, 51):
        group.call(A, session, number, settle=False)
    group.take(A, group[A].flush(group.now))
    new = group.sent(A, Append)[said:]
    assert [len(append.entries) for append in new] == [50, 50]
    assert len(group.wanted(A, effects.Persist)) == written + 1


def test_what_is_under_way_to_one_replica_is_bounded() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.cut = {B, C}
    for number in range(1, 65):
        group.call(A, session, number, settle=False, request="x" * 20_000)
    said = len(group.said)
    group.settle()
    to_b = [m for _, to, m in group.said[said:] if to == B and isinstance(m, Append) and m.entries]
    assert 0 < len(to_b) <= IN_FLIGHT_MAX
    assert all(len(append.entries) <= COUNT_MAX for append in to_b)
    sizes = [sum(entry.size for entry in append.entries) for append in to_b]
    assert max(sizes) <= max(BYTES_MAX, 20_100)
    group.cut = set()
    group.pass_time(2.0)
    assert len(group.ran(B)) == 64


def test_lost_messages_are_made_good_by_the_next_beat() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.loses = lambda sender, target, m: isinstance(m, Append) and bool(m.entries)
    ref = group.call(A, session, 1)
    assert group.answer(ref) is None
    group.loses = lambda sender, target, m: False
    group.pass_time(0.7)
    assert group.answer(ref) == "1"


def test_a_replica_that_was_away_catches_up_from_the_log() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.cut = {C}
    for number in range(1, 51):
        group.call(A, session, number)
    group.cut = set()
    group.pass_time(1.0)
    assert group[C].journal.last == group[A].journal.last
    assert group.ran(C) == group.ran(A)


def test_calls_are_handed_over_ahead_and_bounded() -> None:
    calls = [Entry(1, 1, Kind.OPEN, "client")]
    calls += [Entry(i, 1, Kind.CALL, Call(1, i, i, b"x", 1e9, 1)) for i in range(2, 602)]
    group = Group(running=[B])
    group.slow_service = {B}
    group.hear(B, A, Append(1, 0, 0, len(calls), 1, tuple(calls)))
    assert len(group.wanted(B, effects.Execute)) == 256
    group.slow_service = set()
    group.settle()
    assert len(group.ran(B)) == 600
    assert [effect.index for effect in group.wanted(B, effects.Execute)] == list(range(2, 602))


def test_a_failing_disk_stops_it_and_it_says_nothing_any_more() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.slow_disk = set(THREE)
    waits = group.call(A, session, 1)
    group.take(A, group[A].on_persist_failed(99, "no space left", group.now))
    assert group.answer(waits) == "stopped"
    assert "no space left" in group.nodes[A].stopped
    assert group[A].view().state == "stopped"
    said = len(group.said)
    group.take(A, group[A].on_message(B, Append(99, 0, 0, 0, 1), group.now))
    group.take(A, group[A].on_tick(group.now + 9.0))
    group.take(A, group[A].flush(group.now))
    group.take(A, group[A].set_checkpoints(interval=0.0, now=group.now + 9.0))
    assert len(group.said) == said
    assert group.answer(group.call(A, session, 2, settle=False)) == "stopped"
    assert group[A].next_deadline() is None


def test_members_that_change_are_announced() -> None:
    group = Group(running=[B])
    entry = Entry(1, 1, Kind.MEMBERS, [A, B])
    group.all.clear()
    group.hear(B, A, Append(1, 0, 0, 0, 1, (entry,)))
    assert group[B].members == (A, B)  # from when it is in the log
    assert group.wanted(B, effects.StateChanged)
    group.all.clear()
    group.hear(B, C, Append(2, 0, 0, 0, 1, (Entry(1, 2, Kind.EMPTY),)))
    assert group[B].members == THREE  # and no more when it is replaced
    assert group.wanted(B, effects.StateChanged)


def test_attend_answers_at_any_replica_of_an_active_group() -> None:
    group = Group()
    group.lead()
    session = group.open()
    ref = group.new_ref()
    group.pass_time(0.5)
    group.take(B, group[B].attend(ref, session=session, number=1, now=group.now))
    assert group.answer(ref) is None
    group.call(A, session, 1)
    group.pass_time(0.5)
    assert group.answer(ref) == "1"
    after = group.new_ref()
    group.take(C, group[C].attend(after, session=session, number=1, now=group.now))
    assert group.answer(after) == "1"


def test_attend_is_for_active_groups() -> None:
    group = Group(replication=Replication.PASSIVE)
    group.lead()
    group.take(B, group[B].attend(1000, session=1, number=1, now=group.now))
    assert group.answer(1000) == "not_primary"


def test_who_waits_for_one_request_is_bounded() -> None:
    group = Group()
    group.lead()
    session = group.open()
    group.slow_disk = set(THREE)
    refs = [group.call(A, session, 1) for _ in range(20)]
    assert [group.answer(ref) for ref in refs] == ["demoted"] * 4 + [None] * 16
    group.slow_disk.clear()
    group.settle()
    assert [group.answer(ref) for ref in refs[4:]] == ["1"] * 16
