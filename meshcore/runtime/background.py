"""Work that lives as long as its node: started and cancelled with it, heard when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Work: TypeAlias = Coroutine[Any, Any, Any] | Callable[[], Coroutine[Any, Any, Any]]


class Background:
    """Tasks between `start` and `stop`; the first failure is kept in `failure`."""

    def __init__(self) -> None:
        self._waiting: list[Work] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed: asyncio.Event | None = None
        self.failure: BaseException | None = None

    def add(self, work: Work) -> None:
        """Run it from now on, or from `start` on."""
        if self._failed is None:
            self._waiting.append(work)
        else:
            self._spawn(work)

    def start(self) -> None:
        self._failed = asyncio.Event()
        if self.failure is not None:
            self._failed.set()
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            self._spawn(work)

    def fail(self, error: BaseException) -> None:
        """Something went wrong that must end the run."""
        if self.failure is None:
            self.failure = error
        if self._failed is not None:
            self._failed.set()

    async def stop(self) -> None:
        """Cancel what runs and wait for it; who stops may be one of the tasks."""
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for work in self._waiting:
            if asyncio.iscoroutine(work):
                work.close()
        self._waiting.clear()

    def _spawn(self, work: Work) -> None:
        coroutine = work() if callable(work) else work
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def run(self, app: Callable[[], Awaitable[T]] | None, end: asyncio.Event) -> T | None:
        """Wait until `app` returns (its value), `end` is set, or something has failed."""
        assert self._failed is not None
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(end.wait()),
            asyncio.ensure_future(self._failed.wait()),
        ]
        main = None if app is None else asyncio.ensure_future(app())
        everything = waits if main is None else [main, *waits]
        try:
            await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            return main.result() if main is not None and main.done() else None
        finally:
            for future in everything:
                future.cancel()
            await asyncio.gather(*everything, return_exceptions=True)


async def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time; for what comes within milliseconds or not at all."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(0.002)
    return True


@contextlib.asynccontextmanager
async def interrupts() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT or SIGTERM sets; only the main thread gets signals."""
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()
    mine = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if mine else ()
    for number in numbers:
        loop.add_signal_handler(number, interrupted.set)
    try:
        yield interrupted
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
