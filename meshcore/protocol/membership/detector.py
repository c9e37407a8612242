"""Failure detector: how long each neighbour has been silent, and what our edge to it says.

A neighbour is a linked node. While its connection is whole, silence alone costs it one step after
the other: ALIVE, SLOW, WARNING, DEAD, by our timings; anything heard of it undoes them all at once.
Our edge to it follows (WARN, DOWN) when it also breaks its own word (`patience.py`). A lost
connection is DEAD and DOWN at once. What follows for the node itself (it may have other paths) is
concluded elsewhere, from link states.

Contract: methods named after the inputs return effects in order; an EdgeChanged comes before the
NeighbourStatus that goes with it. `on_heard` is called for every packet and only writes an
attribute; ages are looked at every `check_interval`, and a neighbour heard within `slow` costs one
comparison there. Ages are ours: nothing that a peer says about time counts, except that an
announced interval or lag buys it patience. Age never closes a connection.

Complications:
- A closed connection is SILENT until a probe says that every endpoint refuses: then GONE. Only a
  connection that had been heard within `PROBE_AGE` was closed by its process; one that was frozen
  before tells nothing.
- DEAD by age over a whole connection is `quiet`: it says that nothing is heard, not that anything
  is lost.
- Our own pauses (SIGSTOP, suspend) and lag age nobody: a check more than two intervals late adds
  its whole lateness to every last-heard time; lag, ours or announced, stretches `dead`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from meshcore.protocol.machine import Probe
from meshcore.protocol.membership.events import (
    BeatDue,
    EdgeChanged,
    EdgeRemoved,
    NeighbourStatus,
    Paused,
)
from meshcore.protocol.membership.patience import (
    LAG_FREE,
    STALLED_AGE,
    STRETCH_MAX,
    Verdict,
    can_stall,
    judge,
    stretch_of,
)
from meshcore.protocol.membership.timings import Timings, TimingsLike
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.records import DownReason, EdgeState

PROBE_AGE = 1.0  # a connection heard more recently than this was closed by the other side
LAG_MAX = LAG_FREE * STRETCH_MAX  # more has no effect, and a long pause must wear off soon
LAG_DECAY = 0.9  # per check: the own lag is the recent maximum
JITTER = 0.1  # of both intervals, so that nodes do not fall into step

DetectorEffect: TypeAlias = EdgeChanged | EdgeRemoved | NeighbourStatus | Probe | BeatDue | Paused

_EDGE_AT_WORST = {
    NodeStatus.ALIVE: EdgeState.UP,
    NodeStatus.SLOW: EdgeState.UP,
    NodeStatus.WARNING: EdgeState.WARN,
    NodeStatus.DEAD: EdgeState.DOWN,
}


_HEARD = Verdict(NodeStatus.ALIVE, False, EdgeState.UP)
_LOST = Verdict(NodeStatus.DEAD, False, EdgeState.DOWN)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A neighbour as the detector sees it, frozen; `age`, `interval` and `lag` in seconds."""

    node_id: str
    status: NodeStatus
    stalled: bool
    linked: bool
    age: float
    interval: float
    lag: float


@dataclass(slots=True)
class _Peer:
    node_id: str
    incarnation: int
    life: int
    urls: tuple[str, ...]
    interval: float  # as announced
    heard_at: float
    lag: float = 0.0  # as announced
    linked: bool = True
    probing: bool = False
    status: NodeStatus = NodeStatus.ALIVE
    stalled: bool = False
    edge: EdgeState = EdgeState.UP
    listed: bool = True  # whether our link state has the edge
    reason: DownReason = DownReason.NONE
    age: float = 0.0  # as our link state tells it
    down_at: float = 0.0


