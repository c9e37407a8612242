"""Which records a query holds for: a tree becomes a set.

Each term of the tree is asked of a whole column at once, in one pass that runs in C, or of an
index: texts of the vocabulary (`words`), tags of theirs, columns of origins of the origins, which
are few. The sets are then put together as the tree says. What a term gave is kept, so that the next
page, another order or one more word costs little; it is forgotten when something changed that it
looked at.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import reduce
from itertools import compress, repeat
from operator import attrgetter
from typing import Any

from meshcore.storage.columns import COLUMNS, NEVER, ORIGIN_VALUES, Kind, fold
from meshcore.storage.masks import mask_of, mask_of_slots
from meshcore.storage.query import And, Compare, Contains, Node, Not, OneOf, Or, Words
from meshcore.storage.table import Table

KEPT_MAX = 24  # terms; a set of 100,000 records has 100 kB
SHORT = 2  # characters: such a text is in many words
SAMPLE = 128  # records that tell whether a short text is in many records, too
OFTEN = 0.2  # share of the sample

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Matcher:
    """Answers which records of a table a query holds for."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._kept: OrderedDict[Node, tuple[tuple[int, ...], int]] = OrderedDict()

    def matching(self, node: Node) -> int:
        """The set of live records for which it holds."""
        return self._set(node) & self._table.all_live()

    def _set(self, node: Node) -> int:
        """The same, with any records that are not live."""
        if isinstance(node, And):
            return reduce(operator.and_, map(self._set, node.parts), self._table.all_live())
        if isinstance(node, Or):
            return reduce(operator.or_, map(self._set, node.parts), 0)
        if isinstance(node, Not):
            return ~self._set(node.part) & self._table.all_live()
        return self._kept_or_found(node)

    def _kept_or_found(self, node: Words | Contains | OneOf | Compare) -> int:
        epochs = self._table.epochs
        looked_at = tuple(epochs[name] for name in _depends_on(node))
        kept = self._kept.get(node)
        if kept is not None and kept[0] == looked_at:
            self._kept.move_to_end(node)
            return kept[1]
        found = self._find(node)
        self._kept[node] = (looked_at, found)
        self._kept.move_to_end(node)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return found

    def _find(self, node: Words | Contains | OneOf | Compare) -> int:
        if isinstance(node, Words):
            return self._full_text(node.text)
        holds = predicate_of(node)
        kind = COLUMNS[node.column]
        if kind.of_origin:
            return self._origins_where(ORIGIN_VALUES[node.column], holds)
        if kind is Kind.TAGS:
            return self._tags_where(holds)
        if isinstance(node, Contains):
            return self._containing(node)
        return self._records_where(node, holds)

    # -- terms of each kind ------------------------------------------------------------------------

    def _origins_where(self, value: Callable[[Any], Any], holds: Callable[[Any], bool]) -> int:
        table = self._table
        return table.of_origins(
            [
                number
                for number, put in enumerate(table.origins)
                if put is not None and holds(value(put))
            ]
        )

    def _tags_where(self, holds: Callable[[Any], bool]) -> int:
        tags = self._table.tags
        marks = bytearray(len(self._table.flows))
        for tag in tags:
            if holds(tag):
                tags.mark(tag, marks)
        return mask_of(marks)

    def _records_where(self, node: OneOf | Compare, holds: Callable[[Any], bool]) -> int:
        table = self._table
        if COLUMNS[node.column] is Kind.TIME:
            column: Iterable[Any] = table.times(node.column)
        else:
            column = map(attrgetter(node.column), table.flows)
        if isinstance(node, OneOf):
            return mask_of(map(_known(node.values).__contains__, column))
        if COLUMNS[node.column] is Kind.TIME and node.operator in ("<", "<="):
            return mask_of(map(holds, column))
        return mask_of(map(_OPERATORS[node.operator], column, repeat(node.value)))

    def _containing(self, node: Contains) -> int:
        table, text = self._table, node.text
        value = attrgetter(node.column)
        marks: Iterable[int] | None = None
        if node.column not in ("url", "kind"):  # which are not in the full text
            marks = self._candidates(text)
        if marks is None and " " not in text:  # then fold does no more than this
            folded = map(str.casefold, map(value, table.flows))
            return mask_of(map(operator.contains, folded, repeat(text)))
        flows = table.flows
        slots = range(len(flows)) if marks is None else compress(range(len(flows)), marks)
        return mask_of_slots(
            (slot for slot in slots if text in fold(value(flows[slot]))), len(flows)
        )

    def _full_text(self, text: str) -> int:
        table = self._table
        organizations = self._origins_where(
            ORIGIN_VALUES["organization"], lambda value: text in fold(value)
        )
        candidates = self._candidates(text)
        if candidates is None:
            return organizations | mask_of(map(operator.contains, table.texts, repeat(text)))
        if _is_one_word(text):
            return organizations | mask_of(candidates)
        texts = table.texts
        slots = compress(range(len(texts)), candidates)
        return organizations | mask_of_slots(
            (slot for slot in slots if text in texts[slot]), len(texts)
        )

    def _candidates(self, text: str) -> bytearray | None:
        """Marks of the records whose full text may contain this: all that do, and few others.

        None where it is better to look at each record. For one word they are exactly those.
        """
        table = self._table
        word = max(text.split(), key=len, default="")
        if not word or (len(word) <= SHORT and self._is_frequent(word)):
            return None
        return table.words.slots_with(word, len(table.flows))

    def _is_frequent(self, word: str) -> bool:
        sample = self._table.texts[:: len(self._table.texts) // SAMPLE + 1]
        return sum(word in each for each in sample) > OFTEN * len(sample)


def predicate_of(node: Contains | OneOf | Compare) -> Callable[[Any], bool]:
    """What a value of the column must be; of tags, one of them."""
    if isinstance(node, Contains):
        text = node.text
        return lambda value: text in fold(value)
    if isinstance(node, OneOf):
        return _known(node.values).__contains__
    compare, bound = _OPERATORS[node.operator], node.value
    return lambda value: value != NEVER and compare(value, bound)


def _known(values: Iterable[str | float | None]) -> frozenset[str | float]:
    return frozenset(NEVER if value is None else value for value in values)


def _is_one_word(text: str) -> bool:
    return text.split() == [text]


def _depends_on(node: Words | Contains | OneOf | Compare) -> tuple[str, ...]:
    """What the table counts the changes of, as far as this looks at it."""
    if isinstance(node, Words):
        return ("records", "organization")
    if COLUMNS[node.column].of_origin:
        return ("records", node.column)
    return ("records",)
