"""Runs what a replica wants run: one thing after the other, in one task.

A call's outcome is bytes; a traceback travels beside it, because the outcomes of replicas are
compared. When a state is put back, a call that is running is cancelled: its outcome counts no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from meshcore.errors import BadPayloadError, RPCNotFoundError
from meshcore.payload.values import decode_value
from meshcore.protocol.replication.effects import Capture, Execute, Restore
from meshcore.services.instance import Instance
from meshcore.services.outcome import (
    decode_request,
    encode_failure,
    encode_outcome,
    traceback_of,
)  # fmt: skip

TRACEBACKS_MAX = 64
TURN_MAX = 64  # calls in a row
STOP_WAIT = 2.0  # seconds for a call to end that is cancelled when the replica stops
_LOG = logging.getLogger("meshcore.services")


class Sink(Protocol):
    """Who is told of outcomes."""

    def executed(self, epoch: int, outcomes: list[tuple[int, bytes]]) -> None: ...
    def captured(self, epoch: int, index: int, state: bytes) -> None: ...
    def failed(self, reason: str) -> None: ...


class Applier:
    """For `instance`, whose state after `init` is `initial`."""

    def __init__(self, instance: Instance, sink: Sink) -> None:
        self._instance = instance
        self._sink = sink
        self._work: deque[Execute | Restore | Capture] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()  # cancelled; they may take their time
        self._initial = b""
        self._outcomes: list[tuple[int, bytes]] = []  # that are not told yet
        self._epoch = 0  # theirs
        self.tracebacks: dict[bytes, str] = {}  # of the latest failures, by their answers

    def start(self) -> None:
        """`init` has run: remember the state, and begin."""
        self._initial = self._instance.state()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, effect: Execute | Capture) -> None:
        """Do this after what was added before."""
        self._work.append(effect)
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set_result(None)

    def restore(self, effect: Restore) -> None:
        """Put a state back, instead of what was to be done."""
        self._work.clear()
        self._outcomes.clear()
        self._work.append(effect)
        self._wake = None
        if self._task is not None:
            self._end(self._task)
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Run nothing more; a call that does not let itself be cancelled is left behind."""
        self._outcomes.clear()
        self._wake = None
        if self._task is not None:
            self._end(self._task)
            self._task = None
        if self._ending:
            _, left = await asyncio.wait(self._ending, timeout=STOP_WAIT)
            if left:
                _LOG.warning("a call of %s does not end; it is left", self._instance.group)

    def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _run(self) -> None:
        if self._ending:  # all of them: a state is put back only when nothing changes it any more
            await asyncio.wait(self._ending)
        loop = asyncio.get_running_loop()
        while True:
            while self._work:
                async with self._instance.turn:
                    await self._run_some(loop)
                if self._work:
                    await asyncio.sleep(0)  # what was answered leaves, and others get the loop
            self._wake = loop.create_future()
            await self._wake

    async def _run_some(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run what is there; not all at once, so that whoever else wants a turn gets one."""
        for _ in range(TURN_MAX):
            if not self._work:
                break
            effect = self._work.popleft()
            if isinstance(effect, Execute):
                answer = await self._execute(effect)
                if not self._outcomes:
                    self._epoch = effect.epoch
                    loop.call_soon(self._tell)  # in case that a later one takes its time
                self._outcomes.append((effect.token, answer))
            else:
                self._tell()
                self._keep(effect)
        self._tell()

    def _tell(self) -> None:
        """Tell what was run: together what was run in one turn of the loop."""
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            self._sink.executed(self._epoch, outcomes)

    def _keep(self, effect: Restore | Capture) -> None:
        service = self._instance.service
        try:
            if isinstance(effect, Capture):
                self._sink.captured(effect.epoch, effect.index, self._instance.state())
            else:
                state = self._initial if effect.state is None else effect.state
                service.put_checkpoint(decode_value(state))
        except Exception as error:
            _LOG.exception("service %s: its state cannot be kept", self._instance.group)
            what = "get" if isinstance(effect, Capture) else "put"
            self._sink.failed(f"{what}_checkpoint failed: {type(error).__name__}: {error}")

    async def _execute(self, effect: Execute) -> bytes:
        instance = self._instance
        try:
            name, args, kwargs = decode_request(effect.request)
            method = instance.method(name)
            instance.service.set_draws((effect.time, effect.seed))
            try:
                value = await instance.invoke(method, args, kwargs, effect.client, effect.index)
                answer = encode_outcome(value)
            finally:
                instance.done += 1
                instance.service.set_draws(None)
        except (RPCNotFoundError, BadPayloadError) as error:
            answer = encode_failure(error)
        except (Exception, asyncio.CancelledError) as error:  # the service may raise anything
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise  # it was us
            answer = encode_failure(error)
            self._remember(answer, traceback_of(error))
        return answer

    def _remember(self, answer: bytes, traceback: str) -> None:
        self.tracebacks.pop(answer, None)
        self.tracebacks[answer] = traceback
        while len(self.tracebacks) > TRACEBACKS_MAX:
            del self.tracebacks[next(iter(self.tracebacks))]
