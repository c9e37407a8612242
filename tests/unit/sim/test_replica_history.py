"""The checker of histories: what a counter may have answered, and what it cannot have."""

from __future__ import annotations

import pytest

from meshcore.sim.replicas.history import Called, WrongHistory, check, check_equal


def add(name: str, begin: float, end: float | None, answer: tuple[int, int] | None) -> Called:
    return Called(name, "add", 1, begin, end, answer)


def read(name: str, begin: float, end: float, answer: tuple[int, int]) -> Called:
    return Called(name, "read", 0, begin, end, answer)


def test_calls_one_after_the_other_and_at_once() -> None:
    calls = [
        add("a", 0, 1, (1, 1)), add("b", 2, 5, (3, 3)), add("c", 2, 4, (2, 2)),
        read("r", 2, 6, (1, 1)), read("s", 5.5, 6, (3, 3)),
    ]  # fmt: skip
    check(calls, ["a", "c", "b"])


def test_a_call_of_unknown_outcome_has_its_effect_or_has_not() -> None:
    lost = add("b", 2, None, None)
    check([add("a", 0, 1, (1, 1)), lost], ["a"])
    check([add("a", 0, 1, (1, 1)), lost, add("c", 3, 4, (2, 2))], ["a", "c", "b"])


@pytest.mark.parametrize(
    ("calls", "order", "text"),
    [
        ([add("a", 0, 1, (1, 1))], [], "0 effects are left"),
        ([add("a", 0, 1, (1, 1)), add("b", 2, 3, (1, 1))], ["b"], "that is b"),
        ([add("a", 0, 1, (1, 1)), add("b", 0, 1, (1, 1))], ["a"], "both have index 1"),
        ([add("a", 0, 1, (1, 1))], ["a", "a"], "two effects: a"),
        ([add("a", 0, 1, (1, 7))], ["a"], "where it is 1"),
        ([add("a", 0, 1, (2, 2)), add("b", 2, 3, (1, 1))], ["b", "a"], "before it began"),
        ([add("a", 0, 1, (1, 1)), read("r", 2, 3, (0, 0))], ["a"], "before it began"),
        (
            [read("r", 0, 1, (1, 1)), add("a", 2, 3, (1, 1))], ["a"], "before it began",
        ),
        ([add("a", 0, 1, (1, 1))], ["a", "x"], "nobody asked"),
        (
            [add("a", 0, 1, (2, 2)), add("b", 2, None, None)], ["b", "a"], "before it began",
        ),
    ],
)  # fmt: skip
def test_what_no_counter_would_have_done(calls: list[Called], order: list[str], text: str) -> None:
    with pytest.raises(WrongHistory, match=text):
        check(calls, order)


def test_replicas_that_differ() -> None:
    check_equal([("x", ["a"], 1), ("y", ["a"], 1)])
    with pytest.raises(WrongHistory, match="y and x differ"):
        check_equal([("x", ["a"], 1), ("y", ["a"], 2)])
    with pytest.raises(WrongHistory, match="y and x differ"):
        check_equal([("x", ["a"], 1), ("y", [], 1)])
