"""What happens to the connections of one socket: libzmq's monitor, read without blocking.

libzmq's own thread reports here; the events of one socket arrive in order. `value` is a file
descriptor or an errno, never a peer. Nothing is reported while a connection is whole.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import zmq

CONNECTED = int(zmq.EVENT_CONNECTED)
ACCEPTED = int(zmq.EVENT_ACCEPTED)
CLOSED = int(zmq.EVENT_CLOSED)
DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
HANDSHAKE_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
HANDSHAKE_FAILED = (
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
)
# ACCEPT_FAILED is left out: a node out of descriptors would flood itself with it.
_EVENTS = CONNECTED | ACCEPTED | CLOSED | DISCONNECTED | HANDSHAKE_SUCCEEDED | sum(HANDSHAKE_FAILED)
_EVENT = struct.Struct("=Hi")
_NOBLOCK = int(zmq.NOBLOCK)
_READABLE = int(zmq.POLLIN)
_EVENTS_OPTION = int(zmq.EVENTS)


class Monitor:
    """Calls `on_event(event, value)` on the loop, or from `drain()`, for each event of `socket`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: zmq.Context[zmq.Socket[bytes]],
        socket: zmq.Socket[bytes],
        on_event: Callable[[int, int], None],
    ) -> None:
        self._loop, self._watched, self._on_event = loop, socket, on_event
        address = f"inproc://monitor-{int(socket.getsockopt(zmq.FD))}"
        socket.monitor(address, _EVENTS)
        self._socket = context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Unbounded on purpose, the only one: at the mark libzmq's I/O thread would wait for our
        # loop with the lock held that closing needs. Accepts, 5 s of handshake each, bound it.
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(address)
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._closed = False
        loop.add_reader(self._fd, self.drain)
        loop.call_soon(self.drain)

    def drain(self) -> None:
        """Report everything that has happened until now."""
        while not self._closed and int(self._socket.getsockopt(_EVENTS_OPTION)) & _READABLE:
            event, value = _EVENT.unpack_from(self._socket.recv(_NOBLOCK))
            self._socket.recv(_NOBLOCK)  # the endpoint
            self._on_event(event, value)

    def close(self) -> None:
        """Stop reporting and free both ends; to be called before the watched socket closes."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._watched.disable_monitor()
        self._socket.close(0)
