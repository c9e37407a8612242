"""One connection of a client, bounded in time whatever the client does or leaves undone.

uvicorn bounds how long a connection may be idle between two requests. Beside that: how long the
head of a request may take from its first byte (or from the beginning of the connection), how long
an answer may wait for a client that does not read, and how many connections there may be. What does
not close within moments is cut.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from meshcore.web.refusals import Refusal
from meshcore.web.values import JSON, encode

CONNECTIONS_MAX = 256
HEAD_BYTES_MAX = 32 * 1024
HEAD_TIMEOUT = 10.0  # seconds
WRITE_TIMEOUT = 30.0
LINGER = 2.0  # seconds for a connection that was closed to be gone
IDLE_TIMEOUT = 15  # seconds between two requests

# uvicorn warns of every request that is none, but whoever scans ports shall not fill our log. What
# goes wrong inside is logged by the guard.
_QUIET = logging.getLogger("meshcore.web.connection")
_QUIET.setLevel(logging.CRITICAL)


class Connection(H11Protocol):
    """See uvicorn for the arguments."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.logger = _QUIET
        self.access_log = False
        self._stuck: asyncio.TimerHandle | None = None  # cuts a client that does not read

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._late.cancel()  # from here on the guard bounds it
        elif self._late.cancelled() and not self.transport.is_closing():
            self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._cut_later()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._cut_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut_after(WRITE_TIMEOUT)

    def resume_writing(self) -> None:
        if self._stuck is not None and not self.transport.is_closing():
            self._stuck.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._end()  # in the middle of an answer to what came before
            return
        if self._is_answering():
            self.cycle.disconnected = True  # its body is broken; the application is not heard
            self.cycle.message_event.set()
        refusal = Refusal(400, "that is no HTTP request that can be read")
        body = encode(refusal.body)
        headers = [
            ("content-type", JSON),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._end()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        self._late = self.loop.call_later(HEAD_TIMEOUT, self._end)

    def _end(self) -> None:
        self.transport.close()
        self._cut_later()

    def _cut_later(self) -> None:
        """Closing waits until everything is sent; a client that does not read ends that."""
        self._late.cancel()
        self._cut_after(LINGER)

    def _cut_after(self, seconds: float) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
        self._stuck = self.loop.call_later(seconds, self.transport.abort)

    def _forget_timers(self) -> None:
        self._late.cancel()
        if self._stuck is not None:
            self._stuck.cancel()
