"""Runs plain functions and generators in worker threads.

Waking a thread costs more than a small function. So functions that were measured to be quick go to
a thread in batches: those of one turn of the loop, at most 16, which share one slot. Results come
back through one deque, with one wake-up of the loop for all that is in it.

A batch may still hide a slow one. If a batch is not done after 5 ms, the loop takes back what has
not begun, and the function that holds it up is no longer taken for quick. Everything else runs one
by one.

A generator is pulled at most 16 values ahead of what the stream has taken; it is closed in its own
thread when it is cancelled. Threads are started when there is work for them, and end after 30 s
without any; they are daemons, because a function that never returns cannot be ended.

Contract: `join`, `run` and `cancel` on the loop's thread; each job leads to `Host.left` and each
slot to `Host.release`. Source: measured, one submit per call gives 0.7 times the calls per second
of plain pyzmq, batches of 16 give 2.8 times.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import closing
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from meshcore.work.actions import ActionSpec, Kind
from meshcore.work.failures import failure_of
from meshcore.work.job import Host, Job
from meshcore.work.lookahead import Lookahead

BATCH_MAX = 16
QUICK = 0.001  # seconds; functions that take longer run one by one
SUSPECT = 10 * QUICK  # what a function that held up a batch counts for: ten quick runs redeem it
BATCH_TIME_MAX = 0.005  # seconds until what has not begun is taken back from a batch
IDLE_TIMEOUT = 30.0  # seconds until a thread without work ends
STOP_WAIT = 1.0  # seconds for threads to end in, in stop()
_WEIGHT = 0.2  # of the newest run time in the mean


class News(Enum):
    """What a worker thread tells the loop."""

    VALUE = 1  # the job's one value
    RAISED = 2  # the job's failure
    VALUES = 3  # a generator has given values
    SKIPPED = 4  # cancelled before it began
    DONE = 5  # a batch is finished


Report: TypeAlias = tuple[News, Any, Any]


class Batch:
    """Jobs that one thread runs one after the other, in one slot."""

    __slots__ = ("current", "jobs", "sent_at")

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.current: Job | None = None
        self.sent_at = 0.0


class Threads:
    """The runner for executor="thread"."""

    def __init__(self, host: Host, *, idle_timeout: float = IDLE_TIMEOUT) -> None:
        self._host = host
        self._idle_timeout = idle_timeout
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._lock = threading.Lock()  # of _threads: a thread may not leave while work comes
        self._threads: dict[threading.Thread, None] = {}
        self._reports: deque[Report] = deque()
        self._woken = False
        self._open: Batch | None = None  # the batch of this turn, not sent yet
        self._sent: dict[Batch, None] = {}  # batches that have not come back
        self._watching = False
        self._run_times: dict[ActionSpec, float] = {}  # mean seconds

    # Loop's side

    def join(self, job: Job) -> bool:
        """Share the slot of the batch of this turn; False where the job needs its own."""
        batch = self._open
        if batch is None or len(batch.jobs) >= BATCH_MAX or not self._is_quick(job.spec):
            return False
        batch.jobs.append(job)
        return True

    def run(self, job: Job) -> None:
        """Run a job that has a slot; a quick one opens a batch that others may join."""
        batch = Batch()
        batch.jobs.append(job)
        if job.spec.kind is Kind.GENERATOR:
            job.handle = Lookahead(self._host, job)
        if self._is_quick(job.spec):
            if self._open is not None:
                self._send(self._open)
            else:
                self._host.loop.call_soon(self._end_turn)
            self._open = batch
        else:
            self._send(batch)

    def cancel(self, job: Job) -> None:
        """The job sees it by its context; a generator also between two values."""
        if job.handle is not None:
            job.handle.cancel()

    async def stop(self, *, wait: bool) -> None:
        """End the threads; with `wait`, return when they have ended (at most 1 s)."""
        with self._lock:
            threads = list(self._threads)
            for _ in threads:
                self._queue.put(None)
        give_up = time.monotonic() + STOP_WAIT
        while wait and any(thread.is_alive() for thread in threads):
            if time.monotonic() > give_up:
                break
            await asyncio.sleep(0.001)

    def _is_quick(self, spec: ActionSpec) -> bool:
        if spec.kind is not Kind.FUNCTION or spec.concurrency is not None:
            return False
        return self._run_times.get(spec, QUICK) < QUICK

    def _end_turn(self) -> None:
        batch, self._open = self._open, None
        if batch is not None:
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        self._sent[batch] = None
        if len(batch.jobs) > 1:
            batch.sent_at = self._host.loop.time()
            self._watch()
        with self._lock:
            self._queue.put(batch)
            if len(self._threads) < len(self._sent):  # which the slots bound
                thread = threading.Thread(target=self._work, name="meshcore-work", daemon=True)
                self._threads[thread] = None
                thread.start()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._host.loop.call_later(BATCH_TIME_MAX, self._relieve)

    def _relieve(self) -> None:
        """Take back what waits behind a slow job."""
        self._watching = False
        self._collect()
        now, back = self._host.loop.time(), []
        for batch in self._sent:
            if not batch.jobs:
                continue
            holder = batch.current
            if holder is None or now - batch.sent_at < BATCH_TIME_MAX:
                self._watch()  # no thread has come to it yet, or it is young
                continue
            self._run_times[holder.spec] = SUSPECT
            while batch.jobs:
                try:
                    back.append(batch.jobs.popleft())
                except IndexError:  # the thread was faster
                    break
        if back:
            self._host.requeue(back)

    def _collect(self) -> None:
        """Take the threads' reports, then give the slots that became free to others.

        Slots at the end: what was waiting for them then goes into full batches.
        """
        self._woken = False
        freed = 0
        try:
            while self._reports:
                news, subject, content = self._reports.popleft()
                if news is News.DONE:
                    del self._sent[subject]
                    freed += 1
                else:
                    self._take(news, subject, content)
        finally:
            for _ in range(freed):
                self._host.release()
            if self._reports:  # something raised: the rest must not be lost with it
                self._host.loop.call_soon(self._collect)

    def _take(self, news: News, job: Job, content: Any) -> None:
        if news is News.VALUES:
            job.handle.give()
            return
        try:
            if news is News.VALUE:
                self._host.result(job, content)
            elif news is News.RAISED:
                self._host.failed(job, content)
        finally:
            self._host.left(job)

    # The threads' side

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            job = None
            while batch.jobs:
                try:
                    job = batch.jobs.popleft()
                except IndexError:  # the loop took it back
                    break
                batch.current = job
                self._perform(job)
            self._reports.append((News.DONE, batch, None))
            self._wake()
            del batch, job  # an idle thread holds no payload

    def _next(self) -> Batch | None:
        """The next batch; None = end. An idle thread leaves only while no batch is on its way."""
        while True:
            try:
                batch = self._queue.get(timeout=self._idle_timeout)
            except Empty:
                with self._lock:
                    if not self._queue.empty():
                        continue
                    del self._threads[threading.current_thread()]
                    return None
            if batch is None:
                with self._lock:
                    del self._threads[threading.current_thread()]
            return batch

    def _perform(self, job: Job) -> None:
        job.begun = True
        if job.cancelled:
            self._reports.append((News.SKIPPED, job, None))
            return
        spec = job.spec
        if spec.kind is Kind.GENERATOR:
            self._pull(job)
            return
        started = time.perf_counter()
        try:
            argument = self._host.argument(job)
            called = _call(job, argument)
        except BaseException as error:  # whatever an action raises is its outcome
            self._reports.append((News.RAISED, job, failure_of(error)))
        else:
            self._reports.append((News.VALUE, job, called))
        taken = time.perf_counter() - started
        mean = self._run_times.get(spec, taken)
        self._run_times[spec] = mean + _WEIGHT * (taken - mean)

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            try:
                self._host.loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                # The loop was closed while an abandoned job ran: nobody waits for it any more.
                self._reports.clear()

    def _pull(self, job: Job) -> None:
        ahead: Lookahead = job.handle
        failure = None
        try:
            argument = self._host.argument(job)
            generator = _call(job, argument)
            with closing(generator):
                for value in generator:
                    if not ahead.put(value):
                        break
                    self._reports.append((News.VALUES, job, None))
                    self._wake()
        except BaseException as error:  # whatever an action raises is its outcome
            failure = failure_of(error)
        ahead.finish(failure)
        self._reports.append((News.VALUES, job, None))
        self._wake()


def _call(job: Job, argument: object) -> Any:
    function = job.spec.function
    return function(argument, job.context) if job.spec.wants_context else function(argument)
