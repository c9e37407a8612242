"""One master and one time, whatever happens to the mesh."""

from __future__ import annotations

import itertools
import random

import pytest

from meshcore.protocol.election.election import Contested, MasterChanged
from meshcore.protocol.mesh.consequences import OUTDONE_LIVES_MAX
from meshcore.protocol.routing.changes import OutdoneBy
from meshcore.sim import checkers, topology
from meshcore.sim.network import Conditions
from meshcore.sim.process import Process
from meshcore.sim.world import World

SOON = 1.0  # seconds from a stable view until all have the same master


def masters(world: World) -> dict[str | None, list[str]]:
    """Who sees whom as master."""
    seen: dict[str | None, list[str]] = {}
    for process in world.alive():
        seen.setdefault(process.mesh.master, []).append(process.name)
    return seen


def agreed(world: World) -> str | None:
    """The one master of all; fails where there are several."""
    seen = masters(world)
    assert len(seen) == 1, f"{seen}; {world.describe()}"
    return next(iter(seen))


def oldest(world: World) -> str:
    return min(world.alive(), key=lambda process: process.started_at).name


def settle(world: World, within: float = 20.0) -> None:
    """Until all see the same mesh, and then as long as people were promised."""
    world.run_until(lambda: not checkers.agreement(world), within=within)
    world.run(SOON)


def force(world: World, name: str, forced: bool | None) -> None:
    process = world.node(name)
    process.input(process.mesh.set_forced, forced)


def changes(process: Process) -> list[MasterChanged]:
    return [event for event in process.events if isinstance(event, MasterChanged)]


@pytest.mark.parametrize("block", range(10))
def test_a_hundred_meshes_that_start_at_once_and_merge_in_any_order_never_keep_two(
    block: int,
) -> None:
    for seed in range(10 * block, 10 * block + 10):
        rng = random.Random(f"merging {seed}")
        world = World(seed, check_every=200)
        names = topology.names(20)
        rng.shuffle(names)
        cuts = sorted(rng.sample(range(3, 18), rng.randrange(1, 4)))
        parts = [names[a:b] for a, b in itertools.pairwise([0, *cuts, len(names)])]
        edges = [
            edge for part in parts for edge in topology.shape("random", part, rng, both_ways=0.3)
        ]
        alone = [(part[0],) for part in parts if len(part) == 1]
        world.build(edges, within=0.5)
        for (name,) in alone:
            world.add(name)
        rng.shuffle(parts)
        for one, other in itertools.pairwise(parts):
            world.run(rng.choice([0.0, 0.1, 0.5, 2.0]))
            world.link(rng.choice(one), rng.choice(other))
        settle(world)
        # As old as it gets: ages are as exact as the way of a beat is short.
        younger = world.node(str(agreed(world))).started_at - world.node(oldest(world)).started_at
        assert younger < 0.1, world.describe()


@pytest.mark.parametrize("seed", range(6))
def test_every_combination_of_wills_gives_one_answer_within_a_second(seed: int) -> None:
    world = World(seed, check_every=50)
    names = topology.names(5)
    world.build(topology.ring(names), within=0.5)
    settle(world)
    rng = random.Random(f"wills {seed}")
    for _ in range(12):
        for name in rng.sample(names, rng.randint(1, 5)):
            force(world, name, rng.choice([True, False, None]))
        world.run(SOON + 0.2)  # until the last word has gone round, and then a second
        wills = {name: world.node(name).mesh.own.forced for name in names}
        on = [name for name in names if wills[name]]
        pool = on or [name for name in names if wills[name] is None]
        by_age = sorted(pool, key=lambda name: world.node(name).started_at)
        assert agreed(world) == (by_age[0] if by_age else None)
        contested = [event for event in world.node("n00").events if isinstance(event, Contested)]
        last = contested[-1].node_ids if contested else ()
        assert last == (tuple(by_age) if len(on) > 1 else ())


def test_the_death_of_the_master_makes_the_next_one_and_its_return_changes_nothing() -> None:
    world = World(3, check_every=20)
    world.build(topology.random_graph(topology.names(8), 4.0, random.Random(3)), within=2.0)
    settle(world)
    first = agreed(world)
    assert first is not None
    world.crash(first)
    world.run(4.0)
    second = agreed(world)
    assert second == oldest(world)
    before = {process.name: len(changes(process)) for process in world.alive()}
    world.restart(first)
    settle(world)
    world.run(5.0)
    assert agreed(world) == second
    for name, count in before.items():
        assert len(changes(world.node(name))) == count, f"{name} flapped"


