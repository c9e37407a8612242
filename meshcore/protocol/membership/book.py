"""The book of nodes: who is listed, with what, and every way in and out.

The roster concludes; here is what it writes to. Each change of what the application or delivery
must know is an event, each once. A node is in one of two lists: the listed ones, and those that
were removed while they were only quiet, of which nothing is forgotten.
"""

from __future__ import annotations

from typing import TypeAlias

from meshcore.protocol.machine import Timers
from meshcore.protocol.membership import known
from meshcore.protocol.membership.events import (
    Added,
    Lost,
    NodeEntry,
    PeerState,
    Reason,
    Removed,
    Restarted,
    StatusChanged,
)
from meshcore.protocol.membership.known import KnownNode, LeftLives
from meshcore.protocol.membership.timings import Timings, TimingsLike
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.limits import NODES_MAX

RosterEvent: TypeAlias = Added | Removed | Lost | StatusChanged | Restarted | PeerState


class Book:
    """What one node knows of all nodes, itself included.

    `listed`: False for an ephemeral client, which is no node of the mesh.
    """

    def __init__(
        self,
        node_id: str,
        *,
        incarnation: int,
        life: int,
        timings: TimingsLike,
        listed: bool = True,
    ) -> None:
        self._node_id = node_id
        self._incarnation, self._life = incarnation, life
        self._listed = listed
        self._timings = Timings.of(timings)
        self._nodes: dict[str, KnownNode] = {}
        self._unlisted: dict[str, KnownNode] = {}  # removed as QUIET: at most one for each link
        self._left = LeftLives()
        self._timers: Timers[str] = Timers()

    # -- reads ---------------------------------------------------------------------------------

    # -- reads -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._nodes) + self._listed

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes or (self._listed and node_id == self._node_id)

    def nodes(self) -> list[NodeEntry]:
        """Everybody, ourselves first, then in the order in which they were added."""
        own = [self._own_entry()] if self._listed else []
        return own + [known.entry_of(node) for node in self._nodes.values()]

    def get(self, node_id: str) -> NodeEntry | None:
        """One node, or None where it is not known (any more)."""
        if self._listed and node_id == self._node_id:
            return self._own_entry()
        node = self._nodes.get(node_id)
        return None if node is None else known.entry_of(node)

    def candidate_life(self, node_id: str) -> int | None:
        """The life of another node that is not DEAD; None where it is, or is not known.

        One that is only quiet counts as long as the mesh has a way to it: who watches closely must
        not elect somebody else than the others do.
        """
        node = self._nodes.get(node_id) or self._unlisted.get(node_id)
        if node is None:
            return None
        quiet = node.own is NodeStatus.DEAD and node.reachable
        return None if node.status is NodeStatus.DEAD and not quiet else node.life

    def holder(self, node_id: str) -> NodeEntry | None:
        """Who holds an id, also where it is not listed because it is quiet."""
        node = self._unlisted.get(node_id)
        return self.get(node_id) if node is None else known.entry_of(node)

    def set_own(self, incarnation: int, life: int) -> None:
        """Our own identity changed (a greater incarnation of our id was found)."""
        self._incarnation, self._life = incarnation, life

    # -- identity --------------------------------------------------------------------------------

    def _living(
        self,
        node_id: str,
        incarnation: int,
        life: int,
        add: bool,
        events: list[RosterEvent],
    ) -> KnownNode | None:
        """The node to which news of this life applies; None where the news is stale."""
        node = self._nodes.get(node_id) or self._unlisted.get(node_id)
        if node_id == self._node_id or self._left.is_over(node_id, incarnation, life):
            return None
        if node is not None and node.life == life:
            # A life may take a greater number; its link goes on naming the one it came with.
            node.incarnation = max(node.incarnation, incarnation)
            return node
        if self._left.is_older(node_id, incarnation):
            return None
        if node_id in self._unlisted and node is not None and incarnation >= node.incarnation:
            self._give_up(node, Reason.REMOVED, events)  # that life is over
            node = None
        if node is None:
            if not add or len(self._nodes) >= NODES_MAX:
                return None
            node = self._nodes[node_id] = KnownNode(node_id, incarnation, life)
            events.append(Added(node_id, incarnation, life))
        elif incarnation < node.incarnation:
            return None
        else:
            self._restart(node, incarnation, life, events)
        return node

    def _restart(
        self, node: KnownNode, incarnation: int, life: int, events: list[RosterEvent]
    ) -> None:
        """Everything that was concluded about the old life is void; what follows is concluded."""
        events.append(Restarted(node.node_id, node.life, life, incarnation))
        node.incarnation, node.life = incarnation, life
        node.forget_life()
        self._timers.cancel(node.node_id)

    def _list_again(self, node: KnownNode, events: list[RosterEvent]) -> None:
        del self._unlisted[node.node_id]
        self._nodes[node.node_id] = node
        node.status, node.reason = NodeStatus.ALIVE, Reason.NONE
        events.append(Added(node.node_id, node.incarnation, node.life))

    # -- the ends of every path ------------------------------------------------------------------

    def _become(
        self,
        node: KnownNode,
        status: NodeStatus,
        reachable: bool,
        reason: Reason,
        events: list[RosterEvent],
    ) -> None:
        """The one place that assigns a status."""
        was = node.status
        node.status, node.reachable, node.reason = status, reachable, reason
        if status is not was:
            events.append(StatusChanged(node.node_id, was, status, reachable, reason))

    def _tell(self, node: KnownNode, events: list[RosterEvent]) -> None:
        told = (node.life, known.case(node))
        if told != node.told:
            node.told = told
            dead_reason = node.reason if told[1] in ("lost", "unreachable") else None
            events.append(PeerState(node.node_id, node.life, node.reachable, dead_reason))

    def _remove(self, node: KnownNode, reason: Reason, events: list[RosterEvent]) -> None:
        del self._nodes[node.node_id]
        self._timers.cancel(node.node_id)
        events.append(Removed(node.node_id, reason))
        if reason is Reason.QUIET:
            node.lost_at = None
            self._unlisted[node.node_id] = node
            self._tell(node, events)
        elif node.told != (node.life, "lost"):
            dead_reason = Reason.LEFT if reason is Reason.LEFT else Reason.REMOVED
            if node.status is NodeStatus.DEAD and node.reason in known.SURELY_LOST:
                dead_reason = node.reason
            events.append(PeerState(node.node_id, node.life, False, dead_reason))

    def _give_up(self, node: KnownNode, reason: Reason, events: list[RosterEvent]) -> None:
        """Forget a node that had been removed as QUIET."""
        del self._unlisted[node.node_id]
        events.append(Lost(node.node_id, reason))
        dead_reason = Reason.REMOVED if reason is Reason.UNREACHABLE else reason
        events.append(PeerState(node.node_id, node.life, False, dead_reason))

    def _own_entry(self) -> NodeEntry:
        return NodeEntry(
            self._node_id, self._incarnation, self._life, status=NodeStatus.ALIVE, reachable=True
        )
