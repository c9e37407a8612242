"""Values of a generator in a thread, on their way to a stream that may be slower.

The thread is at most `AHEAD` values ahead; then it waits. The loop gives values while the stream's
window is open; when it is full, one task waits for room and goes on. The generator's end, good or
bad, comes after its last value.

Contract: `put` and `finish` in the thread, `give` and `cancel` on the loop's thread; `give` after
each of them. Every generator that was begun leads to one `Host.left`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from meshcore.errors import BadPayloadError
from meshcore.work.job import Failure, Host, Job

AHEAD = 16


class Lookahead:
    """The values of one job between its thread and the loop."""

    __slots__ = ("_failure", "_finished", "_host", "_job", "_over", "_room", "_values", "_waiting")

    def __init__(self, host: Host, job: Job) -> None:
        self._host, self._job = host, job
        self._values: deque[object] = deque()
        self._room = threading.Semaphore(AHEAD)
        self._waiting: asyncio.Task[None] | None = None
        self._failure: Failure | None = None
        self._finished = False  # by the thread
        self._over = False  # for the host

    def put(self, value: object) -> bool:
        """Add a value, after waiting for room; False = nobody wants more."""
        self._room.acquire()
        if self._job.cancelled:
            return False
        self._values.append(value)
        return True

    def finish(self, failure: Failure | None) -> None:
        """There are no more values; `failure` says why, where the generator raised."""
        self._failure = failure
        self._finished = True

    def cancel(self) -> None:
        """Nobody wants more values."""
        self._values.clear()
        self._room.release()  # a thread that waits for room looks again
        if self._waiting is not None:
            self._waiting.cancel()

    def give(self) -> None:
        """Hand over what has come, as far as the stream takes it."""
        if self._over or self._waiting is not None:
            return
        finished = self._finished  # read before the values: what came before the end is in them
        try:
            while self._values:
                value = self._values.popleft()
                self._room.release()
                if not self._host.item(self._job, value):
                    self._waiting = asyncio.Task(
                        self._host.writable(self._job), loop=self._host.loop
                    )
                    self._waiting.add_done_callback(self._go_on)
                    return
        except BadPayloadError as error:
            self._stop_after(error)
        if finished:
            self._over = True
            if self._failure is not None:
                self._host.failed(self._job, self._failure)
            else:
                self._host.exhausted(self._job)
            self._host.left(self._job)

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._waiting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stop_after(error)
        self.give()

    def _stop_after(self, error: BaseException) -> None:
        """The rest of the values cannot be given."""
        self._host.raised(self._job, error)
        self._job.cancelled = True
        self.cancel()
