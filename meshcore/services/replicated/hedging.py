"""The first answer of an active group: if the primary is slow, another replica is asked too.

Every replica of an active group runs every call, so that each can answer once it has run it. The
second one is asked to attend the call, not to do it: only the primary puts calls into the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any

from meshcore.services.replicated.carrier import Post

HEDGE = 0.1  # seconds without an answer until another replica is asked
ATTEND = 2  # the flag of `mesh:submit` that asks for that
FLAGS = 5  # where the flags are in its payload


class Hedging:
    """Of one client. One timer for all calls: nearly all are answered before it is due."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._watched: deque[tuple[float, asyncio.Future[Any], str, str, list[Any], float]] = (
            deque()
        )
        self._timer: asyncio.TimerHandle | None = None

    def watch(
        self,
        first: asyncio.Future[Any],
        other: str,
        directive: str,
        payload: list[Any],
        timeout: float,
    ) -> None:
        """Where `first` is not done in time, ask `other`; its answer becomes that of `first`."""
        if timeout <= HEDGE:
            return
        watched = self._watched
        while watched and watched[0][1].done():
            watched.popleft()
        loop = first.get_loop()
        watched.append((loop.time() + HEDGE, first, other, directive, payload, timeout - HEDGE))
        if self._timer is None:
            self._timer = loop.call_later(HEDGE, self._look)

    def _look(self) -> None:
        self._timer = None
        watched, loop = self._watched, asyncio.get_running_loop()
        while watched and (watched[0][1].done() or watched[0][0] <= loop.time()):
            _, first, other, directive, payload, timeout = watched.popleft()
            if not first.done():
                attend = [*payload[:FLAGS], ATTEND]
                second = self._post(other, directive, attend, timeout=timeout)
                second.add_done_callback(partial(_take, first))
        if watched:
            self._timer = loop.call_at(watched[0][0], self._look)


def has_failed(future: asyncio.Future[Any]) -> bool:
    """Whether it is done, and has no result; its error counts as seen."""
    return future.done() and (future.cancelled() or future.exception() is not None)


def _take(first: asyncio.Future[Any], second: asyncio.Future[Any]) -> None:
    # Whatever else it says is of no use: the reply of the first is waited for anyway.
    if not has_failed(second) and second.result()[0] == 0 and not first.done():
        first.set_result(second.result())
