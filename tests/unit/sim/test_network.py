"""What the simulated network does to frames, by what is seen at the other end of one link."""

from __future__ import annotations

from meshcore.sim.network import HEARTBEAT_MAX, HEARTBEAT_MIN, Conditions
from meshcore.sim.process import Process
from meshcore.sim.world import World


def linked(seed: int = 1, conditions: Conditions | None = None) -> World:
    world = World(seed=seed, conditions=conditions)
    world.build([("a", "b")])
    world.run(1.0)
    assert world.node("a").wires
    return world


def link_of(process: Process) -> int:
    return next(iter(process.wires))


def spied(process: Process) -> list[tuple[int, bytes]]:
    """What arrives at a process from now on: (lane, frame); its core sees nothing of it."""
    arrived: list[tuple[int, bytes]] = []
    process.on_frames = lambda link, lane, frames: arrived.append((lane, frames[0]))  # type: ignore[method-assign]
    return arrived


def packet(number: int) -> bytes:
    return bytes((1, 32, 32, 0)) + number.to_bytes(2, "big")


def test_each_lane_keeps_its_order_and_loses_nothing() -> None:
    world = linked(conditions=Conditions(delay=0.01, jitter=0.05))
    arrived = spied(world.node("b"))
    for number in range(50):
        world.network.send(world.node("a"), link_of(world.node("a")), number % 2, [packet(number)])
    world.run(0.2)
    for lane in (0, 1):
        sent = [packet(number) for number in range(50) if number % 2 == lane]
        assert [frame for at, frame in arrived if at == lane and frame[1] == 32] == sent


def test_packets_are_lost_and_doubled_in_their_share_and_control_messages_never() -> None:
    world = linked()
    world.network.conditions = Conditions(packet_loss=0.2, duplication=0.2)
    arrived = spied(world.node("b"))
    link = link_of(world.node("a"))
    for number in range(1000):
        world.network.send(world.node("a"), link, 0, [packet(number)])
        world.network.send(world.node("a"), link, 0, [bytes((1, 11, 0))])
    world.run(0.45)
    packets = [frame for _, frame in arrived if frame[1] == 32]
    assert 700 < len(set(packets)) < 900
    assert len(packets) - len(set(packets)) > 100
    assert sum(frame[1] == 11 for _, frame in arrived) == 1000


def test_what_is_sent_behind_a_short_cut_arrives_after_it_in_order() -> None:
    world = linked()
    arrived = spied(world.node("b"))
    link = link_of(world.node("a"))
    world.cut("a", "b")
    for number in range(5):
        world.network.send(world.node("a"), link, 0, [packet(number)])
    world.run(1.0)
    assert not arrived
    world.heal("a", "b")
    world.run(0.1)
    assert [frame for _, frame in arrived if frame[1] == 32] == [packet(n) for n in range(5)]


def test_a_queue_behind_a_cut_is_bounded() -> None:
    world = linked()
    world.cut("a", "b")
    process = world.node("a")
    sent = [
        world.network.send(process, link_of(process), 1, [packet(number) + bytes(1_000_000)])
        for number in range(6)
    ]
    assert sent == [True, True, True, True, False, False]


def test_a_cut_link_ends_by_missed_heartbeats_at_each_end() -> None:
    for one_way in (False, True):
        world = linked()
        world.cut("a", "b", one_way=one_way)
        world.run(HEARTBEAT_MIN - 0.01)
        assert world.node("a").wires
        assert world.node("b").wires
        world.run(HEARTBEAT_MAX - HEARTBEAT_MIN + 0.02)
        assert not world.node("a").wires
        assert not world.node("b").wires


def test_a_killed_process_closes_its_links_and_refuses_and_a_silent_host_does_neither() -> None:
    world = linked()
    world.crash("b")
    world.run(0.01)
    assert not world.node("a").wires
    assert world.network.refuses("a", "tcp://b:1") is True
    world = linked()
    world.crash("b", silent=True)
    world.run(1.0)
    assert world.node("a").wires
    assert world.network.refuses("a", "tcp://b:1") is None
    world.run(3.0)
    assert not world.node("a").wires


def test_a_host_that_is_back_resets_the_links_of_its_old_life() -> None:
    world = linked()
    world.crash("b", silent=True)
    world.run(0.2)
    old = world.node("a").wires.copy()
    world.restart("b")
    world.run(0.6)
    assert not set(old.values()) & set(world.node("a").wires.values())


def test_a_paused_process_reads_later_what_came_meanwhile() -> None:
    world = linked()
    call = world.call("a", "b", "test:echo")
    world.pause("b", 1.0)
    world.run(0.9)
    assert not call.ended
    world.run(0.3)
    assert call.succeeded


def test_bandwidth_delays_what_is_large() -> None:
    world = linked()
    world.network.conditions = Conditions(bytes_per_second=1_000_000.0)
    arrived = spied(world.node("b"))
    process = world.node("a")
    world.network.send(process, link_of(process), 1, [packet(1) + bytes(500_000)])
    world.network.send(process, link_of(process), 0, [packet(2)])
    world.run(0.4)
    assert (1, packet(1) + bytes(500_000)) not in arrived
    assert (0, packet(2)) in arrived, "the lanes do not wait for each other"
    world.run(0.2)
    assert (1, packet(1) + bytes(500_000)) in arrived


def test_the_closing_end_is_heard_after_what_it_has_sent() -> None:
    world = linked(conditions=Conditions(delay=0.05))
    order: list[str] = []
    receiver = world.node("b")
    receiver.on_frames = lambda link, lane, frames: order.append("frame")  # type: ignore[method-assign]
    receiver.on_closed = lambda link, reason: order.append(reason)  # type: ignore[method-assign]
    process = world.node("a")
    link = link_of(process)
    world.network.send(process, link, 1, [packet(1)])
    world.network.close(process, link)
    assert not world.network.send(process, link, 0, [packet(2)])
    world.run(0.2)
    assert order[-2:] == ["frame", "closed by the other side"]
