"""Gets a lease and keeps it, for as long as it is wanted.

What gives the lease (`Grant`) blocks, so it is asked in a thread of its own. A lease is ours from
when it was asked for until a little before it ends: `until` counts from before the request left, by
our own monotonic clock, and is less by a margin for clocks that do not run alike. Whoever stands
still for longer finds that its time is over before anything else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from meshcore.errors import MeshError

_LOG = logging.getLogger("meshcore.leases")
MARGIN = 0.1  # of the life of a lease
RETRY = 0.3, 0.6  # seconds between two attempts to get it


class Grant(Protocol):
    """Gives one lease. The methods block, and raise MeshError where nobody can be asked."""

    ttl: float  # seconds that a lease lives

    def acquire(self) -> int | None:
        """The term of the lease, a greater one each time; None where somebody else has it."""

    def renew(self) -> bool:
        """Whether it is still ours, for another life."""

    def release(self) -> None:
        """Give back what was acquired, if anything was."""

    def close(self) -> None:
        """Close the connections."""


class LeaseKeeper:
    """Calls `given(term, until)`, `renewed(until)` and `lost()` on the loop."""

    def __init__(
        self,
        grant: Grant,
        *,
        given: Callable[[int, float], None],
        renewed: Callable[[float], None],
        lost: Callable[[], None],
    ) -> None:
        self._grant = grant
        self._given = given
        self._renewed = renewed
        self._lost = lost
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="meshcore-lease")
        self._task: asyncio.Task[None] | None = None
        self._giving_back: set[asyncio.Task[None]] = set()
        self._told = ""

    def want(self) -> None:
        """Try to get it, until it is given or `release` is called."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def release(self) -> None:
        """Give it back, or try no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            giving = asyncio.get_running_loop().create_task(self._give_back())
            self._giving_back.add(giving)
            giving.add_done_callback(self._giving_back.discard)

    async def close(self) -> None:
        """Give it back, and end."""
        self.release()
        await asyncio.gather(*self._giving_back)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, self._grant.close)
        await loop.run_in_executor(None, self._pool.shutdown)

    async def _run(self) -> None:
        while True:
            sent = time.monotonic()
            term = await self._ask(self._grant.acquire)
            if term is not None:
                until = self._until(sent)
                self._given(term, until)
                await self._keep(until)
                self._lost()
            await asyncio.sleep(random.uniform(*RETRY))

    async def _keep(self, until: float) -> None:
        """Returns when it is ours no more."""
        pause = self._grant.ttl / 3
        while True:
            await asyncio.sleep(pause)
            sent = time.monotonic()
            kept = await self._ask(self._grant.renew)
            if kept is False:
                return
            if kept:
                until, pause = self._until(sent), self._grant.ttl / 3
                self._renewed(until)
            elif time.monotonic() >= until:
                return  # nobody could be asked, and its time is over
            else:
                pause = self._grant.ttl / 10

    def _until(self, sent: float) -> float:
        return sent + self._grant.ttl * (1 - MARGIN)

    async def _ask(self, question: Callable[[], int | bool | None]) -> int | bool | None:
        """An answer; None where nobody could be asked, which is logged once."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, question)
        except MeshError as error:
            if str(error) != self._told:
                self._told = str(error)
                _LOG.warning("%s; it is tried again", error)
            return None
        self._told = ""
        return answer

    async def _give_back(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._grant.release)
        except MeshError as error:
            _LOG.warning("%s; the lease ends by itself", error)
