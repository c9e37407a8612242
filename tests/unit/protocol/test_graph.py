"""Who is reachable, over whom, at what cost: the graph and when it is computed."""

from __future__ import annotations

import pytest

from meshcore.protocol.routing.graph import MENTIONED_MAX, Graph, Urgency
from meshcore.protocol.routing.routing import WAIT_MAX, WAIT_MAX_LEAST, WAIT_MIN, Routing
from meshcore.protocol.view import Reach
from meshcore.protocol.wire.records import DownReason, Edge, EdgeState, LinkState

UP, WARN, DOWN = EdgeState.UP, EdgeState.WARN, EdgeState.DOWN
GONE, SILENT = DownReason.GONE, DownReason.SILENT


def state(origin: str, *edges: Edge | str, left: bool = False, incarnation: int = 1) -> LinkState:
    """A link state; an edge that is given by name alone costs 100."""
    full = tuple(edge if isinstance(edge, Edge) else Edge(edge, 100) for edge in edges)
    return LinkState(origin, incarnation, 1, 7 * incarnation, full, left=left)


def graph_of(*states: LinkState, own: str = "a") -> Graph:
    graph = Graph(own)
    for link_state in states:
        graph.update(link_state, link_state.origin)
    graph.recompute()
    graph.check_invariants()
    return graph


def chain(*names: str) -> list[LinkState]:
    return [
        state(name, *names[max(0, place - 1) : place], *names[place + 1 : place + 2])
        for place, name in enumerate(names)
    ]


def found(graph: Graph, node_id: str) -> Reach:
    reach = graph.reach(node_id)
    assert reach is not None
    return reach


def test_a_chain_is_routed_hop_by_hop() -> None:
    graph = graph_of(*chain("a", "b", "c"))
    assert found(graph, "a") == Reach("a", 1, 7, True)
    assert found(graph, "b") == Reach("b", 1, 7, True, hops=1, cost=100, next_hop="b")
    assert found(graph, "c") == Reach("c", 1, 7, True, hops=2, cost=200, next_hop="b")
    assert graph.path("c") == ["a", "b", "c"]
    assert graph.path("a") == ["a"]
    assert graph.next_hop("c") == "b"
    assert graph.next_hop("a") is None
    assert graph.edges() == [("a", "b", 100), ("b", "c", 100)]
    assert graph.nodes() == ["a", "b", "c"]


def test_an_edge_to_a_new_life_does_not_make_the_old_one_alive() -> None:
    """Its neighbour is linked to the new life before the new life's first word has arrived."""
    gone = Edge("b", 100, DOWN, GONE, 0.2, life=7)
    graph = graph_of(state("a", gone), state("b", Edge("a", 100, life=7)))
    assert not found(graph, "b").reachable
    graph.update(state("a", Edge("b", 100, life=14)), "a")
    graph.recompute()
    graph.check_invariants()
    assert not found(graph, "b").reachable
    graph.update(state("b", Edge("a", 100, life=7), incarnation=2), "b")
    changed = graph.recompute()
    graph.check_invariants()
    assert (changed["b"].reachable, changed["b"].life) == (True, 14)


def test_a_report_about_an_old_life_says_nothing_about_the_new_one() -> None:
    about_old, about_new = (Edge("b", 100, DOWN, GONE, 0.2, life=life) for life in (7, 14))
    graph = graph_of(state("a", about_old), state("b", incarnation=2))
    assert found(graph, "b").gone == 0
    graph.update(state("a", about_new), "a")
    assert graph.recompute()["b"].gone == 1
    graph.check_invariants()


def test_an_edge_that_only_one_end_advertises_does_not_count() -> None:
    graph = graph_of(state("a", "b"), state("b"))
    assert not found(graph, "b").reachable
    assert graph.edges() == []
    assert graph.path("b") == []
    assert graph.next_hop("b") is None


def test_an_edge_that_one_end_says_is_down_does_not_count() -> None:
    graph = graph_of(state("a", Edge("b", 100, DOWN, SILENT, 2.5)), state("b", "a"))
    assert found(graph, "b") == Reach("b", 1, 7, False, silent=1, silent_since=-2.5)


