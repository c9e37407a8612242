"""Graph: who can be reached, over whom, and at what cost, out of what every origin says.

An edge is real when both ends advertise it, each to the very life that the other says it has, and
neither says that it is down; the dearer of the two claims is its cost, so that both directions cost
the same and nobody can make himself cheap. From the real edges follows the tree of shortest paths;
from the tree, and from what reachable nodes say about lost neighbours, one `Reach` for each node.

Contract: feed every origin's newest link state to `update` (None: forget it); it tells how urgent
the change is. Ask `recompute` for the entries that have changed. Between the two, all answers are
those of the last `recompute`, and `stale` is True. A node is who has a link state; a name that only
others mention is none. The last word of a node that left counts as a link state without edges.

Complications: who comes back is linked before its first word has reached everybody; without the
lives in the edges, the new link and the last word of the old life would make that one alive again.
A WARN edge costs 2^56 more than it claims, so that any way without one wins. Names become dense
integers; one is reused once nothing mentions its name and the tables were computed without it.
"""

from __future__ import annotations

from meshcore.protocol.routing.claims import Down, face, same_claim
from meshcore.protocol.routing.claims import Urgency as Urgency
from meshcore.protocol.routing.tree import (
    INFINITE,
    NOBODY,
    SLOT_MASK,
    ShortestPathTree,
)
from meshcore.protocol.view import Reach
from meshcore.protocol.wire.limits import NODES_MAX
from meshcore.protocol.wire.records import DownReason, Edge, EdgeState, LinkState

WARN_COST = 1 << 56  # above any way without a WARN edge: 2^14 nodes times 2^40
NO_REPORTS = (0, 0, None)
MENTIONED_MAX = SLOT_MASK - NODES_MAX  # names with a slot; the rest is left to origins


