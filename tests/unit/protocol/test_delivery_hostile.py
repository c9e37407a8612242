"""Peers that send anything: nothing raises, all is counted, memory is bounded, others go on."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest

from meshcore.errors import Code
from meshcore.protocol.delivery import delivery as deliveries
from meshcore.protocol.delivery import incoming, responder
from meshcore.protocol.delivery.streams import STREAM_CREDIT
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX
from tests.unit.protocol.delivery_world import Call, End, World, opened, pair

DEEP = "DEEP"  # in a message: as deep as the decoder lets through


def packed(message: Any) -> bytes:
    if message == DEEP:
        return b"\x91" * 900 + b"\xc0"
    if type(message) is list and DEEP in message:
        return packet.list_head(len(message)) + b"".join(packed(field) for field in message)
    return msgpack.packb(message)


class Forger:
    """Speaks for one end of the open channel from alpha to beta, to the other end."""

    def __init__(self, world: World, source: str) -> None:
        self.target: End = world["beta" if source == "alpha" else "alpha"]
        channel = next(iter(self.target.delivery._board.by_key.values()))
        self.key, self.cookie, self.lanes = channel.key_in, channel.cookie, channel.lanes

    def send(
        self,
        *messages: Any,
        body: bytes | None = None,
        lane: int = 0,
        number: Any = None,
        acks: Any = None,
        raw: bytes | None = None,
    ) -> None:
        number = self.lanes[lane].expected if number is None else number
        flags = lane | (0 if body is None else packet.FLAG_BODY)
        parts = [packed(self.cookie), packed(number), packed(acks), *map(packed, messages)]
        content = packet.list_head(len(parts)) + b"".join(parts) if raw is None else raw
        frames: list[Any] = [packet.make_head(packet.PACKET, flags, self.key) + content]
        self.target.on_frames(frames if body is None else [*frames, body], lane)


def to_beta() -> tuple[World, End, Forger]:
    world, _, beta = opened()
    return world, beta, Forger(world, "alpha")


def to_alpha() -> tuple[World, End, Forger, Call]:
    """With a call of alpha's that beta works on; its stream has number 2."""
    world, alpha, _ = opened()
    call = alpha.call("beta", "t:later", ttl=None)
    world.run(0.5)
    return world, alpha, Forger(world, "beta"), call


ODD: list[Any] = [None, True, -1, 2**64 - 1, -(2**63), 1.5, float("nan"), float("inf"), "x", b"x",
                  [], [1, 2], {}, {1: 2}, {"a": [1]}, msgpack.Timestamp(1), DEEP]  # fmt: skip


@pytest.mark.parametrize("message", [*ODD, [[]], [1], [1, 2, 3], [99, 2], [0, 0], [255] * 9])
def test_a_message_that_is_none_is_counted_and_those_around_it_are_delivered(message: Any) -> None:
    _, beta, forger = to_beta()
    forger.send([1, 70, "t:echo", None, 0, "a"], message, [1, 71, "t:echo", None, 0, "b"])
    assert len(beta.ran) == 3
    assert forger.lanes[0].held == {}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", range(6))
def test_a_call_with_an_odd_field_leaves_nothing_behind(field: int, odd: Any) -> None:
    world, beta, forger = to_beta()
    message = [packet.CALL, 70, "t:echo", 1000, packet.INLINE, "x"]
    message[field] = odd
    forger.send(message, [packet.CALL, 71, "t:echo", None, 0, "b"])
    assert len(beta.ran) in (2, 3)
    world.run(5.0)
    assert beta.delivery.stats()["calls_in"] == 0
    assert beta.delivery._board.wheel.next_deadline() is None


