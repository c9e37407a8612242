"""The detector against a naive model that recomputes every age from the full history."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meshcore.protocol.machine import Probe
from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.events import (
    BeatDue,
    EdgeChanged,
    EdgeRemoved,
    NeighbourStatus,
    Paused,
)
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.records import DownReason, EdgeState

DEAD = NodeStatus.DEAD
NODES = st.sampled_from(["beta", "gamma", "delta"])
CHOICES = [
    Timings(),
    Timings(slow=0.6, warn=0.8, dead=1.5, remove=2.0, check_interval=0.1),
    Timings(send_alive_interval=2.0, slow=3.0, warn=6.0, dead=12.0, remove=13.0),
]
WORST_EDGE = {0: EdgeState.UP, 1: EdgeState.UP, 2: EdgeState.WARN, 3: EdgeState.DOWN}


class Link:
    """All that ever happened to one link."""

    def __init__(self, at, interval, life):
        self.life = life
        self.heard = [at]
        self.beats = [(interval, 0.0)]  # (announced interval, lag)
        self.down = None  # when the connection was lost


class Liveness(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed):
        self.now = 100.0
        self.timings = CHOICES[0]
        self.detector = Detector(self.timings, rng=random.Random(seed), now=self.now)
        self.links = {}  # node id -> Link
        self.pauses = []  # (from, until)
        self.status = {}  # node id -> the last status that was said
        self.down_at = {}
        self.edges = {}  # our link state, as the effects made it

    # -- the model -------------------------------------------------------------------------------

    def awake(self, since, until):
        """Seconds between two times in which our process ran."""
        slept = sum(max(0.0, min(end, until) - max(start, since)) for start, end in self.pauses)
        return until - since - slept

    def worst(self, link, age, stretch):
        """The status that this silence means, read from the table of the protocol."""
        timings, (interval, _) = self.timings, link.beats[-1]
        dead = timings.dead * stretch
        if timings.dead > 3.75 and age >= max(3.75, interval + 3 * interval):
            dead = max(dead, 3 * timings.dead)
        return NodeStatus(sum(age > limit for limit in (timings.slow, timings.warn, dead)))

    def bounds(self, link):
        """The least and the most that may be concluded now: checks come at intervals."""
        age = self.awake(max(link.heard), self.now)
        lag = link.beats[-1][1]
        paused = any(self.now - end < 10.0 for _, end in self.pauses)
        high, low = min(8.0, max(1.0, lag / 0.25)), 8.0
        if not paused:
            low = high
        unchecked = 1.1 * self.timings.check_interval + 1e-6
        least = self.worst(link, age - unchecked, low)
        return least, self.worst(link, age + 1e-6, high)

    def edge_bounds(self, link):
        """The same for our edge to it, which its announced interval keeps from worsening."""
        age = self.awake(max(link.heard), self.now)
        limits = [intervals * min(60.0, link.beats[-1][0]) for intervals in (2, 4)]
        unchecked = 1.1 * self.timings.check_interval + 1e-6
        least, most = map(WORST_EDGE.get, self.bounds(link))
        overdue = [
            EdgeState(sum(at > limit for limit in limits)) for at in (age - unchecked, age + 1e-6)
        ]
        return min(least, overdue[0]), min(most, overdue[1])

    def perform(self, effects, *, left=False):
        """Apply effects as the mesh would; every event must fit the one before."""
        for effect in effects:
            match effect:
                case EdgeChanged(node_id, state):
                    before = self.edges.get(node_id)
                    if before is None or before.state is not state:
                        self.down_at[node_id] = self.now  # read only while it is DOWN
                    self.edges[node_id] = effect
                    assert 0.0 <= effect.age <= self.timings.dead
                    assert (state is EdgeState.DOWN) or effect.reason is DownReason.NONE
                case EdgeRemoved(node_id):
                    del self.edges[node_id]
                    down_for = self.awake(self.down_at[node_id], self.now)
                    assert left or down_for >= self.timings.remove - 1e-6
                case NeighbourStatus(node_id=node_id, old=old, new=new, quiet=quiet):
                    assert self.status.get(node_id, DEAD) == old
                    lost = self.links[node_id].down is not None
                    assert new <= old + 1 or lost, "a threshold was not reported"
                    self.status[node_id] = new
                    assert quiet == (new is DEAD and not lost)
                    if node_id in self.edges:
                        assert self.edges[node_id].state <= WORST_EDGE[new]
                    if lost:
                        assert node_id not in self.edges or (
                            self.edges[node_id].state is EdgeState.DOWN
                        )
                case Probe(node_id, urls):
                    assert urls
                    assert self.links[node_id].down is not None
                case Paused(duration):
                    self.pauses.append((self.now - duration, self.now))
                case BeatDue(lag):
                    assert 0.0 <= lag <= 2.0

    def forget_lost_links(self):
        """A lost link is nobody's any more as soon as our link state has no edge for it."""
        for node, link in list(self.links.items()):
            if link.down is not None and node not in self.edges:
                del self.links[node], self.status[node]

    # -- the inputs ------------------------------------------------------------------------------

    @rule(node=NODES, interval=st.sampled_from([0.5, 1.0, 30.0]), life=st.integers(1, 3))
    def link_up(self, node, interval, life):
        link = self.links.get(node)
        takes_over = link is not None and link.down is None and link.life == life
        if not takes_over:  # otherwise it is no sign of life
            self.links[node] = Link(self.now, interval, life)
        self.perform(
            self.detector.on_link_up(
                node,
                incarnation=life,
                life=life,
                interval=interval,
                urls=["tcp://127.0.0.1:1"],
                now=self.now,
            )
        )
        assert takes_over or self.status[node] is NodeStatus.ALIVE

    @rule(node=NODES)
    def heard(self, node):
        link = self.links.get(node)
        if link is not None and link.down is None:
            link.heard.append(self.now)
        self.perform(self.detector.on_heard(node, self.now))

    @rule(
        node=NODES,
        interval=st.sampled_from([0.5, 1.0, 30.0]),
        lag=st.sampled_from([0.0, 0.2, 0.5, 1e9]),
    )
    def beat(self, node, interval, lag):
        link = self.links.get(node)
        if link is not None:
            link.beats.append((interval, lag))
            if link.down is None:
                link.heard.append(self.now)
        self.perform(self.detector.on_beat(node, interval, lag, self.now))

    @rule(node=NODES, orderly=st.booleans(), outbound=st.booleans())
    def link_down(self, node, orderly, outbound):
        link = self.links.get(node)
        was_down = link is None or link.down is not None
        edge = self.edges.get(node)
        was_given_up = not was_down and (edge is None or edge.state is EdgeState.DOWN)
        if link is not None and link.down is None:
            link.down = self.now
        effects = self.detector.on_link_down(
            node, orderly=orderly, outbound_local=outbound, now=self.now
        )
        if was_down:
            assert effects == []
        elif was_given_up:  # the edge says so already; it is not quiet any more
            (told,) = effects
            assert (told.old, told.new, told.quiet) == (DEAD, DEAD, False)
        else:
            recent = self.awake(max(link.heard), self.now) < 1.0
            asked = any(isinstance(effect, Probe) for effect in effects)
            assert asked == (recent and not orderly and not outbound)
            gone = effects[0].reason is DownReason.GONE
            assert gone == (recent and not orderly and outbound)
        self.perform(effects)
        self.forget_lost_links()

    @rule(node=NODES, gone=st.booleans())
    def probed(self, node, gone):
        effects = self.detector.on_probe(node, gone, self.now)
        assert not effects or (gone and self.links[node].down is not None)
        self.perform(effects)

    @rule(node=NODES)
    def left(self, node):
        self.perform(self.detector.on_left(node), left=True)
        assert node not in self.edges
        self.links.pop(node, None)
        self.status.pop(node, None)

    @rule(timings=st.sampled_from(CHOICES))
    def new_timings(self, timings):
        self.timings = timings
        effects = self.detector.set_timings(timings, self.now)
        assert isinstance(effects[-1], BeatDue)
        self.perform(effects)

    @rule(seconds=st.floats(0.01, 12.0))
    def time_passes(self, seconds):
        until = self.now + seconds
        while (at := self.detector.next_deadline()) <= until:
            self.now = at
            self.perform(self.detector.on_tick(at))
            assert self.detector.next_deadline() > at
            self.forget_lost_links()
        self.now = until

    @precondition(lambda self: self.links)
    @rule(seconds=st.floats(2.0, 100.0), node=NODES, drained=st.booleans())
    def our_process_pauses(self, seconds, node, drained):
        self.now += seconds
        before = len(self.pauses)
        if drained:
            self.heard(node)
        self.perform(self.detector.on_tick(self.now))
        self.forget_lost_links()
        assert len(self.pauses) == before + 1
        start, end = self.pauses[-1]
        assert seconds - 1.1 * self.timings.check_interval <= end - start <= seconds + 1e-6

    @invariant()
    def agrees_with_the_model(self):
        self.detector.check_invariants()
        assert {edge.node_id: edge for edge in self.detector.edges()} == self.edges
        seen = {peer.node_id: peer for peer in self.detector.neighbours(self.now)}
        assert set(seen) == set(self.links)
        for node, link in self.links.items():
            assert seen[node].status == self.status[node]
            if link.down is not None:
                assert seen[node].status is DEAD
                assert not seen[node].linked
                continue
            least, most = self.bounds(link)
            assert least <= seen[node].status <= most, (node, least, most)
            best, worst = self.edge_bounds(link)
            edge = self.edges[node].state if node in self.edges else EdgeState.DOWN
            assert best <= edge <= worst, (node, edge, best, worst)


Liveness.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDetectorLiveness = Liveness.TestCase
