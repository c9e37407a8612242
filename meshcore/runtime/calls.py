"""The calling side: what comes back for a call, and payloads that are sent bit by bit.

A plain `call` waits on a future, which the driver resolves without coming here if the one response
is small. Everything else passes here: failures become exceptions, large responses are gathered,
several responses go to a `Receiver` in the order of their serials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from meshcore.errors import (
    AccessDeniedError,
    ActionError,
    BadPayloadError,
    BusyError,
    Code,
    ConfigError,
    DeadlineExceededError,
    MeshError,
    PeerLostError,
    UnknownDirectiveError,
    UnknownNodeError,
    UnreachableError,
    WorkCancelledError,
)
from meshcore.payload import Assembly, Payload, Source, Spool, classify, encode_value
from meshcore.protocol.delivery.bodies import Fed
from meshcore.protocol.delivery.outputs import (
    BODY,
    CHUNK,
    FAILED,
    ITEM,
    NO_PAYLOAD,
    VALUE,
    WRITABLE,
    Failure,
)
from meshcore.protocol.delivery.streams import ClientStream, calls_prefix
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX, PACKET_MESSAGES_MAX
from meshcore.protocol.wire.packet import CONTENT_BYTES
from meshcore.runtime.driver import Driver

TIMEOUT_MAX = 10 * 366 * 86_400.0  # seconds
Progress = Callable[[int, int | None], None]
Explain = Callable[[Failure, str, str], str]
PLAIN = frozenset({bytes, str, type(None), bool, int, float, list, dict})
LANES = {"control": 0, "interactive": 0, "bulk": 1}

_ERRORS: dict[int, type[MeshError]] = {
    Code.ACTION_FAILED: ActionError,
    Code.UNKNOWN_DIRECTIVE: UnknownDirectiveError,
    Code.BAD_PAYLOAD: BadPayloadError,
    Code.DENIED: AccessDeniedError,
    Code.BUSY: BusyError,
    Code.CANCELLED: WorkCancelledError,
    Code.DEADLINE: DeadlineExceededError,
    Code.UNREACHABLE: UnreachableError,
    Code.PEER_LOST: PeerLostError,
}


class Receiver(Protocol):
    """The token of a call that may have several responses."""

    def on_response(self, serial: int, payload: Payload, size: int, *, eof: bool) -> None:
        """`size` bytes of credit are to be returned by `Calls.taken` once it was used."""

    def on_failure(self, serial: int, error: MeshError) -> None: ...


class Calls:
    """Starts the calls of one node and takes what comes back. Implements the driver's `Caller`."""

    def __init__(self, driver: Driver, *, spool: Spool, explain: Explain) -> None:
        self._driver = driver
        self._delivery = driver.mesh.delivery
        self._spool = spool
        self._explain = explain
        self._bodies: dict[ClientStream, tuple[Assembly, bool]] = {}  # with: is it the last?
        self._firsts: dict[ClientStream, Any] = {}  # the value of a call that may have a second
        self._writable: dict[ClientStream, asyncio.Future[None]] = {}

    # Starting --------------------------------------------------------------------------------

    def begin(
        self, recipient: str, directive: str, payload: Any, timeout: float
    ) -> asyncio.Future[Any]:
        """Start a call, for whoever looks at the future when it is done: it never raises."""
        future: asyncio.Future[Any] = self._driver.loop.create_future()
        try:
            self.start(recipient, directive, payload, future, timeout)
        except MeshError as error:
            future.set_exception(error)
        return future

    def start(
        self,
        recipient: str,
        directive: str,
        payload: Any,
        token: object,
        ttl: float | None,
        priority: str = "interactive",
        *,
        trace: bool = False,
        progress: Progress | None = None,
    ) -> ClientStream:
        """Start a call; raises what makes it impossible from the outset."""
        driver, delivery = self._driver, self._delivery
        lane = LANES.get(priority)
        if lane is None:
            raise ConfigError(f"priority {priority!r} must be one of {', '.join(LANES)}")
        if ttl is not None and not 0 < ttl <= TIMEOUT_MAX:
            raise ConfigError(f"timeout {ttl!r} must be a number of seconds above 0")
        source = None if type(payload) in PLAIN else classify(payload)
        quiet = delivery.is_quiet()
        try:
            call = delivery.call(
                recipient,
                directive,
                payload if source is None else Fed(CONTENT_BYTES, source.size),
                token,
                ttl,
                lane,
                trace,
                driver.now(),
            )
        except MeshError as error:
            raise self._translated(error, recipient, directive, payload) from None
        if quiet or not driver.flush_due:
            driver.kick(at_once=quiet)
        elif len(call.channel.outboxes[call.lane]) >= PACKET_MESSAGES_MAX:
            driver.flush()  # a whole packet waits: the other end can begin with it
        if source is not None:
            driver.spawn(self._pump(call, source, progress))
        return call

    def _translated(
        self, error: MeshError, recipient: str, directive: str, payload: Any
    ) -> MeshError:
        """What the core refuses, in words for people."""
        if isinstance(error, UnreachableError):
            unknown = isinstance(error, UnknownNodeError)
            failure = Failure(error.code, error.message, False, unknown_node=unknown)
            return self.error_of(failure, recipient, directive)
        return _precise(payload) if isinstance(error, BadPayloadError) else error

    async def _pump(self, call: ClientStream, source: Source, progress: Progress | None) -> None:
        delivery, sent = self._delivery, 0
        try:
            async for chunk in source.chunks(CHUNK_BYTES_MAX):
                room = delivery.feed(call, chunk, last=False)
                self._driver.kick()
                sent += len(chunk)
                if progress is not None:
                    progress(sent, source.size)
                if not room:
                    await self._wait_writable(call)
                if not self.is_open(call):
                    return
            delivery.feed(call, b"", last=True)
        except Exception as error:  # the caller's own iterator may raise anything
            self.cancel(call, Code.BAD_PAYLOAD, f"payload: {type(error).__name__}: {error}")
        finally:
            self._driver.kick()
            await source.close()

    async def _wait_writable(self, call: ClientStream) -> None:
        waiter = self._writable[call] = self._driver.loop.create_future()
        if self.is_open(call):
            await waiter

    def is_open(self, call: ClientStream) -> bool:
        return call.channel.streams.get(call.number) is call

    def message_id(self, call: ClientStream) -> str:
        life = self._driver.mesh.identity.life
        return f"{calls_prefix(self._delivery.address, life)}{call.number}"

    def cancel(
        self, call: ClientStream, code: int = Code.CANCELLED, text: str = "cancelled"
    ) -> bool:
        """End a call; False if it had ended. Its token is told."""
        cancelled = self._delivery.cancel(call, code, text, self._driver.now())
        self._driver.kick()
        return cancelled

    def taken(self, call: ClientStream, size: int) -> None:
        """The application has used `size` bytes of responses: more may come."""
        self._delivery.consumed(call, size, self._driver.now())
        self._driver.kick()

    # What comes back -------------------------------------------------------------------------

    def on_output(self, call: ClientStream, output: tuple[Any, ...]) -> None:
        tag = output[0]
        if tag == VALUE:
            payload = Payload() if output[3] is NO_PAYLOAD else Payload.of(output[3])
            self._on_response(call, output[2], payload, 0, eof=True)
        elif tag == ITEM:
            _, _, serial, value, size = output
            self._on_response(call, serial, Payload.of(value), size + 32, eof=False)
        elif tag == BODY:
            _, _, _, content, _, final = output
            kind = content if content in (0, 1, 2) else 0
            self._bodies[call] = (Assembly(self._spool, kind), final)
        elif tag == CHUNK:
            self._on_chunk(call, output)
        elif tag == FAILED:
            self._on_failed(call, output[2], output[3])
        elif tag == WRITABLE:
            self._wake(call)

    def _on_chunk(self, call: ClientStream, output: tuple[Any, ...]) -> None:
        _, _, serial, data, last = output
        entry = self._bodies.get(call)
        if entry is None:
            return
        assembly, final = entry
        try:
            assembly.feed(data)
        except (BusyError, OSError) as error:
            del self._bodies[call]
            assembly.abort()
            text = f"response cannot be stored here: {error}"
            if not self.cancel(call, Code.BUSY, text):
                self._on_failed(call, serial, Failure(Code.BUSY, text, True))
            return
        self.taken(call, len(data))
        if last:
            del self._bodies[call]
            self._on_response(call, serial, assembly.finish(), 0, eof=final)

    def _on_response(
        self, call: ClientStream, serial: int, payload: Payload, size: int, *, eof: bool
    ) -> None:
        token: Any = call.token
        if eof:
            self._wake(call)
        if isinstance(token, asyncio.Future):
            self._on_single(call, token, payload, eof=eof)
            self.taken(call, size)
        else:
            token.on_response(serial, payload, size, eof=eof)

    def _on_single(
        self, call: ClientStream, future: asyncio.Future[Any], payload: Payload, *, eof: bool
    ) -> None:
        """`call` takes one value, which may be followed by an eof without payload."""
        has_first = call in self._firsts
        if payload and has_first:
            del self._firsts[call]
            self.cancel(call)
            directive = call.directive
            _fail(
                future,
                BadPayloadError(
                    f"{directive} gives more than one response; use stream, or send with a handler",
                    node_id=call.channel.address,
                    directive=directive,
                ),
            )
        elif eof:
            value = payload.value if payload else self._firsts.pop(call, None)
            if not future.done():
                future.set_result(value)
        else:
            self._firsts[call] = payload.value

    def _on_failed(self, call: ClientStream, serial: int, failure: Failure) -> None:
        self._wake(call)
        self._firsts.pop(call, None)
        entry = self._bodies.pop(call, None)
        if entry is not None:
            entry[0].abort()
        error = self.error_of(failure, call.channel.address, call.directive)
        token: Any = call.token
        if isinstance(token, asyncio.Future):
            _fail(token, error)
        else:
            error.message_id = self.message_id(call)
            token.on_failure(serial, error)

    def _wake(self, call: ClientStream) -> None:
        waiter = self._writable.pop(call, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def error_of(self, failure: Failure, recipient: str, directive: str) -> MeshError:
        """The exception that a failure is, with a text for people."""
        cls = _ERRORS.get(failure.code, MeshError)
        if failure.unknown_node or failure.name == "UnknownNodeError":
            cls = UnknownNodeError
        text = self._explain(failure, recipient, directive)
        error = cls(
            text,
            node_id=recipient,
            directive=directive,
            code=failure.code,
            may_have_run=failure.may_have_run,
        )
        if isinstance(error, ActionError):
            error.remote_type = failure.name
            error.remote_traceback = failure.traceback
        return error

    def close(self) -> None:
        for assembly, _ in self._bodies.values():
            assembly.abort()
        self._bodies.clear()


def _fail(future: asyncio.Future[Any], error: MeshError) -> None:
    if not future.done():
        future.set_exception(error)


def _precise(payload: Any) -> BadPayloadError:
    """The same refusal, but naming what in the payload cannot be sent."""
    try:
        encode_value(payload)
    except BadPayloadError as error:
        return error
    return BadPayloadError("payload cannot be sent", may_have_run=False)
