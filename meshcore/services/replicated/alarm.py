"""One timer that always rings at the earliest time that it was set to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Alarm:
    """Calls `ring` on the loop; it may ring too early, and is then set again."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._at = 0.0

    def set(self, at: float) -> None:
        """Ring at `at` (monotonic seconds) at the latest."""
        if self._handle is not None:
            if self._at <= at:
                return  # it comes sooner, and is set again then
            self._handle.cancel()
        self._at = at
        delay = max(0.0, at - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(delay, self._on_time)

    def _on_time(self) -> None:
        self._handle = None
        self._ring()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
