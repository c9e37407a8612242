"""Calls that go well, over wires that do not: opening, order, bodies, credit, exactly once."""

from __future__ import annotations

import pytest

from meshcore.errors import BadPayloadError, BusyError
from meshcore.protocol.delivery import initiator
from meshcore.protocol.delivery.bodies import FED_BYTES_MAX, Fed
from meshcore.protocol.delivery.outputs import NO_PAYLOAD
from meshcore.protocol.delivery.streams import STREAM_CREDIT
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX, LARGE_BYTES
from tests.unit.protocol.delivery_world import DELAY, World, lose, opened, pair


def test_a_first_call_asks_for_a_cookie_and_runs_in_two_round_trips() -> None:
    world, alpha, beta = pair()
    call = alpha.call("beta", "t:echo", {"a": [1, b"x", None]})
    assert world.run_until(lambda: call.ended == 1) == pytest.approx(4 * DELAY)
    assert call.value == {"a": [1, b"x", None]}
    assert [frame.kinds[0] for frame in world.frames()] == [
        packet.INIT,
        packet.OPEN,
        packet.CALL,
        packet.RESULT,
    ]
    assert list(beta.ran.values()) == [1]


def test_further_calls_need_one_round_trip_and_share_a_packet() -> None:
    world, alpha, _ = opened()
    calls = [alpha.call("beta", "t:echo", n, flush=False) for n in range(64)]
    alpha.settle()
    assert world.run_until(lambda: all(call.ended for call in calls)) == pytest.approx(2 * DELAY)
    assert [call.value for call in calls] == list(range(64))
    assert [len(frame.kinds) for frame in world.frames()] == [64, 64]


def test_a_turn_with_more_than_64_calls_makes_several_packets() -> None:
    world, alpha, _ = opened()
    calls = [alpha.call("beta", "t:echo", n, flush=False) for n in range(130)]
    alpha.settle()
    assert [len(frame.kinds) for frame in world.frames(packet.CALL)] == [64, 64, 2]
    world.run_until(lambda: all(call.ended for call in calls))


@pytest.mark.parametrize("kind", [packet.INIT, packet.OPEN])
@pytest.mark.parametrize("times", [1, 3])
def test_a_lost_opening_is_repeated_with_the_same_token(kind: int, times: int) -> None:
    world, alpha, beta = pair()
    world.wire = lose(kind, times)
    call = alpha.call("beta", "t:echo", 1)
    world.run_until(lambda: call.ended == 1, within=5.0)
    assert call.value == 1
    assert len({frame.part[3][1] for frame in world.frames(packet.INIT)}) == 1
    assert len({frame.part[3][2] for frame in world.frames(packet.OPEN)}) == 1
    assert list(beta.ran.values()) == [1]


def test_a_duplicate_of_an_init_gets_the_same_cookie() -> None:
    world, alpha, beta = pair()
    world.wire = lambda frame: (DELAY, 0.3) if frame.has(packet.INIT) else (DELAY,)
    call = alpha.call("beta", "t:later", ttl=None)
    world.run(1.0)
    assert len(world.frames(packet.OPEN)) == 2
    assert len({frame.part[3][2] for frame in world.frames(packet.OPEN)}) == 1
    beta.answer()
    world.run(1.0)
    assert call.value == "late"


def test_without_a_route_nothing_is_sent_and_the_call_goes_as_soon_as_there_is_one() -> None:
    world, alpha, _ = pair()
    alpha.route("beta", None)
    call = alpha.call("beta", "t:echo", 1)
    world.run(20.0)
    assert not world.sent
    alpha.route("beta", "beta")
    assert world.run_until(lambda: call.ended == 1) < 0.1


def test_a_node_calls_itself() -> None:
    world, alpha, _ = pair()
    call = alpha.call("alpha", "t:items", 5)
    world.run(1.0)
    assert call.values == [0, 1, 2, 3, 4, NO_PAYLOAD]


def test_calls_in_both_directions_do_not_mix() -> None:
    world, alpha, beta = pair()
    there = [alpha.call("beta", "t:echo", ("a", n)) for n in range(10)]
    back = [beta.call("alpha", "t:echo", ("b", n)) for n in range(10)]
    world.run(1.0)
    assert [call.value for call in there] == [["a", n] for n in range(10)]
    assert [call.value for call in back] == [["b", n] for n in range(10)]


def test_a_failure_of_the_action_comes_with_name_text_and_traceback() -> None:
    world, alpha, _ = pair()
    call = alpha.call("beta", "t:fail")
    world.run(1.0)
    call.assert_failed(1, may_have_run=True)
    assert call.failure is not None
    assert (call.failure.name, call.failure.message, call.failure.traceback) == (
        "ValueError",
        "no",
        "tb",
    )


@pytest.mark.parametrize("directive", ["echo", "t:", ":x", "a:b:c", "t:ü", "t:" + "x" * 65])
def test_a_directive_without_the_right_form_is_refused_unrun(directive: str) -> None:
    world, alpha, beta = pair()
    call = alpha.call("beta", directive)
    world.run(1.0)
    call.assert_failed(2, may_have_run=False)
    assert not beta.ran


