"""Messages to the other replicas: what a turn says to one of them is one request.

A few requests to each are under way at a time; what comes meanwhile waits, bounded, and the oldest
is dropped beyond that: the replicas repair what is lost. A request is answered at once, by nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Any, Protocol

from meshcore.errors import DeadlineExceededError, MeshError, UnreachableError
from meshcore.protocol.replication.messages import Append, Message
from meshcore.protocol.replication.plain import encode
from meshcore.protocol.replication.records import node_of

_LOG = logging.getLogger("meshcore.services")
REPLICA = "mesh:replica"
FORM = "mesh:form"
TIMEOUT = 1.0  # seconds; later it has been said again
IN_FLIGHT_MAX = 4
SMALL_BYTES = 24 * 1024  # a request of this and one message more still travels in one piece
WAITING_MAX = 256  # messages to one replica


class Post(Protocol):
    """Starts a call, as `runtime.calls.Calls.begin`."""

    def __call__(
        self, to: str, directive: str, payload: Any, *, timeout: float
    ) -> asyncio.Future[Any]: ...


class Carrier:
    """Of the replica `own` of a group."""

    def __init__(self, post: Post, *, group: str, own: str) -> None:
        self._post = post
        self._group = group
        self._own = own
        self.gid = ""
        self._waiting: dict[str, deque[Message]] = {}
        self._in_flight: dict[str, int] = {}
        self._closed = False
        self._told: str = ""  # the last failure that was logged

    def send(self, to: str, message: Message) -> None:
        """Send this at the next `flush`, with what else goes there."""
        waiting = self._waiting.get(to)
        if waiting is None:
            waiting = self._waiting[to] = deque(maxlen=WAITING_MAX)
        waiting.append(message)

    def tell(self, to: str, message: list[Any]) -> None:
        """Send what the formation of the group says."""
        self._send(node_of(to), FORM, [self._group, self._own, message])

    def flush(self) -> None:
        """The end of a turn: send what waits."""
        for to in self._waiting:
            self._flush_to(to)

    def _flush_to(self, to: str) -> None:
        waiting = self._waiting[to]
        while waiting and self._in_flight.get(to, 0) < IN_FLIGHT_MAX:
            messages: list[list[Any]] = []
            size = 0
            while waiting and (not messages or size < SMALL_BYTES):
                message = waiting.popleft()
                messages.append(encode(message))
                if type(message) is Append:
                    size += len(messages[-1][-1])
            payload = [self._group, self.gid, self._own, to, messages]
            future = self._send(node_of(to), REPLICA, payload)
            if future is not None:
                self._in_flight[to] = self._in_flight.get(to, 0) + 1
                future.add_done_callback(partial(self._sent, to))

    def _sent(self, to: str, future: asyncio.Future[Any]) -> None:
        self._in_flight[to] -= 1
        if not self._closed:
            self._flush_to(to)

    def _send(self, node: str, directive: str, payload: list[Any]) -> asyncio.Future[Any] | None:
        """None where it cannot even begin: a node that is known to be dead, for one."""
        try:
            future = self._post(node, directive, payload, timeout=TIMEOUT)
        except MeshError as error:
            self._tell_failure(node, error)
            return None
        future.add_done_callback(partial(self._look_at, node))
        return future

    def _look_at(self, node: str, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._tell_failure(node, error)

    def _tell_failure(self, node: str, error: BaseException) -> None:
        """What fails is said again; that somebody refuses it is told once."""
        if isinstance(error, UnreachableError | DeadlineExceededError):
            return
        if str(error) != self._told:
            self._told = str(error)
            _LOG.warning("group %s: %s refuses a message: %s", self._group, node, error)

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
