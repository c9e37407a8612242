"""What this node says of itself: its link state, its details, its beats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from meshcore.protocol.election.scale import Scale
from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.links import Links
from meshcore.protocol.routing.latency import Latency
from meshcore.protocol.wire.control import Beat
from meshcore.protocol.wire.records import Details, Edge, LinkState


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this core is. `listed` False: an ephemeral client, no node of the mesh."""

    mesh: str
    node_id: str
    incarnation: int
    life: int
    listed: bool = True
    description: str = "another process"


class OwnRecords:
    """Writes the node's own records, from what the machines hold at that moment."""

    def __init__(
        self,
        links: Links,
        detector: Detector,
        latency: Latency,
        scale: Scale,
        *,
        digest: Callable[[], int],
    ) -> None:
        self._links, self._detector = links, detector
        self._latency, self._scale = latency, scale
        self._digest = digest
        self._beats = 0
        self.forced: bool | None = None  # to be master or not
        self.details: dict[str, Any] = {}

    def link_state(self, sequence: int) -> LinkState:
        local = self._links.local
        edges = []
        for edge in self._detector.edges():
            cost, round_trip = self._latency.claim(edge.node_id)
            edges.append(
                Edge(
                    edge.node_id,
                    cost,
                    edge.state,
                    edge.reason,
                    edge.age,
                    round_trip,
                    edge.life,
                )
            )
        return LinkState(
            origin=local.node_id,
            incarnation=local.incarnation,
            sequence=sequence,
            life=local.life,
            edges=tuple(edges),
            endpoints=local.endpoints,
            scale=self._scale.name,
            born=self._scale.born,
            forced=self.forced,
        )

    def left(self, sequence: int) -> LinkState:
        """The last word of a node that leaves."""
        return replace(self.link_state(sequence), edges=(), left=True)

    def write_details(self, sequence: int) -> Details:
        local = self._links.local
        return Details(local.node_id, local.incarnation, sequence, self.details)

    def beat(self, lag: float, now: float) -> Beat:
        local = self._links.local
        self._beats += 1
        return Beat(
            node_id=local.node_id,
            incarnation=local.incarnation,
            life=local.life,
            number=self._beats,
            interval=local.interval,
            digest=self._digest(),
            lag=lag,
            scale=self._scale.name,
            position=self._scale.position(now),
        )
