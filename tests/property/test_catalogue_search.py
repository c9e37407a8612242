"""The catalogue's searches against a plain evaluation, record by record, of what was asked.

A query is made together with a function that says for which item it holds, so that the parser, the
sets and the indexes are all on one side. Small catalogues would not leave the plain ways, so the
numbers that choose between ways are drawn, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage import masks, matching, ordering, orders, query, words
from meshcore.storage.batch import Batch
from meshcore.storage.changes import DropFlow, DropOrigin, PutFlow, PutOrigin
from meshcore.storage.columns import COLUMNS, DEFAULT_ORDER, Key, order_of
from meshcore.storage.items import item
from meshcore.storage.matching import Matcher
from meshcore.storage.table import Table

Item = dict[str, Any]
Asked = tuple[str, Callable[[Item], bool]]

# Letters whose case is not one to one, combining marks, white space of all kinds, what the grammar
# and SQL use; and few enough pieces that texts meet.
LETTERS = "abAB12 ßſSıİiKkΣσςée\u0301\"'\\%_*~&|()@,=\t\n\x1f\0\u3000画𝒳"
PIECES = [
    "a",
    "ab",
    "B",
    " ",
    "a b",
    "\x1f",
    "ß",
    "SS",
    "ſ",
    "Σ",
    "σς",
    "İ",
    "i\u0307",
    "k",
    "画",
    "é",
]
pieces = st.sampled_from(PIECES)
texts = st.lists(pieces, max_size=4).map("".join) | st.text(LETTERS, max_size=4)
needles = st.lists(pieces, max_size=2).map("".join) | texts
tags = st.lists(texts, max_size=3).map(lambda found: tuple(sorted(set(found))))
times = st.none() | st.integers(0, 5).map(float)
NODES = [Origin("m", "n1"), Origin("m", "n2"), Origin("k", "n1"), Origin("k", "N3")]
URLS = ["u1", "U2", "ß3", "u 4", "u5", "u6", "u7", "u8"]

flows = st.builds(
    Flow,
    url=st.sampled_from(URLS),
    name=texts,
    description=st.lists(texts, max_size=6).map(" ".join),
    author=texts,
    tags=tags,
    kind=st.sampled_from(["flow", "action"]),
)
put_origins = st.builds(
    PutOrigin,
    origin=st.sampled_from(NODES),
    organization=texts,
    registry=st.sampled_from(["r1", "r2"]),
    incarnation=st.integers(1, 3),
    version=st.integers(1, 3),
    direct=st.booleans(),
    status=st.sampled_from(["online", "stale", "offline"]),
    heartbeat=times,
    at=st.just(1.0),
    ttl=times,
)
put_flows = st.builds(
    PutFlow,
    origin=st.sampled_from(NODES),
    flow=flows,
    incarnation=st.integers(1, 2),
    version=st.integers(1, 3),
    deleted=st.sampled_from([False, False, False, True]),
    at=times,
)


# -- queries with what they mean -------------------------------------------------------------------


def folded(text: str) -> str:
    return text.casefold().replace("\x1f", " ")


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def values(column: str, item: Item) -> list[Any]:
    return item[column] if column == "tags" else [item[column]]


def contains(column: str, text: str) -> Callable[[Item], bool]:
    return lambda item: any(folded(text) in folded(value) for value in values(column, item))


def full_text(text: str) -> Callable[[Item], bool]:
    columns = ("organization", "name", "author", "description", "tags")
    return lambda item: any(contains(column, text)(item) for column in columns)


TEXT_COLUMNS = [name for name, kind in COLUMNS.items() if not kind.is_time]
TIME_COLUMNS = [name for name, kind in COLUMNS.items() if kind.is_time]
OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def compared(column: str, name: str, bound: Any) -> Callable[[Item], bool]:
    if name == "!=":
        return lambda item: bound not in values(column, item)
    return lambda item: any(
        OPERATORS[name](value, bound)
        for value in values(column, item)
        if name == "==" or value is not None
    )


def parts_of(known: list[str]) -> st.SearchStrategy[str]:
    """Parts of texts that there are, often in another case; some texts that there are not."""

    @st.composite
    def part(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(known))
        begin = draw(st.integers(0, max(0, len(text) - 1)))
        length = draw(st.sampled_from([1, 2, 3, 5, len(text)]))
        change = draw(st.sampled_from([str, str, str.upper, str.lower, str.swapcase]))
        return change(text[begin : begin + length])

    return part() | needles if known else needles


@st.composite
def terms(draw: st.DrawFn, known: list[str]) -> Asked:
    parts, wholes = parts_of(known), st.sampled_from(known) if known else texts
    form = draw(st.integers(0, 8))
    column = draw(st.sampled_from(TEXT_COLUMNS))
    text = draw(parts)
    if form <= 2:
        return quoted(text), full_text(text)
    if form == 3:
        return f"{column} ~ {quoted(text)}", contains(column, text)
    if form == 4:
        sign, text = draw(st.sampled_from(list(OPERATORS))), draw(wholes)
        return f"{column}{sign}{quoted(text)}", compared(column, sign, text)
    if form == 5:
        several = draw(st.lists(wholes, min_size=1, max_size=3))
        listed = ", ".join(map(quoted, several))
        return (
            f"{column} in ({listed})",
            lambda item: any(value in several for value in values(column, item)),
        )
    if form == 6:
        tag = draw(wholes)
        return f"@tag({quoted(tag)})", lambda item: tag in item["tags"]
    if form == 7:
        return (
            f"{quoted(text)} in {column}",
            (lambda item: text in item["tags"]) if column == "tags" else contains(column, text),
        )
    column, moment = draw(st.sampled_from(TIME_COLUMNS)), draw(st.integers(0, 5))
    sign = draw(st.sampled_from(list(OPERATORS)))
    written = draw(
        st.sampled_from([str(moment), f'"{datetime.fromtimestamp(moment, UTC).isoformat()}"'])
    )
    if draw(st.booleans()) and sign in ("==", "!="):
        return f"{column} {sign} null", compared(column, sign, None)
    return f"{column} {sign} {written}", compared(column, sign, float(moment))


def combined(inner: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda p: (f"({p[0][0]}) & ({p[1][0]})", lambda i: p[0][1](i) and p[1][1](i))),
        pairs.map(lambda p: (f"({p[0][0]}) | ({p[1][0]})", lambda i: p[0][1](i) or p[1][1](i))),
        pairs.map(lambda p: (f"{p[0][0]} ({p[1][0]})", lambda i: p[0][1](i) and p[1][1](i))),
        inner.map(lambda a: (f"not ({a[0]})", lambda i: not a[1](i))),
    )


def queries_about(known: list[str]) -> st.SearchStrategy[Asked]:
    """Queries for which these texts, and parts of them, matter."""
    # `a (b)` needs its left side in parentheses where that is an alternative.
    return st.recursive(
        terms(known),
        lambda inner: combined(inner.map(lambda asked: (f"({asked[0]})", asked[1]))),
        max_leaves=4,
    )


def texts_of(items: list[Item]) -> list[str]:
    """All texts, but of columns in which they are the same everywhere, of some items."""
    columns = ("organization", "url", "name", "author", "description")
    return [
        text
        for item in items
        for text in (*(item[column] for column in columns), *item["tags"])
        if text
    ]


# -- the table as a model --------------------------------------------------------------------------


class Ignored:
    """A journal that nobody reads."""

    def origin(self, number: int, put: PutOrigin | None, *, beat: bool = False) -> None: ...

    def flow(self, number: int, url: str, record: object) -> None: ...


# What makes a small catalogue take the ways that are there for a large one.
SMALL_IS_LARGE: dict[Any, dict[str, float]] = {
    ordering: {"SORTED_MAX": 1, "FIRST_STEP": 1},
    orders: {"STEP": 2},
    masks: {"STEP": 3},
    words: {"RECENT_MAX": 1, "RECORD_COST": 1000, "FREQUENT": 2, "MARKED_MAX": 0.5},
    matching: {"SHORT": 0, "KEPT_MAX": 3, "FEW": 2},
}
ALWAYS_LOOK = {words: {"RECORD_COST": 0}, matching: {"FEW": 1000}}


@pytest.fixture(params=["as it is", "words", "looks"], autouse=True)
def tuning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    tunings: list[dict[Any, dict[str, float]]] = {
        "as it is": [],
        "words": [SMALL_IS_LARGE],
        "looks": [SMALL_IS_LARGE, ALWAYS_LOOK],
    }[request.param]
    for tuned in tunings:
        for module, numbers in tuned.items():
            for name, value in numbers.items():
                assert hasattr(module, name)
                monkeypatch.setattr(module, name, value)


def naive_order(items: list[Item], by: tuple[Key, ...]) -> list[Item]:
    def key_of(column: str) -> Callable[[Item], Any]:
        return lambda item: float("-inf") if item[column] is None else item[column]

    ordered = sorted(items, key=lambda item: item["mesh"])
    for key in (*by, *DEFAULT_ORDER)[::-1]:
        ordered.sort(key=key_of(key.column), reverse=key.descending)
    return ordered


orders_by = st.lists(
    st.tuples(st.sampled_from(list(COLUMNS)), st.sampled_from(["", ":a", ":d"])), max_size=4
).map(lambda parts: ",".join(column + direction for column, direction in parts))


class Model:
    """What a table should hold, as plain dictionaries."""

    def __init__(self) -> None:
        self.origins: dict[Origin, PutOrigin] = {}
        self.records: dict[tuple[Origin, str], dict[str, Any]] = {}

    def apply(self, change: Any) -> bool:
        """Take it; False where the node would never say it."""
        if isinstance(change, PutOrigin):
            self.origins[change.origin] = change
        elif isinstance(change, PutFlow):
            if change.origin not in self.origins:
                return False
            self._put(change)
        elif isinstance(change, DropFlow):
            self.records.pop((change.origin, change.url), None)
        else:
            self.origins.pop(change.origin, None)
            for key in [key for key in self.records if key[0] == change.origin]:
                del self.records[key]
        return True

    def _put(self, change: PutFlow) -> None:
        key = (change.origin, change.flow.url)
        old = self.records.get(key, {"created": None, "modified": None, "version": (0, 0)})
        version = (change.incarnation, change.version)
        newer = version > old["version"] or old["modified"] is None
        self.records[key] = {
            "flow": change.flow,
            "version": version,
            "deleted": change.deleted,
            "created": change.at if old["created"] is None else old["created"],
            "modified": change.at if newer else old["modified"],
        }
        if self.records[key]["modified"] is None:
            self.records[key]["modified"] = old["modified"] if not newer else change.at

    def items(self) -> list[Item]:
        found = []
        for (origin, url), record in self.records.items():
            put, flow = self.origins[origin], record["flow"]
            if not record["deleted"]:
                found.append(
                    {
                        "registry": put.registry,
                        "node": origin.node,
                        "mesh": origin.mesh,
                        "organization": put.organization,
                        "created": record["created"],
                        "modified": record["modified"],
                        "heartbeat": put.heartbeat,
                        "url": url,
                        "name": flow.name,
                        "author": flow.author,
                        "description": flow.description,
                        "tags": list(flow.tags),
                        "status": put.status,
                        "kind": flow.kind,
                    }
                )
        return found


changes = st.one_of(
    put_flows,
    put_flows,
    put_flows,
    put_origins,
    st.builds(DropFlow, st.sampled_from(NODES), st.sampled_from(URLS)),
    st.builds(DropOrigin, st.sampled_from(NODES)),
)
filled = st.tuples(
    st.lists(put_origins, min_size=4, max_size=4).map(
        lambda puts: [
            PutOrigin(**{**{f: getattr(put, f) for f in put.__slots__}, "origin": node})
            for put, node in zip(puts, NODES, strict=True)
        ]
    ),
    st.lists(put_flows, max_size=40),
)


def table_of(puts: list[PutOrigin], records: list[PutFlow]) -> tuple[Table, list[Item]]:
    table, model = Table(), Model()
    table.apply([*puts, *records], Ignored())
    for change in (*puts, *records):
        model.apply(change)
    return table, model.items()


def searched(table: Table, matcher: Matcher, q: str, by: str = "") -> list[Item]:
    mask = matcher.matching(query.parse(q).node)
    found = ordering.page(table, mask, order_of(by), 0, len(table.flows))
    assert len(found) == mask.bit_count()
    return [item(table, slot) for slot in found]


@settings(max_examples=300, deadline=None)
@given(filled, st.data())
def test_a_query_finds_what_a_plain_evaluation_finds(
    catalogue: tuple[list[PutOrigin], list[PutFlow]], data: st.DataObject
) -> None:
    table, items = table_of(*catalogue)
    q, holds = data.draw(queries_about(texts_of(items)))
    assert query.parse(q).reason is None, q
    matcher = Matcher(table)
    wanted = naive_order([item for item in items if holds(item)], ())
    assert searched(table, matcher, q) == wanted
    assert searched(table, matcher, q) == wanted  # out of what was kept


@settings(max_examples=200, deadline=None)
@given(filled, orders_by, st.integers(0, 20), st.integers(1, 20))
def test_every_page_of_every_order_is_a_slice_of_the_sorted_whole(
    catalogue: tuple[list[PutOrigin], list[PutFlow]], by: str, start: int, size: int
) -> None:
    table, items = table_of(*catalogue)
    wanted = naive_order(items, order_of(by))
    found = ordering.page(table, table.all_live(), order_of(by), start, start + size)
    assert [item(table, slot) for slot in found] == wanted[start : start + size]


@settings(max_examples=300, deadline=None)
@given(filled, st.text(max_size=60) | st.text(LETTERS + "nodeint", max_size=200))
def test_whatever_is_asked_is_answered(
    catalogue: tuple[list[PutOrigin], list[PutFlow]], q: str
) -> None:
    table, items = table_of(*catalogue)
    found = searched(table, Matcher(table), q)
    assert len(found) <= len(items)
    asked = query.parse(q)
    if asked.reason is not None:
        words_of_it = q.split()
        assert found == naive_order(
            [item for item in items if all(full_text(word)(item) for word in words_of_it)], ()
        )


SPOKEN = (
    "name node tags created status ~ == != < <= > >= = in not & | ( ) , @tag @ \" ' \\ x null"
    " 2026-01-31 1e9 -5 9999999999999999 nan"
)
GRAMMATICAL = st.lists(st.sampled_from([*SPOKEN.split(), '"a b"', "'c'", " "]), max_size=40).map(
    " ".join
)


@settings(max_examples=500, deadline=None)
@given(GRAMMATICAL)
def test_what_looks_like_a_query_is_answered(q: str) -> None:
    asked = query.parse(q)
    assert asked.reason is None or asked.reason.isprintable()
    table, _ = table_of([], [])
    assert searched(table, Matcher(table), q) == []


class Changing(RuleBasedStateMachine):
    """A table that changes, with orders, indexes and kept terms in use all the time."""

    @initialize()
    def begin(self) -> None:
        self.table, self.model = Table(), Model()
        self.matcher = Matcher(self.table)
        self.asked: list[Asked] = []

    @rule(batch=st.lists(changes, min_size=1, max_size=6), many=st.booleans())
    def change(self, batch: list[Any], many: bool) -> None:
        taken = [change for change in batch if self.model.apply(change)]
        self.table.apply(taken, Batch(), many=many)

    @rule(puts=st.lists(put_origins, min_size=1, max_size=4))
    def beat(self, puts: list[PutOrigin]) -> None:
        for put in puts:
            self.model.apply(put)
        self.table.apply(puts, Batch())

    @rule(data=st.data(), by=orders_by)
    def search(self, data: st.DataObject, by: str) -> None:
        asked = data.draw(queries_about(texts_of(self.model.items())))
        self.asked = [asked, *self.asked[:2]]
        self.search_again(0, by)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 2), by=orders_by)
    def search_again(self, which: int, by: str) -> None:
        q, holds = self.asked[which % len(self.asked)]
        wanted = [item for item in self.model.items() if holds(item)]
        assert searched(self.table, self.matcher, q, by) == naive_order(wanted, order_of(by))

    @invariant()
    def everything_fits(self) -> None:
        if hasattr(self, "table"):
            self.table.check_invariants()


@pytest.mark.timeout(180)
def test_a_table_that_changes(tuning: None) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Changing, settings=settings(max_examples=60, stateful_step_count=20, deadline=None)
    )
