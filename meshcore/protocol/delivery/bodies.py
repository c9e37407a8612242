"""Large payloads on their way out: cut into chunks, as fast as the stream's credit and data allow.

The pieces are the caller's own buffers; a chunk is a view of one, never a copy. Where the data come
bit by bit (a file, an iterator), `feed` appends them and the caller waits while `full`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, TypeAlias

from meshcore.errors import BadPayloadError
from meshcore.protocol.delivery.streams import ClientStream, ServerStream
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX, LARGE_BYTES

FED_BYTES_MAX = 2 * CHUNK_BYTES_MAX  # what may wait in one body for credit

Stream: TypeAlias = ClientStream | ServerStream


@dataclass(frozen=True, slots=True)
class Fed:
    """A payload that follows bit by bit: its content kind, and its bytes where known."""

    content: int
    size: int | None


MAY_BE_LARGE = frozenset({bytes, bytearray, memoryview, str, Fed})


def is_large(payload: Any) -> bool:
    """Whether a payload needs a body of its own, as far as that can be told without packing it."""
    return type(payload) in (bytes, bytearray, memoryview, str) and len(payload) >= LARGE_BYTES


def body_of(payload: Any) -> tuple[int, int | None, list[Any]]:
    """(content kind, bytes in all or None, pieces) of a payload that travels as a body.

    Raises BadPayloadError where it cannot.
    """
    if type(payload) is Fed:
        return payload.content, payload.size, []
    try:
        if type(payload) in (bytes, bytearray, memoryview):
            content, data = packet.CONTENT_BYTES, memoryview(payload).cast("B")
        elif type(payload) is str:
            content, data = packet.CONTENT_TEXT, memoryview(payload.encode())
        else:
            content, data = packet.CONTENT_VALUE, memoryview(packet.pack_value(payload))
    except (TypeError, ValueError) as error:  # not contiguous; a lone surrogate
        raise BadPayloadError(f"payload cannot be sent: {error}", may_have_run=False) from error
    return content, len(data), [data]


class Outgoing:
    """A body that is being sent: of a call (serial 0) or of one response."""

    __slots__ = ("_offset", "_pending", "_pieces", "dropped", "ended", "finished", "parked",
                 "serial", "starved", "stream")  # fmt: skip

    def __init__(self, stream: Stream, serial: int) -> None:
        self.stream, self.serial = stream, serial
        self.parked = False  # not in its channel's rotation: waits for data or credit
        self.finished = False  # the last chunk was taken
        self.dropped = False  # cancelled: nothing more is sent
        self.starved = False  # a WRITABLE is owed to the caller that feeds it
        self._pieces: deque[memoryview] = deque()
        self._pending = 0
        self._offset = 0
        self.ended = False

    @property
    def full(self) -> bool:
        return self._pending >= FED_BYTES_MAX

    def feed(self, data: bytes | memoryview, *, last: bool) -> None:
        if len(data):
            self._pieces.append(memoryview(data).cast("B"))
            self._pending += len(self._pieces[-1])
        self.ended = self.ended or last

    def take(self) -> tuple[memoryview, int, bool] | None:
        """(chunk, its offset, whether it is the last); None while there is no data or no credit."""
        room = self.stream.credit - self.stream.sent_bytes
        if not self._pieces:
            if not self.ended:
                return None
            self.finished = True
            return memoryview(b""), self._offset, True
        if room <= 0:
            return None
        piece = self._pieces.popleft()
        size = min(CHUNK_BYTES_MAX, room, len(piece))
        if size < len(piece):
            self._pieces.appendleft(piece[size:])
        offset = self._offset
        self._offset += size
        self._pending -= size
        self.stream.sent_bytes += size
        self.finished = self.ended and not self._pieces
        return piece[:size], offset, self.finished