def test_the_dearer_claim_is_the_cost_of_an_edge() -> None:
    graph = graph_of(state("a", Edge("b", 5)), state("b", Edge("a", 900)))
    assert graph.edges() == [("a", "b", 900)]
    assert found(graph, "b").cost == 900


def test_a_name_without_a_record_is_no_node() -> None:
    graph = graph_of(state("a", "b", "ghost"), state("b", "a", "ghost"))
    assert graph.reach("ghost") is None
    assert graph.nodes() == ["a", "b"]
    assert graph.reach("never heard of") is None
    assert graph.path("never heard of") == []


def test_a_cheaper_detour_wins_over_a_dear_link() -> None:
    graph = graph_of(
        state("a", Edge("b", 1000), Edge("c", 100)),
        state("b", Edge("a", 1000), Edge("c", 100)),
        state("c", Edge("a", 100), Edge("b", 100)),
    )
    assert graph.path("b") == ["a", "c", "b"]


def test_a_warn_edge_is_the_way_of_last_resort() -> None:
    detour = [
        state("c", Edge("a", 2**40), Edge("d", 2**40)),
        state("d", Edge("c", 2**40), Edge("b", 2**40)),
    ]
    graph = graph_of(
        state("a", Edge("b", 1, WARN), Edge("c", 2**40)),
        state("b", Edge("a", 3), Edge("d", 2**40)),
        *detour,
    )
    assert graph.path("b") == ["a", "c", "d", "b"]
    assert not found(graph, "b").warn
    assert graph.edges()[0] == ("a", "b", 3)  # WARN by one end, the dearer cost by the other
    graph.update(None, "d")
    assert graph.recompute()["b"] == Reach("b", 1, 7, True, 1, 3, "b", warn=True)
    assert graph.path("b") == ["a", "b"]
    graph.check_invariants()


def test_of_equal_ways_the_smaller_id_leads_whatever_the_order_of_arrival() -> None:
    ring = [state("a", "b", "d"), state("b", "a", "c"), state("c", "b", "d"), state("d", "a", "c")]
    for order in (ring, ring[::-1]):
        assert graph_of(*order).path("c") == ["a", "b", "c"]


def test_a_split_graph_is_reported_once_and_heals() -> None:
    graph = graph_of(*chain("a", "b", "c", "d"))
    assert graph.update(state("b", "a"), "b") is Urgency.AT_ONCE
    assert graph.stale
    changes = graph.recompute()
    assert {name: reach.reachable for name, reach in changes.items()} == {"c": False, "d": False}
    assert graph.edges() == [("a", "b", 100)]
    assert graph.recompute() == {}
    assert graph.update(state("b", "a", "c"), "b") is Urgency.LATER
    assert list(graph.recompute()) == ["c", "d"]
    assert graph.path("d") == ["a", "b", "c", "d"]
    graph.check_invariants()


def test_reports_of_a_lost_node_count_only_from_reachable_neighbours() -> None:
    graph = graph_of(
        state("a", "b"),
        state("b", "a", Edge("x", 1, DOWN, GONE, 0.2)),
        state("c", Edge("b", 1), Edge("x", 1, DOWN, SILENT, 4.0)),
        state("x", "b", "c"),
        *(state(f"bystander-{number}") for number in range(20)),  # so that it is not all new
    )
    assert found(graph, "x") == Reach("x", 1, 7, False, gone=1, silent_since=-0.2)
    graph.update(state("b", "a", "c", Edge("x", 1, DOWN, GONE, 0.2)), "b")
    changes = graph.recompute()  # c has become reachable, and so have its reports
    assert changes["x"] == Reach("x", 1, 7, False, gone=1, silent=1, silent_since=-0.2)
    graph.check_invariants()


