"""When acknowledgements leave, what is sent again and when, and what stands on the clock."""

from __future__ import annotations

import itertools

import pytest

from meshcore.protocol.delivery import responder as responding
from meshcore.protocol.delivery.switchboard import ACK_DELAY
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX
from tests.unit.protocol.delivery_world import DELAY, End, Frame, World, opened, pair


def bare_acks(world: World, source: str) -> list[float]:
    """When an end sent packets that carry nothing but acknowledgements."""
    return [at for at, frame in world.sent if frame.source == source and frame.number == 0]


def test_an_ack_waits_for_data_to_ride_on() -> None:
    world, alpha, _ = opened()
    alpha.call("beta", "t:echo", 1)
    world.run(DELAY * 3)
    answer = world.frames(packet.RESULT)[0]
    assert answer.part[2] == 2
    world.run(ACK_DELAY / 2)
    assert bare_acks(world, "beta") == []


def test_an_ack_with_nothing_to_ride_on_leaves_after_20_ms() -> None:
    world, alpha, beta = opened()
    alpha.call("beta", "t:later")
    start = world.now
    world.run(1.0)
    assert bare_acks(world, "beta") == [pytest.approx(start + DELAY + ACK_DELAY)]
    assert alpha.in_flight == beta.in_flight == 0


def test_one_ack_stands_for_all_packets_of_20_ms() -> None:
    world, alpha, _ = opened()
    for _ in range(10):
        alpha.call("beta", "t:later")
        world.run(0.001)
    world.run(1.0)
    assert len(bare_acks(world, "beta")) == 1


def test_an_ack_leaves_at_once_when_a_quarter_of_the_window_came_in() -> None:
    world, alpha, beta = opened()
    beta.taking = False
    start = world.now
    alpha.call("beta", "t:echo", bytes(2 * CHUNK_BYTES_MAX))
    world.run(2 * DELAY)
    assert bare_acks(world, "beta")[0] == pytest.approx(start + DELAY)
    world.run(1.0)


def test_a_packet_beyond_a_hole_is_acknowledged_at_once_and_a_hole_alone_is_not_repeated() -> None:
    world, alpha, _ = opened()
    world.wire = lambda frame: () if frame.has(packet.CALL) and frame.number == 2 else (DELAY,)
    for _ in range(2):
        alpha.call("beta", "t:later")
    start = world.now
    world.run(0.1)
    assert bare_acks(world, "beta") == [pytest.approx(start + DELAY)]


def test_a_duplicate_is_acknowledged_at_once_for_the_first_ack_was_lost() -> None:
    world, alpha, _ = opened()
    alpha.call("beta", "t:later")
    world.wire = lambda frame: () if frame.source == "beta" else (DELAY,)
    world.run(0.2)
    world.wire = lambda frame: (DELAY,)
    world.sent.clear()
    world.run_until(lambda: bool(world.frames(packet.CALL)))
    resent_at = world.now
    world.run_until(lambda: alpha.in_flight == 0)
    assert world.now - resent_at == pytest.approx(2 * DELAY)


def test_a_lost_packet_comes_again_after_the_timeout() -> None:
    world, alpha, beta = opened()
    lost: list[Frame] = []

    def wire(frame: Frame) -> tuple[float, ...]:
        if frame.has(packet.CALL) and not lost:
            lost.append(frame)
            return ()
        return (DELAY,)

    world.wire = wire
    call = alpha.call("beta", "t:echo", 1)
    assert 0.2 < world.run_until(lambda: call.ended == 1) < 0.35
    assert alpha.counts["resent: timeout"] == 1
    assert sorted(beta.ran.values()) == [1, 1]


def test_a_lost_packet_comes_again_at_once_when_three_newer_ones_are_acknowledged() -> None:
    world, alpha, _ = opened()
    world.wire = lambda frame: () if world.frames(packet.CALL)[0] is frame else (DELAY,)
    calls = []
    for n in range(4):
        calls.append(alpha.call("beta", "t:echo", n))
        world.run(0.002)
    assert world.run_until(lambda: all(call.ended for call in calls)) < 0.02
    assert alpha.counts["resent: lost"] == 1


def test_the_back_off_reaches_one_second_and_ends_with_the_first_ack() -> None:
    world, alpha, _ = opened()
    world.wire = lambda frame: ()
    call = alpha.call("beta", "t:echo", 1)
    world.run(10.0)
    times = [at for at, frame in world.sent if frame.has(packet.CALL)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] < 0.3
    assert gaps[-1] == pytest.approx(1.0)
    world.wire = lambda frame: (DELAY,)
    world.run_until(lambda: call.ended == 1, within=1.1)
    assert alpha.delivery._board.by_key
    assert all(
        lane.backoff == 1.0
        for channel in alpha.delivery._board.by_key.values()
        for lane in channel.lanes
    )


def test_on_a_new_path_the_oldest_packet_goes_again_at_once() -> None:
    world = World("alpha", "beta", over="relay")
    alpha = world["alpha"]
    alpha.call("beta", "t:echo", 0)
    world.run(0.5)
    world.wire = lambda frame: () if "relay" in (frame.source, frame.target) else (DELAY,)
    calls = [alpha.call("beta", "t:echo", n) for n in range(50)]
    world.run(0.01)
    world["beta"].route("alpha", "alpha")
    alpha.route("beta", "beta")
    assert world.run_until(lambda: all(call.ended for call in calls)) < 0.05
    assert [call.value for call in calls] == list(range(50))
    assert set(world["beta"].ran.values()) == {1}


