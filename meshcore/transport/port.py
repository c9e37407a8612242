"""One ZeroMQ socket on an asyncio loop, without a future per message: the hot path.

The loop watches the socket's descriptor; when it wakes, everything that is readable is received
without blocking, up to a budget, and handed over by plain calls.

The traps, all of which look like a message that comes late or never:

- The descriptor is edge-triggered: it tells of commands from libzmq's thread, not of messages, and
  *any* call on the socket may consume the edge. So `EVENTS` is read again after each receive, and
  once per turn after sends (`touch`), and another drain is scheduled where it says so.
- Readability at `add_reader` time is lost: the first drain is scheduled, not awaited.
- EVENTS costs 1.6 us (a poll), a failed receive 4 us, a good one 0.7 us: so the first receive of a
  wake-up is tried without asking, and those behind it ask first. While wake-ups bring one message
  each, answers are sent before the next look; where they bring several, once behind the last.
- A connection's loss is reported by the monitor while its last messages still wait in the socket:
  they are handed over first. Its descriptor may by then belong to the next connection: so
  connections are objects, and messages of strangers read the monitor before they are judged.

Source: libzmq 4.3.5; measured with pyzmq 27.3 on Python 3.11, November 2025.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import zmq

from meshcore.transport import monitor as events
from meshcore.transport.connection import Connection
from meshcore.transport.hub import Hub, Socket
from meshcore.transport.monitor import Monitor

if TYPE_CHECKING:
    from meshcore.transport.lane import Lane

BUDGET = 64  # messages per drain, so that one peer cannot starve the loop
SKIP_BUDGET = 4096  # frames of one oversized message thrown away per drain
LOST_PATIENCE = 0.1  # seconds that the last messages of a lost connection have to be received
# Seconds between tries for a peer whose queue is full: its wake-up can be swallowed too.
RETRY_FIRST, RETRY_LAST = 0.001, 0.01
RETRY_PAUSE = 0.0002  # not more often while messages come in: a try in vain costs 4 us

NOBLOCK = int(zmq.NOBLOCK)
MORE = int(zmq.SNDMORE | zmq.NOBLOCK)
READABLE = int(zmq.POLLIN)
EVENTS = int(zmq.EVENTS)


class Port:
    """Owns `socket` from construction to `close`; subclasses say what a message is."""

    is_bound = False  # whether others dial it

    def __init__(self, hub: Hub, socket: Socket) -> None:
        self.hub, self.socket, self._loop = hub, socket, hub.loop
        self.send = socket.send
        self._recv = socket.recv
        self._get = cast(Callable[[int], int], socket.getsockopt)
        self.connections: dict[int, Connection] = {}
        self.closed = False
        self.is_silent = False  # set at the end of a link: what still comes is not handed over
        self.is_empty = False  # the last drain left nothing behind
        self._fd = int(socket.getsockopt(zmq.FD))
        self.is_due = False
        self._draining = self._retiring = False
        self._is_calm = False
        self._skipping = False
        self._lost: list[tuple[Connection, float]] = []
        self._full: dict[Lane, None] = {}
        self._full_retry: asyncio.TimerHandle | None = None
        self._full_tried_at = 0.0
        self._retry_interval = RETRY_FIRST
        self.monitor = Monitor(hub.loop, hub.context, socket, self._on_event)
        hub.ports[self] = None
        self._loop.add_reader(self._fd, self.drain)
        self._schedule()

    # What a subclass says.

    def _receive(self) -> bool:
        """Receive one whole message and hand it over; False if there was none."""
        raise NotImplementedError

    def _on_lost(self, connection: Connection) -> None:
        """`connection` is over and everything that it brought was handed over."""

    def _on_monitor(self, event: int, value: int) -> None:
        """An event other than the beginning and the end of a connection."""

    def judge(self, now: float) -> None:
        """Called by the guard between drains: cut who has had time enough to introduce itself."""

    # Receiving.

    def drain_if_readable(self, budget: int) -> None:
        """The same, for who only makes sure: to look costs a fraction of a read in vain."""
        if self.closed or self._draining:
            return
        if self._full or self._lost or self._get(EVENTS) & READABLE:
            self.drain(budget)
        else:
            self.is_empty = True

    def drain(self, budget: int = BUDGET) -> None:
        """Hand over what is readable, at most `budget` messages; the rest soon."""
        if self._draining or self.closed:
            return
        self.is_due = False
        self._draining = True
        done = False
        try:
            done = self._drain(budget)
        finally:  # also where the sink raises: the port goes on
            self._draining = False
            self.is_empty = done
            if not done:
                self._schedule()

    def _drain(self, budget: int) -> bool:
        receive, events, on_drained = self._receive, self._get, self.hub.sink.on_drained
        hub = self.hub
        count = 0
        if receive():
            count = 1
            if hub.drain_is_over:
                budget = 1
            if self._is_calm:  # nothing else to expect: the answer goes first, then we look
                on_drained()
            while count < budget and events(EVENTS) & READABLE:
                receive()
                count += 1
                if hub.drain_is_over:
                    budget = count
            hub.drain_is_over = False
            is_calm, self._is_calm = self._is_calm, count == 1
            if not is_calm or count > 1:
                on_drained()
            if count >= budget:
                self._settle_lost(is_empty=False)
                return False
            if is_calm and count == 1 and not self._full and not self._lost:
                return True  # the last look came after the last send
        if self._full:
            self._try_full(now=count == 0)
        # What was just sent may have swallowed the edge of what just came.
        is_empty = not events(EVENTS) & READABLE
        self._settle_lost(is_empty=is_empty)
        return is_empty

    def touch(self) -> None:
        """After a send: look once at the end of this turn whether it swallowed an edge."""
        if not self.is_due and not self._draining:
            self.is_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self.is_due = False
        if self.closed:
            return
        is_readable = self._get(EVENTS) & READABLE
        if self._full:  # the look has swallowed their wake-up, too
            self._try_full(now=False)
        if is_readable or self._lost:
            self.drain()

    def _schedule(self) -> None:
        if not self.is_due:
            self.is_due = True
            self._loop.call_soon(self.drain)

    def _skip(self) -> bool:
        """Throw away the rest of a message of too many frames, a bounded part at a time."""
        self._skipping = True
        for _ in range(SKIP_BUDGET):
            if not self._recv(NOBLOCK, False).more:
                self._skipping = False
                break
        return True

    # Peers whose queue was full.

    def wait_for(self, lane: Lane) -> None:
        """Try `lane.flush()` again when its peer may have read something."""
        self._full[lane] = None
        self._retry_soon()

    def _retry(self) -> None:
        self._full_retry = None
        if self.closed:
            return
        self._try_full(now=True)
        if self._full and self._full_retry is None:
            self._retry_interval = min(2 * self._retry_interval, RETRY_LAST)
            self._full_retry = self._loop.call_later(self._retry_interval, self._retry)
        self.touch()

    def _try_full(self, *, now: bool) -> None:
        at = time.monotonic()  # the loop's own clock may stand still for a millisecond
        if not now and at - self._full_tried_at < RETRY_PAUSE:
            self._retry_soon()
            return
        self._full_tried_at = at
        for lane in list(self._full):
            before = lane.queued_bytes
            if lane.flush():
                del self._full[lane]
            elif lane.queued_bytes < before:
                self._retry_soon()

    def _retry_soon(self) -> None:
        if self._full_retry is not None:
            if self._retry_interval == RETRY_FIRST:
                return
            self._full_retry.cancel()
        self._retry_interval = RETRY_FIRST
        self._full_retry = self._loop.call_later(RETRY_FIRST, self._retry)

    # Connections.

    def _on_event(self, event: int, value: int) -> None:
        if self._retiring:
            return
        if event in (events.ACCEPTED, events.CONNECTED):
            connection = Connection(value, self._loop.time())
            self.connections[value] = connection
            if len(self.connections) > self.hub.knobs.connections_max:
                self.cut(connection, "too many connections")
        elif event == events.DISCONNECTED:
            lost = self.connections.pop(value, None)
            if lost is not None:
                self.lose(lost)
        if event != events.ACCEPTED:
            self._on_monitor(event, value)

    def lose(self, connection: Connection) -> None:
        """`connection` is over: hand over its last messages, then report it."""
        self._lost.append((connection, self._loop.time() + LOST_PATIENCE))
        if not self._draining:
            self._schedule()

    def _settle_lost(self, *, is_empty: bool) -> None:
        if not self._lost:
            return
        now = self._loop.time()
        over = [each for each, until in self._lost if is_empty or until <= now]
        if over:
            self._lost = [entry for entry in self._lost if not (is_empty or entry[1] <= now)]
        for connection in over:
            if self.is_bound and connection.owner is None and not connection.is_cut:
                # Bytes that are not ZeroMQ, too: libzmq ends such a connection without a word.
                self.hub.drop("ended without introduction")
            self._on_lost(connection)

    def cut(self, connection: Connection, reason: str) -> None:
        """End a connection that misbehaves, and count it."""
        if not connection.is_cut:
            self.hub.drop(reason)
            connection.cut()

    def retire(self, linger: float) -> None:
        """Close once the current call into this port is over."""
        if not self.closed and not self._retiring:
            self._retiring = True
            self._loop.call_soon(self.close, linger)

    def close(self, linger: float) -> None:
        """Free the socket; libzmq goes on for `linger` seconds to send what it holds."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        if self._full_retry is not None:
            self._full_retry.cancel()
        self.monitor.close()
        self.socket.close(int(linger * 1000))
        self._full.clear()
        self._lost.clear()
        self.connections.clear()
        self.hub.ports.pop(self, None)
