"""Latency: how long a message takes over each link, and what the link therefore costs.

Every link is measured by echoes, by both ends. The round trip of a link is the least of its last
few: what one echo takes more says something about this moment, not about the link. Costs must not
flap, for every change is news to the whole mesh and moves traffic, which moves latency. So:

- A cost is a bucket, half an octave wide, of that round trip in microseconds.
- It is looked at again every `REVIEW_INTERVAL`; another cost is claimed only where it is at least
  two buckets away and was so, in the same direction, at the look before.
- A new link claims `COST_DEFAULT` and is measured for `YOUNG` before its own cost counts, so that
  what has just come up does not draw the traffic of a region at once, and a mesh that forms
  routes by hops. But a link that is far slower than that must not be taken for a short cut: once it
  is clear, it claims one octave more than it measures.
- A configured cost is claimed as it is; the round trip is told beside it.

There is no other hysteresis: next hops are plain shortest paths. (Keeping a next hop "unless
another is much better" makes loops that last: each node waits for a different change.)

Contract: `on_link_up` and `on_link_down` follow the links that serve, `on_reply` takes answers;
`on_tick` returns Ping (send an echo) and Recost (our own link state has changed).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from meshcore.protocol.machine import Timers

COST_DEFAULT = 1000  # microseconds: what a link claims until it is known
ROUND_TRIP_MIN = 50  # microseconds; below it links are alike
ECHO_INTERVAL = 2.0  # seconds, ±10 %, of all links at once: it wakes a node least
ECHOES_AT_FIRST = (0.05, 0.25, 0.5)  # seconds between the first ones of a link
HURRY_INTERVAL = 0.25  # where somebody waits for the time that an echo brings
HURRIES_MAX = 8
SAMPLES_MAX = 8  # echoes of which the least counts
SAMPLES_SURE = 4  # from which on it is believed
YOUNG = 60.0  # seconds that a link is new
REVIEW_INTERVAL = 10.0
STEPS = 2  # buckets that another cost must be away
SLOW_FACTOR = 8  # a new link this much slower than it claims says so at once

_BUCKETS = [round(ROUND_TRIP_MIN * 2 ** (step / 2)) for step in range(64)]


@dataclass(frozen=True, slots=True)
class Ping:
    """Send an echo of this number over the link that serves this neighbour."""

    node_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Recost:
    """What our link state says of some links has changed."""


class Claim(NamedTuple):
    """What our link state says of one link: both in microseconds, `round_trip` 0 if not known."""

    cost: int
    round_trip: int


Effect: TypeAlias = Ping | Recost


@dataclass(slots=True)
class _Peer:
    up_at: float
    cost: int  # as it is claimed
    samples: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    echo: tuple[int, float] | None = None  # the one under way: number, when it was sent
    echoes: int = 0
    hurries: int = 0
    trend: int = 0  # where the cost tended at the last review: -1, 0 or 1
    step: int | None = None  # the bucket that is claimed; None: the link is new


class Latency:
    """Measures the links of one node.

    Args:
        costs: configured costs by neighbour, in microseconds.
        rng: jitter of the echoes.
    """

    def __init__(self, costs: Mapping[str, int], *, rng: random.Random) -> None:
        self._costs = dict(costs)
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        self._early: Timers[str] = Timers()  # echoes that do not wait for the next round
        self._round_at: float | None = None
        self._review_at: float | None = None
        self._recost_at: float | None = None
        self._number = 0

    def on_link_up(self, node_id: str, now: float) -> None:
        """A link serves this neighbour; where it replaces another, the measuring goes on."""
        if node_id not in self._peers:
            self._peers[node_id] = _Peer(now, self._costs.get(node_id, COST_DEFAULT))
            self._early.set(node_id, now + ECHOES_AT_FIRST[0])
            if self._review_at is None:
                self._review_at = now + REVIEW_INTERVAL
                self._round_at = now + ECHO_INTERVAL

    def adopt(self, node_id: str, round_trip: float) -> None:
        """Take a link as measured for long, for who starts a mesh that has run for long."""
        peer = self._peers[node_id]
        peer.samples.extend([round_trip] * SAMPLES_MAX)
        peer.up_at, peer.step = float("-inf"), _step_of(round_trip)
        peer.cost = self._costs.get(node_id, _BUCKETS[peer.step])

    def on_link_down(self, node_id: str) -> None:
        """No link to this neighbour is left."""
        if self._peers.pop(node_id, None) is not None:
            self._early.cancel(node_id)
        if not self._peers:
            self._review_at = self._round_at = None

    def on_reply(self, node_id: str, number: int, now: float) -> float | None:
        """An answer; when its echo was sent, or None where nobody waits for it."""
        peer = self._peers.get(node_id)
        if peer is None or peer.echo is None or peer.echo[0] != number:
            return None
        sent, peer.echo = peer.echo[1], None
        peer.samples.append(max(0.0, now - sent))
        if len(peer.samples) == SAMPLES_SURE and self._is_slow(node_id, peer):
            cost = min(_step_of(min(peer.samples)) + STEPS, len(_BUCKETS) - 1)
            peer.cost, self._recost_at = _BUCKETS[cost], now
        return sent

    def hurry(self, node_id: str, now: float) -> None:
        """Somebody waits for what the next echo brings; a few times it comes sooner."""
        peer = self._peers.get(node_id)
        if peer is not None and peer.hurries < HURRIES_MAX:
            peer.hurries += 1
            self._early.set_earlier(node_id, now + HURRY_INTERVAL)

    def rest(self, node_id: str) -> None:
        """Nobody waits any more: the next wait may hurry again."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.hurries = 0

    def on_tick(self, now: float) -> list[Effect]:
        due = self._early.pop_due(now)
        if self._round_at is not None and now >= self._round_at:
            self._round_at = now + ECHO_INTERVAL * self._rng.uniform(0.9, 1.1)
            due += [one for one in self._peers if one not in self._early and one not in due]
        effects: list[Effect] = [self._ping(node_id, now) for node_id in due]
        if self._review_at is not None and now >= self._review_at:
            self._review_at = now + REVIEW_INTERVAL
            for node_id, peer in self._peers.items():
                if self._review(node_id, peer, now):
                    self._recost_at = now
        if self._recost_at is not None:
            self._recost_at = None
            effects.append(Recost())
        return effects

    def next_deadline(self) -> float | None:
        times = (self._early.next_deadline(), self._round_at, self._review_at, self._recost_at)
        return min((at for at in times if at is not None), default=None)

    @property
    def is_due(self) -> bool:
        """Whether the next tick should come at once."""
        return self._recost_at is not None

    def claim(self, node_id: str) -> Claim:
        """What our link state says of the link to this neighbour, written now."""
        peer = self._peers.get(node_id)
        if peer is None:
            return Claim(self._costs.get(node_id, COST_DEFAULT), 0)
        return Claim(peer.cost, _BUCKETS[_step_of(min(peer.samples))] if peer.samples else 0)

    def round_trip(self, node_id: str) -> float | None:
        """The least of the last round trips to this neighbour, in seconds."""
        peer = self._peers.get(node_id)
        return None if peer is None else min(peer.samples, default=None)

    def check_invariants(self) -> None:
        assert (self._review_at is not None) == (self._round_at is not None) == bool(self._peers)
        for node_id, peer in self._peers.items():
            assert node_id in self._early or peer.echoes >= len(ECHOES_AT_FIRST)
            assert len(peer.samples) <= SAMPLES_MAX
            assert peer.cost > 0

    def _ping(self, node_id: str, now: float) -> Ping:
        peer = self._peers[node_id]
        self._number += 1
        peer.echo = (self._number, now)  # one that was not answered is given up
        peer.echoes += 1
        if peer.echoes < len(ECHOES_AT_FIRST):
            self._early.set(node_id, now + ECHOES_AT_FIRST[peer.echoes])
        return Ping(node_id, self._number)

    def _review(self, node_id: str, peer: _Peer, now: float) -> bool:
        """Look at one link; True where something else is claimed from now on."""
        if len(peer.samples) < SAMPLES_SURE or now < peer.up_at + YOUNG:
            return False
        step = _step_of(min(peer.samples))
        away = STEPS if peer.step is None else step - peer.step
        trend = 0 if abs(away) < STEPS else 1 if away > 0 else -1
        held, peer.trend = trend == peer.trend, trend
        if trend == 0 or not (held or peer.step is None):
            return False
        peer.step, peer.trend = step, 0
        peer.cost = self._costs.get(node_id, _BUCKETS[step])
        return True

    def _is_slow(self, node_id: str, peer: _Peer) -> bool:
        """Whether a new link is far slower than what it claims."""
        if peer.step is not None or node_id in self._costs:
            return False
        return min(peer.samples) * 1e6 > SLOW_FACTOR * peer.cost


def _step_of(round_trip: float) -> int:
    """The bucket of a round trip in seconds: the first that is not less."""
    return min(bisect_left(_BUCKETS, round_trip * 1e6), len(_BUCKETS) - 1)
