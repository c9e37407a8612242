"""Checkpoints that travel: in parts of bounded size, resumable, and not in vain under load."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshcore.protocol.replication.leading import AWAY
from meshcore.protocol.replication.messages import Append, Appended, Message, Part, Taken
from meshcore.protocol.replication.plain import encode
from meshcore.protocol.replication.records import Checkpoint, Stored
from meshcore.protocol.replication.transfer import PART_BYTES, Receiving, Sending
from tests.unit.protocol.replication_world import THREE, A, B, C, Group


def _sessions(count: int, answer: bytes = b"x" * 100) -> list[Any]:
    return [[number, "client", number, 1, [[1, answer]]] for number in range(1, count + 1)]


def _transfer(checkpoint: Checkpoint) -> tuple[list[Part], Checkpoint | None]:
    sending, receiving = Sending(checkpoint), Receiving()
    parts, whole = [], None
    part: Part | None = sending.part(0.0, 1, 1)
    while part is not None and whole is None:
        parts.append(part)
        whole = receiving.take(part)
        taken = Taken(1, checkpoint.index, receiving.offset, False, 1)
        part = sending.next(taken, 0.0, 1, 1)
    return parts, whole


@pytest.mark.parametrize(
    ("sessions", "state", "count"),
    [
        (0, None, 1),
        (0, b"", 1),
        (3, None, 1),
        (3, b"state", 1),
        (0, bytes(PART_BYTES), 1),
        (0, bytes(PART_BYTES + 1), 2),
        (0, bytes(3 * PART_BYTES), 3),
        (4000, b"state", 7),
        (4000, bytes(PART_BYTES), 8),
    ],
)
def test_a_checkpoint_arrives_as_it_was(sessions: int, state: bytes | None, count: int) -> None:
    sent = Checkpoint(9, 2, THREE, _sessions(sessions), state, 4)
    parts, arrived = _transfer(sent)
    assert arrived == sent
    assert len(parts) == count
    assert [part.last for part in parts] == [False] * (count - 1) + [True]


def test_no_part_is_larger_than_the_limit_however_many_sessions_there_are() -> None:
    parts, arrived = _transfer(Checkpoint(9, 2, THREE, _sessions(4096), bytes(10**6), 1))
    assert arrived is not None
    assert max(len(json.dumps(encode(part), default=repr)) for part in parts) < 6 * PART_BYTES
    assert max(len(part.sessions) * 436 + len(part.data) for part in parts) <= PART_BYTES


def test_a_part_out_of_order_is_not_taken() -> None:
    sending, receiving = Sending(Checkpoint(9, 2, THREE, [], bytes(2 * PART_BYTES))), Receiving()
    first = sending.part(0.0, 1, 1)
    second = sending.next(Taken(1, 9, PART_BYTES, False, 1), 0.0, 1, 1)
    assert second is not None
    assert receiving.take(second) is None
    assert receiving.offset == 0
    receiving.take(first)
    assert receiving.offset == PART_BYTES
    other = Part(1, 10, 2, THREE, [], 1, PART_BYTES, b"x", True, False, 1)
    assert receiving.take(other) is None  # of another checkpoint
    assert receiving.take(second) is not None


def _with_large_state(**settings: Any) -> Group:
    """A and B lead with a state of some parts; C is new and has nothing."""
    state = json.dumps(["x" * 1000] * 1000).encode()
    stored = Stored(3, None, Checkpoint(50, 3, THREE, _sessions(20), state, 1))
    group = Group(running=(A, B), stored=stored, **settings)
    group.start(C, Stored.new(THREE))
    return group


def test_a_replica_that_lacks_what_the_log_no_longer_has_gets_the_checkpoint() -> None:
    group = _with_large_state()
    group.lead()
    group.pass_time(1.0)
    assert group[C].applied == group[A].applied > 50
    assert group.ran(C) == group.ran(A)
    assert group[C].view().state == "ready"
    assert len(group.sent(A, Part)) == 4  # each once
    group.restart(C)
    assert group[C].checkpoint.index == 50


def test_lost_parts_and_replies_are_sent_again() -> None:
    group = _with_large_state()
    count = 0

    def loses(sender: str, target: str, message: Message) -> bool:
        nonlocal count
        count += isinstance(message, Part | Taken)
        return isinstance(message, Part | Taken) and count % 3 == 0

    group.loses = loses
    group.lead()
    group.pass_time(20.0)
    assert group[C].applied == group[A].applied
    assert group.ran(C) == group.ran(A)


def test_a_receiver_that_restarts_begins_anew() -> None:
    group = _with_large_state()
    group.loses = lambda sender, target, message: isinstance(message, Part) and message.offset > 0
    group.lead()
    group.pass_time(0.5)
    assert group[C].view().state == "checkpoint"
    group.restart(C)
    group.loses = lambda *_: False
    group.pass_time(5.0)
    assert group[C].applied == group[A].applied


def test_a_transfer_that_is_overtaken_by_the_log_is_forgotten() -> None:
    group = _with_large_state()
    group.loses = lambda sender, target, message: isinstance(message, Part) and message.offset > 0
    group.lead()
    group.pass_time(0.5)
    assert group[C].view().state == "checkpoint"
    group.hear(C, B, _append_that_fits(group))
    assert group[C].view().state == "ready"


def _append_that_fits(group: Group) -> Message:
    return Append(group[A].term + 1, 0, 0, 0, 1)


def test_an_acknowledgement_waits_until_the_checkpoint_is_on_disk() -> None:
    group = _with_large_state()
    group.slow_disk = {C}
    group.lead()
    group.pass_time(1.0)
    assert not any(taken.done for taken in group.sent(C, Taken))
    assert group[C].applied == 0
    group.slow_disk.clear()
    group.pass_time(3.0)
    assert group[C].applied == group[A].applied


def _take_checkpoints(group: Group, session: int, *, since: int) -> None:
    """More entries than are kept otherwise, with some checkpoints."""
    for number in range(since, since + 2400, 64):
        for each in range(number, number + 64):
            group.call(A, session, each, low=number, settle=False)
        group.settle()


def test_the_log_after_a_checkpoint_under_way_is_kept() -> None:
    group = _with_large_state(checkpoint_log_bytes=40_000)
    group.loses = lambda sender, target, message: isinstance(message, Part) and message.offset > 0
    group.lead()
    session = group.open()
    _take_checkpoints(group, session, since=1)
    assert group[A].checkpoint.index > 1000
    assert group[A].journal.first <= 51  # what C will need after it
    group.loses = lambda *_: False
    group.pass_time(3.0)
    assert group[C].applied == group[A].applied
    assert {part.index for part in group.sent(A, Part)} == {50}


def test_nothing_is_kept_for_somebody_who_is_gone() -> None:
    group = _with_large_state(checkpoint_log_bytes=40_000)
    group.loses = lambda sender, target, message: isinstance(message, Part) and message.offset > 0
    group.lead()
    session = group.open()
    group.cut = {C}
    group.pass_time(AWAY + 1.0)
    _take_checkpoints(group, session, since=1)
    assert group[A].journal.first > 1000


def test_a_replica_whose_last_acknowledgements_were_lost_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that may be under way to it is, for all that the primary knows, and the log is cut."""
    monkeypatch.setattr("meshcore.protocol.replication.applying.RETAIN", 5)
    group = Group(checkpoint_log_bytes=3_000)
    group.lead()
    session = group.open()
    group.pass_time(0.01)
    group.loses = lambda sender, target, message: sender == C and isinstance(message, Appended)
    for number in range(1, 101):
        group.call(A, session, number, low=number)
    group.loses = lambda *_: False
    assert group[C].journal.last + 1 == group[A].peers[C].next < group[A].journal.first
    group.pass_time(2.0)
    assert group[C].applied == group[A].applied
    assert group.ran(C) == group.ran(A)
