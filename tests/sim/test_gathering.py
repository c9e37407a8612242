"""Gathering: a mesh whose nodes dial learnt addresses heals whatever a lost node had held together.

The nodes dial nobody by configuration but a seed or a neighbour; everything else is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meshcore.protocol.membership.timings import Timings
from meshcore.sim import checkers, topology
from meshcore.sim.network import HEARTBEAT_MIN
from meshcore.sim.process import Process
from meshcore.sim.world import World


def is_whole(world: World) -> bool:
    """Everybody alive reaches everybody alive, and nobody else."""
    living = sorted(process.name for process in world.alive())
    return all(reached(process) == living for process in world.alive())


def reached(process: Process) -> list[str]:
    return sorted(entry.node_id for entry in process.mesh.roster.nodes() if entry.reachable)


def links_of(process: Process) -> int:
    return sum(info.current for info in process.mesh.links.links())


def mean_degree(world: World) -> float:
    links = [links_of(process) for process in world.alive()]
    return sum(links) / len(links)


def star(names: Sequence[str]) -> topology.Edges:
    """The leaves dial the hub, and listen."""
    return [(leaf, names[0]) for leaf in names[1:]]


def gathered(world: World, *, within: float = 15.0) -> None:
    """Wait until the mesh is whole and every node has its links, then that nothing goes on."""
    world.run_until(lambda: is_whole(world) and not checkers.gathered(world), within=within)
    world.run(11.0)  # until the dead are removed, which is news
    assert checkers.agreement(world) == []
    assert checkers.one_link_per_pair(world) == []
    assert checkers.quiet(world) == []


@pytest.mark.parametrize("degree", [1, 2, 6])
def test_a_star_whose_hub_dies_heals_itself(degree: int) -> None:
    names = topology.names(8)
    world = World(seed=degree, auto_connect=degree, check_every=3)
    world.build(star(names))
    gathered(world)
    world.crash(names[0])
    world.run_until(lambda: not checkers.gathered(world) and is_whole(world), within=10.0)
    calls = world.call_all_pairs()
    world.run(2.0)
    assert checkers.all_succeeded(calls) == []
    assert mean_degree(world) <= max(2 * degree, 2.0)


def test_without_it_the_same_star_falls_apart() -> None:
    names = topology.names(8)
    world = World(seed=1, check_every=3)
    world.build(star(names))
    world.run(3.0)
    world.crash(names[0])
    world.run(30.0)
    assert [len(reached(process)) for process in world.alive()] == [1] * 7


@pytest.mark.parametrize("silent", [False, True], ids=["killed", "power off"])
def test_a_hub_that_dies_before_anybody_had_another_link(silent: bool) -> None:
    names = topology.names(8)
    world = World(seed=2, auto_connect=2, check_every=3)
    world.build(star(names))
    world.run_until(lambda: is_whole(world), within=1.0)
    assert mean_degree(world) < 2, "too late for what is tested here"
    world.crash(names[0], silent=silent)
    world.run_until(lambda: is_whole(world) and not checkers.gathered(world), within=15.0)


def test_a_chain_whose_middle_dies_heals_itself() -> None:
    names = topology.names(7)
    world = World(seed=3, auto_connect=1, check_every=3)
    world.build(topology.chain(names))
    world.run_until(lambda: is_whole(world), within=5.0)
    world.run(5.0)
    assert mean_degree(world) == pytest.approx(12 / 7), "the chain has links enough"
    world.crash("n03")
    world.run_until(lambda: len(reached(world.node("n00"))) == 3, within=5.0)
    # All have a link each, as they should: only the search for the lost ones joins the halves.
    world.run_until(lambda: is_whole(world), within=30.0)


@pytest.mark.parametrize("seconds", [3.0, 15.0, 120.0])
def test_halves_that_only_learnt_links_had_joined_find_each_other(seconds: float) -> None:
    names = topology.names(12)
    world = World(seed=4, auto_connect=3, check_every=10)
    world.build(star(names))
    gathered(world)
    world.crash(names[0])  # the configured peer of everybody: nothing but learnt links is left
    gathered(world, within=20.0)
    half = names[1:7], names[7:]
    world.partition(*half)
    world.run(seconds)
    if seconds > 10.0:
        assert {len(reached(process)) for process in world.alive()} == {6, 5}
    world.heal_all()
    world.run_until(lambda: is_whole(world), within=60.0)
    world.run(10.0)
    assert mean_degree(world) <= 6.0
    # Links tell what they cost when they are a minute old, each in its own; then it is quiet.
    assert any(not checkers.quiet(world) for _ in range(20))


def test_forty_nodes_from_one_seed_come_to_their_degree_and_not_twice() -> None:
    names = topology.names(40)
    world = World(seed=5, auto_connect=4, check_every=200)
    world.build(star(names), within=0.5)
    world.run_until(lambda: is_whole(world) and not checkers.gathered(world), within=10.0)
    world.run(2.0)
    degrees = sorted(links_of(process) for process in world.alive())
    assert degrees[0] >= 4
    assert sum(degrees) / 40 <= 8.0
    assert degrees[-2] <= 12, "one of many was chosen by all"  # the last is the seed
    dialled = sum(process.control_sent.get("Hello", 0) for process in world.alive())
    assert dialled <= 40 * 8


def test_the_degree_stays_when_nodes_come_and_go() -> None:
    names = topology.names(12)
    world = World(seed=6, auto_connect=3, check_every=50)
    world.build(star(names))
    gathered(world)
    for name in (names * 2)[1:]:
        world.crash(name)
        world.run(3.0)
        world.restart(name)
        world.run(2.0)
    world.run_until(lambda: is_whole(world) and not checkers.gathered(world), within=15.0)
    others = [links_of(process) for process in world.alive() if process.name != names[0]]
    assert sum(others) / len(others) <= 6.0


def test_nodes_that_listen_nowhere_count_and_are_not_dialled() -> None:
    world = World(seed=7, auto_connect=2, check_every=3)
    world.add("n00")
    for name in ("out1", "out2", "out3"):
        world.add(name, listens=False)
        world.link(name, "n00")
    world.run_until(lambda: is_whole(world), within=5.0)
    world.run(20.0)
    assert [links_of(world.node(name)) for name in ("n00", "out1", "out2")] == [3, 1, 1]
    assert world.counters() == {}
    assert checkers.quiet(world) == []


def test_a_node_that_left_is_not_looked_for_and_one_that_died_is_but_not_for_ever() -> None:
    names = topology.names(5)
    seldom = Timings(
        send_alive_interval=10, check_interval=10, slow=21, warn=31, dead=41, remove=61
    )  # an hour of beats takes long to simulate
    world = World(seed=8, auto_connect=2, timings=seldom, check_every=50)
    world.build(star(names))
    gathered(world)
    world.stop("n01")
    gathered(world)
    watcher = world.node("n02")
    kept = watcher.mesh.gathering.addresses(64, watcher.now())
    assert "n01" not in {row.node_id for row in kept}
    world.crash("n03")
    world.run_until(lambda: is_whole(world), within=20.0)
    tries = dial_attempts(world, "n03", seconds=100.0)
    assert 3 <= tries <= 100, "it is looked for now and then"
    world.run(3600.0)  # an hour after its death nobody remembers it
    assert dial_attempts(world, "n03", seconds=200.0) == 0
    assert "n03" not in watcher.mesh.database.origins()


def test_what_was_hinted_of_a_node_ends_with_its_leave() -> None:
    world = World(seed=9, auto_connect=2, check_every=3)
    world.build(topology.chain(["a", "b", "c"]))
    gathered(world)
    a = world.node("a")
    a.input(a.mesh.on_hint, "c", ("tcp://elsewhere:1",))
    assert "tcp://elsewhere:1" in addresses(a)
    world.stop("c")
    world.run_until(lambda: not world.node("c").is_alive, within=2.0)
    world.run(0.5)
    assert not [url for url in addresses(a) if "elsewhere" in url or "//c:" in url]


def addresses(process: Process) -> list[str]:
    rows = process.mesh.gathering.addresses(64, process.now())
    return [url for row in rows for url in row.urls]


def test_a_hint_brings_a_node_without_peers_into_the_mesh() -> None:
    world = World(seed=10, auto_connect=1, check_every=3)
    world.build(topology.chain(["a", "b"]))
    lonely = world.add("lonely")
    lonely.input(lonely.mesh.on_hint, "b", ("tcp://b:1",))
    world.run_until(lambda: is_whole(world), within=5.0)


def test_a_neighbour_that_is_stuck_is_replaced_before_its_link_is_lost() -> None:
    quick = Timings(slow=0.7, warn=0.8, dead=1.0, remove=30.0)
    world = World(seed=11, auto_connect=1, timings=quick, check_every=3)
    world.build(topology.chain(["a", "b", "c"]))
    gathered(world)
    world.pause("b", 20.0)
    linked = world.run_until(
        lambda: world.node("a").mesh.links.link_to("c") is not None, within=10.0
    )
    assert linked < HEARTBEAT_MIN, "only its silence can have told"


def test_a_node_that_leaves_dials_nobody() -> None:
    world = World(seed=12, auto_connect=3, check_every=3)
    world.build(topology.chain(["a", "b", "c"]))
    world.run_until(lambda: is_whole(world), within=5.0)
    world.stop("a")
    assert not world.node("a").mesh.gathering.is_on


def dial_attempts(world: World, name: str, *, seconds: float) -> int:
    """How often anybody dials a node within this time."""
    count, dial = 0, world.network.dial

    def counting(process: Process, link: int, url: str) -> None:
        nonlocal count
        count += url == f"tcp://{name}:1"
        dial(process, link, url)

    world.network.dial = counting  # type: ignore[method-assign]
    world.run(seconds)
    world.network.dial = dial  # type: ignore[method-assign]
    return count
