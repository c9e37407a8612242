"""Which records a query holds for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from meshcore.storage.columns import COLUMNS, FULL_TEXT, Kind
from meshcore.storage.query import And, Compare, Contains, Node, Not, OneOf, Or, Words

Item = dict[str, object]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(node: Node, item: Item) -> bool:
    """Whether a query holds for one record, told as an item of a page."""
    if isinstance(node, And):
        return all(holds(part, item) for part in node.parts)
    if isinstance(node, Or):
        return any(holds(part, item) for part in node.parts)
    if isinstance(node, Not):
        return not holds(node.part, item)
    if isinstance(node, Words):
        return any(_contains(item[column], node.text) for column in FULL_TEXT)
    if isinstance(node, Contains):
        return _contains(item[node.column], node.text)
    if isinstance(node, OneOf):
        return any(value in node.values for value in _values(node.column, item))
    assert isinstance(node, Compare)
    compare = _OPERATORS[node.operator]
    return any(
        value is not None and compare(value, node.value) for value in _values(node.column, item)
    )


def _values(column: str, item: Item) -> Iterable[object]:
    value = item[column]
    return value if COLUMNS[column] is Kind.TAGS else (value,)  # type: ignore[return-value]


def _contains(value: object, text: str) -> bool:
    if isinstance(value, list):
        return any(text in each.casefold() for each in value)
    return text in str(value).casefold()
