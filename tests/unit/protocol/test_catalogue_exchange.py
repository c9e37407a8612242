"""Registries come to list the same, by whatever ways they are joined, and then say nothing."""

from __future__ import annotations

import random
from itertools import chain, combinations

import pytest

from meshcore.protocol.catalogue.holding import NOTHING
from meshcore.protocol.catalogue.records import Origin
from tests.unit.protocol.catalogue_world import EXPIRY, Party, World

TOPOLOGIES = {
    "chain": [(0, 1), (1, 2), (2, 3)],
    "star": [(0, 1), (0, 2), (0, 3)],
    "ring": [(0, 1), (1, 2), (2, 3), (3, 0)],
    "full": list(combinations(range(4), 2)),
}


def same_listing(parties: list[Party]) -> dict[tuple[str, str, str], str]:
    listings = [party.listing() for party in parties if party.up]
    assert all(listing == listings[0] for listing in listings)
    return listings[0]


def names(listing: dict[tuple[str, str, str], str]) -> list[str]:
    return sorted(listing.values())


def test_a_node_is_listed_by_every_registry_of_its_mesh_and_by_nobody_else() -> None:
    world = World()
    one, two = world.add("r1", registry=True), world.add("r2", registry=True)
    node, other = world.add("n1"), world.add("n2")
    node.offer("a", "b")
    world.settle()
    assert names(same_listing([one, two])) == ["a", "b"]
    assert names(node.listing()) == ["a", "b"]
    assert other.listing() == {}


def test_one_change_is_sent_as_one_record_to_each_registry() -> None:
    world = World()
    one, two = world.add("r1", registry=True), world.add("r2", registry=True)
    node = world.add("n1")
    many = [f"f{number}" for number in range(2000)]
    node.offer(*many)
    world.settle()
    assert len(same_listing([one, two])) == 2000
    world.messages.clear()
    node.offer(*many[:-1], "f1999=new")
    world.settle()
    assert [(to, count) for _, to, count in world.messages if count] in (
        [("r1", 1), ("r2", 1)],
        [("r2", 1), ("r1", 1)],
    )
    assert len(world.messages) == 2
    assert "f1999=new" in same_listing([one, two]).values()


def test_what_is_removed_is_gone_everywhere_and_may_come_back() -> None:
    world = World()
    registry, node = world.add("r1", registry=True), world.add("n1")
    node.offer("a", "b")
    world.settle()
    node.offer("b")
    world.settle()
    assert names(registry.listing()) == ["b"]
    node.offer("a=again", "b")
    world.settle()
    assert names(registry.listing()) == ["a=again", "b"]


def test_a_node_that_restarts_takes_its_old_offers_along() -> None:
    world = World()
    registry, node = world.add("r1", registry=True), world.add("n1")
    node.offer("a", "b")
    world.settle()
    world.stop(node)
    world.settle()
    assert registry.status() == {"n1": False}
    assert names(registry.listing()) == ["a", "b"]
    world.restart(node)
    node.offer("c")
    world.settle()
    assert names(registry.listing()) == ["c"]
    assert registry.status() == {"n1": True}
    world.restart(node)  # with nothing to offer at all
    world.settle()
    assert registry.listing() == {}


def test_what_was_deleted_a_life_ago_is_forgotten() -> None:
    world = World()
    registry, node = world.add("r1", registry=True), world.add("n1")
    held = registry.machine.shelf.holdings
    for name in ("a", "b", "c", "d"):
        node.offer(name)
        world.settle()
        world.restart(node)
        world.settle()
    node.offer("e")
    world.settle()
    urls = list(held[Origin("m", "n1")].items)
    assert urls == ["http://d/", "http://e/"]
    assert names(registry.listing()) == ["e"]