@pytest.mark.parametrize("ttl", [odd for odd in ODD if odd is not None] + [0, 2**60])
def test_a_call_with_an_odd_time_to_live_does_not_run(ttl: Any) -> None:
    world, beta, forger = to_beta()
    forger.send([packet.CALL, 70, "t:later", ttl, packet.INLINE, "x"])
    world.run(1.0)
    assert not beta.streams
    assert beta.delivery.stats()["calls_in"] == 0


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", range(2))
def test_a_call_with_an_odd_body_leaves_nothing_behind(field: int, odd: Any) -> None:
    world, beta, forger = to_beta()
    about: list[Any] = [0, 100]
    about[field] = odd
    forger.send([packet.CALL, 70, "t:echo", 1000, packet.BODY, about], lane=1)
    forger.send([packet.CALL, 71, "t:echo", 1000, packet.BODY, odd], lane=1)
    world.run(5.0)
    assert beta.delivery.stats()["calls_in"] == 0


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
@pytest.mark.parametrize("field", range(2, 8))
def test_a_response_with_an_odd_field_ends_the_call_or_changes_nothing(
    kind: int, field: int, odd: Any
) -> None:
    _world, alpha, forger, call = to_alpha()
    templates: dict[int, list[Any]] = {
        packet.RESULT: [3, 2, 1, 0, "x"],
        packet.ITEM: [4, 2, 1, 0, b"\xc0"],
        packet.ERROR: [5, 2, 1, 1, "n", "t", "b", True],
        packet.CHUNK: [6, 2, 1, 0, True],
        packet.CREDIT: [7, 2, 1_000_000],
    }
    message = templates.get(kind, [kind, 2, 1, 0, 0, 0, 0, 0])
    message[min(field, len(message) - 1)] = odd
    forger.send(message, body=b"x" if kind == packet.CHUNK else None)
    assert call.ended <= 1
    other = alpha.call("beta", "t:echo", "go on")
    forger.send([packet.RESULT, other.stream.number, 1, packet.INLINE, "went on"])
    assert other.value == "went on"


def test_a_last_response_that_cannot_be_read_ends_its_call_at_once() -> None:
    _world, alpha, forger, call = to_alpha()
    forger.send([packet.RESULT, 2])
    call.assert_failed(Code.BAD_PAYLOAD, may_have_run=True)
    assert alpha.counts["malformed message"] == 1


KEYED_BY_A_LIST = {(1, 2): 3}  # packs, but does not unpack: a user's innocent mistake
EXTENSION = msgpack.ExtType(5, b"x")


@pytest.mark.parametrize("payload", [KEYED_BY_A_LIST, EXTENSION, [[EXTENSION]]])
@pytest.mark.parametrize("large", [False, True])
def test_a_payload_that_the_recipient_cannot_decode_fails_alone(payload: Any, large: bool) -> None:
    world, alpha, beta = opened()
    before = alpha.call("beta", "t:echo", "before", flush=False)
    bad = alpha.call("beta", "t:echo", [payload, bytes(20_000)] if large else payload, flush=False)
    after = alpha.call("beta", "t:echo", "after", flush=False)
    alpha.settle()
    world.run(1.0)
    assert (before.value, after.value) == ("before", "after")
    bad.assert_failed(Code.BAD_PAYLOAD, may_have_run=False)
    assert alpha.in_flight == 0
    assert len(beta.ran) == 3


@pytest.mark.parametrize("payload", [KEYED_BY_A_LIST, EXTENSION])
@pytest.mark.parametrize("eof", [True, False])
def test_a_response_that_the_caller_cannot_decode_fails_its_call_alone(
    payload: Any, eof: bool
) -> None:
    world, alpha, beta = opened()
    bad, good = alpha.call("beta", "t:later", ttl=None), alpha.call("beta", "t:later", ttl=None)
    world.run(0.1)
    streams = list(beta.streams.values())
    beta.delivery.respond(streams[0], payload, eof=eof)
    beta.delivery.respond(streams[1], "good", eof=True)
    beta.settle()
    world.run(1.0)
    bad.assert_failed(Code.BAD_PAYLOAD, may_have_run=True)
    assert good.value == "good"
    assert beta.delivery.stats()["calls_in"] == 0
    assert beta.in_flight == 0


@pytest.mark.parametrize("acks", [*ODD, [1], [0, b"", 0], [0, 0, 0, 0], [-1, b"\xff" * 33, 5, b""],
                                  [0, b"\xff" * 41, 0, b""], [2**63, b"", 0, b""]])  # fmt: skip
