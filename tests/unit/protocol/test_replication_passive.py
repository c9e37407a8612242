"""The primary runs calls first: what is not committed is answered, read, and kept by nobody."""

from __future__ import annotations

import json

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.messages import Append
from meshcore.protocol.replication.records import Call, Entry, Kind, Replication
from tests.unit.protocol.replication_world import THREE, A, B, C, Group


def _passive(**settings: object) -> tuple[Group, int]:
    group = Group(replication=Replication.PASSIVE, **settings)
    group.lead()
    return group, group.open()


def _leads(group: Group, *among: str) -> str:
    group.pass_time(6.0, until=lambda: any(group[o].view().role == "primary" for o in among))
    group.pass_time(0.2)
    return next(own for own in among if group[own].view().role == "primary")


def test_a_call_runs_at_the_primary_before_it_is_an_entry_and_is_answered_after_commit() -> None:
    group, session = _passive()
    group.slow_disk = {B, C}
    ref = group.call(A, session, 1)
    assert group.ran(A) == [f"{session}:1"]
    assert (group.answer(ref), group.ran(B)) == (None, [])
    assert group.wanted(A, effects.Execute)[-1].index == 0
    group.slow_disk.clear()
    group.pass_time(0.5)
    assert group.answer(ref) == "1"
    assert group.ran(A) == group.ran(B) == group.ran(C)  # once each


def test_entries_hold_the_answer_and_what_was_drawn() -> None:
    group, session = _passive()
    group.call(A, session, 1)
    body = group[A].journal.entry(group[A].journal.last).body
    ran = group.wanted(A, effects.Execute)[-1]
    assert (body.answer, body.time, body.seed) == (b"1", ran.time, ran.seed)
    group.pass_time(0.5)
    replayed = group.wanted(B, effects.Execute)[-1]
    assert (replayed.time, replayed.seed) == (ran.time, ran.seed)


def test_a_demoted_primary_puts_back_what_was_not_committed() -> None:
    group, session = _passive()
    group.call(A, session, 1)
    group.cut = {A}
    lost = group.call(A, session, 2, request="lost")
    assert group.ran(A) == [f"{session}:1", "lost"]
    leads = _leads(group, B, C)
    group.pass_time(1.5)  # without a majority it notices by itself
    assert group.answer(lost) == "demoted"
    assert group.ran(A) == [f"{session}:1"]
    kept = group.call(leads, session, 2, request="kept")
    group.cut = set()
    group.pass_time(2.0)
    assert group.answer(kept) == "2"
    assert group.ran(A) == group.ran(B) == group.ran(C) == [f"{session}:1", "kept"]
    assert not any(node.stopped for node in group.nodes.values())


def test_a_primary_demoted_with_nothing_uncommitted_goes_on_as_it_is() -> None:
    group, session = _passive()
    group.call(A, session, 1)
    restored = group.nodes[A].restored
    group.cut = {A}
    _leads(group, B, C)
    group.pass_time(1.5)  # without a majority it notices by itself
    assert group[A].view().role != "primary"
    assert group.nodes[A].restored == restored
    group.cut = set()
    group.pass_time(2.0)
    assert group.ran(A) == group.ran(B) == [f"{session}:1"]


def test_results_of_calls_from_before_a_restore_are_ignored() -> None:
    group, session = _passive()
    group.slow_service = {A}
    group.call(A, session, 1)
    old = group.wanted(A, effects.Execute)[-1]
    group.take(A, group[A].on_message(B, Append(9, 0, 0, 0, 1), group.now))
    assert group[A].epoch > old.epoch
    last = group[A].journal.last
    group.take(A, group[A].on_executed(old.epoch, [(old.token, b"1")], group.now))
    assert group[A].journal.last == last


def test_another_answer_in_the_replay_stops_that_replica() -> None:
    group = Group(running=[B], replication=Replication.PASSIVE)
    entries = (
        Entry(1, 1, Kind.OPEN, "client"),
        Entry(2, 1, Kind.CALL, Call(1, 1, 1, b"x", 1e9, 7, b"another")),
    )
    group.hear(B, A, Append(1, 0, 0, 2, 1, entries))
    assert "answered otherwise in the replay of entry 2" in group.nodes[B].stopped
    assert group[B].applied == 1


