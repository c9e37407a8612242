"""A handful of databases, each with its routing, over lossy news and a reliable lane.

After the faults have stopped, all nodes that reach each other hold the same bytes of each other,
soon; and then they say nothing more than their beats.
"""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshcore.protocol.machine import Count, Publish, Send
from meshcore.protocol.routing.database import (
    Changed,
    Effect,
    Forgotten,
    LinkStateDatabase,
    OutdoneBy,
)
from meshcore.protocol.routing.routing import Routing
from meshcore.protocol.wire import control
from meshcore.protocol.wire.control import BucketContents, Buckets, News, Want
from meshcore.protocol.wire.records import DETAILS, LINK_STATE, Details, Edge, LinkState

BEAT = 0.5
SETTLE = 20.0  # seconds of virtual time within which all must agree
QUIET = 150.0


class Node:
    """A database, a routing machine, and the glue between the two."""

    def __init__(self, name: str, rng: random.Random, incarnation: int, life: int) -> None:
        self.name = name
        self.life = life
        self.database = LinkStateDatabase(name, incarnation, rng=rng)
        self.routing = Routing(name)
        self.links: dict[int, str] = {}
        self.colour = 0
        self.left = False

    def link_state(self, sequence: int) -> LinkState:
        edges = tuple(Edge(peer, 100) for peer in sorted(self.links.values()))
        return LinkState(
            self.name, self.database.incarnation, sequence, self.life, edges, left=self.left
        )

    def details(self, sequence: int) -> Details:
        return Details(self.name, self.database.incarnation, sequence, {"colour": self.colour})

    def say(self, now: float) -> list[Effect]:
        return self.database.set_own(LINK_STATE, self.link_state, now)

    def paint(self, now: float) -> list[Effect]:
        self.colour += 1
        return self.database.set_own(DETAILS, self.details, now)

    def next_deadline(self) -> float | None:
        times = (self.database.next_deadline(), self.routing.next_deadline())
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> list[Effect]:
        effects = self.database.on_tick(now)
        changes = self.routing.on_tick(now)
        reachable = {name: reach.reachable for name, reach in changes.items()}
        self.database.set_reachable(reachable, now)
        return effects


