"""Packets byte by byte: the hop header, keys, traces, hints, and what is refused."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from meshcore.errors import BadPayloadError, ProtocolError
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import HOP_LIMIT, PACKET_MESSAGES_MAX, TRACE_HOPS_MAX, VERSION

KEY = packet.make_key(packet.FROM_INITIATOR, "alpha", 1, "beta", 2**64 - 1)


def frame_of(*part: Any, flags: int = 0, key: bytes = KEY) -> bytes:
    return packet.make_head(packet.PACKET, flags, key) + packet.pack(list(part))


def traced(*hops: str) -> bytes:
    packed = packet.pack(list(hops))
    head = packet.make_head(packet.PACKET, packet.FLAG_TRACE, KEY)
    return head + len(packed).to_bytes(2, "big") + packed + packet.pack([1, 2, None])


def test_the_header_is_laid_out_as_documented() -> None:
    frame = frame_of(7, 1, None, flags=packet.FLAG_BULK)
    assert frame[0] == VERSION
    assert frame[1] == packet.PACKET
    assert frame[2] == HOP_LIMIT
    assert frame[3] == packet.FLAG_BULK
    assert frame[4:8] == b"\xff\xff\xff\xff"
    assert frame[8:20] == bytes(12)
    assert int.from_bytes(frame[20:22], "big") == len(KEY)
    assert frame[22 : 22 + len(KEY)] == KEY
    assert b"\x00" + (1).to_bytes(8, "big") + b"\xff" * 8 + b"\x05alphabeta" == KEY


def test_a_key_comes_back_and_turns() -> None:
    assert packet.read_key(KEY) == (0, "alpha", 1, "beta", 2**64 - 1)
    assert packet.read_key(packet.turned(KEY)) == (1, "beta", 2**64 - 1, "alpha", 1)
    assert packet.turned(packet.turned(KEY)) == KEY
    assert packet.key_of(frame_of(1, 2, None)) == KEY


@pytest.mark.parametrize(
    "key",
    [
        b"",
        KEY[:17],
        KEY[:18],
        KEY[:23],  # no destination
        b"\x02" + KEY[1:],  # a role that there is not
        b"\xff" + KEY[1:],
        KEY[:17] + b"\x00" + KEY[18:],  # no source
        KEY[:17] + b"\xff" + KEY[18:],  # a source that is longer than the key
        KEY.replace(b"alpha", b"alph\xe4"),
        KEY + b"\x80",
        KEY + b"x" * 300,
    ],
)
def test_a_malformed_key_is_refused(key: bytes) -> None:
    with pytest.raises(ProtocolError):
        packet.read_key(key)


@pytest.mark.parametrize("frame", [b"", b"\x01" * 21, bytes([VERSION + 1]) + bytes(40)])
def test_a_frame_that_is_too_short_or_of_another_version_has_no_key(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        packet.key_of(frame)


def test_the_end_to_end_part_comes_back() -> None:
    part = [7, 1, [1, b"", 0, b""], [1, 2, "a:b", None, 0, {"x": [1.5, b"y", None]}]]
    assert packet.end_to_end(frame_of(*part), KEY) == (part, None)
    most = [7, 1, None, *([n] for n in range(PACKET_MESSAGES_MAX))]
    assert packet.end_to_end(frame_of(*most), KEY)[0] == most


@pytest.mark.parametrize(
    "part",
    [
        [],
        [1, 2],
        ["1", 2, None],
        [1, 2.0, None],
        [True, 2, None],
        [1, False, None],
        [1, 2, None, *range(PACKET_MESSAGES_MAX + 1)],
    ],
)
def test_a_part_of_another_form_is_refused(part: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        packet.end_to_end(frame_of(*part), KEY)


def test_a_message_that_does_not_decode_is_told_by_the_fields_in_front() -> None:
    broken = [1, 5, "a:b", None, 0, {(1, 2): 3}]
    extended = [3, 6, 1, 0, msgpack.ExtType(9, b"")]
    part, _ = packet.end_to_end(frame_of(7, 1, 4, [2, 5, 6], broken, extended, [2, 6, 6]), KEY)
    assert part[:4] == [7, 1, 4, [2, 5, 6]]
    assert part[6] == [2, 6, 6]
    assert [each.fields for each in part[4:6]] == [[1, 5, "a:b", None, 0], [3, 6, 1, 0]]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 67])
def test_the_head_of_a_list_is_that_of_messagepack(count: int) -> None:
    assert packet.list_head(count) + b"\xc0" * count == packet.pack([None] * count)


# -- relays -------------------------------------------------------------------------------------


def test_a_relay_changes_nothing_but_the_hop_limit() -> None:
    frame = frame_of(7, 1, None, [1, 2, 3], flags=packet.FLAG_BULK | packet.FLAG_BODY)
    onward = packet.forwarded(frame, KEY, "relay")
    assert onward[2] == frame[2] - 1
    assert onward[:2] + onward[3:] == frame[:2] + frame[3:]


def test_relays_write_their_names_where_a_trace_was_asked_for() -> None:
    frame = traced()
    for relay in ("one", "two", "three"):
        frame = packet.forwarded(frame, KEY, relay)
    assert packet.end_to_end(frame, KEY) == ([1, 2, None], ["one", "two", "three"])
    assert frame[2] == HOP_LIMIT - 3
    assert frame.endswith(packet.pack([1, 2, None]))


def test_the_empty_trace_is_one() -> None:
    head = packet.make_head(packet.PACKET, packet.FLAG_TRACE, KEY)
    frame = head + packet.empty_trace() + packet.pack([1, 2, None])
    assert packet.end_to_end(frame, KEY) == ([1, 2, None], [])


@pytest.mark.parametrize(
    "trace",
    [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\xff\xff\x90",
        b"\x00\x01\xc0",
        b"\x00\x02\x91\x01",
        b"\x00\x01\x91",
        b"\x00\x45\x91\xd9\x42" + b"x" * 66,
        len(packed := packet.pack(["x"] * (TRACE_HOPS_MAX + 1))).to_bytes(2, "big") + packed,
    ],
)
def test_a_malformed_trace_is_refused_by_relays_and_ends(trace: bytes) -> None:
    frame = packet.make_head(packet.PACKET, packet.FLAG_TRACE, KEY) + trace
    with pytest.raises(ProtocolError):
        packet.forwarded(frame, KEY, "relay")
    with pytest.raises(ProtocolError):
        packet.end_to_end(frame, KEY)


def test_a_hint_goes_to_the_source_of_what_it_is_about() -> None:
    hint = packet.make_hint("relay", 9, KEY, packet.HINT_FULL)
    key = packet.key_of(hint)
    assert hint[1] == packet.HINT
    assert packet.read_key(key) == (packet.FROM_RESPONDER, "relay", 9, "alpha", 1)
    assert packet.read_hint(hint, key) == (packet.HINT_FULL, KEY)


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\xc0", b"\x91\x01", b"\x92\x01\x02",
                                     b"\x92\xc3\xc4\x00", b"\x92\xa1x\xc4\x00"])  # fmt: skip
def test_a_malformed_hint_is_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        packet.read_hint(packet.make_head(packet.HINT, 0, KEY) + content, KEY)


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [object(), {1, 2}, 2**64, -(2**63) - 1, "\ud800", lambda: 0])
def test_a_value_without_a_messagepack_form_is_a_bad_payload(value: object) -> None:
    with pytest.raises(BadPayloadError):
        packet.pack_value(value)
    with pytest.raises(BadPayloadError):
        packet.pack_message([1, 2, value])


def test_a_value_that_contains_itself_is_a_bad_payload_and_the_packer_works_on() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BadPayloadError):
        packet.pack_value(endless)
    assert packet.unpack_value(packet.pack_value([1, "x"])) == [1, "x"]
