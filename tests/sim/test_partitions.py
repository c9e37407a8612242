"""Partitions and their end: each side is sane alone, they merge, and it is quiet again."""

from __future__ import annotations

import pytest

from meshcore.sim import checkers, topology
from meshcore.sim.network import Conditions
from meshcore.sim.world import World

GRID = [
    ("a1", "a2"), ("a2", "a3"), ("a3", "a1"),
    ("b1", "b2"), ("b2", "b3"), ("b3", "b1"),
    ("a1", "b1"), ("b2", "a2"),
]  # fmt: skip
A, B = ("a1", "a2", "a3"), ("b1", "b2", "b3")


def grid(seed: int, conditions: Conditions | None = None) -> World:
    world = World(seed=seed, conditions=conditions, check_every=3)
    world.build(GRID, within=1.0)
    world.run(4.0)
    assert checkers.settled(world) == []
    return world


@pytest.mark.parametrize("seconds", [0.5, 4.0, 9.0, 30.0])
def test_two_sides_go_on_alone_and_merge_again(seconds: float) -> None:
    world = grid(1)
    world.partition(A, B)
    world.run(seconds)
    if seconds > 5.0:
        assert checkers.agreement(world, forgotten=seconds > 20.0) == []
        assert checkers.routes(world) == []
        inside = [world.call("a1", "a3", "test:echo", 1), world.call("b3", "b2", "test:echo", 2)]
        world.run(0.5)
        assert checkers.all_succeeded(inside) == []
    world.heal_all()
    # A dial that hangs in a cut is given up after 3 s, and then the next one comes within 1 s.
    world.run_until(lambda: not checkers.agreement(world), within=5.0)
    calls = world.call_all_pairs()
    world.run(1.0)
    assert checkers.all_succeeded(calls) == []
    world.run(3.0)
    assert checkers.quiet(world) == []
    assert checkers.settled(world) == []


def test_a_cut_in_one_direction_is_a_cut() -> None:
    world = grid(2)
    world.cut("a1", "b1", one_way=True)
    world.cut("b2", "a2", one_way=True)
    world.run(8.0)
    assert checkers.agreement(world) == []
    assert checkers.routes(world) == []
    world.heal_all()
    world.run_until(lambda: not checkers.agreement(world), within=5.0)
    world.run(5.0)
    assert checkers.quiet(world) == []
    assert checkers.settled(world) == []


def test_nodes_that_restart_while_apart_are_known_by_their_new_lives() -> None:
    world = grid(3)
    world.partition(A, B)
    world.run(7.0)
    for name in ("a2", "b1", "b3"):
        world.crash(name)
        world.restart(name)
    world.run(3.0)
    world.heal_all()
    world.run_until(lambda: not checkers.agreement(world), within=5.0)
    world.run(4.0)
    assert checkers.settled(world) == []
    assert checkers.quiet(world) == []


def test_calls_across_a_short_partition_lose_nothing() -> None:
    world = grid(4, Conditions(delay=0.01))
    calls = [world.call(one, other, "test:items", 3000) for one in A for other in B]
    calls += [world.call(other, one, "test:later", 2.0) for one in A for other in B]
    world.run(0.02)
    world.partition(A, B)
    world.run(1.5)
    world.heal_all()
    world.run_until(lambda: not world.ledger.open_calls(), within=6.0)
    assert checkers.all_succeeded(calls) == []
    assert checkers.work(world) == []


def test_a_link_that_flaps_disturbs_nobody_else() -> None:
    world = World(seed=5, check_every=3)
    nodes = topology.names(6)
    world.build([*topology.ring(nodes), ("n00", "n03")])
    world.run(3.0)
    for _ in range(12):
        world.cut("n00", "n01")
        world.run(3.6)
        calls = [world.call("n02", "n04", "test:echo"), world.call("n00", "n01", "test:echo")]
        world.heal("n00", "n01")
        world.run(0.4)
        assert checkers.all_succeeded(calls) == []
    world.run(25.0)  # after a minute the other links tell what they cost
    assert checkers.settled(world) == []
    assert checkers.quiet(world) == []