class World:
    """Nodes by name, links between them, and what is on its way, in virtual time."""

    def __init__(self, seed: int, names: list[str], *, loss: float) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.loss = loss
        self.nodes = {name: self.new_node(name, 1) for name in names}
        self.links: dict[tuple[str, str], int] = {}
        self.lane: dict[tuple[int, str], float] = {}  # when the last message on a lane arrives
        self.queue: list[tuple[float, int, str, str, int, object]] = []
        self.count = 0
        self.link_count = 0
        self.messages = 0  # but beats
        self.counts: dict[str, int] = {}
        self.outdone: list[OutdoneBy] = []
        for node in self.nodes.values():
            self.start(node)

    def new_node(self, name: str, incarnation: int) -> Node:
        return Node(name, random.Random(self.rng.random()), incarnation, self.rng.getrandbits(64))

    def start(self, node: Node) -> None:
        self.perform(node, node.say(self.now) + node.paint(self.now))
        self.post(self.rng.uniform(0, BEAT), "beat", node.name, 0, node)

    def post(self, delay: float, kind: str, to: str, link: int, what: object) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + delay, self.count, kind, to, link, what))

    def join(self, one: str, two: str) -> None:
        pair = (min(one, two), max(one, two))
        if one == two or pair in self.links:
            return
        self.link_count += 1
        self.links[pair] = self.link_count
        for near, far in (pair, pair[::-1]):
            node = self.nodes[near]
            node.links[self.link_count] = far
            self.perform(node, node.database.on_link_up(self.link_count, far, self.now))
            self.perform(node, node.say(self.now))

    def cut(self, one: str, two: str) -> None:
        link = self.links.pop((min(one, two), max(one, two)), None)
        if link is not None:
            for name in (one, two):
                node = self.nodes[name]
                del node.links[link]
                node.database.on_link_down(link)
                self.perform(node, node.say(self.now))

    def restart(self, name: str, incarnation: int) -> None:
        """A new process of that name, which has forgotten everything."""
        peers = [pair[pair[0] == name] for pair in self.links if name in pair]
        for peer in peers:
            self.cut(name, peer)
        life = self.nodes[name].life
        node = self.nodes[name] = self.new_node(name, incarnation)
        node.life = life
        self.start(node)
        for peer in peers:
            self.join(name, peer)

    def perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(link, message):
                    self.messages += 1
                    arrival = max(
                        self.now + self.rng.uniform(0, 0.02), self.lane.get((link, node.name), 0)
                    )
                    self.lane[link, node.name] = arrival
                    if link in node.links:
                        self.post(arrival - self.now, "lane", node.links[link], link, message)
                case Publish(message):
                    self.messages += 1
                    for link, peer in node.links.items():
                        self.lossy(link, peer, message)
                case Changed(origin, kind):
                    if kind == LINK_STATE:
                        state = node.database.link_state(origin)
                        node.routing.on_changed(origin, state, self.now)
                case Forgotten(origin):
                    node.routing.on_changed(origin, None, self.now)
                case OutdoneBy():
                    self.outdone.append(effect)
                case Count(reason):
                    self.counts[reason] = self.counts.get(reason, 0) + 1

    def lossy(self, link: int, peer: str, message: object) -> None:
        copies = 2 if self.rng.random() < self.loss else 1
        for _ in range(copies):
            if self.rng.random() >= self.loss:
                late = self.rng.uniform(0, 0.5) if self.rng.random() < self.loss else 0.01
                self.post(late, "news", peer, link, message)

    def run(self, duration: float) -> None:
        end = self.now + duration
        while True:
            due = min(
                (
                    (at, name)
                    for name, node in self.nodes.items()
                    if (at := node.next_deadline()) is not None
                ),
                default=(float("inf"), ""),
            )
            at = min(due[0], self.queue[0][0] if self.queue else float("inf"))
            if at > end:
                self.now = end
                return
            self.now = max(at, self.now)
            if self.queue and self.queue[0][0] <= self.now:
                self.arrive(*heapq.heappop(self.queue)[2:])
            else:
                node = self.nodes[due[1]]
                self.perform(node, node.tick(self.now))
                next_at = node.next_deadline()
                assert next_at is None or next_at > self.now

    def arrive(self, kind: str, to: str, link: int, what: object) -> None:
        node = self.nodes[to]
        if kind == "beat":
            if what is node:  # else it beats for a process that has ended
                for number, peer in node.links.items():
                    self.lossy(number, peer, node.database.digest)
                self.post(BEAT * self.rng.uniform(0.9, 1.1), "beat", to, 0, node)
            return
        if link not in node.links:
            return
        if isinstance(what, int):
            node.database.on_beat_digest(link, what, self.now)
            return
        frame = control.encode(what)  # type: ignore[arg-type]
        self.perform(node, self.hear(node.database, link, control.decode(frame)))

    def hear(self, database: LinkStateDatabase, link: int, what: object) -> list[Effect]:
        match what:
            case News(records=records):
                return database.on_news(link, records, self.now)
            case Buckets(sums):
                return database.on_buckets(link, sums, self.now)
            case BucketContents():
                return database.on_contents(link, what, self.now)
            case Want(keys):
                return database.on_want(link, keys, self.now)
        raise AssertionError(what)

    # ---- checkers from outside

    def components(self) -> list[list[str]]:
        rest = list(self.nodes)
        found = []
        while rest:
            component = [rest[0]]
            for name in component:
                for pair in self.links:
                    other = pair[pair[0] == name]
                    if name in pair and other not in component:
                        component.append(other)
            found.append(sorted(component))
            rest = [name for name in rest if name not in component]
        return found

    def check_agreement(self) -> None:
        for component in self.components():
            for name in component:
                node = self.nodes[name]
                node.database.check_invariants()
                node.routing.check_invariants()
                graph = node.routing.graph
                reached = [
                    other
                    for other in graph.nodes()
                    if (reach := graph.reach(other)) is not None and reach.reachable
                ]
                staying = [
                    other for other in component if other == name or not self.nodes[other].left
                ]
                if not self.nodes[name].left:
                    assert reached == self.reached_among(name, staying)
                for other in reached:
                    origin = self.nodes[other].database
                    for kind in (LINK_STATE, DETAILS):
                        assert node.database.get(other, kind) == origin.get(other, kind)

    def reached_among(self, start: str, staying: list[str]) -> list[str]:
        found = [start]
        for name in found:
            for pair in self.links:
                other = pair[pair[0] == name]
                if name in pair and other in staying and other not in found:
                    found.append(other)
        return sorted(found)

    def settle(self) -> None:
        self.loss = 0.0
        self.run(SETTLE)
        self.check_agreement()
        said = self.messages
        self.run(QUIET)
        self.check_agreement()
        assert self.messages == said, "it does not go quiet"
        assert not set(self.counts) - {"answer to older news spared"}