class Detector:
    """Watches the neighbours of one node. `rng` only jitters the two intervals."""

    def __init__(self, timings: TimingsLike, *, rng: random.Random, now: float) -> None:
        self._timings = Timings.of(timings)
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        self._lag = 0.0
        self._check_at: float | None = None  # None while there is nobody to watch
        self._beat_at = now + self._jittered(self._timings.send_alive_interval)

    # -- inputs of the links ---------------------------------------------------------------------

    def on_link_up(
        self,
        node_id: str,
        *,
        incarnation: int,
        life: int,
        interval: float,
        urls: Sequence[str],
        now: float,
    ) -> list[DetectorEffect]:
        """A link is up: a beat came each way. `urls`: where a probe may ask for its process.

        Where it takes over from another that was lost, that beat may be as old as the link.
        """
        old = self._peers.get(node_id)
        if old is not None and old.linked and old.life == life:
            old.incarnation, old.urls = incarnation, tuple(urls)
            return []
        peer = _Peer(node_id, incarnation, life, tuple(urls), interval, heard_at=now)
        self._peers[node_id] = peer
        if self._check_at is None:
            self._check_at = now + self._jittered(self._timings.check_interval)
        effects: list[DetectorEffect] = []
        was = old.status if old else NodeStatus.DEAD
        if old is None or old.edge is not EdgeState.UP or old.life != life:
            effects.append(self._edge_of(peer))
        if old is None or was is not NodeStatus.ALIVE or old.life != life:
            effects.append(self._status_of(peer, was))
        return effects

    def on_heard(self, node_id: str, now: float) -> Sequence[DetectorEffect]:
        """A beat, users' work or an ack came over the link (not a probe, not repair)."""
        peer = self._peers.get(node_id)
        if peer is None or not peer.linked:  # a frame that was still queued: normal
            return ()
        peer.heard_at = now
        if peer.status is NodeStatus.ALIVE:
            return ()
        return self._become(peer, _HEARD, now)

    def on_beat(
        self, node_id: str, interval: float, lag: float, now: float
    ) -> Sequence[DetectorEffect]:
        """A beat came, with the interval and the loop lag that its sender announces (seconds)."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.interval, peer.lag = interval, lag
        return self.on_heard(node_id, now)

    def on_link_down(
        self, node_id: str, *, orderly: bool, outbound_local: bool, now: float
    ) -> list[DetectorEffect]:
        """The connection is lost, or was closed on purpose by either side (`orderly`).

        `outbound_local`: over loopback or ipc, of a peer that listens nowhere: nothing can be
        probed, and only the end of its process closes such a connection.
        """
        peer = self._peers.get(node_id)
        if peer is None or not peer.linked:
            return []
        peer.linked = False
        if peer.edge is EdgeState.DOWN:  # by age; what was only quiet so far is lost now
            if not peer.listed:
                self._forget(node_id)
            return [self._status_of(peer, peer.status)]
        age = max(0.0, now - peer.heard_at - self._pause(now))
        peer.age = min(age, self._timings.dead)
        if orderly:
            return self._become(peer, _LOST, now, reason=DownReason.NONE)
        recent = age < PROBE_AGE
        if recent and outbound_local:
            return self._become(peer, _LOST, now, reason=DownReason.GONE)
        effects = self._become(peer, _LOST, now)
        if recent and peer.urls:
            peer.probing = True
            effects.append(Probe(node_id, peer.urls))
        return effects

    def on_probe(self, node_id: str, gone: bool, now: float) -> list[DetectorEffect]:
        """The answer to Probe: `gone` where every endpoint refused."""
        peer = self._peers.get(node_id)
        if peer is None or not peer.probing:  # linked again, left or forgotten meanwhile
            return []
        peer.probing = False
        if not gone:
            return []
        peer.reason = DownReason.GONE
        return [self._edge_of(peer)] if peer.listed else []

    def on_left(self, node_id: str) -> list[DetectorEffect]:
        """The node that is linked now said that it leaves: it is no neighbour any more."""
        peer = self._peers.get(node_id)
        self._forget(node_id)
        return [EdgeRemoved(node_id)] if peer is not None and peer.listed else []

    # -- time ------------------------------------------------------------------------------------

    def set_timings(self, timings: TimingsLike, now: float) -> list[DetectorEffect]:
        """Judge everybody anew, in both directions, and announce the new interval at once."""
        effects: list[DetectorEffect] = []
        self._forgive_pause(now, effects)
        self._timings = Timings.of(timings)
        for peer in self._peers.values():
            if peer.linked:
                effects += self._worsen(peer, verdict := self._judge(peer, now), now)
                if verdict != (peer.status, peer.stalled, peer.edge):
                    effects += self._become(peer, verdict, now)
        if self._peers:
            self._check_at = now + self._jittered(self._timings.check_interval)
        return [*effects, *self._beat(now)]

    def on_tick(self, now: float) -> list[DetectorEffect]:
        """Look at the ages, and beat, when it is time. Drain the sockets first."""
        effects: list[DetectorEffect] = []
        if self._check_at is not None and now >= self._check_at:
            self._check(now, effects)
        if now >= self._beat_at:
            effects += self._beat(now)
        return effects

    def next_deadline(self) -> float:
        """When to call `on_tick` next."""
        return self._beat_at if self._check_at is None else min(self._beat_at, self._check_at)

    # -- reads -----------------------------------------------------------------------------------

    def edges(self) -> list[EdgeChanged]:
        """Our end of every edge that our link state must list."""
        return [self._edge_of(peer) for peer in self._peers.values() if peer.listed]

    def neighbours(self, now: float) -> list[Neighbour]:
        """Every linked node, and those lost less than `remove` ago."""
        return [
            Neighbour(
                node_id=peer.node_id,
                status=peer.status,
                stalled=peer.stalled,
                linked=peer.linked,
                age=max(0.0, now - peer.heard_at),
                interval=peer.interval,
                lag=peer.lag,
            )
            for peer in self._peers.values()
        ]

    def age_of(self, node_id: str, now: float) -> float | None:
        """Seconds since a neighbour was heard; None of a node that is none."""
        peer = self._peers.get(node_id)
        return None if peer is None else max(0.0, now - peer.heard_at)

    @property
    def lag(self) -> float:
        """How late our own loop ran recently, in seconds (at most `LAG_MAX`)."""
        return self._lag

    def check_invariants(self) -> None:
        """Assert that what is stored twice agrees."""
        assert (self._check_at is not None) == bool(self._peers)
        for node_id, peer in self._peers.items():
            down = peer.edge is EdgeState.DOWN
            assert peer.node_id == node_id
            assert peer.linked or down, "a lost connection is DOWN"
            assert peer.edge <= _EDGE_AT_WORST[peer.status]
            assert peer.listed or (down and peer.linked), "only a whole, DOWN one is not listed"
            assert not peer.stalled or peer.status is NodeStatus.WARNING
            assert not peer.probing or not peer.linked
            assert down or (peer.reason, peer.age) == (DownReason.NONE, 0.0)

    # -- decisions -------------------------------------------------------------------------------

    def _check(self, now: float, effects: list[DetectorEffect]) -> None:
        assert self._check_at is not None
        self._lag = min(LAG_MAX, max(now - self._check_at, self._lag * LAG_DECAY))
        self._forgive_pause(now, effects)
        self._check_at = now + self._jittered(self._timings.check_interval)
        timings = self._timings
        recent = now - timings.slow
        for peer in list(self._peers.values()):
            if peer.heard_at >= recent:  # holds for lost ones too: nothing of theirs is due yet
                continue
            if peer.linked:
                effects += self._worsen(peer, self._judge(peer, now), now)
                stalled_at = peer.heard_at + STALLED_AGE + 0.001  # past the rounding of the sum
                if stalled_at > now and not peer.stalled and can_stall(peer.interval, timings):
                    # It may last for less than a check interval.
                    self._check_at = min(self._check_at, stalled_at)
            if peer.edge is EdgeState.DOWN and now - peer.down_at >= self._timings.remove:
                self._unlist(peer, effects)

    def _forgive_pause(self, now: float, effects: list[DetectorEffect]) -> None:
        pause = self._pause(now)
        if not pause:
            return
        effects.append(Paused(pause))
        for peer in self._peers.values():  # `min`: who was heard after the pause
            peer.heard_at = min(now, peer.heard_at + pause)
            peer.down_at = min(now, peer.down_at + pause)

    def _judge(self, peer: _Peer, now: float) -> Verdict:
        return judge(now - peer.heard_at, peer.interval, self._timings, self._stretch(peer))

    def _worsen(self, peer: _Peer, verdict: Verdict, now: float) -> list[DetectorEffect]:
        """Step down to the verdict, one event a step. Time alone never makes anybody better."""
        effects: list[DetectorEffect] = []
        target, stalled, edge = verdict
        while peer.status < target:
            step = NodeStatus(peer.status + 1)
            at_step = max(peer.edge, min(edge, _EDGE_AT_WORST[step]))
            last = step is target
            effects += self._become(peer, Verdict(step, stalled and last, at_step), now)
        if peer.status is target and (edge > peer.edge or (stalled and not peer.stalled)):
            effects += self._become(peer, Verdict(target, stalled, max(edge, peer.edge)), now)
        return effects

    def _become(
        self,
        peer: _Peer,
        verdict: Verdict,
        now: float,
        *,
        reason: DownReason = DownReason.SILENT,
    ) -> list[DetectorEffect]:
        """The one place that assigns a status, with the edge that belongs to it."""
        was, edge_was, stalled_was = peer.status, peer.edge, peer.stalled
        peer.status, peer.stalled, peer.edge = verdict
        effects: list[DetectorEffect] = []
        if peer.edge is not EdgeState.DOWN:
            peer.reason, peer.age = DownReason.NONE, 0.0
        elif edge_was is not EdgeState.DOWN:
            peer.reason, peer.down_at = reason, now
            if peer.linked:
                peer.age = self._timings.dead  # what was patience beyond it must not count twice
        if peer.edge is not edge_was:
            peer.listed = True
            effects.append(self._edge_of(peer))
        if (was, stalled_was) != (peer.status, peer.stalled) or not peer.linked:
            effects.append(self._status_of(peer, was))
        return effects

    def _unlist(self, peer: _Peer, effects: list[DetectorEffect]) -> None:
        if peer.listed:
            peer.listed = False
            effects.append(EdgeRemoved(peer.node_id))
        if not peer.linked:
            self._forget(peer.node_id)

    def _forget(self, node_id: str) -> None:
        self._peers.pop(node_id, None)
        if not self._peers:
            self._check_at = None

    def _beat(self, now: float) -> list[DetectorEffect]:
        self._beat_at = now + self._jittered(self._timings.send_alive_interval)
        return [BeatDue(self._lag)]

    def _pause(self, now: float) -> float:
        """How long our process has not run, if it is so long that it must not age anybody."""
        late = 0.0 if self._check_at is None else now - self._check_at
        return late if late > 2 * self._timings.check_interval else 0.0

    def _stretch(self, peer: _Peer) -> float:
        return stretch_of(self._lag, peer.lag)

    def _jittered(self, interval: float) -> float:
        return interval * self._rng.uniform(1 - JITTER, 1 + JITTER)

    def _edge_of(self, peer: _Peer) -> EdgeChanged:
        return EdgeChanged(peer.node_id, peer.edge, peer.reason, peer.age, peer.life)

    def _status_of(self, peer: _Peer, was: NodeStatus) -> NeighbourStatus:
        return NeighbourStatus(
            peer.node_id,
            peer.incarnation,
            peer.life,
            old=was,
            new=peer.status,
            stalled=peer.stalled,
            quiet=peer.linked and peer.status is NodeStatus.DEAD,
            stretch=self._stretch(peer),
        )
