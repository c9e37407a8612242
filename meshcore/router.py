"""What a node knows of the mesh's shape: nodes, edges, ways, and what can be called where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore.protocol.view import NodeStatus

if TYPE_CHECKING:
    from meshcore.protocol.mesh import Mesh

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_COST = 1000  # costs are shown in milliseconds
_EVERYWHERE = "mesh:"


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a neighbour. `since` counts on the clock of `time.monotonic()`."""

    node_id: str
    url: str | None
    dialled: bool
    since: float
    state: str


class Offer(NamedTuple):
    """A node that offers a directive, as this node sees it.

    `cost` is that of the way to it, in microseconds; `max_workers` what it runs at a time.
    `machine` tells machines apart by what their nodes tell of them (name, system, cores, memory):
    it is None where nothing is told, and two machines that were set up alike under one name look
    like one.
    """

    node_id: str
    status: NodeStatus
    reachable: bool
    stalled: bool
    cost: int
    max_workers: int | None
    machine: tuple[Any, ...] | None

    @property
    def is_live(self) -> bool:
        """Whether work can be sent there."""
        return self.reachable and self.status is not NodeStatus.DEAD


class Router:
    """Queries of the newest snapshot; costs are in milliseconds."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def get_nodes(self) -> list[str]:
        """The ids of all known nodes, sorted, the own included, and the dead until removed."""
        return sorted(entry.node_id for entry in self._mesh.roster.nodes())

    def get_edges(self) -> list[tuple[str, str, float]]:
        """Every live edge once, as (end, end, cost), the ends sorted."""
        return [
            (one, other, cost / MICROSECONDS_PER_COST)
            for one, other, cost in self._mesh.routing.graph.edges()
        ]

    def node_capabilities(self) -> dict[str, dict[str, Any]]:
        """For each node whose details are known: `{"actions": {directive: {…}}, "max_workers"}`."""
        known = self._mesh.details_of
        return {
            node_id: {
                "actions": dict(_section(record.content, "actions")),
                "max_workers": record.content.get("max_workers"),
            }
            for node_id, record in sorted(known.items())
            if node_id in self._mesh.roster
        }

    def offers(self, directive: str) -> list[Offer]:
        """Every known node that offers a directive, alive or not, by its id.

        The directives of the namespace `mesh` are offered by everybody.
        """
        everywhere = directive.startswith(_EVERYWHERE)
        found = []
        for entry in self._mesh.roster.nodes():
            record = self._mesh.details_of.get(entry.node_id)
            content = {} if record is None else record.content
            if everywhere or directive in _section(content, "actions"):
                workers = content.get("max_workers")
                found.append(
                    Offer(
                        entry.node_id,
                        entry.status,
                        entry.reachable,
                        entry.stalled,
                        entry.cost,
                        workers if isinstance(workers, int) and workers > 0 else None,
                        _machine(content),
                    )
                )
        return sorted(found)

    def directives(self) -> list[str]:
        """Everything that is offered by anybody, sorted, without the namespace `mesh`."""
        known = self._mesh.details_of
        return sorted(
            {
                directive
                for node_id, record in known.items()
                if node_id in self._mesh.roster
                for directive in _section(record.content, "actions")
            }
        )

    @property
    def machine(self) -> tuple[Any, ...] | None:
        """What `Offer.machine` is of nodes on this machine."""
        record = self._mesh.details_of.get(self._mesh.identity.node_id)
        return None if record is None else _machine(record.content)

    @property
    def attached_to(self) -> str | None:
        """The node that an ephemeral client hangs on, once it is attached."""
        return self._mesh.attached_to

    def links(self) -> list[Link]:
        """The links of this node that are up or being made, clients not counted."""
        return [
            Link(info.node_id, info.url, info.dialled, info.since, info.state.name.lower())
            for info in self._mesh.links.links()
            if info.node_id is not None and info.client_address is None
        ]

    def link_cost(self, one: str, other: str) -> float | None:
        """What the live link between two nodes costs, in milliseconds; None: there is none."""
        cost = self._mesh.routing.graph.edge_cost(one, other)
        return None if cost is None else cost / MICROSECONDS_PER_COST

    def latency(self, node_id: str) -> float | None:
        """Seconds to `node_id` and back, as the links on the way measured it; None: not known.

        Of the own links that is the least of the last measurements, of others what their ends
        told: in steps of half an octave, and only once they have been up for a while.
        """
        way = self.route(node_id)
        if not way:
            return None
        links = [self.link_latency(one, other) for one, other in pairwise(way)]
        known = [each for each in links if each is not None]
        return sum(known) if len(known) == len(links) else None

    def link_latency(self, one: str, other: str) -> float | None:
        """Seconds of a round trip over the link between two nodes; None: not known."""
        own = self._mesh.identity.node_id
        if own in (one, other):
            return self._mesh.latency.round_trip(other if one == own else one)
        told = max(self._told(one, other), self._told(other, one))
        return told / MICROSECONDS_PER_SECOND if told else None

    def _told(self, one: str, other: str) -> int:
        record = self._mesh.database.link_state(one)
        edges = () if record is None else record.edges
        return next((edge.round_trip for edge in edges if edge.neighbour == other), 0)

    def next_hop(self, node_id: str) -> str | None:
        """The neighbour through which `node_id` is reached; None where it is not."""
        return self._mesh.routing.graph.next_hop(node_id)

    def route(self, node_id: str) -> list[str]:
        """The ids on the way, from the own one to `node_id`; empty where there is no way."""
        return self._mesh.routing.graph.path(node_id)

    def cost(self, node_id: str) -> float | None:
        """What the way to `node_id` costs in all, in milliseconds; None where there is none."""
        if node_id == self._mesh.identity.node_id:
            return 0.0
        reach = self._mesh.routing.graph.reach(node_id)
        if reach is None or not reach.reachable:
            return None
        return reach.cost / MICROSECONDS_PER_COST


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _machine(content: dict[str, Any]) -> tuple[Any, ...] | None:
    host = _section(content, "host")
    told = (host.get("name"), host.get("os"), host.get("cores"), _section(host, "ram").get("total"))
    return told if isinstance(told[0], str) and told[0] else None
