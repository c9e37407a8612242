"""Runs coroutines and async generators as tasks on the loop.

On Python 3.12 and newer tasks start eagerly: what needs no wait ends in the receiving turn. On 3.11
the executor steps eager coroutines by hand, and what then waits is carried on here by a task, which
first waits for what the first step had yielded.

A task that is cancelled before its first step never enters its coroutine, so nothing in there would
tell the executor or clean up. Hence `cancel` leaves such a task alone, and its first step looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator
from contextlib import aclosing
from typing import Any

from meshcore.work.actions import STEP_BARE, Kind
from meshcore.work.job import Host, Job

_TASK_OPTIONS: dict[str, Any] = {} if STEP_BARE else {"eager_start": True}
_VALUES_PER_TURN = 64  # of a generator that never waits, so that it does not keep the loop


class Tasks:
    """The runner for executor="loop"; each job has a slot."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._entered: dict[Job, asyncio.Task[Any]] = {}  # tasks that have made their first step

    def run(self, job: Job) -> None:
        """Start a job from its beginning."""
        self._start(job, self._drive(job, None))

    def go_on(self, job: Job, coroutine: Coroutine[Any, Any, Any], waits_for: object) -> None:
        """Carry on a job whose coroutine was stepped once and yielded `waits_for`."""
        job.begun = True
        self._start(job, self._drive(job, _Resumed(coroutine, waits_for)))

    def cancel(self, job: Job) -> None:
        """Raise CancelledError in the action, at what it waits for."""
        task = self._entered.get(job)
        if task is not None:
            task.cancel()

    def _start(self, job: Job, coroutine: Coroutine[Any, Any, None]) -> None:
        # The handle also keeps the task alive: the loop itself has only a weak reference.
        job.handle = asyncio.Task(coroutine, loop=self._host.loop, **_TASK_OPTIONS)

    async def _drive(self, job: Job, resumed: Awaitable[Any] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._entered[job] = task
        try:
            if resumed is not None:
                if job.cancelled:
                    task.cancel()  # takes effect at once, at what the first step waits for
                self._host.result(job, await resumed)
            elif not job.cancelled:
                job.begun = True
                await self._perform(job)
        except BaseException as error:  # whatever an action raises is its outcome
            self._host.raised(job, error)
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            del self._entered[job]
            self._host.left(job)
            self._host.release()

    async def _perform(self, job: Job) -> None:
        spec, argument = job.spec, self._host.argument(job)
        called = spec.function(argument, job.context) if spec.wants_context else (
            spec.function(argument)
        )  # fmt: skip
        if spec.kind is Kind.ASYNC_GENERATOR:
            await self._stream(job, called)
        else:
            self._host.result(job, called if spec.kind is Kind.FUNCTION else await called)

    async def _stream(self, job: Job, generator: AsyncGenerator[Any, None]) -> None:
        given = 0
        async with aclosing(generator):
            async for value in generator:
                if not self._host.item(job, value):
                    await self._host.writable(job)
                if job.cancelled:  # it swallowed its cancellation
                    return
                given += 1
                if given % _VALUES_PER_TURN == 0:
                    await asyncio.sleep(0)
        self._host.exhausted(job)


class _Resumed:
    """Awaits a coroutine that was already stepped once, outside of any task."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: object) -> None:
        self._coroutine, self._waits_for = coroutine, waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, yielded = self._coroutine, self._waits_for
        while True:
            try:
                sent = yield yielded
            except BaseException as error:  # a cancellation, or the end: the coroutine decides
                thrown: BaseException | None = error
            else:
                thrown = None
            try:
                yielded = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
            except StopIteration as finished:
                return finished.value
