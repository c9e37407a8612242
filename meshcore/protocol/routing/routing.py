"""Routing: when the tables are computed.

Changes come in bursts: a node that joins makes all its neighbours speak. So a change waits a moment
for more, 20 ms in a quiet mesh; while computations follow each other closely the wait doubles, up
to 1 ms for each node that is known (at least 100 ms, at most 1 s), which bounds the share of time
that a storm can take. The loss of an edge or a node does not wait: the next tick is due at once.

Contract: feed `on_changed` with each new link state; tick when `next_deadline` has come, and hand
the changed entries on. Questions go to `graph`; they are answered from the last computation.
"""

from __future__ import annotations

from meshcore.protocol.routing.graph import Graph, Urgency
from meshcore.protocol.view import Reach
from meshcore.protocol.wire.records import LinkState

WAIT_MIN = 0.02  # a first link must be usable at once; what arrives together comes within it
WAIT_MAX_LEAST = 0.1
WAIT_MAX = 1.0
WAIT_MAX_PER_NODE = 0.001
QUIET = 4.0  # after this many waits without a change the next one is met with WAIT_MIN again


class Routing:
    """The graph as `node_id` sees it, computed no more often than is worth it."""

    def __init__(self, node_id: str) -> None:
        self.graph = Graph(node_id)
        self._wait = WAIT_MIN
        self._due: float | None = None
        self._computed_at = float("-inf")

    def on_changed(self, origin: str, link_state: LinkState | None, now: float) -> None:
        """An origin has a new link state, or (None) was forgotten for good."""
        urgency = self.graph.update(link_state, origin, now)
        if urgency is Urgency.NONE:
            return
        if urgency is Urgency.AT_ONCE:
            self._due = now
        elif self._due is None:
            if now - self._computed_at > QUIET * self._wait:
                self._wait = WAIT_MIN
            self._due = now + self._wait

    def on_pause(self, duration: float, now: float) -> None:
        """Our process did not run for `duration` seconds: that ages nobody."""
        if self.graph.on_pause(duration, now):
            self._due = now

    def adopt(self, graph: Graph, now: float) -> None:
        """Take over what another observer's graph holds; the tables are due at once."""
        self.graph = Graph.copy_of(graph, self.graph.node_id)
        self._due = now

    def next_deadline(self) -> float | None:
        return self._due

    def on_tick(self, now: float) -> dict[str, Reach]:
        """Compute where it is due; returns the entries that have changed, by node id."""
        if self._due is None or now < self._due:
            return {}
        self._due = None
        self._computed_at = now
        longest = max(WAIT_MAX_LEAST, WAIT_MAX_PER_NODE * self.graph.size)
        self._wait = min(2 * self._wait, longest, WAIT_MAX)
        return self.graph.recompute()

    def check_invariants(self) -> None:
        assert (self._due is not None) == self.graph.stale or self.graph.size == 0
        self.graph.check_invariants()
