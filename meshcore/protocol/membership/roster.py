"""Roster: every node that is known, and what is concluded about it.

A neighbour is what our own detector says while its connection is whole. Any other node is what the
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

Complications: a neighbour that is silent over a whole connection (`quiet`) is DEAD and removed when
our timings say so, but what is under way to it is not lost: it is only not listed any more, and
delivery is told whether there is a way, until it is heard again, leaves, or its connection ends.
A change of our own edge reaches routing and detector in one turn; between the two the old path over
that very edge is not believed (`direct_lost`). Every deadline is a timer, so an idle mesh of any
size costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshcore.protocol.membership import known
from meshcore.protocol.membership.book import Book, RosterEvent
from meshcore.protocol.membership.events import (
    NeighbourStatus,
    Reason,
)
from meshcore.protocol.membership.known import KnownNode, ViewEntry
from meshcore.protocol.membership.timings import Timings, TimingsLike
from meshcore.protocol.view import NodeStatus, Reach


class Roster(Book):
    """What one node concludes about all nodes."""

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
        node.own = None if dead and not news.quiet else news.new
        node.direct_lost = node.own is None
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
            for node in [node for node in self._unlisted.values() if node.node_id not in named]:
                self._give_up(node, Reason.REMOVED, events)
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

    def on_tick(self, now: float) -> list[RosterEvent]:
        """Report the thresholds that were passed, every one, in order for each node."""
        events: list[RosterEvent] = []
        for node_id in self._timers.pop_due(now):
            self._age(self._nodes[node_id], now, events)
        return events

    def next_deadline(self) -> float | None:
        """When to call `on_tick` next; None while everybody is reachable."""
        return self._timers.next_deadline()

    def check_invariants(self) -> None:
        """Assert that what is stored twice agrees, and that whoever ages has a timer."""
        assert self._node_id not in self._nodes
        assert not self._nodes.keys() & self._unlisted.keys()
        for node_id, node in self._unlisted.items():
            assert node.status is NodeStatus.DEAD, node
            assert node.reason is Reason.QUIET, node
            assert node.lost_at is None, node
            assert node_id not in self._timers, node
            assert node.told == (node.life, known.case(node)), node
        for node_id, node in self._nodes.items():
            assert node.node_id == node_id
            assert not self._left.is_over(node_id, node.incarnation, node.life)
            assert (node.lost_at is not None) == (node_id in self._timers), node
            assert node.told == (node.life, known.case(node)), node
            if node.lost_at is not None:
                quiet = node.own is NodeStatus.DEAD or node.direct_lost
                assert quiet or not (node.own or node.reachable), node
                assert node.status in (NodeStatus.WARNING, NodeStatus.DEAD), node
                assert node.reason is not Reason.NONE, node
            if node.own is not None:
                assert node.status is node.own, node

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
        node = self._nodes.get(reach.node_id) or self._unlisted.get(reach.node_id)
        if node is not None and reach.incarnation < node.incarnation:
            return
        self._left.add(reach.node_id, reach.incarnation, reach.life)
        if node is None:
            return
        elif node.node_id in self._unlisted:
            self._give_up(node, Reason.LEFT, events)
        else:
            self._remove(node, Reason.LEFT, events)

    def _conclude(self, node: KnownNode, now: float, events: list[RosterEvent]) -> None:
        """Derive the status from the detector's word and the topology."""
        reach = node.reach
        reachable = reach is not None and reach.reachable
        if node.node_id in self._unlisted and not self._is_back(node, reachable, events):
            return
        if node.own is NodeStatus.DEAD:
            self._lose(node, now, events)
            self._age(node, now, events)
            return
        elif node.own is not None:
            self._found(node)
            self._become(node, node.own, reachable, Reason.NONE, events)
        elif reach is not None and reachable:
            if self._is_own_way(node):
                return
            self._found(node)
            status = NodeStatus.WARNING if reach.warn else NodeStatus.ALIVE
            self._become(node, status, True, Reason.NONE, events)
        else:
            self._lose(node, now, events)
            self._age(node, now, events)
            return
        self._tell(node, events)

    def _is_back(self, node: KnownNode, reachable: bool, events: list[RosterEvent]) -> bool:
        """Whether a node that was removed as QUIET is listed again; otherwise what that means."""
        if node.own is NodeStatus.DEAD:
            node.reachable = reachable
            self._tell(node, events)
        elif node.own is None and not reachable:
            self._give_up(node, known.reason_of(node), events)
        elif node.own is not None or not self._is_own_way(node):
            self._list_again(node, events)
            return True
        return False

    @staticmethod
    def _is_own_way(node: KnownNode) -> bool:
        """Routing has yet to say what is left without our own edge."""
        reach = node.reach
        return node.direct_lost and reach is not None and reach.next_hop == node.node_id

    def _found(self, node: KnownNode) -> None:
        if node.lost_at is not None:
            node.lost_at, node.reported = None, False
            self._timers.cancel(node.node_id)
        if node.own is None:
            node.stretch, node.stalled = 1.0, False

    def _lose(self, node: KnownNode, now: float, events: list[RosterEvent]) -> None:
        """Note when the path was lost, and what reporters tell of the last sign of life."""
        if node.own is NodeStatus.DEAD:  # by our own timings alone, whatever others say
            if node.lost_at is None:
                node.lost_at, node.silent_since = now, now - self._timings.dead
            return
        if node.lost_at is None:
            node.lost_at = node.silent_since = now
            if node.status is NodeStatus.DEAD:  # so was the old life; the new one is not yet
                self._become(node, NodeStatus.WARNING, False, known.reason_of(node), events)
        reach = node.reach
        if reach is None or reach.silent_since is None:
            return
        since = (
            reach.silent_since if not node.reported else max(node.silent_since, reach.silent_since)
        )
        node.silent_since, node.reported = since, True

    def _age(self, node: KnownNode, now: float, events: list[RosterEvent]) -> None:
        """Step a node without a path, or a quiet one, down as far as its silence goes."""
        reason = known.reason_of(node)
        if node.own is NodeStatus.DEAD:
            reachable = node.reach is not None and node.reach.reachable
            self._become(node, NodeStatus.DEAD, reachable, reason, events)
        elif node.status is not NodeStatus.DEAD:
            self._become(node, NodeStatus.WARNING, False, reason, events)
            if known.is_dead(node, self._timings, now):
                self._become(node, NodeStatus.DEAD, False, reason, events)
        else:
            node.reachable = False
            if reason is not Reason.UNREACHABLE or node.reason is Reason.QUIET:
                node.reason = reason  # but a lost reporter does not unsay what it said
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
            elif node_id in self._unlisted and reason is not Reason.QUIET:
                self._give_up(self._unlisted[node_id], reason or Reason.REMOVED, events)
            return
        node = self._living(node_id, 0, life, True, events)
        if node is not None:
            if node_id in self._unlisted:
                self._list_again(node, events)
            node.view_hops = hops
            if status == NodeStatus.DEAD:
                reason = reason or Reason.UNREACHABLE
            self._become(node, NodeStatus(status), reachable, reason, events)
            self._tell(node, events)