def random_world(seed: int, size: int, loss: float) -> World:
    world = World(seed, [f"n{number}" for number in range(size)], loss=loss)
    names = list(world.nodes)
    for number in range(1, size):
        world.join(names[number], world.rng.choice(names[:number]))
    for _ in range(size // 2):
        world.join(*world.rng.sample(names, 2))
    return world


def trouble(world: World, steps: int) -> None:
    """Random changes, cuts, joins and restarts, some of them faster than the news travel."""
    names = list(world.nodes)
    rng = world.rng
    for _ in range(steps):
        world.run(rng.choice([0.0, 0.01, 0.3, 2.0]))
        name, other = rng.sample(names, 2)
        node = world.nodes[name]
        match rng.randrange(6):
            case 0 | 1:
                world.perform(node, node.paint(world.now))
            case 2:
                world.cut(*rng.choice(list(world.links) or [(name, other)]))
            case 3 | 4:
                world.join(name, other)
            case 5:
                world.restart(name, node.database.incarnation + rng.randrange(2))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(2, 7),
    loss=st.sampled_from([0.0, 0.1, 0.4, 0.8]),
    steps=st.integers(0, 25),
)
def test_all_agree_soon_after_the_faults_and_go_quiet(
    seed: int, size: int, loss: float, steps: int
) -> None:
    world = random_world(seed, size, loss)
    trouble(world, steps)
    world.settle()


@pytest.mark.parametrize("seed", range(5))
def test_news_that_are_all_lost_are_repaired_by_digests(seed: int) -> None:
    world = random_world(seed, 5, 0.0)
    world.run(5)
    world.loss = 1.0  # neither news nor beats
    for node in world.nodes.values():
        world.perform(node, node.paint(world.now))
    world.run(3)
    assert len({node.database.digest for node in world.nodes.values()}) == 5
    world.loss = 0.0
    world.run(5)
    assert len({node.database.digest for node in world.nodes.values()}) == 1


def test_a_chain_of_three_routes_within_a_fifth_of_a_second() -> None:
    world = World(1, ["alpha", "beta", "gamma"], loss=0.0)
    world.run(1)
    world.join("alpha", "beta")
    world.join("beta", "gamma")
    world.run(0.2)
    assert world.nodes["alpha"].routing.graph.path("gamma") == ["alpha", "beta", "gamma"]
    assert world.nodes["gamma"].routing.graph.path("alpha") == ["gamma", "beta", "alpha"]


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_with_an_older_sequence_of_the_same_incarnation_outbids(seed: int) -> None:
    world = random_world(seed, 4, 0.2)
    for _ in range(20):
        node = world.nodes["n2"]
        world.perform(node, node.paint(world.now))
        world.run(0.3)
    world.restart("n2", 1)
    world.settle()
    newest = world.nodes["n0"].database.get("n2", DETAILS)
    assert isinstance(newest, Details)
    assert newest.content == {"colour": 1}
    assert newest.sequence > 20
    assert not world.outdone


def test_a_greater_incarnation_of_our_own_is_told_to_membership() -> None:
    world = random_world(3, 4, 0.0)
    world.restart("n1", 9)
    world.run(3)
    world.restart("n1", 4)
    world.run(3)
    life = world.nodes["n1"].life
    assert {(one.incarnation, one.life) for one in world.outdone} <= {(9, life), (9, 0)}
    assert world.outdone
    node = world.nodes["n1"]
    world.perform(node, node.database.set_incarnation(10, world.now))
    world.settle()


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_leaves_is_gone_for_all(seed: int) -> None:
    world = random_world(seed, 5, 0.3)
    world.run(3)
    node = world.nodes["n4"]
    node.left = True
    world.perform(node, node.say(world.now) + node.database.announce(world.now))
    world.run(0.5)
    for peer in list(node.links.values()):
        world.cut("n4", peer)
    world.settle()
    for name in ("n0", "n1", "n2", "n3"):
        reach = world.nodes[name].routing.graph.reach("n4")
        assert reach is not None
        assert reach.left
        assert not reach.reachable


def test_the_same_seed_gives_the_same_messages() -> None:
    def trace() -> list[tuple[float, int, dict[str, int]]]:
        world = random_world(11, 6, 0.3)
        trouble(world, 20)
        world.run(5)
        digests = {name: node.database.digest for name, node in world.nodes.items()}
        return [(world.now, world.messages, digests)]

    assert trace() == trace()