def test_odd_acks_are_counted_and_the_messages_are_delivered(acks: Any) -> None:
    world, beta, forger = to_beta()
    forger.send([1, 70, "t:echo", None, 0, "a"], acks=acks)
    assert len(beta.ran) == 2
    world.run(1.0)


@pytest.mark.parametrize("number", [*(odd for odd in ODD if odd is not None), 0, 1, 300, 2**40])
def test_odd_packet_numbers_run_nothing(number: Any) -> None:
    _, beta, forger = to_beta()
    forger.send([1, 70, "t:echo", None, 0, "a"], number=number)
    assert len(beta.ran) == 1


@pytest.mark.parametrize("raw", [b"", b"\xc0", b"\x90", b"\x93\x01\x02", b"\xdd\xff\xff\xff\xff",
                                 b"\xdd\x00\x00\xff\xff" * 1000, b"\x91" * 1500, b"\xc1" * 50,
                                 b"\x93\xa1a\xa1b\xc0", b"\x93\x01\x02\xc0\x00", b"\xc7\xff\x05",
                                 b"\x94\x01\x02\xc0" + b"\x82\x91\x01\x01\x92"])  # fmt: skip
def test_an_undecodable_packet_is_counted_and_not_acknowledged(raw: bytes) -> None:
    _, beta, forger = to_beta()
    expected = forger.lanes[0].expected
    forger.send(raw=raw)
    assert forger.lanes[0].expected == expected
    assert sum(beta.counts[name] for name in beta.counts if name.startswith("bad packet")) == 1


def test_a_packet_with_more_messages_than_one_may_hold_is_refused() -> None:
    _, beta, forger = to_beta()
    forger.send(*[None] * 65)
    forger.send(*[EXTENSION] * 65)
    assert beta.counts["bad packet: end-to-end part"] == 1
    assert not beta.counts["malformed message"]


def test_list_headers_that_promise_too_much_take_neither_memory_nor_time() -> None:
    _, _beta, forger = to_beta()
    tracemalloc.start()
    forger.send(raw=b"\xdd\x00\x06\x00\x00" * 1000 + bytes(500_000))
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


# -- streams --------------------------------------------------------------------------------------


def test_a_call_that_comes_under_a_number_in_use_is_refused() -> None:
    _world, beta, forger = to_beta()
    forger.send([1, 70, "t:later", None, 0, "a"], [1, 70, "t:later", None, 0, "b"])
    assert len(beta.streams) == 1
    assert beta.counts["malformed message"] == 1


@pytest.mark.parametrize(
    "chunks",
    [
        [(70, 5, False, b"abcde")],  # not from the start
        [(70, 0, False, b"abc"), (70, 0, False, b"abc")],  # again
        [(70, 0, False, b"abc"), (70, 4, False, b"abc")],  # a gap
        [(70, -1, True, b"abc")],
        [(70, 0, True, None)],
        [(70, 0, False, bytes(CHUNK_BYTES_MAX + 1))],
        [(70, n * CHUNK_BYTES_MAX, False, bytes(CHUNK_BYTES_MAX)) for n in range(3)],  # the credit
    ],
)
def test_chunks_out_of_place_end_the_call_that_they_belong_to(chunks: list[Any]) -> None:
    _world, beta, forger = to_beta()
    beta.taking = False
    forger.send([packet.CALL, 70, "t:echo", None, packet.BODY, [0, None]], lane=1)
    for number, offset, last, body in chunks:
        forger.send([packet.CHUNK, number, 0, offset, last], body=body, lane=1)
    assert beta.counts["malformed message"] == 1
    assert [code for _, code in beta.cancelled] == [Code.BAD_PAYLOAD]
    assert not beta._bodies
    assert beta.delivery.stats()["calls_in"] == 0


def test_chunks_for_a_call_without_a_body_or_after_its_last_end_it() -> None:
    for call in ([1, 70, "t:later", None, packet.INLINE, 1], [1, 70, "t:later", None, 1, [0, 3]]):
        _world, beta, forger = to_beta()
        forger.send(call, lane=1)
        if call[4] == packet.BODY:
            forger.send([packet.CHUNK, 70, 0, 0, True], body=b"abc", lane=1)
        forger.send([packet.CHUNK, 70, 0, 3 * (call[4] == packet.BODY), True], body=b"", lane=1)
        assert beta.counts["malformed message"] == 1


