"""The roster against a naive model that concludes anew from the full history every time."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshcore.protocol.membership.events import (
    Added,
    Lost,
    NeighbourStatus,
    PeerState,
    Reason,
    Removed,
    Restarted,
    StatusChanged,
)
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.view import NodeStatus, Reach

ALIVE, SLOW, WARNING, DEAD = NodeStatus
NODES = st.sampled_from(["beta", "gamma"])
INCARNATIONS = st.sampled_from([1, 1, 1, 1, 2, 3])
# Silences and steps of time are multiples of 0.01: far from the millisecond that rounding is given.
SILENCES = st.sampled_from([0.0, 0.1, 0.5, 2.0, 4.5, 5.0, 8.0, 12.0])
CLOSE = 0.0005


@dataclass
class Loss:
    """What routing said since the path was lost: (time, reach or None)."""

    told: list[tuple[float, Reach | None]] = field(default_factory=list)

    def silent_since(self, count):
        """The last sign of life, as the first `count` words tell of it."""
        since, told = self.told[0][0], False
        for _, reach in self.told[:count]:
            if reach is None or reach.silent_since is None:
                continue
            since = max(since, reach.silent_since) if told else reach.silent_since
            told = True
        return since

    def reason(self, number):
        reach = self.told[number][1]
        if reach is None or reach.gone + reach.silent == 0:
            return Reason.UNREACHABLE
        return Reason.GONE if reach.gone > reach.silent else Reason.SILENT

    def death(self, now):
        """Under which word the node became DEAD, looking at the time until the next; or None."""
        ends = [at for at, _ in self.told[1:]] + [float("inf")]
        for number, ((start, reach), end) in enumerate(zip(self.told, ends, strict=True)):
            candidates = [max(start, self.silent_since(number + 1) + 5.0)]
            if reach is not None and reach.gone and not reach.silent:
                candidates.append(start)
            if reach is not None and reach.gone > reach.silent:
                candidates.append(max(start, self.told[0][0] + 1.0))
            first = min(candidates)
            if first <= now + CLOSE and first < end + CLOSE:  # ticks come before inputs
                return number
        return None

    def conclusion(self, now):
        """(status, reason), or None where it is removed by now."""
        if now + CLOSE >= self.silent_since(len(self.told)) + 10.0:
            return None
        number = self.death(now)
        if number is None:
            return WARNING, self.reason(-1)
        words = [self.reason(later) for later in range(number, len(self.told))]
        sure = [word for word in words if word is not Reason.UNREACHABLE]
        return DEAD, sure[-1] if sure else Reason.UNREACHABLE


def expected(history, now):
    """(incarnation, status, reachable, reason) of a node after all that happened to it; or None."""
    known = loss = reach = own = None
    quiet_at = None  # when it was found DEAD over a whole connection
    unlisted = False  # removed as such
    incarnation, left, held, stands = 0, 0, False, False
    for at, kind, said in [*history, (now, "now", None)]:
        if known is not None and loss is not None:
            concluded = loss.conclusion(at)
            if concluded is None:
                known = loss = reach = own = None
            elif not stands:
                known = (concluded[0], False, concluded[1])
        if known is not None and own is DEAD and at + CLOSE >= quiet_at + 5.0:
            known, unlisted = None, True
        if kind == "now" or said.incarnation <= left:
            continue
        if kind == "reach" and said.left:
            if (known is None and not unlisted) or said.incarnation >= incarnation:
                left, known, loss, reach, own = said.incarnation, None, None, None, None
                unlisted = False
            continue
        adds = said.reachable if kind == "reach" else said.new is not DEAD
        if known is not None or unlisted:
            if said.incarnation < incarnation:
                continue
            if unlisted and said.incarnation > incarnation:
                reach = own = None
                unlisted = False
        if known is None and not unlisted and not adds:
            continue
        if (known is None and not unlisted) or said.incarnation > incarnation:
            incarnation, loss, reach, own, held = said.incarnation, None, None, None, False
        stands = False
        if kind == "reach":
            reach, held = said, False
        else:
            if said.quiet and own is not DEAD:
                quiet_at = at
            elif said.new is DEAD and not said.quiet and own is DEAD and not unlisted:
                loss = Loss([(quiet_at - 5.0, None)])  # silent since then, as far as we know
            lost = said.new is DEAD and not said.quiet
            own, held = (None, True) if lost else (said.new, False)
        reachable = reach is not None and reach.reachable
        if own is DEAD:
            if not unlisted:
                known, loss = (DEAD, reachable, Reason.QUIET), None
        elif own is not None:
            known, loss, unlisted = (own, reachable, Reason.NONE), None, False
        elif unlisted and not reachable:
            reach = None
            unlisted = False
        elif reachable and held and reach.next_hop == reach.node_id:
            stands = True  # what was concluded before
        elif reachable:
            known, loss = (WARNING if reach.warn else ALIVE, True, Reason.NONE), None
            unlisted = False
        else:
            loss = loss or Loss()
            loss.told.append((at, reach))
            concluded = loss.conclusion(at)
            known = None if concluded is None else (concluded[0], False, concluded[1])
            if known is None:
                loss = reach = own = None
    if known is None:
        return "unlisted" if unlisted else None
    return (incarnation, *known)


class Liveness(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.now = 100.0
        self.roster = Roster("alpha", incarnation=1, life=1, timings=Timings())
        self.history = {"beta": [], "gamma": []}
        self.status = {}  # what the application was told
        self.lives = {}
        self.delivery = {}  # what delivery was told: (life, row of its table)

    def perform(self, events):
        for event in events:
            match event:
                case Added(node_id, _, life):
                    assert node_id not in self.status
                    self.status[node_id], self.lives[node_id] = ALIVE, life
                case Removed(node_id):
                    del self.status[node_id]
                case Lost(node_id):
                    assert node_id not in self.status
                case StatusChanged(node_id, old, new):
                    assert self.status[node_id] == old != new
                    assert (old, new) != (ALIVE, DEAD), "a threshold was not reported"
                    self.status[node_id] = new
                case Restarted(node_id, old_life, life):
                    assert self.lives[node_id] == old_life != life
                    self.lives[node_id] = life
                case PeerState(node_id, life, reachable, reason):
                    row = "reachable" if reachable else "held" if reason is None else "lost"
                    if reason is Reason.UNREACHABLE:
                        row = "unreachable"
                    assert self.delivery.get(node_id) != (life, row), "said twice"
                    self.delivery[node_id] = (life, row)

    @rule(
        node=NODES,
        incarnation=INCARNATIONS,
        reachable=st.booleans(),
        warn=st.booleans(),
        direct=st.booleans(),
        gone=st.integers(0, 2),
        silent=st.integers(0, 2),
        silence=SILENCES,
    )
    def routing_says(self, node, incarnation, reachable, warn, direct, gone, silent, silence):
        life = incarnation * 11
        if reachable:
            hop = node if direct else "delta"
            reach = Reach(node, incarnation, life, True, 1, 5, hop, warn=warn)
        else:
            since = round(self.now - silence, 2) if gone + silent else None
            reach = Reach(
                node, incarnation, life, False, gone=gone, silent=silent, silent_since=since
            )
        self.history[node].append((self.now, "reach", reach))
        self.perform(self.roster.on_reach({node: reach}, self.now))

    @rule(node=NODES, incarnation=INCARNATIONS)
    def leaves(self, node, incarnation):
        reach = Reach(node, incarnation, incarnation * 11, False, left=True)
        self.history[node].append((self.now, "reach", reach))
        self.perform(self.roster.on_reach({node: reach}, self.now))

    @rule(
        node=NODES,
        incarnation=INCARNATIONS,
        new=st.sampled_from([ALIVE, SLOW, WARNING, DEAD]),
        quiet=st.booleans(),
    )
    def detector_says(self, node, incarnation, new, quiet):
        words = [said for _, kind, said in self.history[node] if kind == "own"]
        heard = bool(words) and words[-1].new is not DEAD and words[-1].incarnation == incarnation
        if quiet and heard:  # only who was heard falls silent, and WARNING comes before
            self.detector_says(node, incarnation, WARNING, False)
        quiet = quiet and heard and new is DEAD
        news = NeighbourStatus(node, incarnation, incarnation * 11, ALIVE, new, quiet=quiet)
        self.history[node].append((self.now, "own", news))
        self.perform(self.roster.on_neighbour(news, self.now))

    @rule(node=NODES, incarnation=INCARNATIONS, then=st.integers(0, 700), ends=st.booleans())
    def falls_silent(self, node, incarnation, then, ends):
        for new in (ALIVE, WARNING):
            self.detector_says(node, incarnation, new, False)
        self.detector_says(node, incarnation, DEAD, True)
        if then:
            self.time_passes(then)
        if ends:
            self.detector_says(node, incarnation, DEAD, False)

    @rule(hundredths=st.integers(1, 700))
    def time_passes(self, hundredths):
        until = round(self.now + hundredths / 100, 2)
        while (at := self.roster.next_deadline()) is not None and at <= until + CLOSE:
            self.now = max(self.now, at)
            self.perform(self.roster.on_tick(self.now))
            after = self.roster.next_deadline()
            assert after is None or after > self.now
        self.now = until

    @invariant()
    def agrees_with_the_model(self):
        self.roster.check_invariants()
        for node, history in self.history.items():
            entry = self.roster.get(node)
            model = expected(history, self.now)
            if entry is None:
                assert model in (None, "unlisted")
                assert node not in self.status
                told = self.delivery.get(node)
                still = told is not None and told[1] in ("reachable", "held")
                assert still == (model == "unlisted")
                assert (self.roster.holder(node) is not None) == still
                continue
            assert (entry.incarnation, entry.status, entry.reachable, entry.reason) == model
            assert (entry.status, entry.life) == (self.status[node], self.lives[node])
            row = "reachable" if entry.reachable else "held"
            if entry.status is DEAD and not entry.reachable and entry.reason is not Reason.QUIET:
                row = "unreachable" if entry.reason is Reason.UNREACHABLE else "lost"
            assert self.delivery[node] == (entry.life, row)


Liveness.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestRosterLiveness = Liveness.TestCase
