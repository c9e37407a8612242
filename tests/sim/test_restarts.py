"""Crashes and restarts of every part of a way, with calls in flight: outcomes and how soon."""

from __future__ import annotations

import random

import pytest

from meshcore.errors import Code
from meshcore.protocol.view import NodeStatus
from meshcore.sim import checkers, topology
from meshcore.sim.network import Conditions
from meshcore.sim.work import Call
from meshcore.sim.world import World

DIAMOND = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "leaf")]


def diamond(seed: int = 1) -> World:
    world = World(seed=seed, check_every=3)
    world.build(DIAMOND)
    world.run(3.0)
    return world


def hanging(world: World, sender: str, recipient: str, *, ttl: float | None = 30.0) -> Call:
    """A call whose action runs and does not answer."""
    call = world.call(sender, recipient, "test:hang", ttl=ttl)
    world.run_until(lambda: call.message_id in world.ledger.executions, within=1.0)
    return call


def settle(world: World) -> list[str]:
    world.run(5.0)
    calls = world.call_all_pairs()
    world.run(1.0)
    return [*checkers.all_succeeded(calls), *checkers.settled(world)]


@pytest.mark.parametrize("victim", ["leaf", "d", "b"])
def test_a_killed_recipient_is_lost_within_a_second_everywhere(victim: str) -> None:
    world = diamond()
    calls = [
        hanging(world, name, victim) for name in ("a", "b", "c", "d", "leaf") if name != victim
    ]
    world.crash(victim)
    world.run(1.0)
    for call in calls:
        assert (call.code, call.may_have_run) == (Code.PEER_LOST, True), str(call)
    later = world.call("a", victim, "test:echo")
    assert (later.code, later.may_have_run) == (Code.UNREACHABLE, False)
    world.restart(victim)
    assert settle(world) == []


@pytest.mark.parametrize("relay", ["b", "c", "d"])
def test_calls_over_a_killed_relay_go_on_or_are_held_until_it_is_back(relay: str) -> None:
    world = diamond()
    calls = [
        world.call("a", "leaf", "test:items", 20_000),
        world.call("leaf", "a", "test:later", 1.0),
    ]
    world.run(0.005)
    world.crash(relay)
    world.run(0.8)
    world.restart(relay)
    world.run_until(lambda: not world.ledger.open_calls(), within=4.0)
    assert checkers.all_succeeded(calls) == []
    assert settle(world) == []


def test_a_call_to_somebody_out_of_reach_is_held_and_sent_when_a_way_is_back() -> None:
    world = diamond()
    world.cut("d", "leaf")
    world.run_until(lambda: not checkers.agreement(world), within=6.0)
    held = world.call("a", "leaf", "test:echo", "held", ttl=20.0)
    world.run(0.5)
    if held.ended:  # it was DEAD already
        assert (held.code, held.may_have_run) == (Code.UNREACHABLE, False)
    world.heal("d", "leaf")
    assert settle(world) == []


def test_a_silent_recipient_is_lost_when_it_is_dead_not_before() -> None:
    world = diamond()
    call = hanging(world, "a", "leaf")
    world.crash("leaf", silent=True)
    world.run(2.0)
    assert not call.ended
    world.run_until(lambda: call.ended, within=6.0)
    assert (call.code, call.may_have_run) == (Code.PEER_LOST, True)
    world.restart("leaf")
    assert settle(world) == []


def test_work_for_somebody_unreachable_goes_on_until_its_deadline() -> None:
    """Nobody who was linked to the recipient can be asked: it may well be alive."""
    world = World(seed=4, check_every=3)
    world.build(topology.chain(["a", "b", "c", "d"]))
    world.run(3.0)
    short = hanging(world, "a", "d", ttl=7.0)
    long = hanging(world, "a", "d", ttl=60.0)
    world.cut("b", "c")
    took = world.run_until(lambda: short.ended, within=8.0)
    assert took > 6.0
    assert (short.code, short.may_have_run) == (Code.DEADLINE, True)
    world.run(2.0)
    refused = world.call("a", "d", "test:echo")
    assert (refused.code, refused.may_have_run) == (Code.UNREACHABLE, False)
    world.run_until(lambda: long.ended, within=10.0)  # it is removed
    assert (long.code, long.may_have_run) == (Code.PEER_LOST, True)
    world.heal("b", "c")
    assert settle(world) == []
    world.run(60.0)
    assert checkers.ended(world) == []


def test_work_without_a_deadline_ends_when_its_recipient_is_removed() -> None:
    world = World(seed=5, check_every=3)
    world.build(topology.chain(["a", "b", "c"]))
    world.run(3.0)
    call = hanging(world, "a", "c", ttl=None)
    world.crash("b", silent=True)
    world.run_until(lambda: call.ended, within=16.0)
    assert (call.code, call.may_have_run) == (Code.PEER_LOST, True)


@pytest.mark.parametrize("keep_data", [True, False])
def test_a_recipient_that_is_back_before_it_was_missed_loses_what_it_worked_at(
    keep_data: bool,
) -> None:
    world = diamond()
    calls = [hanging(world, name, "leaf") for name in ("a", "d")]
    world.crash("leaf")
    world.restart("leaf", keep_data=keep_data)
    world.run_until(lambda: not checkers.agreement(world), within=2.0)
    world.run(0.3)
    assert [(call.code, call.may_have_run) for call in calls] == [(Code.PEER_LOST, True)] * 2
    again = world.call("a", "leaf", "test:echo", "new life")
    world.run(0.5)
    assert again.succeeded
    assert settle(world) == []


