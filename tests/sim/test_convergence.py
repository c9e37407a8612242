"""Meshes of any shape, started in any order and dialled from any end, agree and go quiet."""

from __future__ import annotations

import random

import pytest

from meshcore.sim import checkers, topology
from meshcore.sim.network import Conditions
from meshcore.sim.world import World

SIZES = {"chain": (3, 12), "ring": (3, 16), "star": (3, 30), "tree": (7, 31), "full": (3, 10)}
CASES = [(kind, size) for kind, sizes in SIZES.items() for size in sizes]
CASES += [("random", 12), ("random", 40)]


def grown(world: World, kind: str, size: int, *, both_ways: float, within: float) -> None:
    rng = random.Random(f"{kind} {size} {world.seed}")
    edges = topology.shape(kind, topology.names(size), rng, both_ways=both_ways)
    world.build(edges, within=within)


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_any_shape_agrees_within_a_second_and_goes_quiet(kind: str, size: int) -> None:
    world = World(seed=size, check_every=max(1, size * size // 16))
    grown(world, kind, size, both_ways=0.4, within=2.0)
    # A dial that found nobody is repeated after a second at most.
    world.run_until(lambda: not checkers.agreement(world), within=2.0)
    world.run(3.0)
    assert checkers.settled(world) == []
    assert checkers.quiet(world) == []
    for process in world.alive():
        process.mesh.check_invariants()


@pytest.mark.parametrize("seed", range(4))
def test_lost_and_reordered_news_are_repaired(seed: int) -> None:
    lossy = Conditions(delay=0.02, jitter=0.02, news_loss=0.3, news_reorder=0.3)
    world = World(seed=seed, conditions=lossy, check_every=5)
    grown(world, "random", 10, both_ways=0.3, within=1.0)
    world.run(10.0)  # with a third of the beats lost, somebody is always SLOW
    world.network.conditions = Conditions()
    world.run_until(lambda: not checkers.agreement(world), within=5.0)
    world.run(5.0)
    assert checkers.settled(world) == []


def test_firewalls_that_hide_the_news_ports_change_nothing() -> None:
    world = World(seed=5, conditions=Conditions(has_news=False), check_every=5)
    grown(world, "random", 12, both_ways=0.3, within=1.0)
    world.run_until(lambda: not checkers.agreement(world), within=2.0)
    world.run(3.0)
    assert checkers.settled(world) == []
    assert checkers.quiet(world) == []
    assert world.network.sent["news"] == 0


def test_nodes_that_listen_nowhere_are_full_members() -> None:
    world = World(seed=6)
    world.add("hub")
    for name in ("out1", "out2", "out3"):
        world.add(name, listens=False)
        world.link(name, "hub")
    world.run_until(lambda: not checkers.agreement(world), within=1.0)
    calls = world.call_all_pairs()
    world.run(1.0)
    assert checkers.all_succeeded(calls) == []
    assert checkers.settled(world) == []


def test_a_node_without_links_knows_itself_and_nobody_else() -> None:
    world = World(seed=7)
    world.add("alone")
    world.run(1.0)
    assert checkers.settled(world) == []
    own = world.call("alone", "alone", "test:echo", "me")
    held = world.call("alone", "nobody", "test:echo", ttl=3.0)
    world.run(2.0)
    assert own.succeeded
    assert not held.ended, "it may still get a link over which that node is known"
    world.run(2.0)
    assert checkers.ended(world) == []
    assert checkers.work(world) == []


def test_a_split_graph_is_two_sane_halves_that_a_link_joins() -> None:
    world = World(seed=8)
    world.build([("a1", "a2"), ("a2", "a3"), ("b1", "b2"), ("b2", "b3")])
    world.run(5.0)
    assert checkers.settled(world) == []
    lost = world.call("a1", "b3", "test:echo")
    assert lost.code == 8, "nobody of that name has been heard of"
    assert not lost.may_have_run
    world.link("a3", "b1")
    world.run_until(lambda: not checkers.agreement(world), within=1.0)
    found = world.call("a1", "b3", "test:echo", "now")
    world.run(1.0)
    assert found.succeeded
    world.run(3.0)  # the time of the one master goes from node to node
    assert checkers.settled(world) == []


def test_a_link_that_is_dialled_no_more_is_taken_out_of_every_table() -> None:
    world = World(seed=9)
    world.build([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")])
    world.run(2.0)
    world.unlink("a", "b")
    world.run_until(lambda: not checkers.agreement(world), within=1.0)
    world.unlink("c", "d")
    world.run(15.0)
    assert checkers.settled(world) == []
    assert checkers.agreement(world, forgotten=True) == []


def test_a_node_that_leaves_is_removed_at_once_and_exactly_once() -> None:
    world = World(seed=10)
    world.build([*topology.ring(topology.names(5)), ("n02", "leaf")])
    world.run(2.0)
    for name in ("leaf", "n00"):
        world.stop(name)
        took = world.run_until(lambda: not checkers.agreement(world, forgotten=True), within=1.0)
        assert took < 0.5
    world.run(5.0)
    assert checkers.settled(world) == []
    assert checkers.quiet(world) == []
    for process in world.alive():
        removed = [e.node_id for e in process.events if type(e).__name__ == "Removed"]
        assert sorted(removed) == ["leaf", "n00"]
