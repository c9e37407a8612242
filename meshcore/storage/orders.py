"""All live records, sorted by one column, and kept so while they change.

A change only notes that a slot has left its place. Who needs the order takes out what has moved and
puts it in again, by bisection where it is little; where it is much, everything is sorted anew, in
steps, so that the thread can do something else between them and never keeps the interpreter for
long: `sort` alone would hold it for a tenth of a second with 100,000 records.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import compress, count, islice
from typing import Any

INSERTED_MAX = 500  # slots; with more of them everything is sorted anew
STEP = 4096  # slots sorted, or merged, in one step: a few milliseconds


class Order:
    """The slots of live records, by ascending key; what is equal is in no particular order."""

    def __init__(self, key: Callable[[int], Any]) -> None:
        self._key = key
        self._slots = array("I")
        self._moved: set[int] = set()
        self._void = False  # so much has moved that what moved was not noted any more

    @property
    def is_tidy(self) -> bool:
        return not (self._moved or self._void)

    def move(self, slot: int) -> None:
        """The key of this slot is another one, or it became live or ceased to be."""
        if not self._void:
            self._moved.add(slot)
            if len(self._moved) > INSERTED_MAX:
                self._void = True
                self._moved.clear()

    def slots(self, live: bytearray) -> array[int]:
        """All of them; not to be changed."""
        if self._void:
            for _ in self._sorted_anew(live):
                pass
        elif self._moved:
            self._put_back(live)
        return self._slots

    def tidying(self, live: bytearray) -> Iterator[None]:
        """The same in steps, for when there is time. It must not go on after a `move`."""
        if self._void:
            yield from self._sorted_anew(live)
        elif self._moved:
            self._put_back(live)

    def _put_back(self, live: bytearray) -> None:
        moved, key = self._moved, self._key
        slots = array("I", (slot for slot in self._slots if slot not in moved))
        for slot in moved:
            if live[slot]:
                slots.insert(bisect_right(slots, key(slot), key=key), slot)
        self._slots = slots
        self._moved = set()

    def _sorted_anew(self, live: bytearray) -> Iterator[None]:
        key = self._key
        rest = compress(count(), live)
        runs = []
        while run := list(islice(rest, STEP)):
            run.sort(key=key)
            runs.append(array("I", run))
            yield
        slots = array("I")
        merged = heapq.merge(*runs, key=key)
        while part := array("I", islice(merged, STEP)):
            slots += part
            yield
        self._slots = slots
        self._void = False