def test_a_registry_that_begins_anew_learns_everything_again_and_of_the_dead_by_others() -> None:
    world = World()
    one, two = world.add("r1", registry=True), world.add("r2", registry=True)
    node, dead = world.add("n1"), world.add("n2")
    node.offer("a")
    dead.offer("b")
    one.register("http://program/", "c")
    world.settle()
    world.stop(dead)
    world.settle()
    world.restart(two)
    world.settle()
    assert names(same_listing([one, two])) == ["a", "b", "c"]
    assert two.status() == {"n1": True, "n2": False, "http://program/": True}


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("seed", range(3))
def test_registries_of_several_meshes_list_the_same(topology: str, seed: int) -> None:
    """Each with a mesh of its own, joined in any order; then things happen."""
    world = World(seed)
    registries = [world.add(f"r{n}", mesh=f"m{n}", registry=True) for n in range(4)]
    nodes = [world.add(f"n{n}", mesh=f"m{n}") for n in range(4)]
    for number, node in enumerate(nodes):
        node.offer(f"a{number}", f"b{number}")
    edges = list(TOPOLOGIES[topology])
    world.rng.shuffle(edges)
    for one, other in edges:
        registries[one].connect(registries[other])
        world.run(world.rng.choice((0.0, 0.3)))
    world.settle()
    assert len(same_listing(registries)) == 8
    nodes[0].offer("c0")
    world.settle()
    assert len(same_listing(registries)) == 7
    world.stop(nodes[1])
    world.settle()
    assert all(party.status()["n1"] is False for party in registries)
    world.restart(nodes[1])
    nodes[1].offer("c1")
    world.settle()
    assert len(same_listing(registries)) == 6
    assert all(party.status()["n1"] is True for party in registries)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_cut_that_heals_leaves_no_difference(topology: str) -> None:
    world = World(7)
    registries = [world.add(f"r{n}", mesh=f"m{n}", registry=True) for n in range(4)]
    nodes = [world.add(f"n{n}", mesh=f"m{n}") for n in range(4)]
    for one, other in TOPOLOGIES[topology]:
        registries[one].connect(registries[other])
    world.settle()
    world.cut_off(registries[0], registries[1])
    for number, node in enumerate(nodes):
        node.offer(f"a{number}")
    world.run(10.0)
    world.cut_off(registries[0], registries[1], cut=False)
    world.run(100.0)  # whoever is silent for a minute is asked for the difference
    assert len(same_listing(registries)) == 4


def test_within_a_mesh_a_cut_that_heals_leaves_no_difference() -> None:
    world = World(7)
    one, two = world.add("r1", registry=True), world.add("r2", registry=True)
    left, right = world.add("n1"), world.add("n2")
    left.offer("a")
    right.offer("b")
    world.settle()
    for near, far in ((one, two), (one, right), (left, two), (left, right)):
        world.cut_off(near, far)
    left.offer("a=2")
    right.offer("b=2")
    world.run(1.0)
    world.stop(right)
    world.run(10.0)
    for near, far in ((one, two), (one, right), (left, two), (left, right)):
        world.cut_off(near, far, cut=False)
    world.settle()
    assert names(same_listing([one, two])) == ["a=2", "b=2"]
    assert one.status() == two.status() == {"n1": True, "n2": False}


def test_a_registry_without_feed_passes_on_only_what_it_was_told_first_hand() -> None:
    world = World()
    line = [world.add(f"r{n}", mesh=f"m{n}", registry=True, feed=n != 1) for n in range(3)]
    for number, party in enumerate(line):
        world.add(f"n{number}", mesh=f"m{number}").offer(f"a{number}")
        party.register(f"http://p{number}/", f"p{number}")
    line[0].connect(line[1])
    line[1].connect(line[2])
    world.settle()
    assert names(line[0].listing()) == ["a0", "a1", "p0", "p1"]
    assert names(line[1].listing()) == ["a0", "a1", "a2", "p0", "p1", "p2"]
    assert names(line[2].listing()) == ["a1", "a2", "p1", "p2"]


def test_nothing_goes_back_to_where_it_came_from() -> None:
    world = World()
    one = world.add("r1", mesh="m1", registry=True)
    two = world.add("r2", mesh="m2", registry=True)
    one.connect(two)
    world.settle()
    world.messages.clear()
    one.register("http://p/", "a", "b", "c")
    world.settle()
    assert [(to, count) for _, to, count in world.messages if count] == [("r2", 3)]


def test_whether_somebody_lives_does_not_go_back_either() -> None:
    world = World()
    one = world.add("r1", mesh="m1", registry=True)
    two = world.add("r2", mesh="m2", registry=True)
    node = world.add("n1", mesh="m1")
    one.connect(two)
    node.offer("a")
    world.settle()
    world.messages.clear()
    world.stop(node)
    world.settle()
    assert [(who, to) for who, to, _ in world.messages] == [("r1", "r2")]
    assert two.status() == {"n1": False}


def test_a_registry_outside_that_lost_everything_gets_it_with_the_next_word() -> None:
    world = World()
    one = world.add("r1", mesh="m1", registry=True)
    two = world.add("r2", mesh="m2", registry=True)
    one.connect(two)
    one.register("http://p/", "a")
    world.settle()
    world.restart(two)
    assert two.listing() == {}
    one.register("http://q/", "b")
    world.run(2.0)
    assert names(two.listing()) == ["a", "b"]


