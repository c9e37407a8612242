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
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import compress, repeat
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

from meshcore.storage.columns import COLUMNS, NEVER, ORIGIN_VALUES, SEPARATOR, Kind, fold
from meshcore.storage.masks import mask_of, mask_of_slots, slots_of
from meshcore.storage.query import And, Compare, Contains, Node, Not, OneOf, Or, Words
from meshcore.storage.table import Table

KEPT_MAX = 24  # terms; a set of 100,000 records has 100 kB
SHORT = 2  # characters: such a text is in many words
SAMPLE = 128  # records that tell whether a short text is in many records, too
OFTEN = 0.2  # share of the sample
FEW = 8  # a set with less than one in so many records is looked at one by one
QUICK = (Kind.ORIGIN, Kind.ORIGIN_TIME, Kind.TAGS)

_OPPOSITE = b"\1" + bytes(255)  # for marks

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


Term: TypeAlias = Words | Contains | OneOf | Compare


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
            return self._all_of(node.parts)
        if isinstance(node, Or):
            return reduce(operator.or_, map(self._set, node.parts), 0)
        if isinstance(node, Not):
            return ~self._set(node.part) & self._table.all_live()
        return self._kept_or_found(node)

    def _all_of(self, parts: Sequence[Node]) -> int:
        """What is in all of the sets, the quick ones first; few records are looked at singly."""
        left = self._table.all_live()
        for part in sorted(parts, key=_effort):
            if not left:
                break
            few = left.bit_count() * FEW < len(self._table.flows)
            if few and isinstance(part, Words | Contains) and self._recall(part) is None:
                left = self._containing_among(part, left)
            else:
                left &= self._set(part)
        return left

    def _kept_or_found(self, node: Term) -> int:
        found = self._recall(node)
        if found is None:
            found = self._find(node)
            self._kept[node] = (self._looked_at(node), found)
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        self._kept.move_to_end(node)
        return found

    def _recall(self, node: Term) -> int | None:
        """What a term gave, where nothing has changed since that it looked at."""
        kept = self._kept.get(node)
        return kept[1] if kept is not None and kept[0] == self._looked_at(node) else None

    def _looked_at(self, node: Term) -> tuple[int, ...]:
        return tuple(self._table.epochs[name] for name in _depends_on(node))

    def _find(self, node: Term) -> int:
        if isinstance(node, Words):
            return self._full_text(node)
        holds = predicate_of(node)
        kind = COLUMNS[node.column]
        if kind.of_origin:
            return self._origins_where(ORIGIN_VALUES[node.column], holds)
        if kind is Kind.TAGS:
            return self._tags_where(holds)
        if node.column in self._table.coded:
            return mask_of(self._table.coded[node.column].where(holds))
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
        marks = None if node.column == "url" else self._candidates(text)  # url: not in full text
        if marks is None:
            return mask_of(map(operator.contains, self._folded(node, None), repeat(text)))
        slots = list(compress(range(len(marks)), marks))
        return mask_of_slots(self._with_text(node, slots), len(table.flows))

    def _with_text(self, node: Words | Contains, slots: Sequence[int]) -> Iterable[int]:
        """Those of the slots in which the column, or the full text of the flow, contains it."""
        if isinstance(node, Contains):
            texts: Iterable[str] = self._folded(node, slots)
        else:
            texts = map(self._table.texts.__getitem__, slots)
        return compress(slots, map(operator.contains, texts, repeat(node.text)))

    def _folded(self, node: Contains, slots: Sequence[int] | None) -> Iterable[str]:
        """A column of texts, case-folded; of these slots, or of all."""
        table = self._table
        column: list[Any] = table.flows
        if node.column == "url":
            column = table.urls
        elif node.column == "description":
            column = table.texts
        values: Iterable[Any] = column if slots is None else map(column.__getitem__, slots)
        if node.column == "url":
            return values
        if node.column == "description":  # the last part: nearer at hand, and folded already
            return map(itemgetter(2), map(str.rpartition, values, repeat(SEPARATOR)))
        # Where no space is looked for, fold does no more than this.
        folding = fold if " " in node.text else str.casefold
        return map(folding, map(attrgetter(node.column), values))

    def _containing_among(self, node: Words | Contains, among: int) -> int:
        """The part of a set that contains a text, found by looking at each."""
        table = self._table
        organizations = 0
        if isinstance(node, Words):
            organizations = self._organizations_with(node.text)
        elif COLUMNS[node.column] is not Kind.TEXT:
            return among & self._set(node)
        slots = slots_of(among & ~organizations, len(table.flows))
        holding = mask_of_slots(self._with_text(node, slots), len(table.flows))
        return among & organizations | holding

    def _full_text(self, node: Words) -> int:
        organizations = self._organizations_with(node.text)
        marks = self._candidates(node.text)
        if marks is None:
            marks = bytearray(len(self._table.flows))
            self._table.words.mark_some(node.text, marks)
            unknown = list(compress(range(len(marks)), marks.translate(_OPPOSITE)))
            for slot in self._with_text(node, unknown):
                marks[slot] = 1
            return organizations | mask_of(marks)
        if _is_one_word(node.text):
            return organizations | mask_of(marks)
        slots = list(compress(range(len(marks)), marks))
        return organizations | mask_of_slots(self._with_text(node, slots), len(marks))

    def _organizations_with(self, text: str) -> int:
        return self._origins_where(ORIGIN_VALUES["organization"], lambda value: text in fold(value))

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


def _effort(node: Node) -> int:
    """The order in which to ask for terms that must all hold."""
    if isinstance(node, Words):
        return 3 if len(node.text) <= SHORT else 1
    if isinstance(node, Contains):
        return 2
    if isinstance(node, OneOf | Compare):
        return 0 if COLUMNS[node.column] in QUICK else 1
    return 1


def _is_one_word(text: str) -> bool:
    return text.split() == [text]


def _depends_on(node: Term) -> tuple[str, ...]:
    """What the table counts the changes of, as far as this looks at it."""
    if isinstance(node, Words):
        return ("records", "organization")
    if COLUMNS[node.column].of_origin:
        return ("records", node.column)
    return ("records",)
