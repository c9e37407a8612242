"""Gathering: learnt addresses are dialled until a node has as many links as it is meant to have.

Intuition: every link state names the endpoints of its origin, so a node could dial anybody. It
does so one at a time, and only for two reasons: it has fewer links than its *degree*, or it knows
of somebody whom no way leads to, who may be the other half of the mesh. So a star whose hub dies
heals itself, and two halves that were joined by learnt links find each other again.

Contract: what may be dialled is asked of `known` (the link states) when it is needed; `hint` adds
what was heard elsewhere (discovery, a file). Inputs return effects in order: `Learn` hands the
addresses of one node to the dialling, `Unlearn` takes addresses back, `Count`. A degree of 0 is
off. `next_deadline` is None while there is nothing to wait for, so an idle mesh costs nothing.

How it stays bounded:
- At most one attempt at a time to get more links, and one to get to an unreachable node (three
  while there is no link at all). An attempt ends with a link, when every address has failed or led
  elsewhere (`in_vain`), or after ATTEMPT_MAX. How long to wait then: `patience.py`.
- At most URLS_PER_NODE addresses of a node are used, and hints have a bound (`targets.py`).

Complications:
- Of a few at random the one with fewest links is chosen, best one that lacks links itself: without
  that a mesh that starts at once ends with nearly twice the links that were asked for. Not of all:
  news of new links take a moment, and the same one would be chosen by everybody.
- A lost link may be back in a moment (its own dialling sees to that), so a replacement waits a
  little, and so does the first look after the start: configured peers come first.
- Whoever is unreachable goes first, but never in the place of a reachable one: many may be dead.
- Who has just been heard of is reachable in a moment, and not another half of the mesh.
- An address that led to somebody else tells nothing of whom it was said to lead to.

Addresses expire with what told of them: a node's link state ends with its leave, and an hour after
it was last reachable; a hint lasts as long. What is beyond the machine's own networks is not
dialled because a stranger says so (`allowed`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from meshcore.protocol.machine import Count
from meshcore.protocol.membership.backoff import Patience
from meshcore.protocol.membership.targets import URLS_PER_NODE, Hints, Target

ATTEMPT_MAX = 8.0  # eight addresses that start 0.25 s apart, 3 s to connect, and a handshake
LOOK_INTERVAL = 0.25  # between two looks at what became of an attempt
SETTLE = 0.5  # seconds that a node may be known before its ways are
START_WAIT = (0.5, 1.0)
LOST_WAIT = (0.5, 1.0)  # after a link is lost while others stand
ALONE_WAIT = (0.1, 0.3)  # after the last link is lost
NEXT_WAIT = (0.05, 0.25)  # after a link has come: its news take a moment
REFUSED_REST = 600.0  # for a node none of whose addresses may be dialled
USED_REST = 10.0  # for one whose addresses all led to somebody else
SAMPLE = 4
JOINS_ALONE = 3  # attempts at a time to get to unreachable nodes while there is no link


@dataclass(frozen=True, slots=True)
class Learn:
    """Dial these addresses, which are said to lead to `node_id`."""

    node_id: str
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unlearn:
    """Dial these learnt addresses no more; links that they led to stay."""

    urls: tuple[str, ...]


Effects: TypeAlias = list[Learn | Unlearn | Count]


class _Aim(Enum):
    MORE = "one more link"
    JOIN = "a node that no way leads to"
    AGAIN = "a link that was lost, by the address that had led to it"


@dataclass(slots=True)
class _Attempt:
    urls: tuple[str, ...]
    until: float
    aim: _Aim


class Gathering:
    """Whom to dial beside the configured peers.

    Args:
        node_id: our own.
        rng: of choices and waits.
        degree: links that we are meant to have; 0 = off.
        now: the time of the start.
        known: every origin with a link state, the own one included; who has left is not named.
        in_vain: whether each learnt address of a node has failed or led elsewhere.
        allowed: whether an address may be dialled although only a peer told of it.
    """

    def __init__(
        self,
        node_id: str,
        rng: random.Random,
        *,
        degree: int,
        now: float,
        known: Callable[[], Iterable[Target]],
        in_vain: Callable[[str], bool],
        allowed: Callable[[str], bool] = lambda _url: True,
    ) -> None:
        self.degree = degree
        self.allowed = allowed
        self._node_id = node_id
        self._rng = rng
        self._known, self._in_vain = known, in_vain
        self._linked: dict[str, None] = {}
        self._silent: dict[str, None] = {}  # linked, but nothing has been heard of them for long
        self._attempts: dict[str, _Attempt] = {}
        self._kept: dict[str, str] = {}  # learnt addresses that led to links, by node
        self._hints = Hints()
        self._patience = Patience(rng)
        self._wake: float | None = None
        self._more_at = self._join_at = now + rng.uniform(*START_WAIT)
        self._part = 0  # nodes that can be reached, at the last look
        self._stopped = False
        self._wake_at(self._more_at)

    # -- inputs -----------------------------------------------------------------------------------

    def set_degree(self, degree: int, now: float) -> Effects:
        """Be content with so many links from now on; 0 forgets whatever was learnt."""
        self.degree = degree
        if self.is_on:
            self._wake_at(now)
            return []
        urls = [url for attempt in self._attempts.values() for url in attempt.urls]
        urls += self._kept.values()
        self._attempts.clear()
        self._kept.clear()
        self._wake = None
        return [Unlearn(tuple(urls))] if urls else []

    def on_link_up(self, node_id: str, url: str | None, now: float) -> Effects:
        """A link to a node serves; `url`: what we dialled for it, None where the node dialled."""
        self._linked[node_id] = None
        self._silent.pop(node_id, None)
        self._patience.forget(node_id)
        attempt = self._attempts.pop(node_id, None)
        tried: list[str] = []
        if attempt is not None:
            tried += attempt.urls
            if attempt.aim is _Aim.JOIN:
                self._patience.search_anew()
        if node_id in self._kept:
            tried.append(self._kept.pop(node_id))
        for other, wrong in list(self._attempts.items()):
            if url in wrong.urls:  # said to lead to another node, which is not there
                tried += wrong.urls
                self._fail(other, now)
        if url is not None and url in tried:
            self._kept[node_id] = url
        wait = self._rng.uniform(*NEXT_WAIT)
        self._more_at = max(self._more_at, now + wait)
        self._join_at = max(self._join_at, now + wait)
        self._look_soon(now)
        gone = tuple(dict.fromkeys(each for each in tried if each != self._kept.get(node_id)))
        return [Unlearn(gone)] if gone else []

    def on_link_down(self, node_id: str, now: float) -> Effects:
        """The last link to a node is gone."""
        self._linked.pop(node_id, None)
        self._silent.pop(node_id, None)
        kept = self._kept.pop(node_id, None)
        wait = self._rng.uniform(*(LOST_WAIT if self._linked else ALONE_WAIT))
        self._more_at = max(self._more_at, now + wait)
        self._join_at = max(self._join_at, now + wait)
        self._look_soon(now)
        if kept is None:
            return []
        if not self._missing() or self._stopped:
            return [Unlearn((kept,))]
        # The dialling tries that address again by itself: that is the next attempt.
        self._attempts[node_id] = _Attempt((kept,), now + ATTEMPT_MAX, _Aim.AGAIN)
        self._wake_at(now + LOOK_INTERVAL)
        return []

    def on_silence(self, node_id: str, silent: bool, now: float) -> None:
        """A neighbour is dead although its link stands (its loop is stuck), or it is back."""
        if silent and node_id in self._linked:
            self._silent[node_id] = None
            self._look_soon(now)
        elif not silent:
            self._silent.pop(node_id, None)

    def on_routes(self, reachable: Iterable[bool], now: float) -> None:
        """Whether each node of a change of the topology can be reached now."""
        if not self.is_on:
            return
        lost = not all(reachable)
        if lost:
            self._patience.search_anew()
            at = now + self._join_wait(now)
            self._join_at = at if self._join_at <= now else min(self._join_at, at)
        if lost or self._missing():
            self._look_soon(now)

    def hint(self, node_id: str, urls: Iterable[str], now: float) -> None:
        """Somebody is said to be there, by other ways than the mesh; it may be wrong."""
        if node_id == self._node_id or not self._hints.put(node_id, urls, now):
            return
        self._patience.heard_of(node_id, now)
        if self.is_on:
            self._look_soon(now)

    def forget_hint(self, node_id: str) -> None:
        """The node left, or is no longer announced."""
        self._hints.forget(node_id)

    def stop(self) -> None:
        """Dial nobody any more: the node leaves."""
        self._stopped = True
        self._attempts.clear()
        self._wake = None

    def on_tick(self, now: float) -> Effects:
        """See what became of the attempts, and begin others where that is due."""
        if self._wake is None or now < self._wake:
            return []
        self._wake = None
        if not self.is_on:
            return []
        self._expire(now)
        effects = self._end_attempts(now)
        return effects + self._begin_attempts(now)

    def next_deadline(self) -> float | None:
        return self._wake

    # -- reads ------------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        return self.degree > 0 and not self._stopped

    def addresses(self, most: int, now: float) -> list[Target]:
        """At most so many addresses, of neighbours first, one of each node before a second."""
        self._expire(now)
        rows = [row for row in self._targets() if row.urls and row.node_id != self._node_id]
        rows.sort(key=lambda row: (row.node_id not in self._linked, not row.reachable))
        chosen: dict[str, list[str]] = {}
        for at in range(URLS_PER_NODE):
            for row in rows:
                if at < len(row.urls) and most > 0:
                    chosen.setdefault(row.node_id, []).append(row.urls[at])
                    most -= 1
        return [
            row._replace(urls=tuple(chosen[row.node_id])) for row in rows if row.node_id in chosen
        ]

    def check_invariants(self) -> None:
        self._hints.check_invariants()
        self._patience.check_invariants()
        assert self._tries(_Aim.JOIN) <= JOINS_ALONE
        assert self._tries(_Aim.MORE) <= 1
        assert self._node_id not in self._attempts
        assert self._attempts.keys().isdisjoint(self._linked)
        assert self._kept.keys() <= self._linked.keys()
        assert self._silent.keys() <= self._linked.keys()
        assert self._wake is not None or not self._attempts
        for attempt in self._attempts.values():
            assert 0 < len(attempt.urls) <= URLS_PER_NODE

    # -- attempts ---------------------------------------------------------------------------------

    def _begin_attempts(self, now: float) -> Effects:
        more: list[Target] = []  # who can be reached, and would be one more link
        lost: list[Target] = []
        later: list[float] = []  # when somebody who waits may be tried again
        reachable = 0
        for target in self._targets():
            node_id = target.node_id
            reachable += target.reachable
            if node_id == self._node_id or node_id in self._linked or node_id in self._attempts:
                continue
            if not target.urls or (target.reachable and not self._missing()):
                continue
            retry_at = self._patience.retry_at(node_id)
            if not target.reachable:
                retry_at = max(retry_at, target.told_at + SETTLE)
            if retry_at > now:
                later.append(retry_at)
            else:
                (more if target.reachable else lost).append(target)
        self._part = reachable
        effects = self._join(lost, now) if now >= self._join_at else []
        if now >= self._more_at and self._wants_more():
            effects += self._try_one(self._preferred(more), _Aim.MORE, now)
        self._plan(bool(more), bool(lost), min(later, default=None), now)
        return effects

    def _plan(self, more: bool, lost: bool, later: float | None, now: float) -> None:
        """When to look again; never at once."""
        soonest = now + LOOK_INTERVAL
        if self._attempts:
            self._wake_at(soonest)
        if lost and not self._tries(_Aim.JOIN):
            self._wake_at(max(self._join_at, soonest))
        if more and self._wants_more():
            self._wake_at(max(self._more_at, soonest))
        if later is not None:
            self._wake_at(max(later, soonest))

    def _join(self, lost: list[Target], now: float) -> Effects:
        effects: Effects = []
        most = 1 if self._linked else min(JOINS_ALONE, self.degree)
        self._rng.shuffle(lost)
        while lost and self._tries(_Aim.JOIN) < most:
            effects += self._try_one(lost, _Aim.JOIN, now)
        return effects

    def _wants_more(self) -> bool:
        return self._missing() > self._tries(_Aim.AGAIN) and not self._tries(_Aim.MORE)

    def _preferred(self, targets: list[Target]) -> list[Target]:
        """In random order, but the last of some has fewest links: it is tried first."""
        self._rng.shuffle(targets)
        some = targets[-SAMPLE:]
        some.sort(key=lambda one: max(one.links, self.degree - 1), reverse=True)
        return targets[:-SAMPLE] + some

    def _try_one(self, targets: list[Target], aim: _Aim, now: float) -> Effects:
        """Begin with the last of them who may be dialled; who was looked at is taken out."""
        effects: Effects = []
        used = {url for attempt in self._attempts.values() for url in attempt.urls}
        used.update(self._kept.values())
        while targets:
            target = targets.pop()
            allowed = [url for url in target.urls if self.allowed(url)]
            urls = tuple(url for url in allowed if url not in used)
            if urls:
                self._attempts[target.node_id] = _Attempt(urls, now + ATTEMPT_MAX, aim)
                return [*effects, Learn(target.node_id, urls)]
            if not allowed:
                effects.append(Count("learnt address not allowed"))
            self._patience.rest(target.node_id, now, USED_REST if allowed else REFUSED_REST)
        return effects

    def _end_attempts(self, now: float) -> Effects:
        if not self._attempts:
            return []
        offered = {one.node_id: one.urls for one in self._targets()}
        gone: list[str] = []
        for node_id, attempt in list(self._attempts.items()):
            urls = offered.get(node_id, ())
            moved = not any(url in urls for url in attempt.urls)
            if moved or now >= attempt.until or self._in_vain(node_id):
                gone += attempt.urls
                self._fail(node_id, now)
        return [Unlearn(tuple(gone))] if gone else []

    def _fail(self, node_id: str, now: float) -> None:
        """An attempt came to nothing: that node waits, and so does the next attempt a little."""
        attempt = self._attempts.pop(node_id)
        self._patience.failed(node_id, now)
        if attempt.aim is _Aim.JOIN:
            self._join_at = max(self._join_at, now + self._join_wait(now))
            self._patience.join_failed(now)
        else:
            self._more_at = max(self._more_at, now + self._rng.uniform(*NEXT_WAIT))

    def _join_wait(self, now: float) -> float:
        return self._patience.join_wait(now, hurry=self._missing() > 0, part=self._part)

    # -- inside -----------------------------------------------------------------------------------

    def _targets(self) -> list[Target]:
        return self._hints.added_to(self._known())

    def _missing(self) -> int:
        return max(0, self.degree - (len(self._linked) - len(self._silent)))

    def _tries(self, aim: _Aim) -> int:
        return sum(attempt.aim is aim for attempt in self._attempts.values())

    def _expire(self, now: float) -> None:
        self._patience.expire(now)
        self._hints.expire(now)

    def _look_soon(self, now: float) -> None:
        if self.is_on:
            self._wake_at(max(now, min(self._more_at, self._join_at)))

    def _wake_at(self, at: float) -> None:
        if self._wake is None or at < self._wake:
            self._wake = at
