"""Dialling: which URLs to try, when to try again, and which to leave alone.

Intuition: a URL is tried until it leads to a link, then rests until that link is gone. A URL that
leads to a node which is linked already by another way is parked until that other way is gone.

Contract: `start_due` yields the dials that are due; whoever performs the handshake reports each
outcome exactly once under the same URL: `linked`, then `closed` or `park`; or `failed`, `park` or
`remove`. `node_up` and `node_down` tell which nodes are linked, by whatever way.

Complications:
- Delays double from FIRST to the cap of their kind, and each is drawn between half and all of it,
  so that nodes which lost the same peer at once do not come back at once.
- A link that lasted less than STABLE does not reset the doubling: a peer that accepts and closes
  again must not be dialled ten times a second for ever.
- URLs known to lead to one node start STAGGER apart: mostly the first wins and the others are
  never needed. URLs of unknown nodes are not staggered: they are probably different nodes, and
  waiting for each other would only delay the start.
- Learnt URLs are taken back (`unlearn`) by whoever chose them, when they are `in_vain` at the
  latest; one that gets configured meanwhile stays.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from meshcore.errors import ConfigError
from meshcore.protocol.machine import Dial, Timers

FIRST = 0.1
CONFIGURED_CAP = 1.0  # a restarted peer has its links back within 2 s: more than 1 s breaks that
LEARNT_CAP = 10.0
LEARNT_OLD_CAP = 60.0  # for learnt URLs that have failed for LEARNT_OLD
LEARNT_OLD = 600.0
REFUSED_DELAY = 10.0  # a refusal does not heal by asking again soon
STAGGER = 0.25
STABLE = 1.0
LEARNT_MAX = 64
CONFIGURED_MAX = 1024
DIALS_MAX = 64  # in flight at once; each costs two sockets
RETRY_WHEN_BUSY = 0.1


class DialState(Enum):
    """What a URL does now."""

    WAITING = "waiting"
    DIALLING = "dialling"
    LINKED = "linked"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class DialStatus:
    """One URL for people to read; `next_in` is the seconds until the next dial, or None."""

    url: str
    configured: bool
    state: DialState
    node_id: str | None
    attempts: int
    last_error: str
    next_in: float | None


@dataclass(slots=True)
class _Candidate:
    url: str
    configured: bool
    node_id: str | None  # whom it led to last, or is said to lead to
    learnt_for: str | None = None  # whom it is said to lead to, where the mesh told of it
    state: DialState = DialState.WAITING
    attempts: int = 0  # since the last link that lasted
    last_error: str = ""
    next_at: float | None = None
    started_at: float = 0.0
    linked_at: float = 0.0
    failing_since: float | None = None


class Dialling:
    """The URLs to dial and the number of each link that is dialled (odd: 1, 3, 5, ...)."""

    def __init__(
        self, rng: random.Random, *, reachable: Callable[[str], bool] = lambda _node_id: False
    ) -> None:
        self._rng = rng
        self._reachable = reachable
        self._candidates: dict[str, _Candidate] = {}
        self._timers: Timers[str] = Timers()
        self._linked: dict[str, None] = {}
        self._next_link = 1
        self._stopped = False

    def __contains__(self, url: str) -> bool:
        return url in self._candidates

    def add(self, url: str, now: float) -> None:
        """Dial a configured URL from now on; ConfigError when there are too many."""
        candidate = self._candidates.get(url)
        if candidate is not None:
            candidate.configured = True
            if candidate.state is DialState.WAITING:
                self._wait(candidate, now)
            return
        if sum(one.configured for one in self._candidates.values()) >= CONFIGURED_MAX:
            raise ConfigError(f"more than {CONFIGURED_MAX} peers")
        self._insert(_Candidate(url, True, None), now)

    def learn(self, url: str, node_id: str, now: float) -> bool:
        """Dial a URL that the mesh told of; False when there is no room for it."""
        if url in self._candidates:
            return True
        if sum(not one.configured for one in self._candidates.values()) >= LEARNT_MAX:
            hopeless = self._most_hopeless()
            if hopeless is None:
                return False
            self.remove(hopeless.url)
        self._insert(_Candidate(url, False, node_id, node_id), now)
        return True

    def unlearn(self, url: str) -> None:
        """Forget a learnt URL, not a configured one; its link stays where it has one."""
        candidate = self._candidates.get(url)
        if candidate is not None and not candidate.configured:
            self.remove(url)

    def in_vain(self, node_id: str) -> bool:
        """Whether all URLs that were learnt for a node (or none) have failed or led elsewhere."""
        return all(
            one.failing_since is not None or one.node_id != node_id
            for one in self._candidates.values()
            if one.learnt_for == node_id and not one.configured
        )

    def remove(self, url: str) -> None:
        """Forget a URL; its link, where it has one, is the caller's to close."""
        if self._candidates.pop(url, None) is not None:
            self._timers.cancel(url)

    def stop(self) -> None:
        """Dial nothing any more."""
        self._stopped = True
        for candidate in self._candidates.values():
            self._timers.cancel(candidate.url)
            candidate.next_at = None

    def start_due(self, now: float) -> list[Dial]:
        """The dials to start now."""
        due = [self._candidates[url] for url in self._timers.pop_due(now)]
        if not due:
            return []
        in_flight = sum(one.state is DialState.DIALLING for one in self._candidates.values())
        due.sort(key=self._urgency)
        dials: list[Dial] = []
        for candidate in due:
            at = self._stagger_until(candidate, now)
            if in_flight >= DIALS_MAX:
                at = max(at, now + RETRY_WHEN_BUSY)
            if at > now:
                self._wait(candidate, at)
                continue
            dials.append(Dial(self._start(candidate, now), candidate.url))
            in_flight += 1
        return dials

    def next_deadline(self) -> float | None:
        return self._timers.next_deadline()

    def failed(self, url: str, reason: str, now: float, *, delay: float | None = None) -> None:
        """A dial came to nothing; `delay` overrides the usual back-off."""
        candidate = self._candidates.get(url)
        if candidate is None:
            return
        candidate.attempts += 1
        candidate.last_error = reason
        if candidate.failing_since is None:
            candidate.failing_since = now
        self._wait(candidate, now + (self._backoff(candidate, now) if delay is None else delay))

    def identified(self, url: str, node_id: str) -> None:
        """The handshake told whom a URL leads to."""
        candidate = self._candidates.get(url)
        if candidate is not None:
            candidate.node_id = node_id

    def linked(self, url: str, node_id: str, now: float) -> None:
        """The link that was dialled under this URL is up."""
        candidate = self._candidates.get(url)
        if candidate is None:
            return
        candidate.state = DialState.LINKED
        candidate.node_id = node_id
        candidate.linked_at = now
        candidate.last_error = ""
        candidate.failing_since = None

    def closed(self, url: str, reason: str, now: float) -> None:
        """The link of this URL was up, and its node has no link any more."""
        candidate = self._candidates.get(url)
        if candidate is None:
            return
        if now - candidate.linked_at >= STABLE:
            candidate.attempts = 0
        else:
            candidate.attempts += 1
        candidate.last_error = reason
        self._wait(candidate, now + self._backoff(candidate, now))

    def park(self, url: str, node_id: str) -> None:
        """The URL leads to a node that is linked by another way."""
        assert node_id in self._linked, f"parked {url} for {node_id}, which is not linked"
        candidate = self._candidates.get(url)
        if candidate is None:
            return
        candidate.node_id = node_id
        self._park(candidate)

    def node_up(self, node_id: str) -> None:
        """A node is linked, by whatever way: what waits to dial it is parked."""
        self._linked[node_id] = None
        for candidate in self._candidates.values():
            if candidate.node_id == node_id and candidate.state is DialState.WAITING:
                self._park(candidate)

    def node_down(self, node_id: str, now: float) -> None:
        """The last link of a node is gone: what was parked for it is dialled soon."""
        self._linked.pop(node_id, None)
        for candidate in self._candidates.values():
            if candidate.node_id == node_id and candidate.state is DialState.PARKED:
                self._wait(candidate, now + self._rng.uniform(0.0, FIRST))

    def snapshot(self, now: float) -> tuple[DialStatus, ...]:
        return tuple(
            DialStatus(
                url=one.url,
                configured=one.configured,
                state=one.state,
                node_id=one.node_id,
                attempts=one.attempts,
                last_error=one.last_error,
                next_in=None if one.next_at is None else max(0.0, one.next_at - now),
            )
            for one in self._candidates.values()
        )

    def check_invariants(self) -> None:
        learnt = sum(not one.configured for one in self._candidates.values())
        assert learnt <= LEARNT_MAX, f"{learnt} learnt URLs"
        for url, one in self._candidates.items():
            assert url == one.url
            waits = one.state is DialState.WAITING and not self._stopped
            assert (url in self._timers) == waits, (url, one.state)
            assert (one.next_at is not None) == waits, (url, one.state)
            if one.state is DialState.PARKED:
                assert one.node_id in self._linked, (url, one.node_id)

    def _insert(self, candidate: _Candidate, now: float) -> None:
        self._candidates[candidate.url] = candidate
        self._wait(candidate, now)

    def _start(self, candidate: _Candidate, now: float) -> int:
        link = self._next_link
        self._next_link += 2
        candidate.state = DialState.DIALLING
        candidate.next_at = None
        candidate.started_at = now
        return link

    def _wait(self, candidate: _Candidate, at: float) -> None:
        """Dial at this instant, or not at all while its node is linked."""
        if candidate.node_id in self._linked:
            self._park(candidate)
            return
        candidate.state = DialState.WAITING
        if self._stopped:
            return
        candidate.next_at = at
        self._timers.set(candidate.url, candidate.next_at)

    def _park(self, candidate: _Candidate) -> None:
        candidate.state = DialState.PARKED
        candidate.next_at = None
        self._timers.cancel(candidate.url)

    def _backoff(self, candidate: _Candidate, now: float) -> float:
        cap = CONFIGURED_CAP if candidate.configured else LEARNT_CAP
        since = candidate.failing_since
        if not candidate.configured and since is not None and now - since >= LEARNT_OLD:
            return LEARNT_OLD_CAP * self._rng.uniform(0.5, 1.0)
        full = min(cap, FIRST * 2.0 ** min(candidate.attempts, 10))
        return full * self._rng.uniform(0.5, 1.0)

    def _stagger_until(self, candidate: _Candidate, now: float) -> float:
        """Until when a dial to the same node that started a moment ago may go ahead."""
        if candidate.node_id is None:
            return now
        started = [
            one.started_at
            for one in self._candidates.values()
            if one.node_id == candidate.node_id and one.state is DialState.DIALLING
        ]
        return max(started) + STAGGER if started else now

    def _urgency(self, candidate: _Candidate) -> tuple[bool, bool]:
        """Configured first; of the learnt, nodes that no route leads to: they may join halves."""
        reachable = candidate.node_id is not None and self._reachable(candidate.node_id)
        return (not candidate.configured, reachable)

    def _most_hopeless(self) -> _Candidate | None:
        """The learnt URL that has failed for longest, None where all may still be useful."""
        failing = [
            one
            for one in self._candidates.values()
            if not one.configured
            and one.state is DialState.WAITING
            and one.failing_since is not None
        ]
        return min(failing, key=lambda one: one.failing_since or 0.0, default=None)
