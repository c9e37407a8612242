"""Roster: every node that is known, and what is concluded about it.

A neighbour is what our own detector says, until our edge to it is DOWN. Any other node is what the
topology says: alive while some path leads to it, and when none does, as dead as those who were
linked to it last report. So nothing is voted on or flooded as a conclusion; each node derives the
same from the same link states, and one live neighbour refutes everything.

Contract: `on_reach` (routing), `on_neighbour` (detector), `on_view` (for an ephemeral client, which
is told by its node), `on_pause` and `on_tick` return events in order, each transition once:
StatusChanged and the like for the application, then at most one PeerState per node for delivery.
A node is listed from the first path or beat on, never because of a record alone.

How an unreachable node ends::

    path lost           WARNING, not reachable; a node never skips WARNING
    all reporters GONE  DEAD at once; a majority of them: DEAD when a second has passed
    `dead` of silence   DEAD: SILENT if a reporter says so, GONE if most do, else UNREACHABLE
    `remove` of silence removed and forgotten

Silence counts from the last sign of life that a reporter knows of, else from the lost path. Only
`leave` and a greater incarnation end a life: a path or a beat of a removed node adds it again.

Complications: a change of our own edge reaches routing and detector in one turn; between the two
the old path over that very edge is not believed (`direct_lost`). Every deadline is a timer, so an
idle mesh of any size costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from meshcore.protocol.machine import Timers
from meshcore.protocol.membership import known
from meshcore.protocol.membership.events import (
    Added,
    NeighbourStatus,
    NodeEntry,
    PeerState,
    Reason,
    Removed,
    Restarted,
    StatusChanged,
)
from meshcore.protocol.membership.known import KnownNode, ViewEntry
from meshcore.protocol.membership.timings import Timings, TimingsLike
from meshcore.protocol.view import NodeStatus, Reach
from meshcore.protocol.wire.limits import NODES_MAX

LEFT_MAX = 4096  # lives remembered to have left, the latest of them

RosterEvent: TypeAlias = Added | Removed | StatusChanged | Restarted | PeerState


class Roster:
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
        self._left: dict[str, tuple[int, int]] = {}
        self._timers: Timers[str] = Timers()

    # -- inputs ----------------------------------------------------------------------------------

    def on_reach(self, changes: Mapping[str, Reach], now: float) -> list[RosterEvent]:
        """Routing found these nodes changed."""
        events: list[RosterEvent] = []
        for reach in changes.values():
            self._on_reach(reach, now, events)
        return events

    def on_neighbour(self, news: NeighbourStatus, now: float) -> list[RosterEvent]:
        """The detector judged a neighbour anew; feed what follows for routing first."""
        events: list[RosterEvent] = []
        dead = news.new is NodeStatus.DEAD
        node = self._living(news.node_id, news.incarnation, news.life, not dead, events)
        if node is None:
            return events
        node.own = None if dead else news.new
        node.direct_lost = dead
        node.stalled, node.stretch = news.stalled, news.stretch
        self._conclude(node, now, events)
        return events

    def on_view(
        self, entries: Iterable[ViewEntry], *, reset: bool, now: float
    ) -> list[RosterEvent]:
        """A client's node tells what it knows; `reset`: whoever is not named is forgotten.

        A client feeds nothing else, and `now` ages nobody: its node says what it concludes.
        """
        events: list[RosterEvent] = []
        named = {entry[0]: entry for entry in entries}
        if reset:
            for node in [node for node in self._nodes.values() if node.node_id not in named]:
                self._remove(node, Reason.REMOVED, events)
        for entry in named.values():
            self._on_view(entry, events)
        return events

    def on_pause(self, duration: float, now: float) -> None:
        """Our process did not run for `duration` seconds: that ages nobody."""
        for node in self._nodes.values():
            if node.lost_at is not None:
                node.lost_at = min(now, node.lost_at + duration)
                node.silent_since = min(now, node.silent_since + duration)
                self._arm(node)

    def set_timings(self, timings: TimingsLike, now: float) -> list[RosterEvent]:
        """Count the unreachable nodes' silence against other numbers from now on."""
        self._timings = Timings.of(timings)
        events: list[RosterEvent] = []
        for node in [node for node in self._nodes.values() if node.lost_at is not None]:
            self._age(node, now, events)
        return events

    def set_own(self, incarnation: int, life: int) -> None:
        """Our own identity changed (a greater incarnation of our id was found)."""
        self._incarnation, self._life = incarnation, life

    def on_tick(self, now: float) -> list[RosterEvent]:
        """Report the thresholds that were passed, every one, in order for each node."""
        events: list[RosterEvent] = []
        for node_id in self._timers.pop_due(now):
            self._age(self._nodes[node_id], now, events)
        return events

    def next_deadline(self) -> float | None:
        """When to call `on_tick` next; None while everybody is reachable."""
        return self._timers.next_deadline()

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
        """The life of another node that is not DEAD; None where it is, or is not known."""
        node = self._nodes.get(node_id)
        return None if node is None or node.status is NodeStatus.DEAD else node.life

    def check_invariants(self) -> None:
        """Assert that what is stored twice agrees, and that whoever ages has a timer."""
        assert self._node_id not in self._nodes
        assert len(self._left) <= LEFT_MAX
        for node_id, node in self._nodes.items():
            assert node.node_id == node_id
            assert self._left.get(node_id) != (node.incarnation, node.life)
            assert (node.lost_at is not None) == (node_id in self._timers), node
            assert node.told == (node.life, known.case(node)), node
            if node.lost_at is not None:
                assert not node.reachable, node
                assert node.own is None, node
                assert node.status in (NodeStatus.WARNING, NodeStatus.DEAD), node
                assert node.reason is not Reason.NONE, node
            if node.own is not None:
                assert node.status is node.own, node

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
        left, node = self._left.get(node_id), self._nodes.get(node_id)
        if node_id == self._node_id or (left is not None and (incarnation, life) == left):
            return None
        if node is not None and node.life == life:
            # A life may take a greater number; its link goes on naming the one it came with.
            node.incarnation = max(node.incarnation, incarnation)
            return node
        if left is not None and incarnation < left[0]:
            return None
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

    # -- conclusions -----------------------------------------------------------------------------

    def _on_reach(self, reach: Reach, now: float, events: list[RosterEvent]) -> None:
        if reach.left:
            self._on_left(reach, events)
            return
        node = self._living(reach.node_id, reach.incarnation, reach.life, reach.reachable, events)
        if node is not None:
            node.reach = reach
            node.direct_lost = False
            self._conclude(node, now, events)

    def _on_left(self, reach: Reach, events: list[RosterEvent]) -> None:
        node = self._nodes.get(reach.node_id)
        if node is not None and reach.incarnation < node.incarnation:
            return
        before = self._left.pop(reach.node_id, (0, 0))
        self._left[reach.node_id] = max(before, (reach.incarnation, reach.life))
        if len(self._left) > LEFT_MAX:
            del self._left[next(iter(self._left))]
        if node is not None:
            self._remove(node, Reason.LEFT, events)

    def _conclude(self, node: KnownNode, now: float, events: list[RosterEvent]) -> None:
        """Derive the status from the detector's word and the topology."""
        reach = node.reach
        reachable = reach is not None and reach.reachable
        if node.own is not None:
            self._found(node)
            self._become(node, node.own, reachable, Reason.NONE, events)
        elif reach is not None and reachable:
            if node.direct_lost and reach.next_hop == node.node_id:
                return  # routing has yet to say what is left without our own edge
            self._found(node)
            status = NodeStatus.WARNING if reach.warn else NodeStatus.ALIVE
            self._become(node, status, True, Reason.NONE, events)
        else:
            self._lose(node, now, events)
            self._age(node, now, events)
            return
        self._tell(node, events)

    def _found(self, node: KnownNode) -> None:
        if node.lost_at is not None:
            node.lost_at = node.reported = None
            self._timers.cancel(node.node_id)
        if node.own is None:
            node.stretch, node.stalled = 1.0, False

    def _lose(self, node: KnownNode, now: float, events: list[RosterEvent]) -> None:
        """Note when the path was lost, and what reporters tell of the last sign of life."""
        if node.lost_at is None:
            node.lost_at = node.silent_since = now
            if node.status is NodeStatus.DEAD:  # so was the old life; the new one is not yet
                self._become(node, NodeStatus.WARNING, False, known.reason_of(node.reach), events)
        reach = node.reach
        # The smallest age of all reporters comes with every change of any of them, as it was when
        # it was written: only another number is news.
        if reach is None or not reach.gone + reach.silent or reach.silent_for == node.reported:
            return
        heard_at = now - reach.silent_for
        node.silent_since = heard_at if node.reported is None else max(node.silent_since, heard_at)
        node.reported = reach.silent_for

    def _age(self, node: KnownNode, now: float, events: list[RosterEvent]) -> None:
        """Step a node without a path down as far as its silence goes."""
        reason = known.reason_of(node.reach)
        if node.status is not NodeStatus.DEAD:
            self._become(node, NodeStatus.WARNING, False, reason, events)
            if known.is_dead(node, self._timings, now):
                self._become(node, NodeStatus.DEAD, False, reason, events)
        elif reason is not Reason.UNREACHABLE:  # a lost reporter does not unsay what it said
            node.reason = reason
        if known.is_over(node, self._timings, now):
            self._remove(node, node.reason, events)
            return
        self._arm(node)
        self._tell(node, events)

    def _arm(self, node: KnownNode) -> None:
        self._timers.set(node.node_id, known.next_step_at(node, self._timings))

    # -- a client's view -------------------------------------------------------------------------

    def _on_view(self, entry: ViewEntry, events: list[RosterEvent]) -> None:
        node_id, life, status, reachable, text, hops = entry
        reason = known.parse_reason(text)
        if status == known.VIEW_REMOVED:
            node = self._nodes.get(node_id)
            if node is not None:
                self._remove(node, reason or Reason.REMOVED, events)
            return
        node = self._living(node_id, 0, life, True, events)
        if node is not None:
            node.view_hops = hops
            if status == NodeStatus.DEAD:
                reason = reason or Reason.UNREACHABLE
            self._become(node, NodeStatus(status), reachable, reason, events)
            self._tell(node, events)

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
            dead_reason = node.reason if known.is_lost(node) else None
            events.append(PeerState(node.node_id, node.life, node.reachable, dead_reason))

    def _remove(self, node: KnownNode, reason: Reason, events: list[RosterEvent]) -> None:
        del self._nodes[node.node_id]
        self._timers.cancel(node.node_id)
        events.append(Removed(node.node_id, reason))
        if node.told != (node.life, "lost"):
            dead_reason = Reason.LEFT if reason is Reason.LEFT else Reason.REMOVED
            if node.status is NodeStatus.DEAD and node.reason in known.SURELY_LOST:
                dead_reason = node.reason
            events.append(PeerState(node.node_id, node.life, False, dead_reason))

    def _own_entry(self) -> NodeEntry:
        return NodeEntry(
            self._node_id, self._incarnation, self._life, status=NodeStatus.ALIVE, reachable=True
        )
