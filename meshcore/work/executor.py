"""Starts work, bounds it, cancels it, and tells its outcome.

Most calls are answered in the turn in which they came: an eager coroutine is stepped once, and if
it ends there, nothing but its context was made. Only what goes on becomes a `Job`, which takes a
slot or waits for one (see `admission`).

Contract: all calls on the loop's thread. Each `start` leads to exactly one last response, by
`Outlet.respond(…, eof=True)` or `Outlet.fail`, possibly before `start` returns. After `cancel` the
outlet hears `fail` at once and nothing more; the action is told, and its slot stays taken until it
has really ended. Deadlines are the node's: it calls `cancel(ref, Code.DEADLINE)`; only work that
is still queued when its deadline passes is dropped here.

Source of the fast path: a task per call costs a fifth of the calls per second on Python 3.11.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

from meshcore.errors import BadPayloadError, Code
from meshcore.payload import Payload, Spool
from meshcore.work.admission import Admission
from meshcore.work.context import Call, Context, Services
from meshcore.work.dask import DaskRunner
from meshcore.work.failures import failure_of
from meshcore.work.inputs import argument_of
from meshcore.work.job import NO_VALUE, Failure, Job, Outlet, Ref
from meshcore.work.processes import Processes
from meshcore.work.registry import Registry
from meshcore.work.tasks import Tasks
from meshcore.work.threads import Threads

CANCEL_WAIT = 1.0  # seconds that cancelled work has to end in, in stop()


class Executor:
    """Runs the actions of one node.

    Args:
        registry: which actions there are; may grow while running.
        outlet: where outcomes go.
        loop: the node's loop.
        max_workers: how much work runs at once (a batch of quick functions counts as one).
        queue_max: how much may wait beyond that.
        call: how a context calls other nodes, or None.
        config: sections per plugin, by namespace.
        node_id: for the texts of errors.
        spool: where files for actions are made; None = the system's temporary directory.
        clock: the monotonic clock of the deadlines.
        dask: the address of a Dask scheduler, for executor="dask".
    """

    def __init__(
        self,
        registry: Registry,
        outlet: Outlet,
        *,
        loop: asyncio.AbstractEventLoop,
        max_workers: int,
        queue_max: int,
        call: Call | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        node_id: str = "this node",
        spool: Spool | None = None,
        clock: Callable[[], float] = time.monotonic,
        dask: str | None = None,
    ) -> None:
        self.loop = loop
        self.spool = spool or Spool()
        self.node_id = node_id
        self.services = Services(call=call, clock=clock, config=config or {}, loop=loop)
        self._registry = registry
        self._specs = registry.specs
        self._outlet = outlet
        self._respond = outlet.respond
        self._jobs: dict[Ref, Job] = {}  # not settled yet
        self._running: dict[Job, None] = {}  # also those that were cancelled and go on
        self._stopping = False
        self._idle: asyncio.Event | None = None  # set when nothing runs; only while stopping
        self._tasks = Tasks(self)
        self._threads = Threads(self)
        self._processes = Processes(self)
        self._dask = DaskRunner(self, dask)
        self._runners: dict[str, Tasks | Threads | Processes | DaskRunner] = {
            "loop": self._tasks,
            "thread": self._threads,
            "process": self._processes,
            "dask": self._dask,
        }
        self._admission = Admission(
            max_workers=max_workers,
            queue_max=queue_max,
            join=self._join,
            run=self._run,
            is_late=lambda job: job.deadline is not None and clock() >= job.deadline,
            expire=self._expire,
        )
        self._received = self._failed = self._cancelled = 0
        self._busy = self._unknown = self._expired = 0

    # What the node calls

    def start(
        self,
        ref: Ref,
        sender: str,
        directive: str,
        payload: object,
        deadline: float | None,
        message_id: str,
        attempt: int = 1,
    ) -> None:
        """Run `directive`; the outcome goes to the outlet under `ref`, unique among open work.

        `payload` is a value as it was decoded, or a `Payload` where it is large (for an action with
        payload="stream" a `LivePayload` may be given while it still arrives).
        """
        self._received += 1
        spec = self._specs.get(directive)
        if spec is None:
            self._refuse_unknown(ref, directive)
            return
        context = None
        if spec.wants_context:
            context = Context(self.services, message_id, sender, directive, deadline, attempt)
        if (
            spec.direct
            and self._admission.free > 0
            and not self._stopping
            and not isinstance(payload, Payload)
        ):
            function = spec.function
            try:
                value = function(payload) if context is None else function(payload, context)
                if not spec.inline:
                    waits_for = value.send(None)
                    job = Job(ref, spec, context, None, sender, message_id, deadline, attempt)
                    self._go_on(job, value, waits_for)
                    return
            except StopIteration as finished:
                if spec.inline:  # a plain function has no business raising it
                    self._answer_failure(ref, finished)
                    return
                value = finished.value
            except BaseException as error:  # whatever an action raises is its outcome
                self._answer_failure(ref, error)
                return
            try:
                self._respond(ref, value, True)
            except BadPayloadError as error:
                self._answer_failure(ref, error)
            return
        if context is None and spec.payload == "stream":  # a thread waits for it by the context
            context = Context(self.services, message_id, sender, directive, deadline, attempt)
        self._admit(Job(ref, spec, context, payload, sender, message_id, deadline, attempt))

    def cancel(self, ref: Ref, code: Code = Code.CANCELLED) -> None:
        """Nobody wants this work any more, for the reason that `code` says; unknown: ignored."""
        job = self._jobs.get(ref)
        if job is not None:
            self._cancel(job, code, f"{job.spec.directive} {_REASONS.get(code, 'was cancelled')}")

    def takes_stream(self, directive: str) -> bool:
        """Whether the action wants a large payload while it still arrives."""
        spec = self._specs.get(directive)
        return spec is not None and spec.payload == "stream"

    def active(self) -> list[dict[str, Any]]:
        """The work that runs now: id, directive, sender, started (a datetime, UTC)."""
        return [
            {
                "id": job.message_id,
                "directive": job.spec.directive,
                "sender": job.sender,
                "started": datetime.fromtimestamp(job.started, UTC),
            }
            for job in self._running
        ]

    @property
    def queued(self) -> int:
        """How much work waits for a slot."""
        return self._admission.queued

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start, by what became of the work."""
        return {
            "work_received": self._received,
            "work_failed": self._failed,
            "work_cancelled": self._cancelled,
            "work_busy": self._busy,
            "work_unknown_directive": self._unknown,
            "work_expired": self._expired,
        }

    async def stop(self, grace: float) -> list[str]:
        """Take no more work, wait up to `grace` seconds for what runs, then cancel it.

        Returns the directives of work that would not end: a thread cannot be killed (it is a daemon
        and does not hold up the exit), and a coroutine may ignore its cancellation. Takes at most
        `grace` + 3 seconds.
        """
        self._stopping = True
        for job in [job for job in self._jobs.values() if job.queue is not None]:
            self._cancel(job, Code.CANCELLED, f"{self.node_id} stopped before it ran")
        self._idle = asyncio.Event()
        if not await self._nothing_runs(grace):
            for job in list(self._jobs.values()):
                self._cancel(job, Code.CANCELLED, f"{self.node_id} stops")
            await self._nothing_runs(CANCEL_WAIT)
        await self._processes.stop()
        await self._dask.stop()
        stuck = [job.spec for job in self._running]
        await self._threads.stop(wait=all(spec.executor != "thread" for spec in stuck))
        return [spec.directive for spec in stuck]

    async def _nothing_runs(self, timeout: float) -> bool:
        assert self._idle is not None
        if not self._running:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    # How a job begins

    def _admit(self, job: Job) -> None:
        if job.ref in self._jobs:
            raise ValueError(f"ref {job.ref!r} is in use")
        if self._stopping:
            reason = f"{self.node_id} stops"
        else:
            self._jobs[job.ref] = job
            if self._admission.offer(job):
                return
            reason = (
                f"{self.node_id} is busy: {self._admission.max_workers} at work, "
                f"{self._admission.queued} waiting"
            )
        self._busy += 1
        self._settle(job, Failure(Code.BUSY, "", reason, may_have_run=False))

    def _go_on(self, job: Job, coroutine: Coroutine[Any, Any, Any], waits_for: object) -> None:
        self._admission.free -= 1
        self._jobs[job.ref] = job
        self._begin(job)
        self._tasks.go_on(job, coroutine, waits_for)

    def _join(self, job: Job) -> bool:
        if job.spec.executor == "thread" and self._threads.join(job):
            self._begin(job)
            return True
        return False

    def _run(self, job: Job) -> None:
        self._begin(job)
        self._runners[job.spec.executor].run(job)

    def _begin(self, job: Job) -> None:
        job.started = time.time()
        self._running[job] = None

    def _expire(self, job: Job) -> None:
        self._expired += 1
        text = f"{job.spec.directive} was still waiting when its deadline passed"
        self._settle(job, Failure(Code.DEADLINE, "", text, may_have_run=False))

    # What the runners call (see job.Host)

    def argument(self, job: Job) -> object:
        return argument_of(job, self.spool)

    def result(self, job: Job, value: object) -> None:
        if job.settled:
            return
        try:
            self._respond(job.ref, value, True)
        except BadPayloadError as error:
            self.raised(job, error)
        else:
            self._close(job)

    def item(self, job: Job, value: object) -> bool:
        return job.settled or self._respond(job.ref, value, False)

    def exhausted(self, job: Job) -> None:
        self.result(job, NO_VALUE)

    async def writable(self, job: Job) -> None:
        if not job.settled:
            await self._outlet.writable(job.ref)

    def raised(self, job: Job, error: BaseException) -> None:
        if not job.settled:
            self.failed(job, failure_of(error))

    def failed(self, job: Job, failure: Failure) -> None:
        if not job.settled:
            self._failed += 1
            self._settle(job, failure)

    def left(self, job: Job) -> None:
        self._running.pop(job, None)
        if job.cleanup is not None:
            job.cleanup()
            job.cleanup = None
        self._admission.left(job)
        if self._idle is not None and not self._running:
            self._idle.set()

    def release(self) -> None:
        self._admission.release()

    def requeue(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._running.pop(job, None)
        self._admission.put_back([job for job in jobs if not job.settled])
        if self._idle is not None and not self._running:
            self._idle.set()

    # How a job ends

    def _cancel(self, job: Job, code: Code, text: str) -> None:
        job.cancelled = True
        began = job.begun  # after `cancelled` was set: see Job
        if job.context is not None:
            job.context.cancel()
        self._admission.withdraw(job)
        self._cancelled += 1
        self._settle(job, Failure(code, "", text, may_have_run=began))
        if job in self._running:
            self._runners[job.spec.executor].cancel(job)

    def _settle(self, job: Job, failure: Failure) -> None:
        self._close(job)
        self._tell(job.ref, failure)

    def _close(self, job: Job) -> None:
        job.settled = True
        self._jobs.pop(job.ref, None)

    def _answer_failure(self, ref: Ref, error: BaseException) -> None:
        self._failed += 1
        self._tell(ref, failure_of(error))
        if isinstance(error, KeyboardInterrupt):
            raise error

    def _refuse_unknown(self, ref: Ref, directive: str) -> None:
        self._unknown += 1
        meant = self._registry.suggest(directive)
        hint = f"; did you mean {meant}?" if meant else ""
        text = f"{self.node_id} offers no {directive!r}{hint} (meshctl actions {self.node_id})"
        self._tell(ref, Failure(Code.UNKNOWN_DIRECTIVE, "", text, may_have_run=False))

    def _tell(self, ref: Ref, failure: Failure) -> None:
        code, name, message, trace, may_have_run = failure
        self._outlet.fail(ref, code, name, message, trace, may_have_run)


_REASONS = {
    Code.CANCELLED: "was cancelled",
    Code.DEADLINE: "did not end before its deadline",
    Code.PEER_LOST: "was cancelled because its sender was lost",
}
