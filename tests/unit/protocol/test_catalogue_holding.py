"""What is held of an origin: deltas are taken where they go on, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.protocol.catalogue import offering
from meshcore.protocol.catalogue.holding import NOTHING, Delta, Head, Holding, Item
from meshcore.protocol.catalogue.records import Flow, Origin

ORIGIN = Origin("m", "n")


def flows(*names: str) -> dict[str, Flow]:
    return {f"http://{name}/": Flow(f"http://{name}/", name) for name in names}


def owner(*names: str, incarnation: int = 5) -> Holding:
    held = Holding(ORIGIN, head=Head(incarnation, 0, True), direct=True)
    offering.replace(held, flows(*names))
    return held


def listed(held: Holding) -> list[str]:
    return sorted(item.flow.name for item in held.live_items())


def whole(held: Holding, known: Head = NOTHING) -> Delta:
    return held.delta_after(known, 10**9)


def test_a_delta_that_does_not_go_on_from_what_is_held_changes_nothing() -> None:
    mine = owner("a", "b", "c")
    late = whole(mine, Head(5, 2, True))
    assert [change.flow.name for change in late.changes] == ["c"]
    copy = Holding(ORIGIN)
    assert copy.take(late) is None
    assert copy.take(Delta(1, Head(6, 3, True), late.changes)) is None  # of a life not begun
    assert copy.head == NOTHING
    assert copy.items == {}
    assert copy.take(whole(mine)) == list(mine.items.values())
    assert copy.take(whole(mine)) == []  # the same again
    assert copy.take(Delta(0, Head(4, 9, True), late.changes)) is None  # of an older life
    assert listed(copy) == ["a", "b", "c"]


def test_an_older_life_is_over_only_when_all_of_the_newer_one_is_known() -> None:
    copy = Holding(ORIGIN)
    copy.take(whole(owner("a", "b")))
    newer = owner("b", "c", incarnation=6)
    part = newer.delta_after(NOTHING, 1)
    assert part.head == Head(6, 1, False)
    copy.take(part)
    assert listed(copy) == ["a", "b"]
    rest = whole(newer, copy.head)
    changed = copy.take(rest)
    assert changed is not None
    assert {(item.flow.name, item.deleted) for item in changed} == {("c", False), ("a", True)}
    assert listed(copy) == ["b", "c"]


def test_too_many_tombstones_begin_a_new_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offering, "TOMBSTONES_MAX", 50)
    held = owner("a")
    for number in range(offering.TOMBSTONES_MAX + 1):
        offering.replace(held, flows("a", str(number)))
    assert len(held.items) > offering.TOMBSTONES_MAX
    items = offering.replace(held, flows("a"))
    assert held.head == Head(6, 1, True)
    assert list(held.items) == ["http://a/"]
    assert Item(6, 1, False, flows("a")["http://a/"]) in items
    assert any(item.deleted for item in items)


steps = st.lists(
    st.tuples(
        st.sets(st.sampled_from("abcdefgh"), max_size=6),  # what is offered now
        st.booleans(),  # in a new life
        st.integers(0, 3),  # how many messages reach the copy
        st.integers(1, 400),  # how large they are
    ),
    max_size=12,
)


@given(steps)
def test_a_copy_that_is_told_in_parts_is_equal_in_the_end(story: object) -> None:
    assert isinstance(story, list)
    mine, copy = owner(), Holding(ORIGIN)
    for offered, reborn, messages, size in story:
        if reborn:
            offering.begin_life(mine, mine.head.incarnation + 1)
        offering.replace(mine, flows(*sorted(offered)))
        for _ in range(messages):
            delta = mine.delta_after(copy.head, size)
            assert copy.take(delta) is not None
            copy.check_invariants()
        mine.check_invariants()
    while copy.head < mine.head:
        assert copy.take(mine.delta_after(copy.head, 200)) is not None
    assert listed(copy) == listed(mine)
    assert {item for item in copy.items.values() if not item.deleted} == set(mine.live_items())
