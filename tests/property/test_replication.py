"""Replicas under whatever comes: the parts against naive models, the machine against anybody.

The simulator (`tests/sim/test_replicas.py`) has the whole groups; here it is the smallest counter-
examples that matter: of the log, the table of sessions, the plain forms, majorities, and a replica
to which others say well-formed nonsense.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshcore.protocol.replication import effects, quorum
from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.journal import Journal
from meshcore.protocol.replication.messages import (
    Append,
    Appended,
    Lead,
    Message,
    Part,
    Taken,
    Vote,
    Voted,
)  # fmt: skip
from meshcore.protocol.replication.plain import (
    BadMessage,
    checkpoint_of,
    decode,
    encode,
    entry_of,
    pack,
    plain_checkpoint,
    plain_entry,
    unpack,
)  # fmt: skip
from meshcore.protocol.replication.records import Call, Checkpoint, Entry, Kind, Replication, Stored
from meshcore.protocol.replication.replica import Replica
from meshcore.protocol.replication.serving import Submitted
from meshcore.protocol.replication.sessions import Sessions
from meshcore.protocol.replication.transfer import Receiving, Sending

# Majorities --------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_the_agreed_value_is_the_greatest_that_a_majority_reached(values: list[int]) -> None:
    reached = [v for v in values if 2 * sum(other >= v for other in values) > len(values)]
    assert quorum.agreed(values) == max(reached)


@given(st.integers(1, 100))
def test_any_two_majorities_meet(count: int) -> None:
    assert 2 * quorum.majority(count) > count
    assert quorum.majority(count) + quorum.majority(count + 1) > count + 1  # one member at a time


# The log -----------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 1), st.integers(0, 60)),
        st.tuples(st.just("truncate"), st.integers(0, 12), st.just(0)),
        st.tuples(st.just("cut"), st.integers(0, 12), st.just(0)),
        st.tuples(st.just("reset"), st.integers(1, 30), st.integers(0, 2)),
    ),
    max_size=60,
)


@given(STEPS)
def test_a_log_is_like_a_list_of_which_the_front_is_cut_off(steps: list[Any]) -> None:
    journal, model, before = Journal(), list[Entry](), (0, 0)
    for what, number, more in steps:
        last, term = (model[-1].index, model[-1].term) if model else before
        if what == "append":
            entry = Entry(last + 1, term + number, Kind.OPEN, "x" * more)
            journal.append(entry)
            model.append(entry)
        elif what == "truncate":
            index = before[0] + 1 + number
            journal.truncate(index)
            model = [entry for entry in model if entry.index < index]
        elif what == "cut" and model:
            index = min(before[0] + 1 + number, model[-1].index + 1)
            journal.cut(index)
            dropped = [entry for entry in model if entry.index < index]
            if dropped:
                before = dropped[-1].index, dropped[-1].term
            model = [entry for entry in model if entry.index >= index]
        elif what == "reset":
            before, model = (last + number, term + more), []
            journal.reset(*before)
        journal.check_invariants()
        _look_at(journal, model, before)


def _look_at(journal: Journal, model: list[Entry], before: tuple[int, int]) -> None:
    assert journal.first == before[0] + 1
    assert journal.last == (model[-1].index if model else before[0])
    assert journal.last_term == (model[-1].term if model else before[1])
    terms = {before[0]: before[1]} | {entry.index: entry.term for entry in model}
    for index in range(before[0] - 2, journal.last + 3):
        assert journal.term_at(index) == terms.get(index)
    for entry in model:
        after = [other for other in model if other.index > entry.index]
        assert journal.bytes_after(entry.index) == sum(other.size for other in after)
        same = [other.index for other in model if other.term == entry.term]
        assert journal.first_of_term(entry.index) == same[0]
        held = journal.since(entry.index, count_max=3, bytes_max=200)
        assert held == tuple(model[entry.index - journal.first :][: len(held)])
        assert 1 <= len(held) <= 3
        assert len(held) == 1 or sum(other.size for other in held) <= 200
        first = journal.tail(entry.index, count_max=4, bytes_max=300)
        assert journal.first <= first <= entry.index + 1
        assert entry.index + 1 - first <= 4
        assert sum(o.size for o in model if first <= o.index <= entry.index) <= 300


# Sessions ----------------------------------------------------------------------------------------

NUMBERS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(0, 8)), max_size=40
)  # session, number, low


@given(NUMBERS, st.integers(0, 40))
def test_a_table_that_travelled_is_the_same_table(wanted: list[Any], at: int) -> None:
    """A replica that took the table over at some index decides like one that was there before."""
    tables = [_opened()]
    for index, (session, number, low) in enumerate(wanted, 4):
        if index - 4 == at:
            tables.append(Sessions(tables[0].plain()))
        verdicts = {table.is_new(session, number) for table in tables}
        assert len(verdicts) == 1
        if verdicts == {True}:
            for table in tables:
                table.record(session, number, min(low, number), b"%d" % index, index)
    assert len({str(table.plain()) for table in tables}) == 1


@given(NUMBERS)
def test_a_request_is_new_once(wanted: list[Any]) -> None:
    table, done = _opened(), set[tuple[int, int]]()
    for index, (session, number, low) in enumerate(wanted, 4):
        if table.is_new(session, number):
            assert (session, number) not in done
            done.add((session, number))
            table.record(session, number, min(low, number), b"", index)


def _opened() -> Sessions:
    table = Sessions()
    for session in (1, 2, 3):
        table.open(session, "client")
    return table


# Plain forms -------------------------------------------------------------------------------------

IDS = st.sampled_from(["a/1", "b/1", "c/1", "d/1", "a/2"])
SMALL = st.integers(0, 6)
MEMBERS = st.lists(IDS, min_size=1, max_size=4, unique=True).map(tuple)
ANSWERS = st.lists(st.tuples(SMALL, st.binary(max_size=4)).map(list), max_size=2)
TABLE = st.lists(st.tuples(SMALL, st.just("x"), SMALL, SMALL, ANSWERS).map(list), max_size=2)
CALLS = st.builds(
    Call, SMALL, SMALL, SMALL, st.binary(max_size=4), st.floats(0, 9), SMALL,
    st.none() | st.binary(max_size=4),
)  # fmt: skip
BODIES = st.one_of(
    st.just((Kind.EMPTY, None)),
    st.tuples(st.just(Kind.CALL), CALLS),
    st.tuples(st.just(Kind.OPEN), st.text(max_size=4)),
    st.tuples(st.just(Kind.EVICT), st.lists(SMALL, max_size=3)),
    st.tuples(st.just(Kind.MEMBERS), MEMBERS.map(list)),
)


@st.composite
def appends(draw: st.DrawFn) -> Append:
    term, index = draw(SMALL), draw(SMALL)
    prev_term = newest = draw(st.integers(0, term))
    entries = []
    for kind, body in draw(st.lists(BODIES, max_size=5)):
        newest = draw(st.integers(newest, term))
        entries.append(Entry(index + len(entries) + 1, newest, kind, body))
    return Append(term, index, prev_term, draw(st.integers(0, 9)), draw(SMALL), tuple(entries))


MESSAGES: st.SearchStrategy[Message] = st.one_of(
    appends(),
    st.builds(Appended, SMALL, st.booleans(), SMALL, SMALL),
    st.builds(Vote, SMALL, SMALL, SMALL, st.booleans(), st.booleans()),
    st.builds(Voted, SMALL, st.booleans(), st.booleans()),
    st.builds(
        Part, SMALL, SMALL, SMALL, MEMBERS, TABLE, SMALL, SMALL, st.binary(max_size=4),
        st.booleans(), st.booleans(), SMALL,
    ),
    st.builds(Taken, SMALL, SMALL, SMALL, st.booleans(), SMALL),
    st.builds(Lead, SMALL),
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=20,
)  # fmt: skip


@given(MESSAGES)
def test_a_message_is_what_it_was_before_it_travelled(message: Message) -> None:
    assert decode(encode(message)) == message


@given(BODIES, SMALL, SMALL)
def test_an_entry_is_what_it_was_before_it_was_kept(body: Any, index: int, term: int) -> None:
    entry = Entry(index, term, *body)
    assert entry_of(plain_entry(entry)) == entry
    assert unpack(pack((entry,))) == (entry,)


@given(MEMBERS, TABLE, st.none() | st.binary(max_size=9))
def test_a_checkpoint_is_what_it_was_before_it_was_kept(
    members: tuple[str, ...], table: list[Any], state: bytes | None
) -> None:
    checkpoint = Checkpoint(4, 2, members, table, state, 1)
    assert checkpoint_of(plain_checkpoint(checkpoint)) == checkpoint


@given(VALUES, st.sampled_from([decode, entry_of, checkpoint_of, unpack]))
def test_any_value_is_a_record_or_is_refused(value: Any, read: Any) -> None:
    with suppress(BadMessage):
        read(value)


@given(VALUES)
def test_any_bytes_are_entries_or_are_refused(value: Any) -> None:
    with suppress(BadMessage):
        unpack(msgpack.packb(value))


@given(MESSAGES, st.data())
def test_a_message_of_which_one_field_is_another_is_a_message_or_is_refused(
    message: Message, data: st.DataObject
) -> None:
    plain = encode(message)
    plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(VALUES)
    with suppress(BadMessage):
        decode(plain)


@given(TABLE, st.none() | st.binary(max_size=9), st.integers(1, 900))
def test_a_checkpoint_arrives_as_it_was_whatever_the_size_of_the_parts(
    table: list[Any], state: bytes | None, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meshcore.protocol.replication.transfer.PART_BYTES", size)
        sent = Checkpoint(4, 2, ("a/1",), table, state, 1)
        sending, receiving = Sending(sent), Receiving()
        part: Part | None = sending.part(0.0, 1, 1)
        for _ in range(50):
            assert part is not None
            whole = receiving.take(part)
            if whole is not None:
                assert whole == sent
                return
            part = sending.next(Taken(1, 4, receiving.offset, False, 1), 0.0, 1, 1)
    pytest.fail("it does not arrive")


# A replica to whom others say anything -----------------------------------------------------------

INPUTS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), IDS, MESSAGES),
        st.tuples(st.just("time"), st.floats(0.0, 2.0), st.none()),
        st.tuples(st.just("disk"), st.none(), st.none()),
        st.tuples(st.just("service"), st.integers(1, 3), st.none()),
        st.tuples(st.just("call"), st.integers(0, 6), st.integers(1, 4)),
        st.tuples(st.just("read"), st.integers(0, 6), st.integers(1, 4)),
        st.tuples(st.just("open"), st.none(), st.none()),
        st.tuples(st.just("present"), st.lists(IDS, max_size=4), st.none()),
        st.tuples(st.just("lost"), IDS, st.none()),
        st.tuples(st.just("lease"), SMALL, st.floats(0.0, 3.0)),
        st.tuples(st.sampled_from(["aside", "resume", "lease lost"]), st.none(), st.none()),
        st.tuples(st.just("flush"), st.none(), st.none()),
    ),
    max_size=50,
)  # fmt: skip


class Alone:
    """One replica, its disk and its service; whatever it says is only looked at."""

    def __init__(self, replication: Replication, leadership: Leadership, count: int) -> None:
        members = ("a/1", "b/1", "c/1")[:count]
        self.machine = Replica(
            "a/1", Stored.new(members), size=3, replication=replication, leadership=leadership,
            rng=random.Random(1), checkpoint_interval=1.0, is_same=lambda one, other: True,
        )  # fmt: skip
        self.now = 0.0
        self.disk: list[effects.Persist] = []
        self.work: list[Any] = []
        self.replied: list[int] = []
        self.refs = 0
        self.votes: dict[int, str] = {}  # term: for whom, as it was said
        self.written = 0
        self.take(self.machine.begin(0.0))

    def take(self, produced: list[effects.Effect]) -> None:
        for effect in produced:
            if isinstance(effect, effects.Persist):
                self.disk.append(effect)
            elif isinstance(effect, effects.Restore):
                self.work = []
            elif isinstance(effect, effects.Execute | effects.Capture):
                self.work.append(effect)
            elif isinstance(effect, effects.Answered | effects.Opened | effects.Refused):
                self.replied.append(effect.ref)
            elif isinstance(effect, effects.Send):
                self._look_at(effect)
        self.machine.check_invariants()

    def _look_at(self, effect: effects.Send) -> None:
        message = effect.message
        if isinstance(message, Voted) and message.granted and not message.pre:
            assert self.votes.setdefault(message.term, effect.to) == effect.to
        if isinstance(message, Vote) and not message.pre:
            assert self.votes.setdefault(message.term, "a/1") == "a/1"
        if isinstance(message, Appended) and message.ok:
            assert message.match <= self.machine._durable

    def do(self, what: str, one: Any, other: Any) -> None:
        machine, now = self.machine, self.now
        if what == "message":
            self.take(machine.on_message(one, other, now))
        elif what == "time":
            self.now += one
            at = machine.next_deadline()
            if at is not None and at <= self.now:
                self.take(machine.on_tick(self.now))
        elif what == "disk" and self.disk:
            token = self.disk.pop(0).token
            self.take(machine.on_persisted(token, now))
        elif what == "service":
            self._serve(one)
        elif what in ("call", "read"):
            self.refs += 1
            self.take(
                machine.submit(Submitted(self.refs, one, other, 1, b"x", 1e9, what == "read"), now)
            )
        elif what == "open":
            self.refs += 1
            self.take(machine.open(self.refs, "client", now))
        else:
            self._control(what, one, other)

    def _serve(self, count: int) -> None:
        for _ in range(min(count, len(self.work))):
            if not self.work:  # a Restore came
                return
            effect = self.work.pop(0)
            if isinstance(effect, effects.Execute):
                answer = b"%d" % effect.token
                self.take(
                    self.machine.on_executed(effect.epoch, [(effect.token, answer)], self.now)
                )
            else:
                self.take(self.machine.on_captured(effect.epoch, effect.index, b"state", self.now))

    def _control(self, what: str, one: Any, other: Any) -> None:
        machine, now = self.machine, self.now
        if what == "present":
            self.take(machine.set_present(one, now))
        elif what == "lost":
            self.take(machine.on_lost(one, now))
        elif what == "lease":
            self.take(machine.on_lease(one, now + other, now))
        elif what == "lease lost":
            self.take(machine.on_lease_lost(now))
        elif what == "aside":
            self.take(machine.step_aside(now))
        elif what == "resume":
            self.take(machine.resume(now))
        elif what == "flush":
            self.take(machine.flush(now))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(INPUTS, st.sampled_from(Replication), st.sampled_from(Leadership), st.sampled_from([1, 3]))
def test_whatever_others_say_it_goes_on_votes_once_and_promises_what_is_on_disk(
    inputs: list[Any], replication: Replication, leadership: Leadership, count: int
) -> None:
    alone = Alone(replication, leadership, count)
    for what, one, other in inputs:
        alone.do(what, one, other)
    assert len(alone.replied) == len(set(alone.replied))  # each is told once
    alone.take(alone.machine.fail("it is over", alone.now))
    assert sorted(alone.replied) == list(range(1, alone.refs + 1))  # and nobody is forgotten
    assert alone.machine.next_deadline() is None
