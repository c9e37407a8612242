"""Does that id live elsewhere? Questions to the holder of an id while newcomers wait.

Before a peer is admitted whose id is reachable with another life, the holder is asked by a routed
ping. One question stands per (node id, life), whoever waits for it. It ends with an answer, with
the holder becoming unreachable (looked up every RECHECK: a closed link answers faster than a ping
can time out), or after LIMIT, should the answer never come.

A verdict that a life is over is remembered for MEMORY: the topology lags behind it, and the next
link of the newcomer must not wait again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from meshcore.protocol.machine import Timers

RECHECK = 0.1
LIMIT = 1.5  # the ping itself takes 1 s at most
MEMORY = 10.0
MEMORY_MAX = 256

Question: TypeAlias = tuple[str, int]


class Questions:
    """Open questions, the links that wait for each, and recent verdicts."""

    def __init__(self, holder_of: Callable[[str], int | None]) -> None:
        self._holder_of = holder_of
        self._waiting: dict[Question, dict[int, None]] = {}
        self._limit_at: dict[Question, float] = {}
        self._rechecks: Timers[Question] = Timers()
        self._over: dict[Question, float] = {}

    def ask(self, node_id: str, life: int, link: int, now: float) -> bool:
        """Let a link wait for the answer; True when the question is new and must be asked."""
        question = (node_id, life)
        waiting = self._waiting.get(question)
        if waiting is not None:
            waiting[link] = None
            return False
        self._waiting[question] = {link: None}
        self._limit_at[question] = now + LIMIT
        self._rechecks.set(question, now + RECHECK)
        return True

    def is_open(self, node_id: str, life: int) -> bool:
        return (node_id, life) in self._waiting

    def close(self, node_id: str, life: int) -> list[int]:
        """End a question; the links that waited, in the order they came."""
        question = (node_id, life)
        self._limit_at.pop(question, None)
        self._rechecks.cancel(question)
        return list(self._waiting.pop(question, ()))

    def forget_link(self, link: int) -> None:
        """A waiting link is gone; a question for which nobody waits is dropped."""
        for question, waiting in list(self._waiting.items()):
            waiting.pop(link, None)
            if not waiting:
                self.close(*question)

    def settled(self, now: float, is_linked: Callable[[str, int], bool]) -> list[Question]:
        """The questions whose holder has become unreachable, or that were never answered."""
        silent: list[Question] = []
        for question in self._rechecks.pop_due(now):
            if now >= self._limit_at[question] or not self._is_held(question, is_linked):
                silent.append(question)
            else:
                self._rechecks.set(question, min(now + RECHECK, self._limit_at[question]))
        return silent

    def recheck_soon(self, node_id: str, now: float) -> None:
        """A link of this node is gone: look again whether the holder is reachable."""
        for question in self._waiting:
            if question[0] == node_id:
                self._rechecks.set(question, now)

    def remember_over(self, node_id: str, life: int, now: float) -> None:
        self._over.pop((node_id, life), None)
        while len(self._over) >= MEMORY_MAX:
            del self._over[next(iter(self._over))]
        self._over[node_id, life] = now + MEMORY

    def is_over(self, node_id: str, life: int, now: float) -> bool:
        return self._over.get((node_id, life), now) > now

    def forget_over(self, node_id: str, life: int) -> None:
        """That life has spoken after all."""
        self._over.pop((node_id, life), None)

    def next_deadline(self) -> float | None:
        return self._rechecks.next_deadline()

    def waiting_links(self) -> dict[int, None]:
        return {link: None for waiting in self._waiting.values() for link in waiting}

    def check_invariants(self) -> None:
        assert self._waiting.keys() == self._limit_at.keys()
        assert all(question in self._rechecks for question in self._waiting)
        assert all(self._waiting.values()), "a question for which nobody waits"
        assert len(self._over) <= MEMORY_MAX

    def _is_held(self, question: Question, is_linked: Callable[[str, int], bool]) -> bool:
        node_id, life = question
        return self._holder_of(node_id) == life or is_linked(node_id, life)