@pytest.mark.parametrize("seed", range(8))
def test_each_side_of_a_partition_has_a_master_and_it_heals_to_one(seed: int) -> None:
    world = World(seed, check_every=50)
    names = topology.names(8)
    rng = random.Random(f"halves {seed}")
    world.build(topology.random_graph(names, 4.0, rng), within=2.0)
    settle(world)
    first = agreed(world)
    left = names[:4]
    world.partition(left, names[4:])
    world.run(12.0)  # `dead` by default, and what follows
    seen = masters(world)
    assert first in seen
    for process in world.alive():
        reached = [e.node_id for e in process.mesh.roster.nodes() if e.reachable]
        assert process.mesh.master in reached
    world.heal_all()
    settle(world, within=30.0)
    assert agreed(world) == first


def test_a_master_that_is_silent_for_a_moment_stays_master() -> None:
    world = World(5, check_every=20)
    world.build(topology.full(topology.names(4)), within=1.0)
    settle(world)
    master = agreed(world)
    assert master is not None
    before = {process.name: len(changes(process)) for process in world.alive()}
    world.pause(master, 2.2)
    world.run(8.0)
    assert agreed(world) == master
    assert {process.name: len(changes(process)) for process in world.alive()} == before


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delay", [0.001, 0.1])
def test_every_node_has_the_masters_time_within_the_error_that_it_reports(
    seed: int, delay: float
) -> None:
    world = World(seed, conditions=Conditions(delay=delay, jitter=delay / 2), check_every=100)
    world.build(topology.chain(topology.names(6)), within=1.0)
    settle(world)
    world.run(6.0)
    shown: dict[str, float] = {}
    for _ in range(60):
        world.run(0.5)
        _check_time(world, sure=0.5 + 6 * delay, shown=shown)
    world.crash(str(agreed(world)))
    world.run(20.0)
    for _ in range(20):
        world.run(0.5)
        _check_time(world, sure=0.5 + 6 * delay, shown=shown)


def _check_time(world: World, *, sure: float, shown: dict[str, float]) -> None:
    for process in world.alive():
        mesh = process.mesh
        assert mesh.master is not None
        leader = world.node(mesh.master)
        truth = leader.mesh.clock.time(leader.now())
        time, error = mesh.clock.time(process.now()), mesh.clock.error(process.now())
        if error is None and len(masters(world)) == 1 and not process.mesh.routing.graph.stale:
            reached = mesh.roster.get(mesh.master)
            assert reached is None or not reached.reachable, f"{process.name} has no time"
            continue
        assert error is not None
        assert abs(time - truth) <= error <= sure, (process.name, time - truth, error)
        assert time >= shown.get(process.name, time), f"{process.name}: time went back"
        shown[process.name] = time


@pytest.mark.parametrize("seed", range(6))
def test_of_two_lives_that_meet_when_a_partition_heals_the_older_stays(seed: int) -> None:
    world = World(seed, check_every=20)
    names = topology.names(6)
    world.build(topology.chain(names), within=1.0)
    settle(world)
    world.cut("n02", "n03")
    world.run(15.0)  # each half has forgotten the other
    original = world.node("n00")
    twin = world.twin("n00", peer="n05")
    world.run(3.0)
    assert twin.is_alive
    assert original.is_alive
    world.heal_all()
    world.run_until(lambda: not twin.is_alive, within=20.0)
    assert twin.fatal
    world.run_until(lambda: not checkers.agreement(world), within=20.0)
    world.run(SOON)
    assert original.is_alive
    assert not original.fatal
    assert agreed(world) == oldest(world)


def test_invented_lives_of_our_id_cost_no_more_than_their_bound() -> None:
    world = World(1)
    world.build([("a", "b")])
    world.run(2.0)
    mesh = world.node("a").mesh
    for number in range(1, 3 * OUTDONE_LIVES_MAX):
        mesh._on_outdone(OutdoneBy(mesh.identity.incarnation + 1, number), world.node("a").now())
        world.node("a").flush()
    assert len(mesh._outdone) == OUTDONE_LIVES_MAX
    assert world.node("a").is_alive
