"""The responses of one piece of work, as they come.

They wait here in order until they are taken; what waits is bounded by the stream's credit, which is
returned as responses are taken: a slow reader slows the action that produces them, nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Self

from meshcore.errors import ClosedError, Code, MeshError
from meshcore.message import Header, Message
from meshcore.payload import Payload
from meshcore.protocol.delivery.streams import ClientStream
from meshcore.runtime.calls import Calls, Progress


class Responses:
    """An asynchronous iteration over Messages, once. `message_id` stands from the start on."""

    def __init__(
        self,
        calls: Calls,
        *,
        recipient: str,
        directive: str,
        payload: Any,
        own_id: str,
        timeout: float | None,
        priority: str,
        progress: Progress | None,
        register: dict[str, Responses],
    ) -> None:
        self._calls = calls
        self._recipient, self._directive, self._payload = recipient, directive, payload
        self._own_id = own_id
        self._timeout, self._priority, self._progress = timeout, priority, progress
        self._register = register
        self._call: ClientStream | None = None
        self._message_id = ""
        self._waiting: deque[tuple[Message, int]] = deque()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def message_id(self) -> str:
        """The id of the work; ClosedError before it was started."""
        if not self._message_id:
            raise ClosedError("the stream is not started: use 'async with'")
        return self._message_id

    def start(self) -> None:
        """Send the directive. Raises what makes the work impossible from the outset."""
        if self._call is None:
            self._call = self._calls.start(
                self._recipient,
                self._directive,
                self._payload,
                self,
                self._timeout,
                self._priority,
                progress=self._progress,
            )
            self._payload = None
            self._message_id = self._calls.message_id(self._call)
            self._register[self._message_id] = self

    def cancel(self) -> bool:
        """Cancel the work; False if it had ended. The iteration ends with WorkCancelledError."""
        return self._call is not None and self._calls.cancel(self._call, Code.CANCELLED)

    def close(self) -> None:
        """Nobody reads on: cancel the work if it goes on, and drop what waits."""
        self._waiting.clear()
        self.cancel()
        self._end()
        self._waiting.clear()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        self.start()
        assert self._call is not None
        while True:
            while self._waiting:
                message, size = self._waiting.popleft()
                yield message
                self._calls.taken(self._call, size)
            if self._ended:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def values(self) -> AsyncIterator[Any]:
        """The decoded values; a failure is raised."""
        async for message in self:
            if message.error is not None:
                raise message.error
            if message.payload:
                yield message.payload.value

    # What comes in (the `Receiver` of the call) ------------------------------------------------

    def on_response(self, serial: int, payload: Payload, size: int, *, eof: bool) -> None:
        self._waiting.append((Message(self._header(serial, 0, eof=eof), payload), size))
        self._wake(eof=eof)

    def on_failure(self, serial: int, error: MeshError) -> None:
        header = self._header(serial, error.code or int(Code.INTERNAL), eof=True)
        self._waiting.append((Message(header, Payload(), error), 0))
        self._wake(eof=True)

    def _header(self, serial: int, code: int, *, eof: bool) -> Header:
        return Header(
            sender=self._recipient,
            recipient=self._own_id,
            directive=self._directive,
            in_response_to=self._message_id,
            serial=serial,
            code=code,
            eof=eof,
            timestamp=datetime.now(UTC),
        )

    def _wake(self, *, eof: bool) -> None:
        if eof:
            self._end()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self) -> None:
        self._ended = True
        self._register.pop(self._message_id, None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
