"""The responses of one piece of work, as they come.

They wait here in order until they are taken; what waits is bounded by the stream's credit, which is
returned as responses are taken: a slow reader slows the action that produces them, nobody else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Self

from meshcore.errors import ClosedError, Code, MeshError
from meshcore.message import Header, Message
from meshcore.payload import Payload
from meshcore.protocol.delivery.streams import ClientStream
from meshcore.runtime.calls import Calls, Progress
from meshcore.selectors import TIMEOUT_MIN, Picker, Selector, is_repeatable, may_go_on


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

    @property
    def recipient(self) -> str:
        """The node that does the work; "" where it is yet to be picked."""
        return self._recipient

    def start(self) -> None:
        """Send the directive. Raises what makes the work impossible from the outset."""
        if self._call is None:
            self._begin(self._timeout)
            self._payload = None

    async def open(self) -> None:
        """`start`, also where somebody has to be picked for it first."""
        self.start()

    def _begin(self, timeout: float | None) -> None:
        self._call = self._calls.start(
            self._recipient,
            self._directive,
            self._payload,
            self,
            timeout,
            self._priority,
            progress=self._progress,
        )
        if not self._message_id:
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
        await self.open()
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        await self.open()
        if self._call is None:  # closed before it was opened
            return
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


class PickedResponses(Responses):
    """The responses of a node that is picked when the stream is opened; see `recipient`.

    As long as nothing has come and the work has certainly not begun, it goes to the next of those
    that were picked. `message_id` stays that of the first.
    """

    def __init__(
        self, calls: Calls, *, picker: Picker, chosen: Selector, payload: Any, **more: Any
    ) -> None:
        super().__init__(calls, recipient="", payload=payload, **more)
        self._picker, self._chosen = picker, chosen
        self._repeatable = is_repeatable(payload)
        self._nodes: list[str] = []  # that are left to try
        self._first = ""  # the first choice, until it is told that the work is over
        self._until: float | None = None

    def start(self) -> None:
        """ClosedError: somebody has to be picked first, so `open` it."""
        if self._call is None:
            raise ClosedError("the stream is not opened: use 'async with'")

    async def open(self) -> None:
        if self._is_over_or_begun():
            return
        if self._timeout is not None:
            self._until = time.monotonic() + self._timeout
        nodes = await self._picker.pick(self._chosen, self._directive)
        if self._is_over_or_begun():  # somebody else has opened or closed it meanwhile
            self._picker.ended(self._chosen, nodes[0])
            return
        self._first = nodes[0]
        self._nodes = nodes if self._repeatable else nodes[:1]
        try:
            self._try_next()
        except MeshError:
            self._tell_end()
            raise

    def _is_over_or_begun(self) -> bool:
        return self._call is not None or self._ended

    def _try_next(self) -> None:
        """Begin at the first node that takes it; raises what the last one raises."""
        while True:
            self._recipient = self._nodes.pop(0)
            left = None if self._until is None else self._until - time.monotonic()
            try:
                self._begin(None if left is None else max(TIMEOUT_MIN, left))
            except MeshError as error:
                if not self._nodes or not may_go_on(error):
                    raise
            else:
                return

    def on_response(self, serial: int, payload: Payload, size: int, *, eof: bool) -> None:
        self._nodes.clear()
        self._payload = None
        super().on_response(serial, payload, size, eof=eof)

    def on_failure(self, serial: int, error: MeshError) -> None:
        if self._nodes and not self._ended and may_go_on(error):
            try:
                self._try_next()
            except MeshError as another:
                error = another
            else:
                return
        error.message_id = self._message_id
        super().on_failure(serial, error)

    def _end(self) -> None:
        self._payload = None
        self._tell_end()
        super()._end()

    def _tell_end(self) -> None:
        if self._first:
            self._picker.ended(self._chosen, self._first)
            self._first = ""