def test_a_sender_may_not_open_streams_or_payloads_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responder, "STREAMS_MAX", 20)
    monkeypatch.setattr(responder, "BODIES_MAX", 10)
    world, beta, forger = to_beta()
    for number in range(100, 150):
        forger.send([1, number, "t:later", None, packet.BODY, [0, None]], lane=1)
    assert len(beta._bodies) == 10
    for number in range(200, 250):
        forger.send([1, number, "t:later", None, 0, 1])
    assert beta.delivery.stats()["calls_in"] == 20
    codes = [m[3] for f in world.frames(packet.ERROR) for m in f.part[3:] if m[0] == packet.ERROR]
    assert codes == [Code.BUSY] * 80
    for number in range(100, 110):  # ended payloads make room
        forger.send([packet.CHUNK, number, 0, 0, True], body=b"", lane=1)
    beta.answer()
    forger.send([1, 300, "t:later", None, packet.BODY, [0, None]], lane=1)
    assert len(beta._bodies) == 1


def test_a_sender_that_never_acknowledges_is_not_answered_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries, "BACKLOG_BYTES_MAX", 1_000_000)
    world, beta, forger = to_beta()
    world.wire = lambda frame: ()
    for number in range(1000):
        forger.send([1, 100 + number, "t:echo", None, 0, bytes(50_000)])
    assert beta.delivery.stats()["backlog_bytes"] < 1_100_000
    assert beta.counts["dropped: responses are not acknowledged"] > 800


def test_packets_beyond_a_hole_are_held_within_bounds() -> None:
    _world, beta, forger = to_beta()
    for number in range(3, 400):
        forger.send(*[[1, number, "t:echo", None, 0, bytes(100_000)]], number=number)
    assert forger.lanes[0].held_bytes < 5_000_000
    assert len(beta.ran) == 1


@pytest.mark.parametrize("serial", [0, -5, 2, 3, 1000, 2**63, True])
def test_responses_far_ahead_or_behind_do_no_harm(serial: int) -> None:
    _world, _alpha, forger, call = to_alpha()
    for _ in range(3):
        forger.send([packet.ITEM, 2, serial, 0, b"\xc0"])
    forger.send([packet.RESULT, 2, 1, packet.INLINE, "x"])
    assert call.ended == 1


def test_a_responder_that_exceeds_its_credit_loses_the_call() -> None:
    _world, alpha, forger, call = to_alpha()
    alpha.taking = False
    item = packet.pack(bytes(60_000))
    serial = 0
    while not call.ended:
        serial += 1
        forger.send([packet.ITEM, 2, serial, 0, item])
    call.assert_failed(Code.BAD_PAYLOAD, may_have_run=True)
    assert STREAM_CREDIT < 60_000 * serial <= incoming.RECEIVED_MAX + 60_003


def test_a_responder_that_exceeds_its_credit_out_of_order_loses_the_call() -> None:
    _world, _alpha, forger, call = to_alpha()
    serial = 1
    while not call.ended:
        serial += 1
        forger.send([packet.ITEM, 2, serial, 0, b"\xc0"])
        assert serial <= incoming.HELD_MAX + 3
    assert call.values == []


def test_a_response_that_comes_early_and_twice_is_handed_on_once() -> None:
    _, _, forger, call = to_alpha()
    for value in (b"\x02", b"\xcc\x99"):
        forger.send([packet.ITEM, 2, 2, 0, value])
    forger.send([packet.ITEM, 2, 1, 0, b"\x01"])
    forger.send([packet.RESULT, 2, 3, packet.NOTHING, None])
    assert call.values[:2] == [1, 2]
    assert call.serials == [1, 2, 3]


def test_empty_bodies_out_of_order_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "HELD_MAX", 50)
    _world, _alpha, forger, call = to_alpha()
    for serial in range(2, 100):
        if not call.ended:
            forger.send([packet.ITEM, 2, serial, packet.BODY, [0, 0]], lane=1)
            forger.send([packet.CHUNK, 2, serial, 0, True], body=b"", lane=1)
    call.assert_failed(Code.BAD_PAYLOAD, may_have_run=True)