def test_a_failure_may_quote_text_that_has_no_utf8() -> None:
    world, alpha, beta = pair()
    call = alpha.call("beta", "t:later")
    world.run(0.1)
    stream = next(iter(beta.streams.values()))
    beta.delivery.fail(stream, code=1, message="no file \udcff" + "x" * 9000, name="\ud800")
    beta.settle()
    world.run(0.1)
    assert call.failure is not None
    assert call.failure.message.startswith("no file \\udcffxxx")
    assert len(call.failure.message) < 9000


def test_items_come_in_order_and_end_with_an_eof_without_payload() -> None:
    world, alpha, beta = pair()
    call = alpha.call("beta", "t:items", 1000)
    world.run(5.0)
    assert call.values == [*range(1000), NO_PAYLOAD]
    assert call.serials == list(range(1, 1002))
    assert call.ended == 1
    assert beta.in_flight == 0


def test_small_and_large_responses_come_in_the_order_of_their_serials() -> None:
    world, alpha, _ = pair()
    world.wire = lambda frame: (0.05,) if frame.lane else (DELAY,)  # bodies are overtaken
    call = alpha.call("beta", "t:mixed", 30)
    world.run(10.0)
    assert call.serials == list(range(1, 32))
    expected = [n.to_bytes(4, "big") * 25_000 if n % 3 == 0 else n for n in range(30)]
    assert call.values == [*expected, NO_PAYLOAD]


def test_thousands_of_small_responses_wait_for_one_late_body() -> None:
    """More than once overran a bound by number, and the depth of Python's stack."""
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:later")
    world.run(0.1)
    stream = next(iter(beta.streams.values()))
    world.wire = lambda frame: (2.0,) if frame.lane else (DELAY,)
    beta.delivery.respond(stream, b"x" * LARGE_BYTES, eof=False)
    beta.settle()
    for n in range(5000):
        assert beta.delivery.respond(stream, n, eof=False)
        beta.settle()
        world.run(0.0001)
    beta.delivery.respond(stream, NO_PAYLOAD, eof=True)
    beta.settle()
    assert call.values == []
    world.run(5.0)
    assert call.values[1:] == [*range(5000), NO_PAYLOAD]


@pytest.mark.parametrize(
    "size", [0, 1, LARGE_BYTES - 1, LARGE_BYTES, CHUNK_BYTES_MAX + 1, 5_000_000]
)
@pytest.mark.parametrize("kind", [bytes, bytearray, str, memoryview])
def test_a_payload_of_any_size_arrives_whole_both_ways(size: int, kind: type) -> None:
    world, alpha, beta = pair()
    payload = "ü" * size if kind is str else kind(bytes(size))
    call = alpha.call("beta", "t:echo", payload)
    world.run(10.0)
    assert call.value == (payload.encode() if kind is str and size * 2 >= LARGE_BYTES else payload)
    assert alpha.in_flight == beta.in_flight == 0


def test_a_large_value_travels_as_a_body_of_its_own() -> None:
    world, alpha, _ = pair()
    call = alpha.call("beta", "t:echo", list(range(100_000)))
    world.run(5.0)
    assert call.value == packet.pack(list(range(100_000)))
    assert max(len(frame.frames[0]) for frame in world.frames()) < 1000


def test_a_memoryview_of_wider_items_arrives_as_its_bytes() -> None:
    world, alpha, _ = pair()
    view = memoryview(bytes(range(256)) * 1024).cast("I")
    call = alpha.call("beta", "t:echo", view)
    world.run(5.0)
    assert call.value == view.tobytes()


def test_no_frame_exceeds_a_chunk_and_its_header() -> None:
    world, alpha, _ = pair()
    alpha.call("beta", "t:echo", bytes(3_000_000))
    world.run(5.0)
    assert max(len(each) for frame in world.frames() for each in frame.frames) <= CHUNK_BYTES_MAX


@pytest.mark.parametrize(
    "payload",
    [object(), {1, 2}, 2**64, "\ud800", "\ud800" * LARGE_BYTES, memoryview(bytes(200_000))[::2]],
)
def test_a_payload_that_cannot_be_sent_is_refused_and_leaves_nothing(payload: object) -> None:
    world, alpha, _ = opened()
    with pytest.raises(BadPayloadError):
        alpha.call("beta", "t:echo", payload)
    assert alpha.delivery.is_quiet()
    world.run(1.0)
    assert not world.frames(packet.CALL)


def test_a_payload_may_be_fed_bit_by_bit_and_waits_when_the_recipient_does_not_take_it() -> None:
    world, alpha, beta = opened()
    beta.taking = False
    call = alpha.call("beta", "t:echo", Fed(0, None))
    fed = 0
    while alpha.feed(call, bytes(CHUNK_BYTES_MAX)):
        fed += CHUNK_BYTES_MAX
        world.run(0.1)
        assert fed <= STREAM_CREDIT + FED_BYTES_MAX
    fed += CHUNK_BYTES_MAX
    world.run(5.0)
    assert call.writable == 0
    assert alpha.in_flight == 0
    beta.take_all()
    world.run_until(lambda: call.writable == 1)
    alpha.feed(call, b"the end", last=True)
    world.run(5.0)
    assert call.value == bytes(fed) + b"the end"


