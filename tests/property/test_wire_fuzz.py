"""Any bytes either decode or give a ProtocolError; nothing else, and not for long."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshcore.errors import ProtocolError
from meshcore.protocol.delivery.delivery import Delivery
from meshcore.protocol.wire import control, packet, records
from meshcore.protocol.wire.limits import VERSION
from tests.unit.protocol.delivery_world import World

KEY = packet.make_key(packet.FROM_INITIATOR, "alpha", 1, "beta", 2)


def nested(scalars: st.SearchStrategy[Any], leaves: int) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=leaves,
    )


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=20)
    | st.sampled_from([msgpack.ExtType(1, b"x"), msgpack.Timestamp(5, 7)])
    | st.integers(0, 12)
)
VALUES = nested(SCALARS, 25)
PACKED = VALUES.map(msgpack.packb)
ANY_BYTES = st.binary(max_size=200) | PACKED
IDS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
LIVES = st.integers(0, 2**64 - 1)
PLAIN = nested(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=20),
    15,
)


def or_refused(decode: Callable[..., Any], *args: Any) -> Any:
    try:
        return decode(*args)
    except ProtocolError as error:
        refusal = error
    assert 0 < len(refusal.message) < 300
    return None


@given(kind=st.integers(0, 255), version=st.integers(0, 2), content=ANY_BYTES)
@settings(max_examples=500)
def test_any_bytes_are_a_control_message_or_refused(
    kind: int, version: int, content: bytes
) -> None:
    message = or_refused(control.decode, bytes([version, kind]) + content)
    if message is not None:
        assert control.decode(control.encode(message)) == message


@given(kind=st.sampled_from(sorted(control._CLASSES)), values=st.lists(VALUES, max_size=15))
@settings(max_examples=500)
def test_any_fields_are_a_control_message_or_refused(kind: int, values: list[Any]) -> None:
    or_refused(control.decode, bytes([VERSION, kind]) + msgpack.packb(values))


@given(raw=ANY_BYTES)
@settings(max_examples=300)
def test_any_bytes_are_a_record_or_refused(raw: bytes) -> None:
    or_refused(records.decode_record, raw)
    or_refused(records.decode_record, msgpack.packb([raw, b""]))


@given(kind=st.integers(1, 2), values=st.lists(VALUES, max_size=13))
@settings(max_examples=300)
def test_any_fields_are_a_record_or_refused(kind: int, values: list[Any]) -> None:
    raw = msgpack.packb([msgpack.packb([kind, "alpha", 1, 1, *values]), b""])
    record = or_refused(records.decode_record, raw)
    if record is not None:
        records.encode_record(record)


@given(frame=st.binary(max_size=100), flags=st.integers(0, 255), content=ANY_BYTES)
@settings(max_examples=500)
def test_any_bytes_are_a_packet_or_refused(frame: bytes, flags: int, content: bytes) -> None:
    for each in (
        frame,
        bytes([VERSION]) + frame,
        packet.make_head(packet.PACKET, flags, KEY) + content,
        packet.make_head(packet.PACKET, flags, frame) + content,
    ):
        key = or_refused(packet.key_of, each)
        if key is None:
            continue
        or_refused(packet.read_key, key)
        or_refused(packet.end_to_end, each, key)
        or_refused(packet.read_hint, each, key)
        if each[2]:
            onward = or_refused(packet.forwarded, each, key, "relay")
            assert onward is None or onward[2] == each[2] - 1


@given(role=st.integers(0, 1), source=IDS, life=LIVES, destination=IDS, other=LIVES)
def test_a_key_comes_back(role: int, source: str, life: int, destination: str, other: int) -> None:
    key = packet.make_key(role, source, life, destination, other)
    assert packet.read_key(key) == (role, source, life, destination, other)
    assert packet.key_of(packet.make_head(packet.PACKET, 0, key)) == key
    assert packet.read_key(packet.turned(key)) == (1 - role, destination, other, source, life)


@given(
    messages=st.lists(st.lists(PLAIN, max_size=6), max_size=20), relays=st.lists(IDS, max_size=9)
)
def test_a_packet_comes_back_over_any_relays(messages: list[Any], relays: list[str]) -> None:
    for flag, start in ((0, b""), (packet.FLAG_TRACE, packet.empty_trace())):
        frame = packet.make_head(packet.PACKET, flag, KEY) + start
        frame += packet.pack([3, 4, None, *messages])
        before = frame
        for relay in relays:
            frame = packet.forwarded(frame, KEY, relay)
        assert packet.end_to_end(frame, KEY) == ([3, 4, None, *messages], relays if flag else None)
        assert frame[2] == before[2] - len(relays)
        if not flag:
            assert frame[:2] + frame[3:] == before[:2] + before[3:]


@given(broken=st.integers(0, 4), payload=st.sampled_from([{(1,): 2}, msgpack.ExtType(3, b"")]))
def test_messages_around_one_that_does_not_decode_come_back(broken: int, payload: Any) -> None:
    messages: list[Any] = [[1, n, "a:b", None, 0, n] for n in range(5)]
    messages[broken] = [1, broken, "a:b", None, 0, payload]
    frame = packet.make_head(packet.PACKET, 0, KEY) + packet.pack([3, 4, None, *messages])
    part, _ = packet.end_to_end(frame, KEY)
    assert part[3 + broken].fields == [1, broken, "a:b", None, 0]
    assert [each for each in part[3:] if type(each) is list] == [
        each for n, each in enumerate(messages) if n != broken
    ]


# -- the machine behind it ------------------------------------------------------------------------


def world_with_work() -> World:
    world = World("alpha", "beta")
    world["alpha"].call("beta", "t:later", ttl=None)
    world["beta"].call("alpha", "t:later", ttl=None)
    world.run(0.5)
    return world


def channel_of(delivery: Delivery, role: int) -> Any:
    return next(each for each in delivery._board.by_key.values() if each.role == role)


@pytest.mark.parametrize("role", [packet.FROM_INITIATOR, packet.FROM_RESPONDER])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_message_in_any_place_harms_nobody_else(role: int, data: st.DataObject) -> None:
    world = world_with_work()
    beta = world["beta"]
    channel = channel_of(beta.delivery, role)
    # Not the streams that the test itself uses: what a peer does to its own is its own affair.
    fields = st.one_of(VALUES, st.integers(50, 60))
    messages = data.draw(st.lists(VALUES | st.lists(fields, min_size=2, max_size=9), max_size=6))
    for body in (None, b"chunk"):
        part = [channel.cookie, channel.lanes[0].expected, data.draw(SCALARS), *messages]
        frames: list[Any] = [packet.make_head(packet.PACKET, 0, channel.key_in) + packet.pack(part)]
        beta.on_frames(frames if body is None else [*frames, body])
        part = [0, 0, None, data.draw(VALUES)]
        beta.on_frames([packet.make_head(packet.PACKET, 0, channel.key_in) + packet.pack(part)])
    world.run(0.5)
    fresh = world["beta"].call("alpha", "t:echo", "beta goes on", ttl=5.0)
    world.run(6.0)
    assert fresh.ended == 1


@given(
    source=IDS | st.just("alpha"),
    life=LIVES,
    role=st.integers(0, 1),
    other=st.sampled_from([0, 1, 1001]),
    part=st.lists(VALUES | st.lists(VALUES, max_size=5), min_size=3, max_size=6),
    numbers=st.tuples(st.integers(0, 3), st.integers(0, 3)) | st.none(),
)
@settings(max_examples=300, deadline=None)
def test_any_packet_of_anybody_leaves_the_channels_as_they_were(
    source: str,
    life: int,
    role: int,
    other: int,
    part: list[Any],
    numbers: tuple[int, int] | None,
) -> None:
    world = world_with_work()
    beta = world["beta"]
    key = packet.make_key(role, source, life, "beta", other)
    if numbers is not None:
        part[:2] = numbers
    before = len(beta.streams)
    beta.on_frames([packet.make_head(packet.PACKET, 0, key) + packet.pack(part)])
    hint = packet.make_head(packet.HINT, 0, key) + packet.pack([life % 6, key])
    beta.on_frames([hint])
    assert len(beta.streams) == before
    beta.answer()
    world["alpha"].answer()
    world.run(2.0)
    assert [end.calls[0].value for end in (beta, world["alpha"])] == ["late", "late"]


@given(seed=st.integers(0, 2**32))
@example(seed=0)
@settings(max_examples=100, deadline=None)
def test_flipped_bytes_are_survived(seed: int) -> None:
    """No checksum but TCP's: a flipped byte may change a value, but must not stop a node."""
    rng = random.Random(seed)
    world = World("alpha", "beta")
    alpha, beta = world["alpha"], world["beta"]
    alpha.call("beta", "t:items", 50)
    alpha.call("beta", "t:echo", bytes(100_000))
    world.run(0.01)
    seen = [frame for _, frame in world.sent if frame.target == "beta"]
    for _ in range(10):
        frame = rng.choice(seen)
        damaged = bytearray(frame.frames[0])
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(22 + len(frame.key), len(damaged))] = rng.randrange(256)
        beta.on_frames([bytes(damaged), *frame.frames[1:]])
    world.run(1.0)
    beta.call("alpha", "t:echo", 1)
    world.run(1.0)
    assert beta.calls[-1].value == 1