def test_without_a_route_nothing_is_resent_and_the_back_off_does_not_grow() -> None:
    world, alpha, _ = opened()
    world.wire = lambda frame: ()
    call = alpha.call("beta", "t:echo", 1, ttl=None)
    alpha.route("beta", None)
    sent = len(world.sent)
    ticks, until = 0, world.now + 20.0
    while world.step(until):
        ticks += 1
    assert ticks <= 25
    assert len(world.sent) == sent
    world.wire = lambda frame: (DELAY,)
    alpha.route("beta", "beta")
    assert world.run_until(lambda: call.ended == 1) < 0.01


def test_a_full_relay_slows_the_sender_whose_packet_it_dropped() -> None:
    world = World("alpha", "beta", over="relay")
    alpha, relay = world["alpha"], world["relay"]
    alpha.call("beta", "t:echo", 0)
    world.run(0.5)
    channel = next(iter(alpha.delivery._board.by_key.values()))
    before = channel.lanes[0].window
    frame = world.frames(packet.CALL, "alpha")[0]
    relay.forwarding.on_full(frame.frames[0], world.now)
    relay.settle()
    world.run(0.1)
    assert channel.lanes[0].window == before // 2
    assert alpha.counts["hint: relay full"] == 1


def test_a_full_link_slows_its_own_sender() -> None:
    world, alpha, _ = opened()
    channel = next(iter(alpha.delivery._board.by_key.values()))
    before = channel.lanes[0].window
    alpha.call("beta", "t:echo", 1)
    alpha.delivery.on_link_full(world.frames(packet.CALL)[0].key)
    assert channel.lanes[0].window == before // 2


# -- timers and forgetting ------------------------------------------------------------------------


def test_after_the_last_ack_only_the_timers_of_idle_channels_stand() -> None:
    world, alpha, beta = opened()
    for end in (alpha, beta):
        end.delivery.on_tick(world.now)
        deadline = end.delivery.next_deadline()
        assert deadline is not None
        assert deadline > world.now + 20.0


def test_idle_channels_are_forgotten_at_both_ends_and_calls_after_that_run_once() -> None:
    world, alpha, beta = opened()
    world.run(700.0)
    assert not alpha.delivery._board.by_key
    assert not beta.delivery._board.by_key
    assert alpha.delivery.next_deadline() is None
    assert beta.delivery.next_deadline() is None
    assert not world.sent
    call = alpha.call("beta", "t:echo", 1)
    world.run(1.0)
    assert call.value == 1
    assert sorted(beta.ran.values()) == [1, 1]


def test_a_channel_in_use_is_not_forgotten() -> None:
    world, alpha, beta = opened()
    call = alpha.call("beta", "t:later", ttl=None)
    world.run(2000.0)
    assert not call.ended
    beta.answer()
    world.run(1.0)
    assert call.value == "late"


def test_the_recipient_forgets_the_longest_idle_channels_when_others_need_the_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responding, "CHANNELS_MAX", 3)
    monkeypatch.setattr(responding, "CHANNELS_EVICTED", 1)
    world = World("beta", "a", "b", "c", "d")
    callers = [world[name] for name in "abcd"]
    busy = callers[0].call("beta", "t:later")
    world.run(0.1)
    calls = []
    for _ in range(2):
        for n, caller in enumerate(callers):
            calls.append(caller.call("beta", "t:echo", n))
            world.run(1.0)
    assert [call.value for call in calls] == [0, 1, 2, 3] * 2
    assert set(world["beta"].ran.values()) == {1}
    assert world["beta"].delivery.stats()["channels"] == 3
    world["beta"].answer()
    world.run(1.0)
    assert busy.value == "late"


def test_the_channel_used_last_is_the_last_to_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responding, "CHANNELS_MAX", 3)
    monkeypatch.setattr(responding, "CHANNELS_EVICTED", 1)
    world = World("beta", "a", "b", "c", "d")
    for name in "abcabd":
        world[name].call("beta", "t:echo")
        world.run(1.0)
    channels = world["beta"].delivery._responder._channels
    assert sorted(address for address, _ in channels) == ["a", "b", "d"]


def test_a_recipient_full_of_busy_channels_opens_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responding, "CHANNELS_MAX", 1)
    world = World("beta", "a", "b")
    world["a"].call("beta", "t:later")
    world.run(0.5)
    late = world["b"].call("beta", "t:echo", 1, ttl=None)
    world.run(2.0)
    assert not late.ended
    assert world["beta"].counts["too many channels"] > 0
    world["beta"].answer()
    world.run(3.0)
    assert late.value == 1


def timers_of(end: End) -> int:
    timers = end.delivery._board.timers
    return max(len(timers._at), len(timers._heap))


def test_channels_that_come_and_go_leave_nothing_on_the_clock() -> None:
    world, _, beta = pair()
    for life in range(1, 2000):
        key = packet.make_key(packet.FROM_INITIATOR, "alpha", life, "beta", beta.life)
        init = packet.pack([0, 0, None, [packet.INIT, life.to_bytes(16, "big")]])
        beta.on_frames([packet.make_head(packet.PACKET, 0, key) + init])
        beta.delivery.on_peer("alpha", life, reachable=True, dead="", now=world.now)
    assert beta.delivery.stats()["channels"] <= 2
    assert timers_of(beta) < 100
