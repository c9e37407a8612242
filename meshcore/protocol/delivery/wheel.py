"""Many deadlines, few timers: a wheel of buckets, each an eighth of a second wide.

Nearly every deadline of a call is removed long before it comes, 100,000 times a second; so adding
and removing is a dictionary operation, and only buckets are ordered. A deadline fires up to one
bucket late, never early.
"""

from __future__ import annotations

import heapq
from typing import Any

SLOTS_PER_SECOND = 8
SWEEP_FROM = 1024  # buckets, from which on empty ones are looked for


class Wheel:
    def __init__(self) -> None:
        self._buckets: dict[int, dict[Any, None]] = {}
        self._order: list[int] = []
        self._sweep_at = SWEEP_FROM

    def add(self, item: Any, deadline: float) -> dict[Any, None]:
        """Returns the bucket; `bucket.pop(item, None)` removes the deadline."""
        slot = int(deadline * SLOTS_PER_SECOND) + 1
        bucket = self._buckets.get(slot)
        if bucket is None:
            if len(self._order) >= self._sweep_at:
                self._sweep()
            bucket = self._buckets[slot] = {}
            heapq.heappush(self._order, slot)
        bucket[item] = None
        return bucket

    def _sweep(self) -> None:
        """Drop empty buckets: deadlines of any distance, each soon removed, leave one each."""
        self._buckets = {slot: bucket for slot, bucket in self._buckets.items() if bucket}
        self._order = sorted(self._buckets)
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._order))

    def next_deadline(self) -> float | None:
        order = self._order
        while order and not self._buckets[order[0]]:
            del self._buckets[heapq.heappop(order)]
        return order[0] / SLOTS_PER_SECOND if order else None

    def pop_due(self, now: float) -> list[Any]:
        due: list[Any] = []
        while self._order and self._order[0] / SLOTS_PER_SECOND <= now:
            due += self._buckets.pop(heapq.heappop(self._order))
        return due
