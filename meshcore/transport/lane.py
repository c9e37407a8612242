"""One direction-pair of a link: lane `c` (0: control, interactive) or lane `b` (1: bulk).

`send` gives the message to libzmq at once; where the peer's queue is full it waits in ours, which
counts bytes and is bounded. Order is kept. On a ROUTER a lane is a routing id, on a DEALER the
socket itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import zmq

from meshcore.protocol.wire.limits import FRAME_BYTES_MAX, LARGE_BYTES
from meshcore.transport.connection import Connection
from meshcore.transport.hub import Buffer
from meshcore.transport.port import MORE, NOBLOCK, Port

FRAMES_MAX = 2  # a packet, and a large body behind it


class Lane:
    """`port` and `identity` are set once its connection is known; until then it queues.

    A lane that was `stop`ped neither sends nor queues.
    """

    __slots__ = (
        "_identity",
        "_port",
        "_queue",
        "_queue_bytes_max",
        "bytes_in",
        "bytes_out",
        "connection",
        "is_stopped",
        "link",
        "messages_in",
        "messages_out",
        "number",
        "queued_bytes",
    )

    def __init__(self, link: int, number: int, *, queue_bytes_max: int) -> None:
        self.link, self.number = link, number
        self.connection: Connection | None = None
        self.bytes_in = self.messages_in = self.bytes_out = self.messages_out = 0
        self.queued_bytes = 0
        self.is_stopped = False
        self._queue_bytes_max = queue_bytes_max
        self._queue: deque[tuple[Sequence[Buffer], int]] = deque()
        self._port: Port | None = None
        self._identity: bytes | None = None

    def open(self, port: Port, identity: bytes | None, connection: Connection | None) -> None:
        """Its connection stands: send what has been waiting for it."""
        self._port, self._identity, self.connection = port, identity, connection
        if connection is not None:
            connection.owner = self
        if not self.flush():
            port.wait_for(self)
        port.touch()

    @property
    def is_open(self) -> bool:
        return self._port is not None

    def stop(self) -> None:
        self.is_stopped = True
        self._queue.clear()
        self.queued_bytes = 0

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Send one message of one or two frames, or queue it.

        Frames of 64 KiB and more are sent without a copy: they must not change afterwards.

        Returns:
            False: the lane is stopped, or its queue is full; nothing was sent.

        Raises:
            ValueError: more than two frames, or one larger than any peer accepts.
        """
        port = self._port
        if self._queue or port is None or self.is_stopped:
            return self._enqueue(frames)
        last = frames[-1]
        size = len(last)
        if size >= LARGE_BYTES or len(frames) > 1:
            return self._send_large(port, frames)
        try:
            if self._identity is not None:
                port.send(self._identity, MORE)
            port.send(last, NOBLOCK)
        except zmq.Again:
            return self._enqueue(frames)
        except zmq.ZMQError as error:
            return self._fail(port, error)
        self.messages_out += 1
        self.bytes_out += size
        if not port.is_due:
            port.touch()
        return True

    def flush(self) -> bool:
        """Send what is queued as far as the peer takes it; True when nothing is left."""
        port, queue = self._port, self._queue
        if port is None:
            return True
        while queue:
            frames, size = queue[0]
            try:
                self._write(port, frames)
            except zmq.Again:
                return False
            except zmq.ZMQError as error:
                self._fail(port, error)
                return True
            queue.popleft()
            self.queued_bytes -= size
            self.messages_out += 1
            self.bytes_out += size
        return True

    def _send_large(self, port: Port, frames: Sequence[Buffer]) -> bool:
        size = _checked_size(frames)
        try:
            self._write(port, frames)
        except zmq.Again:
            return self._enqueue(frames)
        except zmq.ZMQError as error:
            return self._fail(port, error)
        self.messages_out += 1
        self.bytes_out += size
        port.touch()
        return True

    def _write(self, port: Port, frames: Sequence[Buffer]) -> None:
        """All frames of a message or none: only its first one can meet a full queue."""
        send = port.send
        if self._identity is not None:
            send(self._identity, MORE)
        for frame in frames[:-1]:
            send(frame, MORE, copy=len(frame) < LARGE_BYTES)
        last = frames[-1]
        send(last, NOBLOCK, copy=len(last) < LARGE_BYTES)

    def _enqueue(self, frames: Sequence[Buffer]) -> bool:
        size = _checked_size(frames)
        if self.is_stopped or self.queued_bytes + size > self._queue_bytes_max:
            return False
        self._queue.append((frames, size))
        self.queued_bytes += size
        if self._port is not None:
            self._port.wait_for(self)
        return True

    def _fail(self, port: Port, error: zmq.ZMQError) -> bool:
        """The connection is gone; the monitor may not have said so yet."""
        if error.errno not in (zmq.EHOSTUNREACH, zmq.ENOTSOCK):
            raise error
        self.stop()
        if self.connection is not None and not port.closed:
            port.lose(self.connection)
        return False


def _checked_size(frames: Sequence[Buffer]) -> int:
    sizes = [len(frame) for frame in frames]
    if not 1 <= len(sizes) <= FRAMES_MAX or max(sizes) > FRAME_BYTES_MAX:
        raise ValueError(f"a message has one or two frames of at most {FRAME_BYTES_MAX} bytes")
    return sum(sizes)
