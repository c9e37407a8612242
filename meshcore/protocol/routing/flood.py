"""Flood: which records wait to be told on, and when they may go.

News wait 20 to 50 ms for company, so that what changes together rides in one message. Of one origin
at most five news go out in any second, whoever makes it speak: further ones replace each other in
the one place that each record has here, and the last state always goes out. Only three of the five
may follow each other closely: an origin that had spent all at once would then be silent for most of
a second, just when it has to say that a neighbour is lost.

The other way round, who sends an older version than ours gets ours: once a second for each record
and neighbour at most, because everybody around him may notice.
"""

from __future__ import annotations

import random

GATHER_MIN, GATHER_MAX = 0.02, 0.05
NEWS_PER_ORIGIN = 5  # within PERIOD
NEWS_AT_ONCE = 3  # of those
SPACING = 0.25  # between the others
ANSWERS_MAX = 1024  # to one neighbour within PERIOD
PERIOD = 1.0


class Flood:
    """Keys (origin, kind) of records that other nodes should hear of."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: dict[str, dict[int, set[int]]] = {}  # origin: kind: links that have it
        self._sent: dict[str, list[float]] = {}  # the last times, of who spoke longest ago first
        self._answers: dict[int, dict[tuple[str, int], None]] = {}  # by link
        self._answered: dict[int, dict[tuple[str, int], float]] = {}  # the earliest first
        self.deadline: float | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, origin: str, kind: int, source: int | None, now: float) -> None:
        """A record is new here; `source` is the link that brought it."""
        self._waiting.setdefault(origin, {})[kind] = set() if source is None else {source}
        self._gather(now)

    def has(self, origin: str, kind: int, link: int) -> None:
        """This neighbour has just shown that it has the record."""
        links = self._waiting.get(origin, {}).get(kind)
        if links is not None:
            links.add(link)

    def answer(self, link: int, origin: str, kind: int, now: float) -> bool:
        """Tell one neighbour our version; False where it has been told enough for now."""
        told = self._answered.setdefault(link, {})
        while told and (oldest := next(iter(told.items())))[1] <= now - PERIOD:
            del told[oldest[0]]
        if (origin, kind) in told or len(told) >= ANSWERS_MAX:
            return False
        told[origin, kind] = now
        self._answers.setdefault(link, {})[origin, kind] = None
        self._gather(now)
        return True

    def forget_link(self, link: int) -> None:
        self._answers.pop(link, None)
        self._answered.pop(link, None)

    def withdraw(self, origin: str) -> None:
        """Its records are no longer held."""
        self._waiting.pop(origin, None)

    def clear(self) -> None:
        """Everybody has everything: nothing waits any more."""
        self._waiting.clear()
        self._answers.clear()
        self.deadline = None

    def take(
        self, now: float
    ) -> tuple[list[tuple[str, int, set[int]]], list[tuple[int, list[tuple[str, int]]]]]:
        """What may go now: (origin, kind, links that have it), and for each link its answers."""
        self.deadline = None
        for origin in list(self._sent):
            if self._sent[origin][-1] > now - PERIOD:
                break
            del self._sent[origin]
        ready = []
        for origin in list(self._waiting):
            times = self._sent.get(origin, [])
            free_at = _free_at(times, now)
            if now < free_at:
                self.deadline = free_at if self.deadline is None else min(self.deadline, free_at)
                continue
            self._sent.pop(origin, None)
            self._sent[origin] = [*times[-NEWS_PER_ORIGIN + 1 :], now]
            ready += [(origin, kind, links) for kind, links in self._waiting.pop(origin).items()]
        answers = [(link, list(keys)) for link, keys in self._answers.items()]
        self._answers.clear()
        return ready, answers

    def _gather(self, now: float) -> None:
        at = now + self._rng.uniform(GATHER_MIN, GATHER_MAX)
        self.deadline = at if self.deadline is None else min(self.deadline, at)


def _free_at(times: list[float], now: float) -> float:
    """From when an origin that spoke at these times may be told on again."""
    recent = [at for at in times if at > now - PERIOD]
    if len(recent) < NEWS_AT_ONCE:
        return now
    spaced = recent[-1] + SPACING
    return spaced if len(recent) < NEWS_PER_ORIGIN else max(spaced, recent[0] + PERIOD)
