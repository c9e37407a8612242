"""Responses on their way in: brought into the order of their serials, and bounded.

Small responses travel on lane c and bodies on lane b, so a small one may overtake the large one
before it; it is held until its turn. Within lane b a body is whole before the next one begins, so
one body of a stream comes in at a time. What is held counts as received, and no responder that
keeps to the credit it was given sends more than that: one that does loses the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshcore.errors import Code, ProtocolError
from meshcore.protocol.delivery.outputs import (
    BODY,
    CHUNK,
    FAILED,
    ITEM,
    NO_PAYLOAD,
    VALUE,
    Failure,
    Output,
)
from meshcore.protocol.delivery.streams import ITEM_BYTES, STREAM_CREDIT, ClientStream
from meshcore.protocol.delivery.switchboard import Switchboard
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX

RECEIVED_MAX = 2 * STREAM_CREDIT  # bytes beyond what was taken: the credit, and the last overshoot
HELD_MAX = RECEIVED_MAX // ITEM_BYTES  # early responses of one stream


class Incoming:
    """`end` forgets a stream; `break_off` ends one whose responder does not keep to the rules."""

    def __init__(
        self,
        board: Switchboard,
        *,
        end: Callable[[ClientStream], None],
        break_off: Callable[[ClientStream, str], None],
    ) -> None:
        self._board = board
        self._end = end
        self._break_off = break_off

    def on_message(self, stream: ClientStream, message: list[Any], body: Any) -> None:
        """Any response; raises one of the usual exceptions where it is malformed."""
        kind = message[0]
        if kind == packet.ITEM or kind == packet.RESULT:
            _, _, serial, mode, payload = message
            if mode == packet.BODY:
                self._on_body(stream, serial, payload, final=kind == packet.RESULT)
            elif kind == packet.ITEM:
                self._on_item(stream, serial, payload)
            else:
                value = value_of(mode, payload)
                self._emit(stream, serial, (VALUE, stream, serial, value), completes=True)
        elif kind == packet.CHUNK:
            self._on_chunk(stream, message, body)
        elif kind == packet.ERROR:
            serial = message[2]
            failure = (FAILED, stream, serial, _failure(message))
            self._emit(stream, serial, failure, completes=True)
        elif kind == packet.CREDIT:
            self._board.on_credit(stream, message[2])
        else:
            self._board.count("unknown message")

    def _on_item(self, stream: ClientStream, serial: int, payload: bytes) -> None:
        size = len(payload)
        item = (ITEM, stream, serial, packet.unpack_value(payload), size)
        if self._receive(stream, size + ITEM_BYTES):
            self._emit(stream, serial, item, completes=True)

    def _on_body(self, stream: ClientStream, serial: int, payload: Any, *, final: bool) -> None:
        content, size = payload
        if stream.body_serial or type(serial) is not int or serial < stream.expected:
            raise ProtocolError("body out of place")
        stream.body_serial, stream.body_offset = serial, 0
        if final:
            stream.final_serial = serial
        self._emit(stream, serial, (BODY, stream, serial, content, size, final), completes=False)

    def _on_chunk(self, stream: ClientStream, message: list[Any], body: Any) -> None:
        _, _, serial, offset, last = message
        if (
            not stream.body_serial
            or serial != stream.body_serial
            or offset != stream.body_offset
            or body is None
            or len(body) > CHUNK_BYTES_MAX
        ):
            raise ProtocolError("chunk out of place")
        stream.body_offset += len(body)
        if last:
            stream.body_serial = 0
        if self._receive(stream, len(body)):
            chunk = (CHUNK, stream, serial, body, bool(last))
            self._emit(stream, serial, chunk, completes=bool(last))

    def _receive(self, stream: ClientStream, size: int) -> bool:
        stream.received += size
        if stream.received > stream.returned + RECEIVED_MAX:
            self._break_off(stream, "its responses exceed what was asked for")
            return False
        return True

    def _emit(self, stream: ClientStream, serial: int, output: Output, *, completes: bool) -> None:
        """Hand a response on if it is its turn, and then those that waited for it."""
        if serial != stream.expected:
            self._hold(stream, serial, output, completes)
            return
        advanced = self._deliver(stream, output, completes)
        while advanced and stream.held:
            advanced = False
            for following, ends in stream.held.pop(stream.expected, ()):
                stream.held_count -= 1
                advanced = self._deliver(stream, following, ends)

    def _deliver(self, stream: ClientStream, output: Output, completes: bool) -> bool:
        """Whether it is the turn of the next serial now."""
        self._board.out.append(output)
        if not completes:
            return False
        if output[0] in (VALUE, FAILED) or stream.expected == stream.final_serial:
            self._end(stream)
            return False
        stream.expected += 1
        return True

    def _hold(self, stream: ClientStream, serial: int, output: Output, completes: bool) -> None:
        if type(serial) is not int or serial < stream.expected:
            raise ProtocolError("response out of place")
        if stream.held is None:
            stream.held = {}
        waiting = stream.held.setdefault(serial, [])
        if waiting and waiting[-1][1]:  # it is complete, or was broken off
            self._board.count("response out of place")
            return
        waiting.append((output, completes))
        stream.held_count += 1
        if stream.held_count > HELD_MAX:
            self._break_off(stream, "too many of its responses are out of order")


def value_of(mode: int, payload: Any) -> Any:
    """The value of a small last response."""
    if mode == packet.INLINE:
        return payload
    if mode == packet.NOTHING:
        return NO_PAYLOAD
    raise ProtocolError("mode")


def _failure(message: list[Any]) -> Failure:
    _, _, _, code, name, text, traceback, may_have_run = message[:8]
    if type(code) is not int or not all(type(each) is str for each in (name, text, traceback)):
        raise ProtocolError("error")
    if not 0 < code < 256:
        code = int(Code.INTERNAL)
    return Failure(code, text, bool(may_have_run), name, traceback)