class Graph:
    """The reachable part of the mesh as `node_id` sees it."""

    def __init__(self, node_id: str) -> None:
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        self._free: list[int] = []
        self._idle: dict[int, None] = {}  # perhaps nothing mentions them any more
        self._records: dict[int, LinkState] = {}
        self._claims: list[dict[int, Edge]] = []  # by neighbour, of edges that are not down
        self._adjacency: list[dict[int, int]] = []  # cost by neighbour, of real edges
        self._downs: dict[int, dict[int, Down]] = {}  # edges that are down, by claimant
        self._down_by: dict[int, dict[int, Down]] = {}  # the same by whom they lead to
        self._mentions: list[int] = []  # in how many claims of others a slot occurs
        self._changed: dict[tuple[int, int], int] = {}  # cost before, of real edges
        self._dirty: dict[int, None] = {}  # whose entry must be looked at though no way changed
        self._reaches: dict[str, Reach] = {}
        self._tree = ShortestPathTree(self._names, self._adjacency, 0)
        self._fresh = False  # the tree was computed at least once
        self._root = self._slot(node_id)
        self.node_id = node_id

    @classmethod
    def copy_of(cls, other: Graph, node_id: str) -> Graph:
        """What another observer was told, seen from `node_id`, which is in it."""
        copy = cls.__new__(cls)
        copy.__dict__.update(other.__dict__)
        for name in ("_slots", "_names", "_free", "_idle", "_records", "_claims", "_mentions"):
            setattr(copy, name, getattr(other, name).copy())
        copy._adjacency = [each.copy() for each in other._adjacency]
        copy._downs = {slot: downs.copy() for slot, downs in other._downs.items()}
        copy._down_by = {slot: reports.copy() for slot, reports in other._down_by.items()}
        copy.node_id, copy._root, copy._fresh = node_id, copy._slots[node_id], False
        copy._changed, copy._dirty, copy._reaches = {}, dict.fromkeys(copy._records), {}
        copy._tree = ShortestPathTree(copy._names, copy._adjacency, copy._root, grown=True)
        return copy

    # ---- what origins say

    def update(self, link_state: LinkState | None, origin: str, now: float = 0.0) -> Urgency:
        """Take over an origin's newest link state, or forget it; its ages count from `now`."""
        if link_state is None and origin not in self._slots:
            return Urgency.NONE
        slot = self._slot(origin)
        before = self._records.get(slot)
        if link_state is None:
            if before is None:
                return Urgency.NONE
            del self._records[slot]
            self._idle[slot] = None
        else:
            self._records[slot] = link_state
        said = () if link_state is None or link_state.left else link_state.edges
        is_new_life = before is None or link_state is None or before.life != link_state.life
        urgency = max(
            self._take_claims(slot, said, anew=is_new_life), self._take_downs(slot, said, now)
        )
        if before is None or link_state is None or face(before) != face(link_state):
            ended = before is not None and (link_state is None or link_state.left)
            urgency = max(urgency, Urgency.AT_ONCE if ended else Urgency.LATER)
            self._dirty[slot] = None
        if not self.stale:
            self._release()  # what was claimed in vain leaves nothing behind
        return urgency

    def _take_claims(self, slot: int, said: tuple[Edge, ...], *, anew: bool) -> Urgency:
        """`anew`: what others claim about this slot may have become true or untrue."""
        before, slots = self._claims[slot], self._slots
        claims: dict[int, Edge] = {}
        for edge in said:
            if edge.state is not EdgeState.DOWN:
                known = slots.get(edge.neighbour)
                if known in before or self._mention(edge.neighbour):  # most stay what they were
                    claims[slots[edge.neighbour]] = edge
        self._claims[slot] = claims
        urgency = Urgency.NONE
        for other in before:
            if other not in claims:
                self._unmention(other)
                urgency = max(urgency, self._set_edge(slot, other))
        for other, edge in claims.items():
            if anew or not same_claim(before.get(other), edge):
                urgency = max(urgency, self._set_edge(slot, other))
        return urgency

    def _take_downs(self, slot: int, said: tuple[Edge, ...], now: float) -> Urgency:
        before = self._downs.pop(slot, {})
        downs: dict[int, Down] = {}
        for edge in said:
            if edge.state is EdgeState.DOWN and self._mention(edge.neighbour):
                other = self._slots[edge.neighbour]
                old = before.get(other)
                same = old is not None and (old.edge.age, old.edge.life) == (edge.age, edge.life)
                downs[other] = Down(edge, old.since if old and same else now - edge.age)
        urgency = Urgency.NONE
        for other in before:
            self._unmention(other)
            if other not in downs:
                urgency = Urgency.LATER
                self._look_at(other)
                del self._down_by[other][slot]
                if not self._down_by[other]:
                    del self._down_by[other]
        for other, down in downs.items():
            old = before.get(other)
            if old != down:
                news = old is None or old.edge.reason is not down.edge.reason
                urgency = max(urgency, Urgency.AT_ONCE if news else Urgency.LATER)
                self._look_at(other)
                self._down_by.setdefault(other, {})[slot] = down
        if downs:
            self._downs[slot] = downs
        return urgency

    def on_pause(self, duration: float, now: float) -> bool:
        """Our process did not run for `duration` seconds: who was silent then is no older."""
        for slot, downs in self._downs.items():
            for other, down in downs.items():
                shifted = Down(down.edge, min(now, down.since + duration))
                downs[other] = self._down_by[other][slot] = shifted
                self._look_at(other)
        return bool(self._downs)

    def _look_at(self, slot: int) -> None:
        """What is reported of a slot has changed, and with it what is known of its peers."""
        self._dirty[slot] = None
        self._dirty.update(dict.fromkeys(self._adjacency[slot]))

    def _set_edge(self, a: int, b: int) -> Urgency:
        """Derive the real edge between two slots from both claims."""
        cost = self._cost(a, b)
        before = self._adjacency[a].get(b, INFINITE)
        if cost == before:
            return Urgency.NONE
        self._changed.setdefault((a, b) if a < b else (b, a), before)
        self._dirty[a] = self._dirty[b] = None
        if cost == INFINITE:
            del self._adjacency[a][b], self._adjacency[b][a]
            return Urgency.AT_ONCE
        self._adjacency[a][b] = self._adjacency[b][a] = cost
        return Urgency.LATER

    def _cost(self, a: int, b: int) -> int:
        """What both claims make of an edge: INFINITE where it is not real."""
        one, two = self._claims[a].get(b), self._claims[b].get(a)
        if one is None or two is None or not (self._is_about(one, b) and self._is_about(two, a)):
            return INFINITE
        warn = one.state is EdgeState.WARN or two.state is EdgeState.WARN
        return max(one.cost, two.cost) + (WARN_COST if warn else 0)

    def _is_about(self, edge: Edge, slot: int) -> bool:
        """Whether an edge leads, or led, to the life that this slot says it has."""
        record = self._records.get(slot)
        return not edge.life or record is None or edge.life == record.life

    # ---- the tables

    @property
    def stale(self) -> bool:
        """Whether something has changed since the last `recompute`."""
        return bool(self._dirty or self._changed) or not self._fresh

    def recompute(self) -> dict[str, Reach]:
        """Bring the tables up to date; returns the entries that have changed, by node id.

        A node that was forgotten has no entry any more, and none is returned for it.
        """
        dirty = self._dirty
        if not self._fresh or len(self._changed) * 8 > len(self._names):
            dirty.update(dict.fromkeys(self._tree.rebuild()))  # about as much work as following
            self._fresh = True
        elif self._changed:
            dirty.update(dict.fromkeys(self._tree.update(self._changed)))
        self._changed.clear()
        self._dirty = {}
        changes: dict[str, Reach] = {}
        flipped = self._renew(dirty, changes)
        # Who has become reachable, or has ceased to be, gains or loses the right to report.
        reported = {other: None for slot in flipped for other in self._downs.get(slot, ())}
        beside = {peer: None for other in reported for peer in self._adjacency[other]}
        self._renew(reported | beside, changes)
        self._release()
        return changes

    def _renew(self, slots: dict[int, None], changes: dict[str, Reach]) -> list[int]:
        """Derive the entries of these slots; returns whose reachability has changed."""
        names, records, reaches, tree = self._names, self._records, self._reaches, self._tree
        distance, hops, first = tree.distance, tree.hops, tree.first
        flipped = []
        for slot in slots:
            name = names[slot]
            before = reaches.get(name)
            record = records.get(slot)
            if record is None:
                if before is not None:
                    del reaches[name]
                    if before.reachable:
                        flipped.append(slot)
                continue
            far = distance[slot]
            on_the_way = first[slot]
            incarnation, life = record.incarnation, record.life
            reports = self._reports(slot) if slot in self._down_by else NO_REPORTS
            if on_the_way == NOBODY:  # out of reach, or ourselves
                reachable = far == 0
                reach = Reach(
                    name, incarnation, life, reachable, 0, 0, None, False, *reports, record.left
                )
            else:
                reachable = True
                warn = far >= WARN_COST and min(self._adjacency[slot].values()) >= WARN_COST
                cost, next_hop = far & (WARN_COST - 1), names[on_the_way]
                reach = Reach(
                    name, incarnation, life, True, hops[slot], cost, next_hop, warn,
                    *reports, record.left,
                )  # fmt: skip
            if reach != before:
                reaches[name] = changes[name] = reach
                if reachable != (before is not None and before.reachable):
                    flipped.append(slot)
        return flipped

    def _reports(self, slot: int) -> tuple[int, int, float | None]:
        """What reachable nodes say about having lost this one: (gone, silent, last heard at)."""
        heard = self._heard(slot)
        gone = sum(down.edge.reason is DownReason.GONE for down in heard)
        # Whoever is out of reach with it may have heard of it until it was out of reach itself.
        words = [heard, *map(self._heard, self._adjacency[slot])]
        since = max(down.since for each in words for down in each) if all(words) else None
        return gone, len(heard) - gone, since

    def _heard(self, slot: int) -> list[Down]:
        """The words of reachable nodes that have lost this one."""
        return [
            down
            for claimant, down in self._down_by.get(slot, {}).items()
            if self._tree.distance[claimant] != INFINITE
            and claimant in self._records
            and self._is_about(down.edge, slot)
        ]

    # ---- questions

    @property
    def size(self) -> int:
        """How many nodes have a link state."""
        return len(self._records)

    def nodes(self) -> list[str]:
        """The ids of all nodes, sorted, as of the last `recompute`."""
        return sorted(self._reaches)

    def reach(self, node_id: str) -> Reach | None:
        """What is known of a node; None where it is none."""
        return self._reaches.get(node_id)

    def next_hop(self, node_id: str) -> str | None:
        """The neighbour that leads there; None for ourselves and where there is no way."""
        reach = self._reaches.get(node_id)
        return None if reach is None else reach.next_hop

    def path(self, node_id: str) -> list[str]:
        """The way to a node, our own id first; empty where there is none."""
        reach = self._reaches.get(node_id)
        if reach is None or not reach.reachable:
            return []
        slot = self._slots[node_id]
        way = [slot]
        while slot != self._root:
            slot = self._tree.parent[slot]
            way.append(slot)
        return [self._names[slot] for slot in reversed(way)]

    def edge_cost(self, one: str, other: str) -> int | None:
        """What the real edge between two nodes costs, in µs; None where there is none."""
        a, b = self._slots.get(one), self._slots.get(other)
        cost = None if a is None or b is None else self._adjacency[a].get(b)
        return None if cost is None else cost & (WARN_COST - 1)

    def edges(self) -> list[tuple[str, str, int]]:
        """The real edges of what is reachable: (smaller id, greater id, cost in µs), sorted."""
        names, distance = self._names, self._tree.distance
        found = []
        for slot, others in enumerate(self._adjacency):
            if distance[slot] == INFINITE:
                continue
            for other, cost in others.items():
                if names[slot] < names[other] and distance[other] != INFINITE:
                    found.append((names[slot], names[other], cost & (WARN_COST - 1)))
        return sorted(found)

    # ---- slots

    def _slot(self, name: str) -> int:
        slot = self._slots.get(name)
        if slot is not None:
            return slot
        if self._free:
            slot = self._free.pop()
            self._names[slot] = name
        else:
            slot = len(self._names)
            self._names.append(name)
            self._claims.append({})
            self._adjacency.append({})
            self._mentions.append(0)
            self._tree.grow()
        self._slots[name] = slot
        return slot

    def _mention(self, name: str) -> bool:
        """Count a claim about `name`; False where invented names have used up the room."""
        if len(self._slots) >= MENTIONED_MAX and name not in self._slots:
            return False
        self._mentions[self._slot(name)] += 1
        return True

    def _unmention(self, slot: int) -> None:
        self._mentions[slot] -= 1
        if not self._mentions[slot]:
            self._idle[slot] = None

    def _release(self) -> None:
        for slot in self._idle:
            if slot != self._root and slot not in self._records and not self._mentions[slot]:
                del self._slots[self._names[slot]]
                self._names[slot] = ""  # the name may come back in another slot
                self._free.append(slot)
        self._idle.clear()

    # ---- tests and the simulator

    def check_invariants(self) -> None:
        """Re-derive the indexes, and the tree where it is not stale."""
        mentions = [0] * len(self._names)
        for slot, claims in enumerate(self._claims):
            downs = self._downs.get(slot, {})
            assert not claims.keys() & downs.keys()
            assert slot in self._records or not (claims or downs)
            for other in (*claims, *downs):
                mentions[other] += 1
            costs = {other: self._cost(slot, other) for other in claims}
            real = {other: cost for other, cost in costs.items() if cost != INFINITE}
            assert real == self._adjacency[slot]
            assert all(self._down_by[other][slot] == edge for other, edge in downs.items())
        assert mentions == self._mentions
        assert sum(map(len, self._down_by.values())) == sum(map(len, self._downs.values()))
        assert all(self._names[slot] == name for name, slot in self._slots.items())
        assert len(self._slots) + len(self._free) == len(self._names)
        if self.stale:
            return
        assert self._reaches.keys() == {self._names[slot] for slot in self._records}
        fresh = ShortestPathTree(self._names, self._adjacency, self._root, grown=True)
        fresh.rebuild()
        assert fresh.distance == self._tree.distance
        assert fresh.parent == self._tree.parent
        assert fresh.first == self._tree.first
        assert fresh.hops == self._tree.hops
        standing, self._reaches = self._reaches, {}
        self._renew(dict.fromkeys(self._records), {})
        assert self._reaches == standing
        self._reaches = standing