@pytest.mark.parametrize("silent", [False, True])
def test_the_work_of_a_sender_that_dies_is_cancelled(silent: bool) -> None:
    world = diamond()
    call = hanging(world, "leaf", "a", ttl=100.0)
    beside = hanging(world, "b", "a", ttl=100.0)
    world.crash("leaf", silent=silent)
    within = 8.0 if silent else 1.0
    world.run_until(lambda: len(world.node("a").work.active) == 1, within=within)
    assert call.is_void
    assert not beside.ended
    world.restart("leaf")
    assert settle(world) == []


@pytest.mark.parametrize("name", ["leaf", "b", "d", "a"])
def test_ten_restarts_in_a_row_leave_every_other_call_alone(name: str) -> None:
    world = diamond(seed=6)
    others = [n for n in ("a", "b", "c", "d", "leaf") if n != name]
    if name == "d":
        others.remove("leaf")  # d is its only way
    rng = random.Random(name)
    calls: list[Call] = []
    for _ in range(10):
        world.run(rng.uniform(0.05, 1.5))
        for sender in others:
            for recipient in others:
                calls.append(world.call(sender, recipient, "test:later", rng.uniform(0.0, 1.0)))
        world.crash(name)
        world.run(rng.choice([0.0, 0.1, 1.0]))
        world.restart(name)
        back = world.run_until(lambda: not checkers.agreement(world), within=2.0)
        assert back < 2.0
    world.run(3.0)
    assert checkers.all_succeeded(calls) == []
    assert settle(world) == []
    assert checkers.quiet(world) == []


def test_lost_data_and_a_clock_set_back_are_found_out_and_outbid() -> None:
    world = diamond(seed=7)
    old = world.node("leaf").incarnation
    world.crash("leaf")
    world.run(1.0)
    world.restart("leaf", keep_data=False, clock_back=True)
    world.run_until(lambda: not checkers.agreement(world), within=3.0)
    assert world.node("leaf").incarnation > old
    assert settle(world) == []


def test_a_life_that_was_known_by_its_link_alone_is_outbid_too() -> None:
    """Its neighbour never got a record of it, but took its next life, of a smaller incarnation."""
    world = World(seed=11, conditions=Conditions(delay=0.05))
    world.build([("a", "b")])
    a = world.node("a").mesh
    world.run_until(lambda: a.roster.get("b") is not None, within=1.0)
    assert a.database.link_state("b") is None
    world.crash("b")
    world.run(0.2)
    world.restart("b", keep_data=False, clock_back=True)
    world.run(15.0)
    assert checkers.settled(world) == []


def outbid(world: World) -> None:
    """Let b come back with a small number at a, which has forgotten what c still remembers."""
    world.build([("a", "b"), ("a", "c")])
    world.run(2.0)
    world.stop("b")
    world.run(1.0)
    world.crash("a")
    world.restart("a")
    world.run(2.0)
    world.restart("b", keep_data=False, clock_back=True)
    world.run(3.0)
    assert world.node("b").incarnation > 1


def test_the_last_word_of_an_older_life_does_not_end_a_newer_one() -> None:
    world = World(seed=12)
    outbid(world)
    assert checkers.settled(world) == []


def test_a_neighbour_that_took_a_greater_incarnation_is_still_watched() -> None:
    world = World(seed=13)
    outbid(world)
    told = len(world.node("a").events)
    world.pause("b", 1.45)
    world.run(1.4)
    assert world.node("a").mesh.roster.get("b").status is NodeStatus.SLOW
    world.run(1.0)
    assert world.node("a").mesh.roster.get("b").status is NodeStatus.ALIVE
    names = [type(event).__name__ for event in world.node("a").events[told:]]
    assert names.count("StatusChanged") == 2
    assert "Restarted" not in names


def test_a_second_process_of_the_same_id_is_refused_and_the_first_goes_on() -> None:
    world = diamond(seed=8)
    first = world.node("leaf")
    twin = world.twin("leaf", peer="a")
    world.run(2.0)
    assert not twin.is_alive
    assert twin.fatal
    assert first.is_alive
    assert not first.fatal
    assert settle(world) == []


def test_every_node_may_crash_at_the_same_moment() -> None:
    world = diamond(seed=9)
    world.call_all_pairs("test:hang")
    for name in list(world.processes):
        world.crash(name)
    for name in list(world.processes):
        world.restart(name)
    world.run_until(lambda: not checkers.agreement(world), within=3.0)
    assert settle(world) == []
    assert checkers.ended(world) == []


def test_a_short_pause_ages_nobody_and_a_long_one_loses_no_call() -> None:
    world = diamond(seed=10)
    call = world.call("a", "leaf", "test:later", 0.5, ttl=60.0)
    world.pause("leaf", 0.9)
    world.run(2.0)
    assert call.succeeded
    dead = [e for p in world.alive() for e in p.events if type(e).__name__ == "Removed"]
    assert not dead
    slow = Conditions(delay=0.005)
    world.network.conditions = slow
    world.pause("a", 20.0)
    world.run(25.0)
    assert settle(world) == []


def test_the_last_word_of_a_node_that_leaves_is_its_last() -> None:
    """What changes of its links while it waits for an answer must not unsay that it leaves."""
    world = World(seed=21, check_every=3)
    world.build([("a", "b"), ("b", "c")])
    world.run(3.0)
    a = world.node("a")
    world.stop("a")
    a.input(a.mesh.set_forced, True)
    record = a.mesh.database.link_state("a")
    assert record is not None
    assert record.left
    world.run(1.0)
    for name in ("b", "c"):
        assert "a" not in world.node(name).mesh.roster