def test_the_last_sign_of_life_is_counted_from_when_each_report_came() -> None:
    def loss(of: str, reason: DownReason, age: float, now: float) -> float:
        graph.update(state(of, "a", Edge("x", 1, DOWN, reason, age)), of, now)
        graph.recompute()
        graph.check_invariants()
        return found(graph, "x").silent_since

    graph = graph_of(
        state("a", "b", "c", "d"), state("b", "a"), state("c", "a"), state("d", "a"),
        state("x", "b", "c"),
    )  # fmt: skip
    assert loss("b", SILENT, 2.4, now=102.4) == 100.0
    assert loss("c", SILENT, 3.5, now=103.5) == 100.0, "what b said is a second old by now"
    assert loss("b", GONE, 2.4, now=104.0) == 100.0, "the probe's answer is no sign of life"
    assert loss("b", GONE, 0.5, now=110.0) == 109.5, "it was heard again, and lost again"


def test_an_old_word_about_a_node_does_not_count_when_the_relay_to_it_is_lost() -> None:
    graph = graph_of(
        state("a", "b", "c"), state("b", "a", "r"), state("r", "b", "x"), state("x", "r", "c"),
        state("c", "a", Edge("x", 1, DOWN, SILENT, 9.0)),
    )  # fmt: skip
    assert found(graph, "x").reachable
    graph.update(state("b", "a", Edge("r", 1, DOWN, SILENT, 2.0)), "b", 50.0)
    assert graph.recompute()["x"].silent_since == 48.0, "the relay may have heard it until then"
    graph.update(state("b", "a"), "b", 60.0)  # forgotten
    assert graph.recompute()["x"].silent_since is None, "nobody can say what the relay knows"
    graph.check_invariants()


def test_our_own_pause_makes_no_report_older() -> None:
    graph = graph_of(state("a", "b"), state("b", "a"), state("x", "b"))
    assert not graph.on_pause(60.0, 90.0)
    graph.update(state("b", "a", Edge("x", 1, DOWN, SILENT, 2.0)), "b", 102.0)
    graph.recompute()
    assert graph.on_pause(60.0, 163.0)
    assert graph.recompute()["x"].silent_since == 160.0
    graph.check_invariants()
    assert graph.on_pause(60.0, 170.0)
    assert graph.recompute()["x"].silent_since == 170.0, "nobody was heard in the future"


def test_a_node_that_left_has_no_edges_and_says_so() -> None:
    graph = graph_of(*chain("a", "b", "c"))
    assert graph.update(state("b", "a", "c", left=True), "b") is Urgency.AT_ONCE
    changes = graph.recompute()
    assert changes["b"] == Reach("b", 1, 7, False, left=True)
    assert not changes["c"].reachable
    graph.check_invariants()


def test_a_forgotten_node_has_no_entry_and_may_come_back() -> None:
    graph = graph_of(*chain("a", "b", "c"))
    assert graph.update(None, "b") is Urgency.AT_ONCE
    changes = graph.recompute()
    assert "b" not in changes
    assert not changes["c"].reachable
    assert graph.reach("b") is None
    graph.check_invariants()
    graph.update(state("b", "a", "c", incarnation=2), "b")
    assert graph.recompute()["b"].incarnation == 2
    assert graph.path("c") == ["a", "b", "c"]
    graph.check_invariants()


def test_only_changed_entries_are_returned() -> None:
    graph = graph_of(*chain(*"abcdefghijklmnopqr"))
    graph.update(state("p", "o", Edge("q", 150)), "p")
    assert list(graph.recompute()) == ["q", "r"]
    assert graph.update(state("p", "o", Edge("q", 150)), "p") is Urgency.NONE
    assert not graph.stale
    graph.check_invariants()


@pytest.mark.parametrize(
    ("edge", "urgency"),
    [
        (Edge("b", 100), Urgency.NONE),
        (Edge("b", 200), Urgency.LATER),
        (Edge("b", 100, WARN), Urgency.LATER),
        (Edge("b", 100, DOWN, SILENT), Urgency.AT_ONCE),
        (Edge("z", 100), Urgency.AT_ONCE),
    ],
)
def test_only_a_loss_acts_at_once(edge: Edge, urgency: Urgency) -> None:
    graph = graph_of(*chain("a", "b"))
    assert graph.update(state("a", edge), "a") is urgency
    graph.check_invariants()


