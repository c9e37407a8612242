"""Shortest path tree: the cheapest way from one root to everybody, kept while edges change.

A changed edge matters to few nodes: those whose way led over it, and those that it now brings
closer. So an update cuts the subtrees that hung on dearer edges, lets their nodes look for the best
offer of an unharmed neighbour, and runs Dijkstra from there; a full computation is the same loop
started at the root.

Contract: nodes are small integers into lists that the owner extends; costs are positive integers,
the same in both directions. Among equally cheap ways a node hangs on the neighbour with the smaller
*name*. That choice depends on distances alone, and the ways it leads to are those that come first
when read from their destination; the rest of such a way is the choice of every node on it, so that
nodes which see the same graph forward along one and the same way, without loops.

Complications: names decide ties, never the integers, which differ from node to node. A heap entry
is one integer, `distance << SLOT_BITS | node`: half the time of a tuple.

Source: G. Ramalingam, T. Reps, "An incremental algorithm for a generalization of the shortest-path
problem", J. Algorithms 21 (1996), simplified to one cut and one Dijkstra for a batch of changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush

SLOT_BITS = 17
SLOT_MASK = (1 << SLOT_BITS) - 1
INFINITE = 1 << 80  # above every sum of costs: 2^14 nodes times 2^57
NOBODY = -1


class ShortestPathTree:
    """Distances and parents of every slot; `names` and `adjacency` are the owner's, read only here.

    Read `distance` (INFINITE where there is no way), `parent`, `first` (the first hop) and `hops`;
    they are those of the last `rebuild` or `update`.
    """

    def __init__(
        self,
        names: list[str],
        adjacency: list[dict[int, int]],
        root: int,
        *,
        grown: bool = False,
    ) -> None:
        """`grown`: there is room for all names at once."""
        self._names = names
        self._adjacency = adjacency
        self._root = root
        self.distance: list[int] = []
        self.parent: list[int] = []
        self.first: list[int] = []
        self.hops: list[int] = []
        for _ in names if grown else ():
            self.grow()

    def grow(self) -> None:
        """Make room for one more slot; the first one grown is slot 0."""
        self.distance.append(INFINITE)
        self.parent.append(NOBODY)
        self.first.append(NOBODY)
        self.hops.append(0)

    def rebuild(self) -> list[int]:
        """Compute everything anew; returns all slots."""
        size = len(self.distance)
        # In place: the owner may hold the lists.
        self.distance[:] = [INFINITE] * size
        self.parent[:] = [NOBODY] * size
        self.first[:] = [NOBODY] * size
        self.hops[:] = [0] * size
        self.distance[self._root] = 0
        order, _ = self._settle([self._root])
        parent, first, hops, root = self.parent, self.first, self.hops, self._root
        for node in order[1:]:  # nearest first, so that a parent is always done before its children
            above = parent[node]
            first[node] = node if above == root else first[above]
            hops[node] = hops[above] + 1
        return list(range(size))

    def update(self, changed: Mapping[tuple[int, int], int]) -> list[int]:
        """Follow a batch of changed edges, given as {(a, b): the cost before, or INFINITE}.

        The adjacency already holds the costs of now. Returns the slots whose distance, first hop or
        hops may have changed.
        """
        cut = self._cut(changed)
        heap = self._best_offers(cut)
        moved = self._closer(changed, heap)
        order, also_moved = self._settle(heap)
        moved += also_moved
        lost = [node for node in cut if self.distance[node] == INFINITE]
        for node in lost:
            self.first[node], self.hops[node] = NOBODY, 0
        if moved:
            order = sorted({*order, *moved}, key=self.distance.__getitem__)
        return lost + order + self._relabel(order)

    def _cut(self, changed: Mapping[tuple[int, int], int]) -> list[int]:
        """Take everybody off the tree whose way led over an edge that became dearer."""
        adjacency, parent, distance = self._adjacency, self.parent, self.distance
        stack = []
        for (a, b), before in changed.items():
            if adjacency[a].get(b, INFINITE) > before:
                if parent[b] == a:
                    stack.append(b)
                elif parent[a] == b:
                    stack.append(a)
        cut = []
        while stack:
            node = stack.pop()
            if distance[node] != INFINITE:
                distance[node] = INFINITE
                cut.append(node)
                stack += [other for other in adjacency[node] if parent[other] == node]
        return cut

    def _best_offers(self, cut: list[int]) -> list[int]:
        """Hang each cut node on its best neighbour that is still, or again, on the tree."""
        distance, names = self.distance, self._names
        heap: list[int] = []
        for node in cut:
            best, choice = INFINITE, NOBODY
            for other, cost in self._adjacency[node].items():
                offer = distance[other] + cost
                if offer < best or (offer == best and names[other] < names[choice]):
                    best, choice = offer, other
            self.parent[node] = choice
            if choice != NOBODY:
                distance[node] = best
                heappush(heap, best << SLOT_BITS | node)
        return heap

    def _closer(self, changed: Mapping[tuple[int, int], int], heap: list[int]) -> list[int]:
        """Take the ways that cheaper and new edges open; returns who has only a new parent."""
        adjacency, parent, distance, names = (
            self._adjacency,
            self.parent,
            self.distance,
            self._names,
        )
        moved = []
        for edge, before in changed.items():
            cost = adjacency[edge[0]].get(edge[1], INFINITE)
            if cost >= before:
                continue
            for near, far in (edge, edge[::-1]):
                offer = distance[near] + cost
                if offer < distance[far]:
                    distance[far], parent[far] = offer, near
                    heappush(heap, offer << SLOT_BITS | far)
                elif offer == distance[far] and names[near] < names[parent[far]]:
                    parent[far] = near
                    moved.append(far)
        return moved

    def _settle(self, heap: list[int]) -> tuple[list[int], list[int]]:
        """Dijkstra from what the heap holds; returns (settled, nearest first; new parent only)."""
        adjacency, parent, distance, names = (
            self._adjacency,
            self.parent,
            self.distance,
            self._names,
        )
        order: list[int] = []
        moved: list[int] = []
        while heap:
            entry = heappop(heap)
            node = entry & SLOT_MASK
            here = entry >> SLOT_BITS
            if here != distance[node]:
                continue  # a nearer way was found after this entry
            order.append(node)
            for other, cost in adjacency[node].items():
                offer = here + cost
                known = distance[other]
                if offer < known:
                    distance[other] = offer
                    parent[other] = node
                    heappush(heap, offer << SLOT_BITS | other)
                elif offer == known and names[node] < names[parent[other]]:
                    parent[other] = node
                    moved.append(other)
        return order, moved

    def _relabel(self, order: list[int]) -> list[int]:
        """First hops and hops, given nearest first, and of all below whom that changes."""
        adjacency, parent, first, hops = self._adjacency, self.parent, self.first, self.hops
        below: list[int] = []
        for start in order:
            stack = [start]
            while stack:
                node = stack.pop()
                above = parent[node]
                if above == NOBODY:
                    continue  # the root
                hop = node if above == self._root else first[above]
                if first[node] != hop or hops[node] != hops[above] + 1:
                    first[node], hops[node] = hop, hops[above] + 1
                    children = [other for other in adjacency[node] if parent[other] == node]
                    stack += children
                    below += children
        return below