def test_answers_that_are_the_same_for_the_shell_are_the_same() -> None:
    group = Group(
        running=[B], replication=Replication.PASSIVE, is_same=lambda one, other: len(one) == 1
    )
    entries = (
        Entry(1, 1, Kind.OPEN, "client"),
        Entry(2, 1, Kind.CALL, Call(1, 1, 1, b"x", 1e9, 7, b"another")),
    )
    group.hear(B, A, Append(1, 0, 0, 2, 1, entries))
    assert not group.nodes[B].stopped
    held = group[B].sessions.get(1)
    assert held is not None
    assert held.answers == {1: b"another"}  # the primary's, everywhere


# Checkpoints of a state that is ahead of what is committed --------------------------------------


def test_a_state_with_uncommitted_effects_is_kept_only_once_they_are_committed() -> None:
    group, session = _passive(checkpoint_interval=1.0)
    group.call(A, session, 1)
    group.slow_disk = {B, C}
    group.call(A, session, 2, request="not yet")
    group.pass_time(1.2)
    captured = group.wanted(A, effects.Capture)
    assert captured
    assert group.ran(A)[-1] == "not yet"
    held = json.loads(group[A].checkpoint.state or b"[]")
    assert "not yet" not in held
    group.slow_disk.clear()
    group.pass_time(0.5)
    assert "not yet" in json.loads(group[A].checkpoint.state or b"[]")
    assert group[A].checkpoint.index <= group[A].commit


def test_a_state_with_effects_that_are_lost_is_dropped() -> None:
    group, session = _passive(checkpoint_interval=1.0)
    group.call(A, session, 1)
    group.cut = {A}
    group.call(A, session, 2, request="lost")
    group.pass_time(1.3)
    assert group.wanted(A, effects.Capture)
    _leads(group, B, C)
    group.cut = set()
    group.pass_time(3.0)
    for own in THREE:
        assert "lost" not in json.loads(group[own].checkpoint.state or b"[]")
        assert "lost" not in str(group.nodes[own].disk.checkpoint)
    assert group.ran(A) == [f"{session}:1"]


def test_the_sessions_of_a_checkpoint_are_those_of_its_index() -> None:
    group, session = _passive(checkpoint_interval=1.0)
    group.slow_disk = {B, C}
    group.call(A, session, 1)
    group.pass_time(1.2)
    group.call(A, session, 2)  # after the state was taken
    group.slow_disk.clear()
    group.settle()
    checkpoint = group[A].checkpoint
    assert json.loads(checkpoint.state or b"[]") == [f"{session}:1"]
    assert [number for number, _ in checkpoint.sessions[0][4]] == [1]


# Reads ------------------------------------------------------------------------------------------


def test_a_read_of_what_is_not_committed_waits_until_it_is() -> None:
    group, session = _passive()
    group.slow_disk = {B, C}
    call = group.call(A, session, 1)
    read = group.call(A, session, 2, read_only=True)
    group.pass_time(0.5)  # beats are confirmed; the entry is on no other disk
    assert group[A].confirmed_round > 1
    assert (group.answer(call), group.answer(read)) == (None, None)
    group.slow_disk.clear()
    group.settle()
    assert (group.answer(call), group.answer(read)) == ("1", "1")


def test_a_read_of_what_is_lost_is_not_answered() -> None:
    group, session = _passive()
    group.cut = {A}
    group.call(A, session, 1, request="lost")
    read = group.call(A, session, 2, read_only=True)
    _leads(group, B, C)
    group.pass_time(1.6)  # A notices that nobody follows it
    assert group.answer(read) == "not_primary"


def test_the_shell_is_given_so_many_calls_ahead_and_no_more() -> None:
    group, session = _passive()
    sessions = [session, *(group.open() for _ in range(5))]
    group.slow_service = {A}
    before = len(group.wanted(A, effects.Execute))
    refs = [group.call(A, s, n, settle=False) for s in sessions for n in range(1, 61)]
    assert len(group.wanted(A, effects.Execute)) - before == 256
    group.slow_service = set()
    group.pass_time(1.0)
    assert [group.answer(ref) for ref in refs] == [str(i) for i in range(1, 361)]
    assert group.ran(A) == group.ran(B) == group.ran(C)
