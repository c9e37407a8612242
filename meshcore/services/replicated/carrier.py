"""Messages to the other replicas: what a turn says to one of them is one request, or one response.

A request that asks for something (entries to be written, a vote) is answered by what its sender is
told next, once that is on disk; every other at once, by nothing. Few are kept waiting for that: a
disk that hangs must not take the beats' place. A few requests to each are under way at a time; what
comes meanwhile waits, bounded, and the oldest is dropped beyond that: the replicas repair what is
lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from meshcore.errors import DeadlineExceededError, MeshError, UnreachableError
from meshcore.protocol.replication.effects import Send
from meshcore.protocol.replication.messages import Append, Message, Part, Vote
from meshcore.protocol.replication.plain import BadMessage, encode
from meshcore.protocol.replication.records import node_of

_LOG = logging.getLogger("meshcore.services")
REPLICA = "mesh:replica"
FORM = "mesh:form"
TIMEOUT = 1.0  # seconds; later it has been said again
IN_FLIGHT_MAX = 4
SMALL_BYTES = 24 * 1024  # a request of this and one message more still travels in one piece
WAITING_MAX = 256  # messages to one replica
OWED_MAX = 2  # requests of one replica that wait for what it is told
OWED_WAIT = TIMEOUT / 2  # seconds
SENDERS_MAX = 64  # to whom something may be owed; a group has 31 members at most
_ASKING = frozenset({Append, Part, Vote})
Respond = Callable[[list[Any] | None], None]


class Post(Protocol):
    """Starts a call, as `runtime.calls.Calls.begin`."""

    def __call__(
        self, to: str, directive: str, payload: Any, *, timeout: float
    ) -> asyncio.Future[Any]: ...


class Carrier:
    """Of the replica `own` of a group; `said` is called with what another one responds."""

    def __init__(
        self, post: Post, said: Callable[[str, Any], None], *, group: str, own: str
    ) -> None:
        self._post = post
        self._said = said
        self._group = group
        self._own = own
        self.gid = ""
        self._waiting: dict[str, deque[Message]] = {}
        self._in_flight: dict[str, int] = {}
        self._owed: dict[str, deque[tuple[float, Respond]]] = {}
        self._closed = False
        self._told: str = ""  # the last failure that was logged

    def send(self, effect: Send) -> None:
        """Send this at the next `flush`, with what else goes there."""
        waiting = self._waiting.get(effect.to)
        if waiting is None:
            waiting = self._waiting[effect.to] = deque(maxlen=WAITING_MAX)
        waiting.append(effect.message)

    def owe(self, to: str, respond: Respond, heard: Iterable[Message]) -> None:
        """A request came with these messages: answer it with what `to` is told next."""
        if not any(type(message) in _ASKING for message in heard):
            respond(None)
            return
        now = time.monotonic()
        owed = self._owed.get(to)
        if owed is None:
            if len(self._owed) >= SENDERS_MAX:  # ids of replicas that are no more, mostly
                self._forget_senders(now)
            if len(self._owed) >= SENDERS_MAX:
                respond(None)
                return
            owed = self._owed[to] = deque()
        self._drop_owed(owed, now)
        if len(owed) >= OWED_MAX:
            owed.popleft()[1](None)
        owed.append((now, respond))

    def _forget_senders(self, now: float) -> None:
        for owed in self._owed.values():
            self._drop_owed(owed, now)
        self._owed = {to: owed for to, owed in self._owed.items() if owed}

    def _drop_owed(self, owed: deque[tuple[float, Respond]], now: float) -> None:
        """Those whose sender may have given up: what it is told must not go there."""
        while owed and now >= owed[0][0] + OWED_WAIT:
            owed.popleft()[1](None)

    def tell(self, to: str, message: list[Any]) -> None:
        """Send what the formation of the group says."""
        self._send(node_of(to), FORM, [self._group, self._own, message])

    def flush(self) -> None:
        """The end of a turn: send what waits."""
        for to, waiting in self._waiting.items():
            if waiting:
                self._flush_to(to, waiting)

    def _flush_to(self, to: str, waiting: deque[Message]) -> None:
        owed = self._owed.get(to)
        if owed:
            self._drop_owed(owed, time.monotonic())
            if owed:
                owed.popleft()[1](self._take(waiting))
        while waiting and self._in_flight.get(to, 0) < IN_FLIGHT_MAX:
            payload = [self._group, self.gid, self._own, to, self._take(waiting)]
            future = self._send(node_of(to), REPLICA, payload)
            if future is not None:
                self._in_flight[to] = self._in_flight.get(to, 0) + 1
                future.add_done_callback(partial(self._on_response, to))

    def _take(self, waiting: deque[Message]) -> list[list[Any]]:
        """What travels together of this."""
        messages: list[list[Any]] = []
        size = 0
        while waiting and (not messages or size < SMALL_BYTES):
            message = waiting.popleft()
            messages.append(encode(message))
            if type(message) is Append:
                size += len(messages[-1][-1])
        return messages

    def _on_response(self, to: str, future: asyncio.Future[Any]) -> None:
        self._in_flight[to] -= 1
        if self._closed:
            return
        if not future.cancelled() and future.exception() is None and future.result() is not None:
            try:
                self._said(to, future.result())
            except BadMessage as error:
                self._log(f"{node_of(to)} responds with what is no message: {error}")
        if self._waiting[to]:
            self._flush_to(to, self._waiting[to])

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
        self._log(f"{node} refuses a message: {error}")

    def _log(self, text: str) -> None:
        if text != self._told:
            self._told = text
            _LOG.warning("group %s: %s", self._group, text)

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        for owed in self._owed.values():
            for _, respond in owed:
                respond(None)
        self._owed.clear()