def test_credit_never_goes_backwards() -> None:
    world, alpha, beta = opened()
    alpha.taking = False
    alpha.call("beta", "t:items", 100_000, ttl=None)
    world.run(2.0)
    got = len(alpha.calls[-1].values)
    forger = Forger(world, "alpha")
    for credit in (-1, 0, 1000, -(2**63), True, "9", None, 1e9):
        forger.send([packet.CREDIT, alpha.calls[-1].stream.number, credit])
    stream = next(iter(beta._generators))
    assert stream.credit == STREAM_CREDIT
    assert len(alpha.calls[-1].values) == got


def test_unlimited_credit_does_not_make_the_responder_pile_up_responses() -> None:
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:items", 1_000_000, ttl=None)
    world.run(0.0015)
    world.wire = lambda frame: ()
    Forger(world, "alpha").send([packet.CREDIT, call.stream.number, 2**63])
    assert beta.delivery.stats()["backlog_bytes"] < 100_000


# -- about channels -------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [*ODD, b"x" * 15, b"x" * 17, "x" * 16])
def test_an_odd_init_opens_nothing(odd: Any) -> None:
    world, beta, forger = to_beta()
    forger.cookie = 0
    channels = beta.delivery.stats()["channels"]
    world.sent.clear()
    forger.send([packet.INIT, odd], number=0)
    forger.send([packet.INIT], number=0)
    assert beta.delivery.stats()["channels"] == channels
    assert not world.frames(packet.OPEN)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", range(1, 4))
def test_odd_opens_and_resets_do_not_disturb_a_channel(field: int, odd: Any) -> None:
    world, _, forger, call = to_alpha()
    forger.cookie = 0
    for message in (
        [packet.OPEN, b"t" * 16, 77, 0],
        [packet.RESET, 9999, world["beta"].life, True],
    ):
        message[field] = odd
        forger.send(message, number=0)
        forger.send(message[:field], number=0)
    world["beta"].answer()
    world.run(1.0)
    if type(odd) is int and field == 2:
        return  # another life: the call is lost, as it should be
    assert call.value == "late"


def test_a_packet_with_cookie_0_does_not_enter_a_channel_that_is_being_opened() -> None:
    world, alpha, beta = pair()
    world.wire = lambda frame: ()
    call = alpha.call("beta", "t:echo", 1)
    key = packet.make_key(packet.FROM_RESPONDER, "beta", beta.life, "alpha", alpha.life)
    content = packet.pack([0, 1, None, [packet.RESULT, call.stream.number, 1, 0, "forged"]])
    alpha.on_frames([packet.make_head(packet.PACKET, 0, key) + content])
    assert not call.ended
    world.wire = lambda frame: (0.001,)
    world.run(2.0)
    assert call.value == 1


def test_strangers_are_told_that_there_is_no_such_channel_and_nothing_runs() -> None:
    world, alpha, beta = opened()
    key = packet.make_key(packet.FROM_INITIATOR, "alpha", 99, "beta", beta.life)
    content = packet.pack([5, 1, None, [packet.CALL, 1, "t:echo", None, 0, 1]])
    for _ in range(3):
        beta.on_frames([packet.make_head(packet.PACKET, 0, key) + content])
    assert len(beta.ran) == 1
    assert beta.counts["reset sent"] == 3
    world.run(1.0)
    assert alpha.counts["reset sent"] == 0, "a RESET is never answered"


def test_hints_about_anything_do_not_raise() -> None:
    world, alpha, _beta = opened()
    own = packet.make_key(packet.FROM_RESPONDER, "relay", 7, "alpha", alpha.life)
    for about in (b"", b"x" * 400, b"\xff" * 30, b"\x02" + bytes(16) + b"\x01ab", own):
        for reason in (0, 1, 2, 3, 4, 99, -1):
            hint = packet.make_head(packet.HINT, 0, own) + packet.pack([reason, about])
            alpha.on_frames([hint])
    alpha.on_frames([packet.make_head(packet.HINT, 0, own) + b"\xc1"])
    call = alpha.call("beta", "t:echo", 1)
    world.run(1.0)
    assert call.value == 1
