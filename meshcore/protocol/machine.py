"""The contract that every machine of the core keeps, its common effects, and timers.

A machine is fed inputs with the time and returns effects, in the order in which they must happen::

    handle(event, now) -> list[Effect]        next_deadline() -> float | None

(or named methods `on_x(..., now) -> list[Effect]`, one per kind of input, and `on_tick(now)`).

- Total over the wire: nothing that a peer sends raises. A faulty peer yields an effect that closes
  its link with a reason; late, duplicate and stale inputs are normal.
- `now` is seconds of a monotonic clock; it never goes back. Deadlines are absolute. After a tick
  `next_deadline() > now`; a spurious or late tick is harmless.
- Ids and randomness come in through the constructor; no iteration over bare sets of strings.
- `check_invariants()` re-derives the indexes; tests and the simulator call it after every step.
- Machines do not import each other; they meet in `mesh.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a control message on lane `c` of one link (wire.control dataclass)."""

    link: int
    message: object


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a control message to every neighbour over PUB/SUB; it may be lost."""

    message: object


@dataclass(frozen=True, slots=True)
class Dial:
    """Open the connections of a new link to `url`; the shell reports the outcome under `link`."""

    link: int
    url: str


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close a link's connections, after what was queued on it before has been handed over."""

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Try one plain connect() to each url; the shell answers with `gone` True if all refused."""

    node_id: str
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the application (a frozen dataclass of the machine that emits it)."""

    event: object


@dataclass(frozen=True, slots=True)
class Count:
    """Add one to the counter of this reason; every drop has one."""

    reason: str


class Timers(Generic[Key]):
    """Deadlines by key, in one heap; setting a key again replaces its deadline."""

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._at

    def set(self, key: Key, deadline: float) -> None:
        self._at[key] = deadline
        self._count += 1  # ties fire in the order they were set, and keys are never compared
        heapq.heappush(self._heap, (deadline, self._count, key))
        if len(self._heap) > 64 + 4 * len(self._at):
            self._compact()

    def set_earlier(self, key: Key, deadline: float) -> None:
        """Set the deadline unless an earlier one stands."""
        standing = self._at.get(key)
        if standing is None or deadline < standing:
            self.set(key, deadline)

    def cancel(self, key: Key) -> None:
        self._at.pop(key, None)

    def next_deadline(self) -> float | None:
        self._skip_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[Key]:
        """The keys whose deadline has come, earliest first; they are no longer set."""
        due: list[Key] = []
        self._skip_stale()
        while self._heap and self._heap[0][0] <= now:
            key = heapq.heappop(self._heap)[2]
            del self._at[key]
            due.append(key)
            self._skip_stale()
        return due

    def _skip_stale(self) -> None:
        heap = self._heap
        while heap and self._at.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)

    def _compact(self) -> None:
        live = [entry for entry in self._heap if self._at.get(entry[2]) == entry[0]]
        heapq.heapify(live)
        self._heap = live