def test_a_better_reason_for_a_lost_edge_acts_at_once() -> None:
    graph = graph_of(state("a", Edge("b", 1, DOWN, SILENT, 1.0)), state("b", "a"))
    assert graph.update(state("a", Edge("b", 1, DOWN, GONE, 1.0)), "a") is Urgency.AT_ONCE
    assert graph.recompute()["b"].gone == 1


def test_invented_names_leave_nothing_behind() -> None:
    graph = graph_of(*chain("a", "b"))
    for batch in range(200):
        graph.update(state("b", "a", *(f"{batch}-{number}" for number in range(1000))), "b")
    graph.update(state("b", "a"), "b")
    assert len(graph._slots) == 2
    assert len(graph._names) < 3 * 1000
    graph.check_invariants()


def test_a_name_that_comes_back_in_another_slot_keeps_its_entry() -> None:
    graph = graph_of(state("a", "b"), state("b", "a", "c", "d"))
    graph.update(state("b", "a"), "b")
    graph.recompute()  # two slots are free; the last one is taken first
    graph.update(state("c", "b"), "c")
    graph.update(state("b", "a", "c"), "b")
    graph.recompute()
    graph.check_invariants()
    assert found(graph, "c").reachable


def test_invented_names_cannot_use_up_the_room_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MENTIONED_MAX > 4096
    monkeypatch.setattr("meshcore.protocol.routing.graph.MENTIONED_MAX", 10)
    graph = graph_of(state("b", *(f"ghost-{number}" for number in range(100)), "a"), state("a"))
    assert len(graph._slots) == 10
    graph.update(state("z", "a"), "z")
    graph.update(state("a", "z"), "a")
    graph.recompute()
    assert graph.path("z") == ["a", "z"]
    graph.check_invariants()


def test_a_first_link_is_usable_after_a_moment() -> None:
    routing = Routing("a")
    for link_state in chain("a", "b"):
        routing.on_changed(link_state.origin, link_state, 100.0)
    assert routing.next_deadline() == pytest.approx(100.0 + WAIT_MIN)
    assert routing.on_tick(100.01) == {}
    assert sorted(routing.on_tick(100.02)) == ["a", "b"]
    assert routing.next_deadline() is None
    routing.check_invariants()


def test_a_lost_edge_makes_the_tick_due_at_once() -> None:
    routing = Routing("a")
    for link_state in chain("a", "b"):
        routing.on_changed(link_state.origin, link_state, 100.0)
    routing.on_tick(100.02)
    routing.on_changed("b", state("b", Edge("a", 150)), 100.03)
    routing.on_changed("b", state("b", Edge("a", 150, DOWN, GONE)), 100.04)
    assert routing.next_deadline() == 100.04
    assert not routing.on_tick(100.04)["b"].reachable


@pytest.mark.parametrize(("nodes", "longest"), [(20, WAIT_MAX_LEAST), (400, 0.4), (3000, WAIT_MAX)])
def test_a_storm_makes_computations_rare_and_quiet_makes_them_prompt(
    nodes: int, longest: float
) -> None:
    routing = Routing("a")
    routing.on_changed("a", state("a"), 0.0)
    for number in range(nodes):
        routing.on_changed(f"n{number}", state(f"n{number}"), 0.0)
    now, computed_at, gaps = 0.0, 0.0, []
    for step in range(4000):
        now = step * 0.005
        routing.on_changed("b", state("b", incarnation=step + 1), now)
        if routing.on_tick(now):
            gaps.append(now - computed_at)
            computed_at = now
    assert gaps[0] == pytest.approx(WAIT_MIN, abs=0.006)
    assert gaps[-1] == pytest.approx(longest, abs=0.011)
    routing.on_tick(now + 2)
    quiet = now + 2 + 5 * longest
    routing.on_changed("b", state("b", incarnation=9000), quiet)
    assert routing.next_deadline() == pytest.approx(quiet + WAIT_MIN)
