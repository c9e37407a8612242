"""All live records, sorted by one column, and kept so while they change.

A record that changes is taken out and put in again, each by bisection: what is equal is sorted by
slot, so that its place is known exactly. That is worth it one by one. When very much changes, as
when a registry hears of everything for the first time, the order is *void* until somebody needs it
or there is time to sort anew. That goes in steps, so that the thread can do something else between
them and never keeps the interpreter for long: `sort` alone would hold it for a tenth of a second
with 100,000 records.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import compress, count, islice
from typing import Any

STEP = 4096  # slots sorted, or merged, in one step: a few milliseconds


class Order:
    """The slots of live records, by ascending key, then by slot."""

    def __init__(self, key: Callable[[int], Any]) -> None:
        self._key = key
        self._slots = array("I")
        self._is_void = False

    def add(self, slot: int) -> None:
        """This slot has its key now, and is to be in the order."""
        if not self._is_void:
            self._slots.insert(self._place(slot), slot)

    def remove(self, slot: int) -> None:
        """This slot, which is in the order, will change its key, or not be live any more."""
        if not self._is_void:
            del self._slots[self._place(slot)]

    def void(self) -> None:
        """So much is about to change that it is better to sort later."""
        self._is_void = True
        self._slots = array("I")

    def slots(self, live: bytearray) -> array[int]:
        """All of them; not to be changed."""
        for _ in self.tidying(live):
            pass
        return self._slots

    def tidying(self, live: bytearray) -> Iterator[None]:
        """The same in steps, for when there is time. It must not go on after a change."""
        if self._is_void:
            yield from self._sort(live)

    def _place(self, slot: int) -> int:
        key = self._key
        return bisect_left(self._slots, (key(slot), slot), key=lambda each: (key(each), each))

    def _sort(self, live: bytearray) -> Iterator[None]:
        key = self._key
        rest = compress(count(), live)
        runs = []
        while run := list(islice(rest, STEP)):
            run.sort(key=key)
            runs.append(array("I", run))
            yield
        slots = array("I")
        merged = heapq.merge(*runs, key=key)  # stable: equals stay sorted by slot
        while part := array("I", islice(merged, STEP)):
            slots += part
            yield
        self._slots = slots
        self._is_void = False
