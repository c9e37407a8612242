"""What a node knows of the mesh's shape: nodes, edges, ways, and what can be called where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshcore.protocol.mesh import Mesh

MICROSECONDS_PER_COST = 1000  # costs are shown in milliseconds


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