def test_a_program_is_there_for_its_ttl_and_a_renewal_says_nothing_to_others() -> None:
    world = World()
    one = world.add("r1", mesh="m1", registry=True)
    two = world.add("r2", mesh="m2", registry=True)
    one.connect(two)
    one.register("http://p/", "a", ttl=30.0)
    world.settle()
    assert two.status() == {"http://p/": True}
    messages = len(world.messages)
    one.register("http://p/", "a", ttl=30.0)
    world.run(20.0)
    assert len(world.messages) == messages
    world.run(20.0)
    assert one.status() == two.status() == {"http://p/": False}
    one.register("http://p/", "b", ttl=30.0)
    world.run(2.0)
    assert names(same_listing([one, two])) == ["b"]
    assert one.status() == two.status() == {"http://p/": True}


def test_a_program_at_two_registries_is_listed_once_as_it_said_last() -> None:
    world = World()
    one = world.add("r1", mesh="m1", registry=True)
    two = world.add("r2", mesh="m2", registry=True)
    one.connect(two)
    one.register("http://p/", "a", "b")
    world.settle()
    two.register("http://p/", "a", "b")
    assert world.settle() == 0  # the same again: nobody needs to know
    two.register("http://p/", "a=2")
    world.settle()
    assert names(same_listing([one, two])) == ["a=2"]


def test_who_is_silent_for_long_is_forgotten() -> None:
    world = World()
    registry, node = world.add("r1", registry=True), world.add("n1")
    node.offer("a")
    world.settle()
    world.stop(node)
    world.run(EXPIRY - 60.0)
    assert names(registry.listing()) == ["a"]
    world.run(120.0)
    assert registry.listing() == {}
    assert Origin("m", "n1") not in registry.machine.shelf.holdings


def test_a_registry_that_leaves_takes_its_programs_along() -> None:
    world = World()
    one, two = world.add("r1", registry=True), world.add("r2", registry=True)
    one.register("http://p/", "a")
    world.settle()
    assert two.status() == {"http://p/": True}
    world.stop(one)
    world.settle()
    assert two.status() == {"http://p/": False}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("where", ["one mesh", "ring", "full"])
def test_that_somebody_lives_does_not_go_round_for_ever(where: str, seed: int) -> None:
    """The one who knew is gone: the others must not go on telling each other."""
    world = World(seed, delay=0.5)
    one_mesh = where == "one mesh"
    parties = [
        world.add(f"r{n}", mesh="m" if one_mesh else f"m{n}", registry=True) for n in range(4)
    ]
    if not one_mesh:
        for one, other in TOPOLOGIES[where]:
            parties[one].connect(parties[other])
    leaf = world.add("n", mesh=parties[0].mesh)
    leaf.offer("leaf")
    parties[0].register("http://p/", "a", ttl=10**6)
    world.run(10.0)
    assert all(party.status() == {"http://p/": True, "n": True} for party in parties)
    world.run(seed * 7.0)
    world.stop(parties[0])
    world.stop(leaf)
    world.run(150.0)  # a registry outside is asked after a minute of silence
    for party in parties[1:]:
        assert party.status() == {"http://p/": False, "n": False}, party.node


@pytest.mark.parametrize("seed", [*range(30), 51, 87, 146, 216])  # the last ones found something
def test_a_word_that_was_under_way_when_its_source_died_ends_as_well(seed: int) -> None:
    world = World(seed, delay=0.5)
    parties = [world.add(f"r{n}", registry=True) for n in range(5)]
    world.run(5.0)
    parties[0].register("http://p/", "a", ttl=10**6)
    world.run(0.1 + seed % 60 * 0.03)
    world.stop(parties[0])
    world.run(30.0)
    for party in parties[1:]:
        assert party.status() in ({"http://p/": False}, {}), party.node


def test_of_its_own_mesh_a_registry_believes_the_mesh_alone() -> None:
    world = World()
    registries = [world.add(f"r{n}", registry=True) for n in range(3)]
    node = world.add("n")
    node.offer("a")
    world.settle()
    world.stop(node)
    world.settle()
    # It links up with one of them and speaks, and is gone before the mesh has told of it.
    message = node.machine._message(
        [node.machine._entry(node.machine.shelf.holdings[node.machine.own], 0.0)]
    )
    _, effects = registries[0].machine.on_request("n", message, world.now)
    world.perform(registries[0], effects)
    world.run(20.0)
    assert [party.status() for party in registries] == [{"n": False}] * 3


