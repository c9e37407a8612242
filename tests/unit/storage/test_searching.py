"""Searches in some hundred records, in the ways that are there for a hundred thousand."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest

from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage import matching, ordering, orders, query
from meshcore.storage.batch import Batch
from meshcore.storage.changes import PutFlow, PutOrigin
from meshcore.storage.columns import COLUMNS, order_of
from meshcore.storage.matching import Matcher
from meshcore.storage.table import Table

ORGANIZATIONS = ("acme", "umbrella", "Łódź")
ORDERS = ["", *(f"{column}:{way}" for column in COLUMNS for way in "ad")]
ORDERS += [f"{a}:{x},{b}:{y}" for a, b in itertools.permutations(
    ("status", "kind", "node", "organization", "author", "modified"), 2)
    for x, y in ("ad", "da")]  # fmt: skip


def origin(number: int, **fields: Any) -> PutOrigin:
    known: dict[str, Any] = {
        "organization": ORGANIZATIONS[number % 3],
        "registry": f"hub{number % 2}",
        "incarnation": 1,
        "version": 1,
        "direct": True,
        "status": "online" if number % 4 else "offline",
        "heartbeat": float(number // 2) if number % 3 else None,
        "at": 1.0,
        "ttl": None,
    }
    return PutOrigin(origin=Origin("mesh", f"n{number}"), **{**known, **fields})


def record(number: int, origins: int = 12, **fields: Any) -> PutFlow:
    known: dict[str, Any] = {
        "name": f"name {number % 7}",
        "author": f"author {number % 3}",
        "description": f"what {number % 11} does",
        "tags": tuple(f"t{each}" for each in range(number % 4)),
        "kind": "flow" if number % 5 else "action",
    }
    put = origin(number % origins).origin
    flow = Flow(f"u{number:04}", **{**known, **fields})
    return PutFlow(put, flow, 1, 1, False, float(number // 20))


def table_of(records: int, origins: int = 12) -> Table:
    table = Table()
    table.apply([*map(origin, range(origins)), *map(record, range(records))], Batch())
    return table


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "SORTED_MAX", 5)
    monkeypatch.setattr(ordering, "FIRST_STEP", 2)
    monkeypatch.setattr(orders, "STEP", 16)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("by", ORDERS)
def test_pages_are_those_of_the_sorted_whole(by: str) -> None:
    table = table_of(300)
    slots = sorted(range(300), key=table.default_key)
    for key in reversed(order_of(by)):
        slots.sort(key=table.key_of(key.column), reverse=key.descending)
    for start, size in [(0, 10), (3, 1), (37, 40), (150, 10), (290, 100), (0, 300), (300, 5)]:
        found = ordering.page(table, table.all_live(), order_of(by), start, start + size)
        assert found == slots[start : start + size], (start, size)


def found(matcher: Matcher, q: str) -> int:
    return matcher.matching(query.parse(q).node).bit_count()


@pytest.mark.parametrize(
    ("q", "change", "before", "after"),
    [
        ("acme", origin(0, organization="other"), 100, 75),
        ("organization == acme", origin(0, organization="other"), 100, 75),
        ("status == offline", origin(0, status="online"), 75, 50),
        ("heartbeat == null", origin(0, heartbeat=9.0), 100, 75),
        ("registry == hub0", origin(0, registry="hub1"), 150, 125),
        ('"name 6"', record(6, name="other"), 42, 41),
        ("name == other", record(6, name="other"), 0, 1),
        ("@tag(t2)", record(3, tags=("t1",)), 75, 74),
        ("modified > 13", replace(record(0), version=2, at=99.0), 20, 21),
        ("unheard", record(299, description="unheard of"), 0, 1),
    ],
)
def test_what_was_found_before_is_forgotten_when_it_changes(
    q: str, change: PutOrigin | PutFlow, before: int, after: int
) -> None:
    table = table_of(300)
    matcher = Matcher(table)
    assert [found(matcher, q), found(matcher, q)] == [before, before]
    table.apply([change], Batch())
    assert found(matcher, q) == after


def test_what_did_not_change_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(300)
    matcher = Matcher(table)
    looked: list[query.Node] = []
    find = matcher._find

    def noted(node: matching.Term) -> int:
        looked.append(node)
        return find(node)

    monkeypatch.setattr(matcher, "_find", noted)
    for q in ("what & @tag(t2)", "what | t0", "not what", "what"):
        found(matcher, q)
    assert len(looked) == 3
    table.apply([origin(1, heartbeat=100.0)], Batch())  # a beat changes none of these
    found(matcher, "what & @tag(t2) & t0")
    assert len(looked) == 3


@pytest.mark.parametrize("column", ["description", "url", "name", "author"])
def test_the_unit_separator_counts_as_a_space(column: str) -> None:
    table = Table()
    fields = {"url": "u"} | {column: "a\x1fb"}
    put = origin(0)
    table.apply([put, PutFlow(put.origin, Flow(**fields), 1, 1, False, 1.0)], Batch())
    matcher = Matcher(table)
    assert found(matcher, f'{column} ~ "a b"') == 1
    assert found(matcher, f'{column} ~ "a\x1fb"') == 1
    if column != "url":
        assert found(matcher, '"a b"') == 1


@pytest.mark.parametrize(
    ("text", "q", "is_found"),
    [
        ("Straße", "STRASSE", True),
        ("STRASSE", "straße", True),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", True),
        ("ﬁlter", "FILTER", True),
        ("K", "k", True),  # the sign of kelvin
        ("İstanbul", "i\u0307stanbul", True),
        ("日本語", "本", True),
        ("naïve", "naive", False),
        ("𝒳", "𝒳", True),
        ("a%b", "a_b", False),
    ],
)
def test_case_is_folded_as_unicode_has_it(text: str, q: str, is_found: bool) -> None:
    table = Table()
    put = origin(0, organization="")
    table.apply([put, PutFlow(put.origin, Flow("u", name=text), 1, 1, False, 1.0)], Batch())
    matcher = Matcher(table)
    assert found(matcher, q) == is_found
    assert found(matcher, f'name ~ "{q}"') == is_found


def steps_of(table: Table) -> int:
    return sum(1 for _ in table.tidying())


@pytest.mark.usefixtures("small_is_large")
def test_orders_stay_sorted_through_single_changes_and_wait_when_there_are_many() -> None:
    table = table_of(300)
    assert steps_of(table) == 0
    table.apply([record(number, name="other") for number in range(50)], Batch())
    assert steps_of(table) == 0
    table.apply([record(7, name="again")], Batch(), many=True)
    assert steps_of(table) > 8
    assert steps_of(table) == 0
    table.check_invariants()


def test_an_order_that_was_left_half_sorted_is_sorted_when_it_is_needed() -> None:
    table = table_of(300)
    table.void_orders()
    for number, _ in enumerate(table.tidying()):
        if number == 1:
            break
    table.apply([record(3, name="other"), record(500)], Batch())
    table.check_invariants()


def test_random_changes_keep_every_index_true() -> None:
    rng = random.Random(1)
    table = table_of(100)
    for _ in range(40):
        changes = [record(rng.randrange(150), name=rng.choice("abc")) for _ in range(5)]
        table.apply(changes, Batch(), many=rng.random() < 0.2)
        table.check_invariants()
