"""Messages between neighbours and records: what is written comes back, what is odd is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest

from meshcore.errors import ProtocolError
from meshcore.protocol.wire import control, records
from meshcore.protocol.wire.limits import (
    DETAILS_BYTES_MAX,
    EDGES_MAX,
    ENDPOINTS_MAX,
    FRAME_BYTES_MAX,
    RECORD_BYTES_MAX,
    RECORDS_PER_NEWS_MAX,
    URL_CHARS_MAX,
    VERSION,
)
from meshcore.protocol.wire.records import Details, DownReason, Edge, EdgeState, LinkState

HELLO = control.Hello(
    1, 1, "mesh", "alpha", 5, 2**64 - 1, 7, ("tcp://10.0.0.1:1",), 0, 0.5, 9, -1.5, 12.5
)
MESSAGES: list[control.Control] = [
    HELLO,
    control.Welcome(1, "m", "b", 5, 6, 7, (), 1, 0.5, 9, 1.5, 0.5, 8, ("tcp://[::1]:2",)),
    control.Refuse(4, "taken", "alpha", 9),
    control.Bye(7, "leaving"),
    control.Beat("alpha", 1, 2, 3, 0.5, 2**64 - 1, 0.01, 2**63, 99.5),
    control.News("alpha", (b"one", b"two")),
    control.Buckets((0, 2**64 - 1)),
    control.BucketContents((0, 255), (("alpha", 1, 5, 6, 2**64 - 1),)),
    control.Want((("alpha", 1), ("beta", 2))),
    control.LeaveAck("alpha"),
    control.Echo(1),
    control.EchoReply(1, "alpha", 1.7e9, 1.7e9, 0.25, 3),
    control.EchoReply(1, "", 0.0, 0.0, 0.0, 0),
    control.View(True, (("alpha", 1, 4, False, "gone", 0),), "alpha"),
]
ODD: list[Any] = [None, True, -1, 2**64 - 1, float("nan"), float("inf"), "", "x" * 10_000,
                  b"x" * 10_000, [], [None], [[]], {}, {1: 2}, msgpack.Timestamp(1)]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_control_message_comes_back(message: control.Control) -> None:
    frame = control.encode(message)
    assert frame[0] == VERSION
    assert frame[1] == message.KIND
    assert control.decode(frame) == message


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(message) for message in MESSAGES} == set(control._CHECKS)
    kinds = {cls.KIND for cls in control._CHECKS}  # type: ignore[attr-defined]
    assert len(kinds) == len(control._CHECKS)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_fields_that_a_later_version_appends_are_ignored_and_missing_ones_are_not(
    message: control.Control,
) -> None:
    values = [getattr(message, field.name) for field in fields(message)]
    head = control.encode(message)[:2]
    assert control.decode(head + msgpack.packb([*values, "more", 7])) == message
    with pytest.raises(ProtocolError):
        control.decode(head + msgpack.packb(values[:-1]))


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_an_odd_field_is_refused_or_is_a_value_of_its_type(
    message: control.Control, odd: Any
) -> None:
    for field in fields(message):
        values = {each.name: getattr(message, each.name) for each in fields(message)}
        values[field.name] = odd
        packed = msgpack.packb(list(values.values()))
        try:
            decoded = control.decode(control.encode(message)[:2] + packed)
        except ProtocolError:
            continue
        kept, before = getattr(decoded, field.name), getattr(message, field.name)
        assert type(kept) is type(before)


def test_another_version_is_refused_but_for_the_hello_that_settles_it() -> None:
    for message in MESSAGES:
        frame = bytes([VERSION + 1]) + control.encode(message)[1:]
        if isinstance(message, control.Hello):
            assert control.decode(frame) == message
        else:
            with pytest.raises(ProtocolError, match="version"):
                control.decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes([VERSION]),
        bytes([VERSION, 1]),
        bytes([VERSION, 0, 0x90]),
        bytes([VERSION, 200, 0x90]),
        bytes([VERSION, 32]) + bytes(50),
        control.encode(HELLO) + b"\x00",
        control.encode(HELLO)[:-1],
        control.encode(HELLO)[:2] + bytes(FRAME_BYTES_MAX),
        bytes([VERSION, 6]) + b"\xdd\x7f\xff\xff\xff" * 100,
        bytes([VERSION, 6]) + b"\x91" * 5000,
    ],
    ids=lambda frame: f"{len(frame)} bytes",
)
def test_frames_that_are_no_control_message_are_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        control.decode(frame)


@pytest.mark.parametrize(
    "message",
    [
        replace(HELLO, node_id="a b"),
        replace(HELLO, node_id=""),
        replace(HELLO, node_id="x" * 65),
        replace(HELLO, node_id="a~b"),
        replace(HELLO, mesh="m" * 65),
        replace(HELLO, incarnation=2**63),
        replace(HELLO, endpoints=("u",) * (ENDPOINTS_MAX + 1)),
        replace(HELLO, endpoints=("u" * (URL_CHARS_MAX + 1),)),
        replace(HELLO, interval=-0.1),
        control.News("alpha", (b"x" * (RECORD_BYTES_MAX + 1),)),
        control.News("alpha", (b"",) * (RECORDS_PER_NEWS_MAX + 1)),
        control.Buckets((0,) * 257),
        control.BucketContents((256,), ()),
        control.Want((("alpha", 3),)),
        control.View(True, (("alpha", 1, 5, False, "gone", 0),), ""),
    ],
    ids=lambda message: type(message).__name__,
)
def test_values_beyond_their_bounds_are_refused(message: control.Control) -> None:
    with pytest.raises(ProtocolError):
        control.decode(control.encode(message))


# -- records --------------------------------------------------------------------------------------

EDGE = Edge("beta", 1000, EdgeState.DOWN, DownReason.SILENT, 1.25)
STATE = LinkState("alpha", 1, 2, 2**64 - 1, (EDGE, Edge("c", 1)), ("tcp://x:1",), 7, -2.5, True)


def raw_of(values: list[Any], *, signature: Any = b"") -> bytes:
    packed: bytes = msgpack.packb([msgpack.packb(values), signature])
    return packed


def values_of(record: records.Record) -> list[Any]:
    values: list[Any] = msgpack.unpackb(msgpack.unpackb(records.encode_record(record))[0])
    return values


@pytest.mark.parametrize(
    "record",
    [
        STATE,
        LinkState("alpha", 1, 2, 3, left=True, extension={"x": [1, "y"]}),
        Details("alpha", 2**63 - 1, 0, {"version": "1", "n": {"deep": [1.5]}}),
    ],
)
def test_a_record_comes_back(record: records.Record) -> None:
    assert records.decode_record(records.encode_record(record)) == record


def test_fields_that_a_later_version_appends_to_a_record_are_ignored() -> None:
    assert records.decode_record(raw_of([*values_of(STATE), "more"])) == STATE


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("record", [STATE, Details("alpha", 1, 2, {})], ids=["state", "details"])
def test_an_odd_field_of_a_record_is_refused_or_is_a_value_of_its_type(
    record: records.Record, odd: Any
) -> None:
    for index in range(len(values_of(record))):
        values = values_of(record)
        values[index] = odd
        try:
            decoded = records.decode_record(raw_of(values))
        except ProtocolError:
            continue
        records.encode_record(decoded)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_field_of_an_edge_is_refused_or_harmless(odd: Any) -> None:
    for index in range(5):
        values = values_of(STATE)
        values[5][0][index] = odd
        try:
            decoded = records.decode_record(raw_of(values))
        except ProtocolError:
            continue
        records.encode_record(decoded)


def test_records_that_contradict_themselves_are_refused() -> None:
    for edges in ((EDGE, EDGE), (Edge("alpha", 1),), (replace(EDGE, cost=0),)):
        with pytest.raises(ProtocolError):
            records.decode_record(records.encode_record(replace(STATE, edges=edges)))


def test_records_beyond_their_bounds_are_refused() -> None:
    hub = tuple(Edge(f"n{n}", 1) for n in range(EDGES_MAX + 1))
    for record in (
        replace(STATE, edges=hub),
        Details("alpha", 1, 1, {"x": "y" * DETAILS_BYTES_MAX}),
        LinkState("alpha", 1, 1, 1, extension={"x": b"y" * RECORD_BYTES_MAX}),
    ):
        with pytest.raises(ProtocolError):
            records.decode_record(records.encode_record(record))
    assert records.decode_record(records.encode_record(replace(STATE, edges=hub[:3000])))


@pytest.mark.parametrize("raw", [b"", b"\xc0", b"\x92", b"\x92\xc4\x00\xc4\x00", raw_of([3, "a"]),
                                 raw_of(values_of(STATE), signature=b"x" * 65),
                                 raw_of(values_of(STATE), signature="x")])  # fmt: skip
def test_bytes_that_are_no_record_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        records.decode_record(raw)


def test_the_content_hash_tells_records_apart() -> None:
    hashes = {
        records.content_hash(records.encode_record(replace(STATE, sequence=n))) for n in range(500)
    }
    assert len(hashes) == 500
    assert all(0 <= each < 2**64 for each in hashes)