def test_nobody_tells_of_a_node_that_is_there_but_itself() -> None:
    world = World()
    registry, node = world.add("r1", registry=True), world.add("n1")
    liar = world.add("r2", registry=True)
    node.offer("a")
    world.settle()
    told = liar.machine.shelf.holdings[Origin("m", "n1")]
    told.head = told.head._replace(incarnation=10**9)
    told.items = {url: item._replace(incarnation=10**9) for url, item in told.items.items()}
    entry = liar.machine._entry(told, world.now, known=told.head._replace(incarnation=0), room=99)
    message = liar.machine._message([entry])
    answer, effects = registry.machine.on_request("r2", message, world.now)
    assert effects == []
    assert answer.entries[0].refused
    assert registry.machine.shelf.refused == 1
    own = world.parties["n1"].machine
    answer, effects = own.on_request("r2", message, world.now)
    assert effects == []
    assert names(node.listing()) == ["a"]


def test_of_others_only_registries_tell() -> None:
    world = World()
    registry, node = world.add("r1", registry=True), world.add("n1")
    outside = world.add("x", mesh="x", registry=True)
    outside.offer("a")
    world.settle()
    held = outside.machine.shelf.holdings[outside.machine.own]
    entry = outside.machine._entry(held, world.now, known=NOTHING, room=999)
    message = node.machine._message([entry])
    assert not registry.machine.trusts("n1", message)
    registry.machine.set_peer("n1", world.now)  # it is one after all
    assert registry.machine.trusts("n1", message)
    own = node.machine.shelf.holdings[node.machine.own]
    assert registry.machine.trusts("n2", outside.machine._message([]))
    assert not registry.machine.trusts("n2", node.machine._message([node.machine._entry(own, 0.0)]))


def test_a_registry_that_cannot_be_reached_holds_nobody_up() -> None:
    world = World()
    one = world.add("r1", mesh="m1", registry=True)
    one.outside["http://nowhere/"] = None
    one.machine.set_peer("http://nowhere/", world.now, outside=True)
    two = world.add("r2", mesh="m2", registry=True)
    one.connect(two)
    two.register("http://p/", "a")
    world.run(2.0)
    assert names(one.listing()) == ["a"]
    world.run(60.0)
    assert one.machine.is_idle  # after some failures nobody waits for it


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_the_registries_agree_in_the_end(seed: int) -> None:
    """Loss, delays, restarts, cuts and changes at random; then everything heals."""
    rng = random.Random(seed)
    world = World(seed, delay=rng.choice((0.01, 0.3)), loss=rng.choice((0.0, 0.2)))
    registries = [world.add("r0", registry=True), world.add("r1", registry=True)]
    registries += [world.add(f"x{n}", mesh=f"x{n}", registry=True) for n in range(2)]
    nodes = [world.add(f"n{n}") for n in range(4)] + [world.add("y", mesh="x0")]
    for one, other in ((0, 2), (2, 3), (3, 1)):
        registries[one].connect(registries[other])
    offers = {party.node: list[str]() for party in nodes}
    for _ in range(60):
        party = rng.choice(nodes)
        match rng.randrange(6):
            case 0 | 1 | 2:
                if party.up:
                    offers[party.node] = [f"{party.node}-{rng.randrange(9)}=v{rng.randrange(9)}"]
                    offers[party.node] += [f"{party.node}-k{rng.randrange(3)}"]
                    party.offer(*offers[party.node])
            case 3:
                world.stop(party)
            case 4:
                one = rng.choice(registries)
                world.cut_off(one, rng.choice(nodes), cut=rng.random() < 0.5)
            case 5:
                one = rng.choice([*registries, party])
                world.restart(one)
                if one in nodes:
                    one.offer(*offers[one.node])
        world.run(rng.choice((0.0, 0.05, 1.0, 5.0)))
    world.cut.clear()
    world.loss = 0.0
    for party in nodes:
        if not party.up:
            world.restart(party)
            party.offer(*offers[party.node])
    world.meet()
    world.run(400.0)  # registries outside compare once a minute, and may find shorter ways then
    listing = same_listing(registries)
    assert names(listing) == sorted(chain.from_iterable(offers.values()))
    assert all(alive for party in registries for alive in party.status().values())
    world.messages.clear()
    world.run(30.0)
    outside = {registries[one].node: registries[two].node for one, two in ((0, 2), (2, 3), (3, 1))}
    pairs = {frozenset(pair) for pair in outside.items()}  # they ask after a minute of silence
    assert {frozenset((one, other)) for one, other, _ in world.messages} <= pairs
    assert all(count == 0 for _, _, count in world.messages)
