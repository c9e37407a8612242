"""Looks at every connection a few times a second and cuts those that only cost.

ZeroMQ hands over whole messages: one message of endless frames fills the memory and never
arrives, whatever MAXMSGSIZE and the high-water marks say. What shows it is the difference between
the bytes that the kernel received on a connection and those that came as messages.

An honest difference is what waits in the kernel (6 MiB at most), in libzmq's pipe, and the
heartbeats, which are no messages. So the kernel's number is taken first, then the socket is
drained until it is empty, then they are compared; and some bytes per second are forgiven. A
connection over ipc has no such number: who may use the path is a user of this machine whom the
directory's mode admitted.
"""

from __future__ import annotations

import asyncio

from meshcore.transport.connection import Connection
from meshcore.transport.hub import Hub
from meshcore.transport.port import Port

MESSAGE_OVERHEAD_BYTES = 18  # at most, of two frames on the wire
FORGIVEN_BYTES_PER_SECOND = 128.0  # PING and PONG of both directions, also under CURVE
DRAIN_BUDGET = 1024  # messages per socket and look
STALLED_LOOKS = 8  # without a message, where the socket never runs empty, and it is judged anyway


class Guard:
    """Runs on the loop between `start` and `stop`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = hub.loop.time()

    def start(self) -> None:
        interval = self._hub.knobs.guard_interval
        self._timer = self._hub.loop.call_later(interval, self._on_timer)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self.start()
        self.look()

    def look(self) -> None:
        """One look at everything."""
        now = self._hub.loop.time()
        forgiven = max(0.0, now - self._looked_at) * FORGIVEN_BYTES_PER_SECOND
        self._looked_at = now
        for port in list(self._hub.ports):
            port.monitor.drain()
            if not port.connections:
                continue
            received = [
                (connection, connection.received_bytes())
                for connection in list(port.connections.values())
            ]
            port.drain_if_readable(DRAIN_BUDGET)
            for connection, size in received:
                connection.forgiven_bytes += forgiven
                if size is not None:
                    self._compare(port, connection, size)
            port.judge(now)

    def _compare(self, port: Port, connection: Connection, received_bytes: int) -> None:
        owner = connection.owner
        delivered = 0
        if owner is not None:
            delivered = owner.bytes_in + MESSAGE_OVERHEAD_BYTES * owner.messages_in
        if not port.is_empty:  # its messages may wait behind those of others
            moved = delivered != connection.delivered_bytes
            connection.stalled_looks = 0 if moved else connection.stalled_looks + 1
            connection.delivered_bytes = delivered
            if connection.stalled_looks < STALLED_LOOKS:
                return
        undelivered = received_bytes - delivered - connection.forgiven_bytes
        if undelivered < 0:
            connection.forgiven_bytes += undelivered  # nothing is forgiven in advance
        elif undelivered > self._hub.knobs.undelivered_bytes_max:
            port.cut(connection, "endless message")
