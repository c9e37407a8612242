"""What the silence of a neighbour means while its connection is whole: arithmetic, no state.

Two answers, for two askers. Our own application is told a status, by our six timings and nothing
else. The mesh is told an edge, and that must not depend on how impatient one observer is: an edge
worsens only when the neighbour also breaks its own word, that is when the beats that it announced
are overdue. So whoever watches a neighbour closely learns what it wants to know, and nobody's way,
work or view changes because of it.

A stuck loop gets more of both. The transport's own heartbeats end the connection of a frozen host
within 3.5 s, so who is silent at `STALLED_AGE` over a whole connection lives, and is stuck.
"""

from __future__ import annotations

from typing import NamedTuple

from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.records import EdgeState

STALLED_AGE = 3.75  # libzmq needs 2.4-3.5 s to find that a host is frozen
STALLED_INTERVALS = 3  # beats overdue by this many of their announced intervals
STALLED_PATIENCE = 3  # in `dead`
WARN_INTERVALS = 2  # announced intervals before which no edge says WARN
DOWN_INTERVALS = 4  # ... nor DOWN
INTERVAL_MAX = 60.0  # an announcement buys no more patience than this one would
LAG_FREE = 0.25  # lag up to this many seconds stretches nothing
STRETCH_MAX = 8.0


class Verdict(NamedTuple):
    """`edge` is never worse than `status` allows: WARN needs WARNING, DOWN needs DEAD."""

    status: NodeStatus
    stalled: bool
    edge: EdgeState


def stretch_of(*lags: float) -> float:
    """How much a lagging loop, whoever's, prolongs `dead`."""
    return min(STRETCH_MAX, max(1.0, *(lag / LAG_FREE for lag in lags)))


def can_stall(interval: float, timings: Timings) -> bool:
    """Whether silence of `STALLED_AGE` means a stuck loop, of who announced this interval."""
    overdue = STALLED_AGE - interval
    return timings.dead > STALLED_AGE and overdue >= STALLED_INTERVALS * interval


def judge(age: float, interval: float, timings: Timings, stretch: float) -> Verdict:
    """What a silence of `age` means, of a neighbour that announced a beat every `interval`."""
    if age <= timings.slow:
        return Verdict(NodeStatus.ALIVE, False, EdgeState.UP)
    if age <= timings.warn:
        return Verdict(NodeStatus.SLOW, False, EdgeState.UP)
    stalled = (
        timings.dead > STALLED_AGE
        and age >= STALLED_AGE
        and age - interval >= STALLED_INTERVALS * interval
    )
    dead = timings.dead * stretch
    if stalled:
        dead = max(dead, timings.dead * STALLED_PATIENCE)
    promised = min(interval, INTERVAL_MAX)
    edge = EdgeState.WARN if age > WARN_INTERVALS * promised else EdgeState.UP
    if age <= dead:
        return Verdict(NodeStatus.WARNING, stalled, edge)
    if age > DOWN_INTERVALS * promised:
        edge = EdgeState.DOWN
    return Verdict(NodeStatus.DEAD, False, edge)
