"""Backoff: how long to wait with whom was dialled in vain, and with the search for other parts.

Intuition: each node that failed waits for itself, 1 s doubling to 10 s, so that others come first;
after ten minutes of failing it is tried once a minute. Beside it the search for nodes that no way
leads to has a pace of its own. It hurries while links are missing. Else it takes 2 to 10 s, later
a minute, and the longer the more nodes are in this part of the mesh: all of them look for the same
ones, and one link is enough. So a whole part makes a few attempts a second, however large it is,
and a node that restarts is not dialled by a thousand others.

Contract: times are absolute; nothing here decides. At most PAST_MAX failures are remembered.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_RETRY, RETRY_MAX = 1.0, 10.0
OLD_RETRY, OLD_AFTER = 60.0, 600.0
JOIN_FIRST, JOIN_MAX = 2.0, 10.0
JOINERS = 4  # nodes of one part that search at this pace; more of them take turns
HURRY_FIRST, HURRY_MAX = 0.1, 1.0
PAST_MAX = 4096


@dataclass(slots=True)
class _Past:
    failures: int
    since: float
    retry_at: float


class Patience:
    """What was tried in vain lately."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._past: dict[str, _Past] = {}
        self._joins_failed = 0  # in a row
        self._joins_fail_since: float | None = None

    # One node --------------------------------------------------------------------------------

    def retry_at(self, node_id: str) -> float:
        """Not before then; 0 where nothing speaks against it."""
        past = self._past.get(node_id)
        return 0.0 if past is None else past.retry_at

    def failed(self, node_id: str, now: float) -> None:
        past = self._past.pop(node_id, None) or _Past(0, now, now)
        full = min(RETRY_MAX, FIRST_RETRY * 2.0 ** min(past.failures, 10))
        if now - past.since >= OLD_AFTER:
            full = OLD_RETRY
        past.failures += 1
        past.retry_at = now + full * self._rng.uniform(0.5, 1.0)
        self._remember(node_id, past)

    def rest(self, node_id: str, now: float, seconds: float) -> None:
        """Leave a node alone for so long: there is nothing of it that could be dialled."""
        self._past.pop(node_id, None)
        self._remember(node_id, _Past(0, now, now + seconds))

    def heard_of(self, node_id: str, now: float) -> None:
        """Somebody says that it is there: that is worth another try soon."""
        past = self._past.get(node_id)
        if past is not None:
            past.retry_at = min(past.retry_at, now + FIRST_RETRY)

    def forget(self, node_id: str) -> None:
        self._past.pop(node_id, None)

    def expire(self, now: float) -> None:
        """Drop what was not tried for long: it is known no more, or linked by another way."""
        for node_id in [one for one, past in self._past.items() if past.retry_at + OLD_AFTER < now]:
            del self._past[node_id]

    def _remember(self, node_id: str, past: _Past) -> None:
        self._past[node_id] = past
        if len(self._past) > PAST_MAX:
            del self._past[next(iter(self._past))]

    # The search for other parts --------------------------------------------------------------

    def join_wait(self, now: float, *, hurry: bool, part: int) -> float:
        """Until the next attempt; `part`: how many nodes can be reached here."""
        doublings = 2.0 ** min(self._joins_failed, 10)
        if hurry:
            return min(HURRY_MAX, HURRY_FIRST * doublings) * self._rng.uniform(0.5, 1.0)
        wait = min(JOIN_MAX, JOIN_FIRST * doublings)
        if self._joins_fail_since is not None and now - self._joins_fail_since >= OLD_AFTER:
            wait = OLD_RETRY
        return wait * max(1.0, part / JOINERS) * self._rng.uniform(0.1, 1.9)

    def join_failed(self, now: float) -> None:
        self._joins_failed += 1
        if self._joins_fail_since is None:
            self._joins_fail_since = now

    def search_anew(self) -> None:
        """A part was found, or another one was lost."""
        self._joins_failed, self._joins_fail_since = 0, None

    def check_invariants(self) -> None:
        assert len(self._past) <= PAST_MAX
