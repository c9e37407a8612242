"""A world that starts converged is one that has converged by itself."""

from __future__ import annotations

import random

import pytest

from meshcore.sim import checkers, topology
from meshcore.sim.converged import start_converged
from meshcore.sim.deaths import Deaths
from meshcore.sim.watch import watch
from meshcore.sim.world import World


def pair(kind: str, size: int) -> tuple[World, World]:
    """The same mesh, started converged and grown."""
    edges = topology.shape(kind, topology.names(size), random.Random(size), both_ways=0.3)
    start, grown = World(size, check_every=10), World(size, check_every=10)
    start_converged(start, edges)
    grown.build(edges, within=1.0)
    grown.run_until(lambda: not checkers.agreement(grown), within=5.0)
    grown.run(4.0)
    return start, grown


def views(world: World) -> dict[str, object]:
    """What each node believes, but for numbers that differ from run to run."""
    return {
        process.name: (
            sorted(
                (entry.node_id, entry.status, entry.reachable, entry.hops)
                for entry in process.mesh.roster.nodes()
            ),
            [edge[:2] for edge in process.mesh.routing.graph.edges()],
            sorted(process.mesh.details_of),
            process.mesh.database.stats(),
            process.mesh.delivery.stats(),
            len(process.wires),
        )
        for process in world.alive()
    }


@pytest.mark.parametrize(("kind", "size"), [("ring", 6), ("star", 9), ("tree", 15), ("full", 7)])
def test_it_passes_every_checker_and_believes_the_same_as_one_that_grew(
    kind: str, size: int
) -> None:
    start, grown = pair(kind, size)
    for process in start.alive():
        process.mesh.check_invariants()
    problems = checkers.agreement(start) + checkers.one_link_per_pair(start)
    assert problems + checkers.routes(start) == []
    assert views(start) == views(grown)
    assert len({process.mesh.database.digest for process in start.alive()}) == 1
    start.run(8.0)  # who is master, and what time it is, has to hold and to spread as anywhere
    assert checkers.settled(start) == []
    assert checkers.quiet(start, 70.0) == [], "nothing was left to be said, not even of costs"
    assert checkers.settled(start) == []


@pytest.mark.parametrize("silent", [False, True])
def test_a_death_and_a_join_go_as_in_a_mesh_that_grew(silent: bool) -> None:
    took = []
    for world in pair("random", 12):
        deaths = Deaths(world)
        watch(world, [deaths])
        world.crash("n05", silent=silent)
        world.run(7.0)
        took.append(max(deaths.known()[0].took))
        world.add("newcomer")
        world.link("newcomer", "n01")
        world.link("newcomer", "n07")
        world.run_until(lambda world=world: not checkers.agreement(world), within=2.0)
        world.run(12.0)
        assert checkers.settled(world) == []
        assert checkers.quiet(world) == []
        calls = world.call_all_pairs()
        world.run(1.0)
        assert checkers.all_succeeded(calls) == []
    assert took[0] == pytest.approx(took[1], abs=0.7), took
