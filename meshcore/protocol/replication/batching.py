"""When the entries that have come are a batch: each costs every replica a write and a message.

What comes while a batch is under way is gathered. Under load, once a batch is committed, those whom
it answered mostly call again soon: the next one waits for as many as were under way, and not for
long. Or clients without a pause would make two halves that take turns, at nearly twice the cost.
Where there is little to do nobody waits: a second batch may follow the first at once.
"""

from __future__ import annotations

from collections import deque
from typing import Final

UNDER_WAY_MAX: Final = 2
LARGE: Final = 16  # entries of a batch that make it worth while to wait for more of them
PACE: Final = 0.005  # seconds from a large batch to the next, unless it is committed
HOLD: Final = 2.0  # times as long as a batch took the next one waits for its entries; PACE at most


class Batching:
    """Of one primary. `waiting` is how many entries have come and are in no batch."""

    def __init__(self) -> None:
        self._under_way: deque[int] = deque()  # the last entry of each
        self._size = 0  # entries of the last batch, and when it began
        self._began_at = 0.0
        self._expected = 0  # entries in the next one
        self._hold_until = 0.0

    def may_begin(self, waiting: int, now: float) -> bool:
        """Whether what waits is a batch now."""
        return now >= self.next_at() or (not self._under_way and waiting >= self._expected)

    def next_at(self) -> float:
        """When it is one even if no more comes."""
        if len(self._under_way) >= UNDER_WAY_MAX:
            return float("inf")
        if not self._under_way:
            return self._hold_until
        return self._began_at + (PACE if self._size >= LARGE else 0.0)

    def began(self, last: int, size: int, now: float) -> None:
        """Entries up to `last` are written and sent."""
        self._under_way.append(last)
        self._size, self._began_at = size, now

    def committed(self, index: int, waiting: int, now: float) -> None:
        """Entries up to `index` are committed."""
        under_way = self._under_way
        if not under_way:
            return
        while under_way and under_way[0] <= index:
            under_way.popleft()
        if not under_way and self._size >= LARGE:
            self._expected = self._size + waiting
            self._hold_until = now + min(HOLD * (now - self._began_at), PACE)