def test_whoever_feeds_a_payload_is_woken_when_the_call_ends_without_it() -> None:
    world, alpha, beta = opened()
    beta.taking = False
    call = alpha.call("beta", "t:echo", Fed(0, None))
    while alpha.feed(call, bytes(CHUNK_BYTES_MAX)):
        world.run(0.1)
    stream = next(iter(beta._bodies))
    beta.delivery.respond(stream, "not needed", eof=True)
    beta.settle()
    world.run(1.0)
    assert call.value == "not needed"
    assert call.writable == 1


def test_a_response_may_be_fed_bit_by_bit() -> None:
    world, alpha, beta = pair()
    call = alpha.call("beta", "t:fed", 3_000_000)
    world.run(5.0)
    assert call.value == bytes(3_000_000)
    assert beta.in_flight == 0


def test_a_failure_in_the_middle_of_a_body_ends_the_call() -> None:
    world, alpha, _ = pair()
    call = alpha.call("beta", "t:torn", 3_000_000, ttl=None)
    world.run(5.0)
    call.assert_failed(1, may_have_run=True)
    assert call.values == []


def test_a_reader_that_takes_nothing_stops_its_own_sender_at_the_credit_and_nobody_else() -> None:
    world, alpha, beta = opened()
    alpha.taking = False
    slow = alpha.call("beta", "t:items", 100_000, ttl=None)
    world.run(5.0)
    got = len(slow.values)
    assert STREAM_CREDIT / 40 < got <= STREAM_CREDIT / 32
    assert beta.in_flight == 0
    assert alpha.call("beta", "t:echo", "x") is not None
    world.run(0.1)
    assert alpha.calls[-1].value == "x"
    assert len(slow.values) == got
    alpha.take_all()
    world.run(20.0)
    assert slow.values == [*range(100_000), NO_PAYLOAD]


def test_a_reader_that_takes_no_bodies_stops_their_sender_at_the_credit() -> None:
    world, alpha, _ = opened()
    alpha.taking = False
    slow = alpha.call("beta", "t:fed", 3_000_000, ttl=None)
    world.run(5.0)
    assert len(slow.body) == STREAM_CREDIT
    alpha.take_all()
    world.run(5.0)
    assert slow.value == bytes(3_000_000)


def test_many_bodies_and_items_in_both_directions_do_not_block_each_other() -> None:
    world, alpha, beta = pair()
    world.wire = lambda frame: (0.004,) if frame.lane else (DELAY,)
    calls = [alpha.call("beta", "t:mixed", 20) for _ in range(20)]
    calls += [beta.call("alpha", "t:echo", bytes(700_000)) for _ in range(20)]
    calls += [alpha.call("beta", "t:fed", 1_500_000) for _ in range(5)]
    world.run_until(lambda: all(call.ended for call in calls), within=60.0)
    assert all(call.failure is None for call in calls)
    assert alpha.in_flight == 0 or world.run(1.0) is None


def test_a_trace_names_the_relays_also_of_the_very_first_call() -> None:
    world = World("alpha", "beta", over="relay")
    call = world["alpha"].call("beta", "t:echo", 1, trace=True)
    world.run(1.0)
    assert call.value == 1
    assert world["beta"].traces == [["relay"]]


def test_traced_calls_keep_to_the_window_like_any_other() -> None:
    world, alpha, _ = opened()
    world.wire = lambda frame: ()
    calls = [alpha.call("beta", "t:echo", n, trace=True) for n in range(300)]
    assert alpha.in_flight == 256
    world.wire = lambda frame: (DELAY,)
    world.run(10.0)
    assert [call.value for call in calls] == list(range(300))


def test_a_large_traced_payload_is_sent_without_a_trace() -> None:
    world, alpha, _ = opened()
    world.wire = lambda frame: (DELAY,) if frame.lane else (0.1,)  # its body would overtake it
    call = alpha.call("beta", "t:echo", bytes(100_000), trace=True)
    world.run(1.0)
    assert call.value == bytes(100_000)


def test_more_calls_than_a_node_may_have_are_refused_as_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(initiator, "CALLS_MAX", 3)
    world, alpha, _ = pair()
    calls = [alpha.call("beta", "t:echo", n) for n in range(3)]
    with pytest.raises(BusyError) as refused:
        alpha.call("beta", "t:echo")
    assert refused.value.may_have_run is False
    world.run(1.0)
    assert [call.value for call in calls] == [0, 1, 2]
    alpha.call("beta", "t:echo")


def test_a_node_is_quiet_when_no_call_of_its_own_is_under_way() -> None:
    world, alpha, beta = pair()
    assert alpha.delivery.is_quiet()
    alpha.call("beta", "t:echo")
    assert not alpha.delivery.is_quiet()
    world.run(1.0)
    assert alpha.delivery.is_quiet()
    assert beta.delivery.is_quiet()
