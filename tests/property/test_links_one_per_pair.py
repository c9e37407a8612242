"""Whatever is dialled, cut, half-open or restarted: in the end one link per pair, on both sides.

A model of the network around real link machines: connections with random delays, in order within a
connection, none between connections; ends that notice a lost connection at different times; nodes
that are killed and start again under the same id.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshcore.protocol.machine import CloseLink, Count, Dial, Send
from meshcore.protocol.membership.dialling import DialState
from meshcore.protocol.membership.handshake import Local
from meshcore.protocol.membership.link_events import (
    AskHolder,
    Evicted,
    Handshaken,
    LinkDown,
    LinkUp,
    NewsConnect,
    Refused,
    TakeIncarnation,
)
from meshcore.protocol.membership.links import Links
from meshcore.protocol.membership.pairs import LinkState
from meshcore.protocol.wire.control import Beat, Bye, Hello, Refuse, Welcome

BEAT_INTERVAL = 0.5
NOTICED_LATE = 3.5  # a half-open connection, by the heartbeats of the transport


@dataclass(eq=False)
class End:
    """One end of a connection: whose, under which number, and when its last message arrives."""

    node: Node
    link: int
    open: bool = True
    last_at: float = 0.0
    peer: End = None  # type: ignore[assignment]


@dataclass(eq=False)
class Node:
    world: World
    node_id: str
    life: int
    incarnation: int
    alive: bool = True
    ends: dict[int, End] = field(default_factory=dict)
    up: dict[str, tuple[int, int]] = field(default_factory=dict)  # node id -> link, life
    log: list[Any] = field(default_factory=list)
    tick_at: float | None = None
    known: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers = itertools.count(2, 2)
        local = Local("mesh", self.node_id, self.incarnation, self.life)
        self.links = Links(
            local,
            random.Random(self.life),
            holder_of=lambda other: self.up[other][1] if other in self.up else None,
            known_of=self.known.get,
        )

    def do(self, call: Callable[..., list[Any]], *args: Any) -> None:
        """Feed one input, perform its effects, arm the timer."""
        if not self.alive:
            return
        now = self.world.now
        for effect in call(*args, now):
            self.perform(effect, now)
        self.links.check_invariants()
        for node_id, (link, _life) in self.up.items():
            assert self.links.link_to(node_id) == link
        deadline = self.links.next_deadline()
        if deadline is not None and (self.tick_at is None or deadline < self.tick_at):
            self.tick_at = deadline
            self.world.at(max(deadline, now), self.tick)

    def tick(self) -> None:
        if self.tick_at is not None and self.tick_at <= self.world.now:
            self.tick_at = None
            self.do(self.links.on_tick)

    def perform(self, effect: Any, now: float) -> None:
        match effect:
            case Dial(link, url):
                self.world.dial(self, link, url)
            case Send(link, message):
                self.world.send(self.ends[link], message)
            case CloseLink(link):
                self.world.close(self, link)
            case Handshaken(link):
                self.beat(link)
            case AskHolder(node_id, life):
                self.world.ask(self, node_id, life)
            case LinkUp():
                standing = self.up.get(effect.node_id)
                assert (standing and standing[0]) == effect.replaces, effect
                assert standing is None or standing[1] == effect.life, effect
                self.up[effect.node_id] = (effect.link, effect.life)
                known = self.known.get(effect.node_id, (0, 0))
                self.known[effect.node_id] = max(known, (effect.incarnation, effect.life))
                self.log.append((now, effect))
            case LinkDown():
                serving = self.up[effect.node_id][0]
                assert effect.last == (serving == effect.link), effect
                if effect.last:
                    del self.up[effect.node_id]
                self.log.append((now, effect))
            case Refused() | Evicted():
                self.log.append((now, effect))
            case TakeIncarnation(number):
                assert number > self.incarnation
                self.incarnation = number
            case Count() | NewsConnect():
                pass

    def beat(self, link: int) -> None:
        beat = Beat(self.node_id, self.incarnation, self.life, 0, BEAT_INTERVAL, 0, 0.0, 7, 0.0)
        self.world.send(self.ends[link], beat)

    def beat_all(self) -> None:
        if self.alive:
            for link in self.links.beat_links():
                self.beat(link)
            self.world.at(self.world.now + BEAT_INTERVAL, self.beat_all)

    def lost(self) -> list[LinkDown]:
        return [event for _at, event in self.log if isinstance(event, LinkDown) and event.last]


class World:
    def __init__(self, seed: int, delay_max: float = 0.05) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.delay_max = delay_max
        self.nodes: dict[str, Node] = {}
        self.lives = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(self.now + seconds, call)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = until

    def delay(self) -> float:
        return self.rng.choice([0.0, self.rng.uniform(0.0, self.delay_max)])

    def start(self, node_id: str, peers: list[str], incarnation: int | None = None) -> Node:
        life = next(self.lives)
        node = Node(self, node_id, life, life if incarnation is None else incarnation)
        self.nodes[node_id] = node
        node.beat_all()
        for url in peers:
            node.do(node.links.add_peer, url)
        return node

    def kill(self, node_id: str, *, noticed_late: bool) -> None:
        node = self.nodes[node_id]
        node.alive = False
        for end in list(node.ends.values()):
            end.open = False
            after = NOTICED_LATE if noticed_late else self.delay()
            self.after(after, lambda end=end: self._lose(end.peer, "connection lost"))  # type: ignore[misc]

    def cut(self, *, noticed_late: bool) -> None:
        """Lose one connection; one end may notice long after the other."""
        ends = [e for n in self.nodes.values() for e in n.ends.values() if e.open and e.peer.open]
        if not ends:
            return
        end = self.rng.choice(ends)
        end.open = end.peer.open = False
        self.after(self.delay(), lambda: self._lose(end, "connection lost"))
        after = NOTICED_LATE if noticed_late else self.delay()
        self.after(after, lambda: self._lose(end.peer, "connection lost"))

    def dial(self, node: Node, link: int, url: str) -> None:
        def arrive() -> None:
            target = self.nodes.get(url.split("/")[0])
            if not node.alive:
                return
            if target is None or not target.alive:
                node.do(node.links.on_dial_failed, link, "refused")
                return
            near, far = End(node, link), End(target, next(target.numbers))
            near.peer, far.peer = far, near
            node.ends[link], target.ends[far.link] = near, far
            target.do(target.links.on_accepted, far.link)
            self.after(self.delay(), lambda: near.open and node.do(node.links.on_connected, link))

        self.after(self.delay(), arrive)

    def send(self, end: End, message: Any) -> None:
        self._deliver(end, lambda far: self._receive(far, message))

    def close(self, node: Node, link: int) -> None:
        end = node.ends.pop(link, None)
        if end is not None and end.open:
            self._deliver(end, lambda far: self._lose(far, "closed by the peer"))
            end.open = False

    def ask(self, node: Node, node_id: str, life: int) -> None:
        link = node.links.link_to(node_id)
        end = None if link is None else node.ends.get(link)
        holds = end is not None and end.open and end.peer.open and end.peer.node.alive
        holds = holds and end.peer.node.life == life
        self.after(
            2 * self.delay() if holds else 1.0,
            lambda: node.do(node.links.on_holder, node_id, life, holds, "somebody"),
        )

    def _deliver(self, end: End, action: Callable[[End], None]) -> None:
        """In order within the connection; what a lost connection still carries is lost."""
        if not end.open:
            return
        end.last_at = max(end.last_at, self.now + self.delay())
        far = end.peer
        self.at(end.last_at, lambda: action(far) if far.open else None)

    def _receive(self, end: End, message: Any) -> None:
        links = end.node.links
        if isinstance(message, Beat):
            end.node.do(links.on_beat, end.link, message)
        else:
            assert isinstance(message, Hello | Welcome | Refuse | Bye)
            end.node.do(links.on_message, end.link, message)

    def _lose(self, end: End, reason: str) -> None:
        end.open = False
        if end.node.ends.pop(end.link, None) is not None:
            end.node.do(end.node.links.on_closed, end.link, reason)


def assert_one_link(world: World, one: str, other: str) -> None:
    """Both ends serve the same connection, and there is no other between them."""
    a, b = world.nodes[one], world.nodes[other]
    near, far = a.links.link_to(other), b.links.link_to(one)
    assert near is not None, (one, a.links.links(), a.links.dials(world.now))
    assert far is not None, (other, b.links.links(), b.links.dials(world.now))
    assert a.ends[near].peer is b.ends[far]
    for node, peer in ((a, other), (b, one)):
        to_peer = [end for end in node.ends.values() if end.peer.node.node_id == peer]
        assert len(to_peer) == 1
        assert [info.state for info in node.links.links() if info.node_id == peer] == [LinkState.UP]


FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "half-open", "kill", "vanish"]),
        st.floats(0.0, 1.5),  # seconds since the fault before
        st.sampled_from(["alpha", "beta"]),
        st.floats(0.0, 1.0),  # seconds until the restart
    ),
    max_size=6,
)
DIALS = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda counts: sum(counts) > 0)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), counts=DIALS, faults=FAULTS, slow=st.sampled_from([0.05, 1.0]))
def test_one_link_stays_after_any_faults(
    seed: int, counts: tuple[int, int], faults: list[tuple[str, float, str, float]], slow: float
) -> None:
    world = World(seed, delay_max=slow)
    peers = {
        "alpha": [f"beta/{number}" for number in range(counts[0])],
        "beta": [f"alpha/{number}" for number in range(counts[1])],
    }
    for node_id, urls in peers.items():
        world.start(node_id, urls)
    for kind, gap, victim, downtime in faults:
        world.run(world.now + gap)
        if kind in ("kill", "vanish"):
            world.kill(victim, noticed_late=kind == "vanish")
            world.run(world.now + downtime)
            world.start(victim, peers[victim])
        else:
            world.cut(noticed_late=kind == "half-open")
    world.run(world.now + 30.0)
    assert_one_link(world, "alpha", "beta")
    for node in world.nodes.values():
        assert not [event for _at, event in node.log if isinstance(event, Refused | Evicted)]
        states = {dial.state for dial in node.links.dials(world.now)}
        assert states <= {DialState.LINKED, DialState.PARKED}


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), counts=DIALS, gap=st.floats(0.0, 0.2))
def test_racing_dials_never_leave_a_pair_without_a_link(
    seed: int, counts: tuple[int, int], gap: float
) -> None:
    world = World(seed)
    world.start("alpha", [f"beta/{number}" for number in range(counts[0])])
    world.run(gap)
    world.start("beta", [f"alpha/{number}" for number in range(counts[1])])
    world.run(10.0)
    assert_one_link(world, "alpha", "beta")
    for node in world.nodes.values():
        assert node.lost() == []


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), downtime=st.floats(0.0, 5.0), late=st.booleans())
def test_a_killed_node_has_its_links_back_within_two_seconds_of_its_start(
    seed: int, downtime: float, late: bool
) -> None:
    world = World(seed)
    world.start("alpha", ["beta/0"])
    world.start("beta", ["alpha/0"])
    world.start("gamma", ["beta/0"])
    world.run(5.0)
    world.kill("beta", noticed_late=late)
    world.run(world.now + downtime)
    world.start("beta", ["alpha/0"])
    world.run(world.now + 2.0)
    # Gamma is dialled by nobody, and cannot dial before it has noticed anything.
    for other in ["alpha"] if late and downtime < NOTICED_LATE else ["alpha", "gamma"]:
        assert world.nodes["beta"].links.link_to(other) is not None
        assert world.nodes[other].up["beta"][1] == world.nodes["beta"].life
        lost = world.nodes[other].lost()
        assert [event.life for event in lost] == [2], "the old life, once"
    world.run(world.now + 5.0)
    assert_one_link(world, "alpha", "beta")
    assert_one_link(world, "beta", "gamma")


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    counts=DIALS,
    incarnation=st.integers(1, 100),
    late=st.booleans(),
)
def test_a_node_that_comes_back_with_an_older_incarnation_takes_a_greater_one(
    seed: int, counts: tuple[int, int], incarnation: int, late: bool
) -> None:
    world = World(seed)
    peers = {
        "alpha": [f"beta/{number}" for number in range(counts[0])],
        "beta": [f"alpha/{number}" for number in range(counts[1])],
    }
    world.start("beta", peers["beta"])
    world.start("alpha", peers["alpha"], incarnation=100)
    world.run(3.0)
    world.kill("alpha", noticed_late=late)
    alpha = world.start("alpha", peers["alpha"], incarnation=incarnation)
    world.run(20.0)
    assert_one_link(world, "alpha", "beta")
    assert alpha.links.local.incarnation == alpha.incarnation == 101
    assert not [event for _at, event in alpha.log if isinstance(event, Refused | Evicted)]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_full_mesh_of_nodes_that_all_dial_each_other_has_one_link_per_pair(seed: int) -> None:
    world = World(seed)
    names = ["alpha", "beta", "delta", "gamma", "zeta"]
    for name in names:
        world.start(name, [f"{other}/0" for other in names if other != name])
    world.run(10.0)
    for one, other in itertools.combinations(names, 2):
        assert_one_link(world, one, other)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_history(seed: int) -> None:
    histories = []
    for _ in range(2):
        world = World(seed)
        world.start("alpha", ["beta/0", "beta/1"])
        world.start("beta", ["alpha/0"])
        world.run(1.0)
        world.cut(noticed_late=True)
        world.run(8.0)
        histories.append([node.log for node in world.nodes.values()])
    assert histories[0] == histories[1]
