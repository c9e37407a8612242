"""The checkers say what is wrong; a ledger with a lie in it is not believed."""

from __future__ import annotations

from meshcore.sim import checkers
from meshcore.sim.work import Execution
from meshcore.sim.world import World


def pair() -> World:
    world = World(seed=1)
    world.build([("a", "b"), ("b", "c")])
    world.run(2.0)
    assert checkers.settled(world) == []
    return world


def test_a_mesh_that_has_not_heard_of_a_crash_does_not_agree() -> None:
    world = pair()
    world.crash("c", silent=True)
    world.run(0.5)
    assert any("reaches" in problem for problem in checkers.agreement(world))
    assert any("wires" in problem for problem in checkers.one_link_per_pair(world))


def test_a_mesh_whose_links_are_cut_has_no_routes_there() -> None:
    world = pair()
    world.dials["a", "c"] = None  # it should have been dialled, and was not
    assert any("edges" in problem for problem in checkers.agreement(world))
    assert any("costs" in problem for problem in checkers.agreement(world))


def test_a_second_execution_is_a_problem_at_once() -> None:
    world = pair()
    call = world.call("a", "c", "test:echo")
    world.run(0.5)
    assert checkers.work(world) == []
    first = world.ledger.executions[call.message_id][0]
    world.ledger.executed(Execution(first.message_id, "c", 7, first.directive, world.now))
    assert len(checkers.work(world)) == 2


def test_wrong_answers_untrue_claims_and_unexpected_codes_are_problems() -> None:
    world = pair()
    calls = [world.call("a", "c", "test:items", 3), world.call("a", "c", "test:fail")]
    world.run(0.5)
    assert checkers.work(world) == []
    calls[0].values.pop()
    calls[1].may_have_run = False
    assert len(checkers.work(world)) == 2
    calls[1].code = 10
    assert "unexpected code" in checkers.work(world)[1]


def test_calls_and_work_that_never_end_are_problems() -> None:
    world = pair()
    world.call("a", "c", "test:hang", ttl=None)
    world.run(1.0)
    problems = checkers.ended(world)
    assert [problem.rpartition(":")[2].strip() for problem in problems[:1]] == ["never ended"]
    assert "still works" in problems[1]


def test_talk_while_nothing_happens_is_a_problem() -> None:
    world = pair()
    assert checkers.quiet(world, 1.0) == []
    world.clock.after(0.5, world.crash, "c")
    assert "News" in checkers.quiet(world, 1.0)[0]
