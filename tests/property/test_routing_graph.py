"""The incremental graph against a plain Dijkstra that starts from nothing each time."""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshcore.protocol.routing.graph import WARN_COST, Graph
from meshcore.protocol.routing.tree import INFINITE, ShortestPathTree
from meshcore.protocol.view import Reach
from meshcore.protocol.wire.records import DownReason, Edge, EdgeState, LinkState

NAMES = [f"n{number:02d}" for number in range(14)]
COSTS = st.sampled_from([1, 1, 1, 2, 3, 5])  # few values: ties are what goes wrong


def naive_costs(states: dict[str, LinkState]) -> dict[str, dict[str, int]]:
    claims = {
        origin: {} if state.left else {edge.neighbour: edge for edge in state.edges}
        for origin, state in states.items()
    }
    costs: dict[str, dict[str, int]] = {origin: {} for origin in states}
    for one, edges in claims.items():
        for two, edge in edges.items():
            back = claims.get(two, {}).get(one)
            if back is None or EdgeState.DOWN in (edge.state, back.state):
                continue
            warn = WARN_COST if EdgeState.WARN in (edge.state, back.state) else 0
            costs[one][two] = max(edge.cost, back.cost) + warn
    return costs


def naive_paths(costs: dict[str, dict[str, int]], root: str) -> dict[str, list[str]]:
    """Of the cheapest ways the one that comes first when read from its end."""
    far = {root: 0}
    for _ in costs:  # Bellman-Ford
        for one in costs:
            for two, cost in costs[one].items():
                if one in far and far[one] + cost < far.get(two, INFINITE):
                    far[two] = far[one] + cost
    paths = {root: [root]}
    for name in sorted(far, key=lambda name: far[name]):
        if name != root:
            before = min(o for o, c in costs[name].items() if o in far and far[o] + c == far[name])
            paths[name] = [*paths[before], name]
    return paths


def words_about(name: str, states: dict[str, LinkState], paths: dict[str, list[str]]) -> list[Edge]:
    """What those who can be reached say about having lost a node."""
    return [
        edge
        for other in states.values()
        if other.origin in paths and not other.left
        for edge in other.edges
        if edge.neighbour == name and edge.state is EdgeState.DOWN
    ]


def naive_reach(states: dict[str, LinkState], root: str) -> dict[str, Reach]:
    costs = naive_costs(states)
    paths = naive_paths(costs, root) if root in states else {}
    result = {}
    for name, state in states.items():
        heard = words_about(name, states, paths)
        words = [heard, *(words_about(peer, states, paths) for peer in costs[name])]
        path = paths.get(name, [])
        steps = [costs[one][two] for one, two in itertools.pairwise(path)]
        result[name] = Reach(
            name,
            state.incarnation,
            state.life,
            reachable=bool(path),
            hops=len(steps),
            cost=sum(steps) % WARN_COST,
            next_hop=path[1] if steps else None,
            warn=bool(steps) and min(costs[name].values()) >= WARN_COST,
            gone=sum(edge.reason is DownReason.GONE for edge in heard),
            silent=sum(edge.reason is DownReason.SILENT for edge in heard),
            silent_since=max(-edge.age for each in words for edge in each) if all(words) else None,
            left=state.left,
        )
    return result


