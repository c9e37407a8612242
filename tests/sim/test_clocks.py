"""Clocks that are apart, jump or run wrong, and loops that are slow: nobody is taken for dead."""

from __future__ import annotations

import pytest

from meshcore.protocol.membership.events import Added, Removed, Restarted, StatusChanged
from meshcore.protocol.view import NodeStatus
from meshcore.sim import checkers, topology
from meshcore.sim.world import World


def skewed(seed: int) -> World:
    world = World(seed, check_every=20, rates_apart=0.01, walls_apart=3600.0)
    world.build([*topology.ring(topology.names(6)), ("n00", "n03")], within=1.0)
    world.run_until(lambda: not checkers.agreement(world), within=5.0)
    world.run(3.0)
    return world


def steps_since(world: World, told: dict[str, int]) -> list[object]:
    kinds = (Added, Removed, Restarted, StatusChanged)
    return [
        event
        for process in world.alive()
        for event in process.events[told[process.name] :]
        if isinstance(event, kinds)
    ]


def told(world: World) -> dict[str, int]:
    return {process.name: len(process.events) for process in world.alive()}


@pytest.mark.parametrize("seed", range(3))
def test_clocks_apart_that_jump_and_run_wrong_change_no_status_and_no_master(seed: int) -> None:
    world = skewed(seed)
    walls = [process.wall() for process in world.alive()]
    assert max(walls) - min(walls) > 600.0, "the clocks are not apart"
    before, masters = told(world), [process.mesh.master for process in world.alive()]
    for number, name in enumerate(topology.names(6)):
        world.jump(name, 3600.0 if number % 2 else -3600.0)
        world.run(4.0)
        world.set_rate(name, 1.01 if number % 2 else 0.99)
        world.run(4.0)
    world.run(20.0)
    assert steps_since(world, before) == []
    assert [process.mesh.master for process in world.alive()] == masters
    assert checkers.settled(world) == []


def test_a_restart_with_a_clock_an_hour_back_is_known_by_its_new_life() -> None:
    world = skewed(5)
    for keep_data in (True, False):
        world.crash("n02")
        world.jump("n02", -3600.0)
        world.run(1.0)
        world.restart("n02", keep_data=keep_data)
        world.run_until(lambda: not checkers.agreement(world), within=5.0)
    world.run(5.0)
    assert checkers.settled(world) == []


def test_a_loop_that_is_stuck_for_four_seconds_is_stalled_and_not_dead() -> None:
    world = World(7, check_every=5)
    world.build([("a", "b"), ("b", "c"), ("c", "a")])
    world.run(3.0)
    world.slow_down("b", 4.4, 0.1)
    world.run(4.2)
    assert world.node("a").wires, "its connections live on"
    entry = world.node("a").mesh.roster.get("b")
    assert entry is not None
    assert (entry.status, entry.stalled) == (NodeStatus.WARNING, True)
    world.run(3.0)
    dead = [
        event
        for process in world.alive()
        for event in process.events
        if isinstance(event, StatusChanged) and event.new is NodeStatus.DEAD
    ]
    assert dead == [], "nor does it take the others for dead on waking"
    assert checkers.settled(world) == []


def test_what_waits_for_a_busy_loop_is_bounded() -> None:
    world = World(8)
    world.build([("a", "b")])
    world.run(1.0)
    world.slow_down("b", 5.0, 1.0)
    a, b = world.node("a"), world.node("b")
    link = next(iter(a.wires))
    sent = []
    for _ in range(6):
        world.network.send(a, link, 1, [bytes((1, 32, 32, 0)) + bytes(1_000_000)])
        world.run(0.01)
        sent.append(b.waiting_bytes)
    assert 3_000_000 < max(sent) <= 4 * 1024 * 1024
    for _ in range(1500):
        world.network.publish(a, bytes((1, 5, 0)))
    world.run(0.1)
    assert b.counters["published message dropped by a full queue"] > 400
    world.run(6.0)
    assert b.waiting_bytes == 0


def test_a_link_may_have_conditions_of_its_own() -> None:
    world = World(9)
    world.build([("a", "b"), ("b", "c")])
    world.run(2.0)
    slow = world.network.conditions.__class__(delay=0.4)
    world.set_conditions("b", "c", slow)
    near, far = world.call("a", "b", "test:echo"), world.call("b", "c", "test:echo")
    assert world.run_until(lambda: near.ended, within=1.0) < 0.1
    assert world.run_until(lambda: far.ended, within=5.0) > 0.35
    world.set_conditions("b", "c", None)
    world.run(1.0)
    again = world.call("b", "c", "test:echo")
    assert world.run_until(lambda: again.ended, within=1.0) < 0.1
