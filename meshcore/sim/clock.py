"""Virtual time: a heap of events, each at an instant, ties in the order in which they were set.

Nothing waits: the time jumps from event to event. `trace` is a checksum over every event and over
whatever is noted, so that two runs can be compared by one number.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable
from typing import Any, TypeAlias
from zlib import crc32

Event: TypeAlias = tuple[float, int, Callable[..., object], tuple[Any, ...]]

_stamp = struct.Struct("<dQ").pack


class Clock:
    """`now` is seconds since the start of the simulation."""

    def __init__(self) -> None:
        self.now = 0.0
        self.trace = 0
        self.events = 0
        self._heap: list[Event] = []
        self._set = 0

    def after(self, delay: float, action: Callable[..., object], *args: Any) -> None:
        """Call `action(*args)` when `delay` seconds have passed."""
        self.at(self.now + delay, action, *args)

    def at(self, instant: float, action: Callable[..., object], *args: Any) -> None:
        """Call `action(*args)` at an instant; one that is over counts as now."""
        self._set += 1
        heapq.heappush(self._heap, (max(instant, self.now), self._set, action, args))

    def note(self, data: bytes) -> None:
        """Make `data` part of the trace."""
        self.trace = crc32(data, self.trace)

    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def run_instant(self) -> None:
        """Let everything happen that happens now, until it is a later time."""
        while self._heap and self._heap[0][0] <= self.now:
            self.step()

    def step(self) -> None:
        """Let the next event happen."""
        self.now, number, action, args = heapq.heappop(self._heap)
        self.events += 1
        self.trace = crc32(_stamp(self.now, number), self.trace)
        action(*args)
