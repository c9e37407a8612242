"""The answering side: from a call that came in to the executor, and its outcome back.

A small payload goes to the executor as it is; a large one is gathered first (in memory or in a
spool file), unless the action takes it as a stream. What an action gives back may be a plain value
or something that is read bit by bit (a path, a file, an async iterator), which is pumped under the
stream's credit. Directives of the namespace `mesh` are answered here, without the executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from meshcore.errors import BadPayloadError, BusyError, Code, MeshError
from meshcore.payload import Assembly, LivePayload, Payload, Source, Spool, classify
from meshcore.protocol.delivery.bodies import Fed
from meshcore.protocol.delivery.outputs import NO_PAYLOAD
from meshcore.protocol.delivery.streams import ServerStream
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX
from meshcore.protocol.wire.packet import CONTENT_BYTES
from meshcore.runtime.driver import Driver
from meshcore.work.executor import Executor
from meshcore.work.job import NO_VALUE

Internal = Callable[[ServerStream, Any, list[str] | None], Any]
LATER = object()  # what an internal function returns that will call `respond` itself
INTERNAL_BYTES_MAX = 64 * 1024 * 1024  # of a payload for an internal function: it is read whole

_PLAIN = frozenset({bytes, str, type(None), bool, int, float, list, dict, type(NO_VALUE)})


class Serving:
    """Implements the driver's `Server` and the executor's `Outlet`."""

    def __init__(self, driver: Driver, *, spool: Spool) -> None:
        self._driver = driver
        self._delivery = driver.mesh.delivery
        self._respond = self._delivery.respond
        self._spool = spool
        self._executor: Executor | None = None
        self.internal: dict[str, Internal] = {}  # answered at once: directive -> function
        self._assemblies: dict[ServerStream, tuple[Assembly, str, float | None]] = {}
        self._live: dict[ServerStream, LivePayload] = {}
        self._writable: dict[ServerStream, list[asyncio.Future[None]]] = {}

    def connect(self, executor: Executor) -> None:
        self._executor = executor
        self._start = executor.start

    # Calls that come in ----------------------------------------------------------------------

    def on_call(
        self,
        stream: ServerStream,
        directive: str,
        payload: Any,
        ttl: float | None,
        trace: list[str] | None,
    ) -> None:
        internal = self.internal.get(directive)
        if internal is not None:
            self._answer_internal(stream, internal, payload, trace)
            return
        deadline = None if ttl is None else self._driver.now() + ttl
        channel = stream.channel
        message_id = f"{channel.calls_prefix}{stream.number}"
        self._start(stream, channel.address, directive, payload, deadline, message_id)

    def _answer_internal(
        self, stream: ServerStream, internal: Internal, payload: Any, trace: list[str] | None
    ) -> None:
        try:
            value = internal(stream, payload, trace)
        except MeshError as error:
            self._fail_internal(stream, error, may_have_run=False)
        else:
            if value is LATER:
                return
            if asyncio.iscoroutine(value):
                self._driver.spawn(self._answer_later(stream, value))
            else:
                self.respond(stream, value, True)

    def _answer_large(self, stream: ServerStream, internal: Internal, payload: Payload) -> None:
        try:
            value = payload.readall() if payload.kind == CONTENT_BYTES else payload.value
        except BadPayloadError as error:
            self._fail_internal(stream, error, may_have_run=False)
        else:
            self._answer_internal(stream, internal, value, None)
        finally:
            payload.close()

    async def _answer_later(self, stream: ServerStream, value: Coroutine[Any, Any, Any]) -> None:
        try:
            answer = await value
        except MeshError as error:
            self._fail_internal(stream, error, may_have_run=error.may_have_run)
        else:
            self.respond(stream, answer, True)

    def _fail_internal(self, stream: ServerStream, error: MeshError, *, may_have_run: bool) -> None:
        self.fail(stream, Code(error.code), type(error).__name__, str(error), "", may_have_run)

    def on_call_body(
        self,
        stream: ServerStream,
        directive: str,
        body: tuple[int, int | None],
        ttl: float | None,
        trace: list[str] | None,
    ) -> None:
        assert self._executor is not None
        kind, size = body
        if kind not in (0, 1, 2):
            self.fail(stream, Code.BAD_PAYLOAD, "", f"content kind {kind!r}", "", False)
            return
        if directive in self.internal and (size is None or size > INTERNAL_BYTES_MAX):
            text = f"{directive} takes up to {INTERNAL_BYTES_MAX} bytes, their number told before"
            self.fail(stream, Code.BAD_PAYLOAD, "", text, "", False)
            return
        deadline = None if ttl is None else self._driver.now() + ttl
        if not self._executor.takes_stream(directive):
            self._assemblies[stream] = (Assembly(self._spool, kind), directive, deadline)
            return

        def taken(count: int) -> None:
            self._consumed(stream, count)

        live = LivePayload(kind, taken=taken, size=size)
        self._live[stream] = live
        sender = stream.channel.address
        self._start(stream, sender, directive, live, deadline, stream.message_id)

    def on_call_chunk(self, stream: ServerStream, data: Any, last: bool) -> None:
        live = self._live.get(stream)
        if live is not None:
            live.feed(data)
            if last:
                del self._live[stream]
                live.finish()
            return
        entry = self._assemblies.get(stream)
        if entry is None:
            return
        assembly, directive, deadline = entry
        try:
            assembly.feed(data)
        except (BusyError, OSError) as error:
            del self._assemblies[stream]
            assembly.abort()
            text = f"payload of {directive} cannot be stored: {error}"
            self.fail(stream, Code.BUSY, type(error).__name__, text, "", False)
            return
        self._consumed(stream, len(data))
        if last:
            del self._assemblies[stream]
            sender = stream.channel.address
            payload = assembly.finish()
            internal = self.internal.get(directive)
            if internal is not None:
                self._answer_large(stream, internal, payload)
                return
            self._start(stream, sender, directive, payload, deadline, stream.message_id)

    def on_cancelled(self, stream: ServerStream, code: int) -> None:
        assert self._executor is not None
        entry = self._assemblies.pop(stream, None)
        if entry is not None:
            entry[0].abort()
        live = self._live.pop(stream, None)
        if live is not None:
            live.fail(MeshError("the sender of the payload is gone", code=code))
        self._executor.cancel(stream, Code(code))
        self.on_writable(stream)

    def on_writable(self, stream: ServerStream) -> None:
        for waiter in self._writable.pop(stream, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _consumed(self, stream: ServerStream, size: int) -> None:
        self._delivery.consumed(stream, size, self._driver.now())
        self._driver.kick()

    # Outcomes --------------------------------------------------------------------------------

    def respond(self, ref: Any, value: Any, eof: bool) -> bool:
        """A response; False: await `writable` before the next. BadPayloadError if unsendable."""
        if type(value) not in _PLAIN:
            if isinstance(value, Payload):
                value = value.readall() if value.kind == CONTENT_BYTES else value.value
            else:
                source = classify(value)
                if source is not None:
                    self._begin(ref, source, eof=eof)
                    return False
        if value is NO_VALUE:
            value = NO_PAYLOAD
        has_room = self._respond(ref, value, eof)
        if not self._driver.in_turn:
            self._driver.kick()
        return has_room

    def fail(
        self, ref: Any, code: Code, name: str, message: str, traceback: str, may_have_run: bool
    ) -> None:
        self._delivery.fail(
            ref,
            code=int(code),
            message=message,
            name=name,
            traceback=traceback,
            may_have_run=may_have_run,
        )
        self._driver.kick()

    async def writable(self, ref: Any) -> None:
        """Returns when the stream takes the next response, or is over."""
        if ref.done or self._delivery.has_room(ref):
            return
        waiter = self._driver.loop.create_future()
        self._writable.setdefault(ref, []).append(waiter)
        await waiter

    def _begin(self, stream: ServerStream, source: Source, *, eof: bool) -> None:
        self._respond(stream, Fed(CONTENT_BYTES, source.size), eof)
        self._driver.kick()
        self._driver.spawn(self._pump(stream, source))

    async def _pump(self, stream: ServerStream, source: Source) -> None:
        try:
            async for chunk in source.chunks(CHUNK_BYTES_MAX):
                if stream.done:
                    return
                self._delivery.feed(stream, chunk, last=False)
                self._driver.kick()
                await self.writable(stream)
            self._delivery.feed(stream, b"", last=True)
        except Exception as error:  # the action's own iterator may raise anything
            code = Code.BAD_PAYLOAD if isinstance(error, BadPayloadError) else Code.ACTION_FAILED
            self.fail(stream, code, type(error).__name__, str(error), "", True)
        finally:
            self._driver.kick()
            await source.close()

    def close(self) -> None:
        """Give back what unfinished payloads occupy."""
        for assembly, _, _ in self._assemblies.values():
            assembly.abort()
        self._assemblies.clear()
        for live in self._live.values():
            live.close()
        self._live.clear()
