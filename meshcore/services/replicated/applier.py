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
from meshcore.services.service import Request

TRACEBACKS_MAX = 64
_LOG = logging.getLogger("meshcore.services")


class Sink(Protocol):
    """Who is told of outcomes."""

    def executed(self, epoch: int, token: int, answer: bytes) -> None: ...
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
        self._initial = b""
        self.tracebacks: dict[bytes, str] = {}  # of the latest failures, by their answers

    def start(self) -> None:
        """`init` has run: remember the state, and begin."""
        self._initial = self._instance.state()
        self._task = asyncio.get_running_loop().create_task(self._run(None))

    def add(self, effect: Execute | Restore | Capture) -> None:
        """Run this after what was added before."""
        if isinstance(effect, Restore):
            self._work.clear()
            self._work.append(effect)
            before = self._task
            if before is not None:
                before.cancel()
                self._task = asyncio.get_running_loop().create_task(self._run(before))
            return
        self._work.append(effect)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        loop = asyncio.get_running_loop()
        while True:
            while self._work:
                effect = self._work.popleft()
                if isinstance(effect, Execute):
                    await self._execute(effect)
                else:
                    self._keep(effect)
            self._wake = loop.create_future()
            await self._wake

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

    async def _execute(self, effect: Execute) -> None:
        instance = self._instance
        try:
            name, args, kwargs = decode_request(effect.request)
            method = instance.method(name)
            request = Request(
                instance.group, "", instance.node_id, effect.index, args, kwargs, name
            )
            async with instance.turn:
                instance.service.set_draws((effect.time, effect.seed))
                try:
                    answer = encode_outcome(await instance.run(method, request))
                finally:
                    instance.service.set_draws(None)
        except (RPCNotFoundError, BadPayloadError) as error:
            answer = encode_failure(error)
        except Exception as error:  # the service may raise anything
            answer = encode_failure(error)
            self._remember(answer, traceback_of(error))
        self._sink.executed(effect.epoch, effect.token, answer)

    def _remember(self, answer: bytes, traceback: str) -> None:
        self.tracebacks.pop(answer, None)
        self.tracebacks[answer] = traceback
        while len(self.tracebacks) > TRACEBACKS_MAX:
            del self.tracebacks[next(iter(self.tracebacks))]
