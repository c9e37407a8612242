"""Calls on a network that loses, doubles, delays and reroutes: all outcomes are right."""

from __future__ import annotations

import random
from typing import Any
from zlib import crc32

import pytest

from meshcore.sim import checkers, topology
from meshcore.sim.network import Conditions
from meshcore.sim.work import Call, pattern
from meshcore.sim.world import World

BAD = Conditions(delay=0.01, jitter=0.01, packet_loss=0.05, duplication=0.05)


def settled_world(seed: int, edges: topology.Edges, conditions: Conditions | None = None) -> World:
    world = World(seed=seed, check_every=10)
    world.build(edges)
    world.run(3.0)
    world.network.conditions = conditions or Conditions()
    return world


def work_of(world: World, rng: random.Random, count: int) -> list[Call]:
    """Calls of every kind that can succeed, some at the same moment."""
    calls: list[Call] = []
    names = list(world.processes)
    for number in range(count):
        sender, recipient = rng.sample(names, 2)
        kinds: list[tuple[str, Any]] = [
            ("test:echo", f"call {number}"),
            ("test:items", rng.choice([0, 1, 30, 700])),
            ("test:later", rng.uniform(0.0, 1.0)),
            ("test:large", rng.choice([70_000, 400_000])),
            ("test:size", pattern(rng.choice([10, 70_000, 300_000]))),
        ]
        directive, payload = rng.choice(kinds)
        calls.append(world.call(sender, recipient, directive, payload, ttl=30.0))
        if rng.random() < 0.5:
            world.run(rng.uniform(0.0, 0.05))
    return calls


def wrong(world: World, calls: list[Call]) -> list[str]:
    world.run_until(lambda: not world.ledger.open_calls(), within=31.0)
    world.run(1.0)
    return [
        *checkers.all_succeeded(calls),
        *checkers.work(world),
        *checkers.ended(world),
        *checkers.bounds(world),
    ]


@pytest.mark.parametrize("seed", range(6))
def test_loss_and_duplication_cost_nothing_but_time(seed: int) -> None:
    rng = random.Random(seed)
    world = settled_world(seed, topology.chain(topology.names(4)), BAD)
    calls = work_of(world, rng, 60)
    assert wrong(world, calls) == []
    assert world.network.sent["lost"] > 10
    assert world.network.sent["doubled"] > 10


@pytest.mark.parametrize("seed", range(4))
def test_slow_links_with_long_delays_lose_nothing(seed: int) -> None:
    slow = Conditions(delay=0.3, jitter=0.05, bytes_per_second=2_000_000.0, packet_loss=0.01)
    world = settled_world(seed, topology.ring(topology.names(4)), slow)
    calls = work_of(world, random.Random(seed), 40)
    assert wrong(world, calls) == []


@pytest.mark.parametrize("seed", range(6))
def test_calls_go_on_over_another_way_when_a_link_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    nodes = topology.names(6)
    world = settled_world(seed, [*topology.ring(nodes), (nodes[0], nodes[3])], BAD)
    calls: list[Call] = []
    for _ in range(4):
        one, other = rng.choice(topology.ring(nodes))
        calls += work_of(world, rng, 15)
        world.cut(one, other, one_way=rng.random() < 0.5)
        calls += work_of(world, rng, 15)
        world.run(rng.uniform(0.2, 5.0))
        world.heal(one, other)
        world.run(4.0)
    assert wrong(world, calls) == []


def test_a_call_on_a_lost_link_goes_on_as_soon_as_the_loss_is_known() -> None:
    world = settled_world(1, [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")])
    stream = world.call("a", "c", "test:items", 50_000)
    world.run(0.01)
    way = world.node("a").mesh.routing.graph.next_hop("c")
    assert way is not None
    assert not stream.ended
    world.crash(way)
    world.run_until(lambda: stream.ended, within=5.0)
    assert stream.succeeded
    assert checkers.work(world) == []


def test_large_payloads_arrive_whole_over_three_lossy_hops() -> None:
    world = settled_world(2, topology.chain(topology.names(4)), BAD)
    data = pattern(3_000_000)
    up = world.call("n00", "n03", "test:size", data)
    down = world.call("n03", "n00", "test:large", 3_000_000)
    assert wrong(world, [up, down]) == []
    assert up.values == [[len(data), crc32(data)]]
    assert down.values == [data]


def test_small_calls_are_not_held_up_by_a_large_one_beside_them() -> None:
    narrow = Conditions(delay=0.005, bytes_per_second=2_000_000.0)
    world = settled_world(8, topology.chain(topology.names(3)), narrow)
    large = world.call("n00", "n02", "test:large", 4_000_000)
    times = []
    while not large.ended:
        small = world.call("n00", "n02", "test:echo")
        times.append(world.run_until(lambda call=small: call.ended, within=1.0))
    assert large.succeeded
    assert len(times) > 20
    assert max(times) < 0.1


def test_a_deadline_ends_the_call_and_the_work() -> None:
    world = settled_world(3, topology.chain(topology.names(3)))
    call = world.call("n00", "n02", "test:hang", ttl=1.0)
    took = world.run_until(lambda: call.ended, within=2.0)
    assert call.code == 7
    assert 1.0 <= took < 1.3
    world.run(0.5)
    assert not world.node("n02").work.active


def test_a_cancelled_call_ends_at_once_and_so_does_the_work() -> None:
    world = settled_world(4, topology.chain(topology.names(3)))
    call = world.call("n00", "n02", "test:hang")
    world.run_until(lambda: world.node("n02").work.active, within=1.0)
    world.node("n00").work.cancel(call)
    assert (call.ended, call.code) == (1, 6)
    world.run_until(lambda: not world.node("n02").work.active, within=0.1)
    assert checkers.work(world) == []


def test_a_failure_comes_back_as_one() -> None:
    world = settled_world(5, topology.chain(topology.names(3)), BAD)
    calls = [world.call("n00", "n02", "test:fail") for _ in range(20)]
    world.run_until(lambda: not world.ledger.open_calls(), within=10.0)
    assert [(call.code, call.text) for call in calls] == [(1, "as wished")] * 20
    assert checkers.work(world) == []


def test_a_burst_of_calls_travels_together_and_none_is_lost() -> None:
    world = settled_world(6, topology.chain(topology.names(3)), BAD)
    sender = world.node("n00")
    calls = [sender.work.call("n02", "test:echo", number) for number in range(3000)]
    before = world.network.sent["frames"]
    sender.flush()
    assert world.network.sent["frames"] - before < 100
    assert wrong(world, calls) == []


def test_a_node_may_call_itself_while_it_has_no_link() -> None:
    world = World(seed=7)
    world.add("alone")
    calls = [
        world.call("alone", "alone", "test:items", 600),
        world.call("alone", "alone", "test:fail"),
    ]
    world.run(1.0)
    assert calls[0].succeeded
    assert calls[1].code == 1
    assert checkers.work(world) == []
