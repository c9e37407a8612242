"""One page of the records that a query holds for, in any order, without sorting them.

The first column of an order gives runs of records that are equal in it. A page needs only the runs
that it touches: those wholly inside are few records, and are sorted; of the first and the last,
which may be most of the catalogue, a part is asked for, in the same way with the columns that are
left. Where no column is left the default order decides, which has no equals.

Columns of a record are sorted all the time (`orders`), so that picking out what matches gives the
runs. Columns of origins change with every beat: they are ranked when they are needed, together
where several follow each other; an origin's records are all in one run.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import compress, groupby, islice
from typing import NamedTuple

from meshcore.storage.columns import COLUMNS, DEFAULT_ORDER, ORIGIN_VALUES, Key
from meshcore.storage.masks import marks_of, mask_of_slots, slots_of
from meshcore.storage.table import Table

SORTED_MAX = 1500  # records that are sorted rather than picked out of what is sorted
FIRST_STEP = 32  # how far to look for the end of a run at first

Order = Sequence[Key]


class _Run(NamedTuple):
    """Places of records that are equal in a column."""

    begin: int
    end: int


def page(table: Table, mask: int, by: Order, start: int, stop: int) -> list[int]:
    """The slots at the places from `start` to `stop` of that order, of those in the mask."""
    size = mask.bit_count()
    stop = min(stop, size)
    if start >= stop:
        return []
    if size <= SORTED_MAX:
        return _sorted(table, mask, by)[start:stop]
    if tuple(by) == DEFAULT_ORDER[: len(by)]:
        return list(islice(_picked(table, mask, DEFAULT_ORDER[0]), start, stop))
    if COLUMNS[by[0].column].of_origin:
        return _page_by_origins(table, mask, by, start, stop)
    return _page_by_records(table, mask, by, start, stop)


def _page_by_records(table: Table, mask: int, by: Order, start: int, stop: int) -> list[int]:
    """The first column is one of the records themselves."""
    value = table.key_of(by[0].column)
    slots = _Picked(_picked(table, mask, by[0]))

    def run_at(place: int) -> _Run:
        here = value(slots.at(place))
        step = FIRST_STEP
        while slots.reach(place + step) and value(slots.at(place + step)) == here:
            step *= 4
        taken = slots.taken
        before, after = range(place + 1), range(place, min(place + step, len(taken)))
        begin = bisect_left(before, True, key=lambda each: value(taken[each]) == here)
        end = bisect_left(after, True, key=lambda each: value(taken[each]) != here)
        return _Run(begin, place + end)

    def members(begin: int, end: int) -> int:
        return mask_of_slots(islice(slots.taken, begin, end), len(table.flows))

    return _of_runs(
        table, by, 1, (run_at(start), run_at(stop - 1)), members=members, start=start, stop=stop
    )


class _Picked:
    """What comes out of an iterator, taken no further than somebody looked."""

    def __init__(self, slots: Iterator[int]) -> None:
        self._rest = slots
        self.taken: list[int] = []

    def reach(self, place: int) -> bool:
        """Whether there is such a place."""
        missing = place + 1 - len(self.taken)
        if missing > 0:
            self.taken += islice(self._rest, missing)
        return place < len(self.taken)

    def at(self, place: int) -> int:
        """The slot at a place that there is."""
        self.reach(place)
        return self.taken[place]


def _page_by_origins(table: Table, mask: int, by: Order, start: int, stop: int) -> list[int]:
    """The first columns are of origins: they are ranked as if they were one."""
    columns = 0
    while columns < len(by) and COLUMNS[by[columns].column].of_origin:
        columns += 1
    marks = marks_of(mask, len(table.flows))
    sizes = Counter(compress(table.origin_of, marks))
    numbers = list(sizes)
    for key in reversed(by[:columns]):
        numbers.sort(key=table.origin_key_of(key.column), reverse=key.descending)
    values = [ORIGIN_VALUES[key.column] for key in by[:columns]]
    runs: dict[_Run, list[int]] = {}
    place = 0
    for _, group in groupby(numbers, lambda n: [value(table.origin(n)) for value in values]):
        equal = list(group)
        end = place + sum(sizes[number] for number in equal)
        if end > start and place < stop:
            runs[_Run(place, end)] = equal
        place = end

    def members(begin: int, end: int) -> int:
        inside = (runs[run] for run in runs if begin <= run.begin < end)
        return mask & table.of_origins([number for equal in inside for number in equal])

    touched = list(runs)
    return _of_runs(
        table, by, columns, (touched[0], touched[-1]), members=members, start=start, stop=stop
    )


def _of_runs(
    table: Table,
    by: Order,
    columns: int,
    ends: tuple[_Run, _Run],
    *,
    members: Callable[[int, int], int],
    start: int,
    stop: int,
) -> list[int]:
    """The page, out of the runs from the first to the last that it touches.

    `columns` of `by` made the runs; `members` is the set of the records from one place to another,
    both of them at the ends of runs.
    """
    head, tail = ends
    if tail.end - head.begin <= SORTED_MAX:
        slots = _sorted(table, members(head.begin, tail.end), by)
        return slots[start - head.begin : stop - head.begin]
    rest = by[columns:]
    if head == tail:
        return page(table, members(*head), rest, start - head.begin, stop - head.begin)
    return [
        *page(table, members(*head), rest, start - head.begin, head.end - head.begin),
        *_sorted(table, members(head.end, tail.begin), by),
        *page(table, members(*tail), rest, 0, stop - tail.begin),
    ]


def _picked(table: Table, mask: int, key: Key) -> Iterator[int]:
    """What is in the set, sorted by a column of records, equals in any order."""
    marks = marks_of(mask, len(table.flows))
    order: Sequence[int] = table.sorted_by(key.column)
    if key.descending:
        order = order[::-1]
    return compress(order, map(marks.__getitem__, order))


def _sorted(table: Table, mask: int, by: Order) -> list[int]:
    """All of a small set, sorted."""
    slots = slots_of(mask, len(table.flows))
    slots.sort(key=table.default_key)
    for key in reversed(by):
        slots.sort(key=table.key_of(key.column), reverse=key.descending)
    return slots