class GraphMachine(RuleBasedStateMachine):
    """Random link states at one observer; half of the time several change before an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph(NAMES[5])
        self.states: dict[str, LinkState] = {}
        self.entries: dict[str, Reach] = {}
        self.sequence = 0
        for number, name in enumerate(NAMES):  # a ring to start from
            around = (NAMES[number - 1], NAMES[(number + 1) % len(NAMES)])
            self.put(name, {other: Edge(other, 1) for other in around})
        self.recompute()

    def put(self, origin: str, edges: dict[str, Edge], *, left: bool = False) -> None:
        self.sequence += 1
        before = self.states.get(origin)
        incarnation = before.incarnation if before else self.sequence
        state = LinkState(
            origin, incarnation, self.sequence, incarnation, tuple(edges.values()), left=left
        )
        self.states[origin] = state
        self.graph.update(state, origin)

    def edges_of(self, origin: str) -> dict[str, Edge]:
        state = self.states.get(origin)
        return {edge.neighbour: edge for edge in state.edges} if state else {}

    @rule(one=st.sampled_from(NAMES), two=st.sampled_from(NAMES), cost=COSTS)
    def join(self, one: str, two: str, cost: int) -> None:
        if one != two:
            for near, far in ((one, two), (two, one)):
                self.put(near, self.edges_of(near) | {far: Edge(far, cost)})

    @rule(
        one=st.sampled_from(NAMES),
        two=st.sampled_from(NAMES),
        cost=COSTS,
        state=st.sampled_from(EdgeState),
        reason=st.sampled_from([DownReason.GONE, DownReason.SILENT]),
        age=st.sampled_from([0.0, 0.5, 3.0]),
    )
    def claim(
        self, one: str, two: str, cost: int, state: EdgeState, reason: DownReason, age: float
    ) -> None:
        if one != two:
            why = reason if state is EdgeState.DOWN else DownReason.NONE
            self.put(one, self.edges_of(one) | {two: Edge(two, cost, state, why, age)})

    @rule(one=st.sampled_from(NAMES), two=st.sampled_from(NAMES))
    def withdraw(self, one: str, two: str) -> None:
        edges = self.edges_of(one)
        if edges.pop(two, None):
            self.put(one, edges)

    @rule(one=st.sampled_from(NAMES))
    def leave(self, one: str) -> None:
        self.put(one, self.edges_of(one), left=True)

    @rule(one=st.sampled_from(NAMES))
    def forget(self, one: str) -> None:
        if one != self.graph.node_id:
            self.states.pop(one, None)
            self.graph.update(None, one)

    @rule()
    def recompute(self) -> None:
        changes = self.graph.recompute()
        for name, reach in changes.items():
            assert self.entries.get(name) != reach, "an entry that had not changed"
            self.entries[name] = reach
        self.entries = {name: self.entries[name] for name in self.states}
        assert self.entries == naive_reach(self.states, self.graph.node_id)
        paths = naive_paths(naive_costs(self.states), self.graph.node_id)
        assert {name: self.graph.path(name) for name in self.states} == {
            name: paths.get(name, []) for name in self.states
        }

    @invariant()
    def indexes_hold(self) -> None:
        self.graph.check_invariants()


TestGraph = GraphMachine.TestCase
TestGraph.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


class AgreementMachine(RuleBasedStateMachine):
    """Every node computes for itself; following their next hops must end, along the own path."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: dict[str, dict[str, int]] = {name: {} for name in NAMES}

    @rule(pairs=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), COSTS)))
    def join(self, pairs: list[tuple[str, str, int]]) -> None:
        for one, two, cost in pairs:
            if one != two:
                self.costs[one][two] = self.costs[two][one] = cost

    @invariant()
    def hops_of_all_follow_the_path_of_each(self) -> None:
        graphs = {}
        for observer in NAMES:
            graph = graphs[observer] = Graph(observer)
            for origin, edges in self.costs.items():
                told = tuple(Edge(to, cost) for to, cost in edges.items())
                graph.update(LinkState(origin, 1, 1, 1, told), origin)
            graph.recompute()
        for start in NAMES:
            for end in NAMES:
                path = graphs[start].path(end)
                walked = path[:1]
                while path and walked[-1] != end:
                    hop = graphs[walked[-1]].next_hop(end)
                    assert hop is not None
                    walked.append(hop)
                    assert len(walked) <= len(path)
                assert walked == path


TestAgreement = AgreementMachine.TestCase
TestAgreement.settings = settings(
    max_examples=15, stateful_step_count=6, deadline=None, suppress_health_check=list(HealthCheck)
)


class TreeMachine(RuleBasedStateMachine):
    """The tree alone, with batches of changes of any size, against a tree built anew."""

    def __init__(self) -> None:
        super().__init__()
        self.adjacency: list[dict[int, int]] = [{} for _ in NAMES]
        self.tree = self.new_tree()

    def new_tree(self) -> ShortestPathTree:
        tree = ShortestPathTree(NAMES[::-1], self.adjacency, 3)
        for _ in NAMES:
            tree.grow()
        tree.rebuild()
        return tree

    @rule(
        batch=st.lists(
            st.tuples(
                st.integers(0, len(NAMES) - 1), st.integers(0, len(NAMES) - 1), st.none() | COSTS
            ),
            max_size=30,
        )
    )
    def change(self, batch: list[tuple[int, int, int | None]]) -> None:
        before: dict[tuple[int, int], int] = {}
        for one, two, cost in batch:
            if one == two:
                continue
            before.setdefault(
                (min(one, two), max(one, two)), self.adjacency[one].get(two, INFINITE)
            )
            for near, far in ((one, two), (two, one)):
                if cost is None:
                    self.adjacency[near].pop(far, None)
                else:
                    self.adjacency[near][far] = cost
        old = list(zip(self.tree.distance, self.tree.first, self.tree.hops, strict=True))
        touched = set(self.tree.update(before))
        new = list(zip(self.tree.distance, self.tree.first, self.tree.hops, strict=True))
        assert {slot for slot in range(len(NAMES)) if old[slot] != new[slot]} <= touched
        fresh = self.new_tree()
        assert self.tree.distance == fresh.distance
        assert self.tree.parent == fresh.parent
        assert self.tree.first == fresh.first
        assert self.tree.hops == fresh.hops


TestTree = TreeMachine.TestCase
TestTree.settings = settings(
    max_examples=100, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
