"""Messages to the other replicas: what a turn says to one of them is one request.

A few requests to each are under way at a time; what comes meanwhile waits, bounded, and the oldest
is dropped beyond that: the replicas repair what is lost. A request is answered at once, by nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
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


class Request(Protocol):
    def __call__(
        self, recipient: str, directive: str, payload: Any, *, timeout: float | None
    ) -> Awaitable[Any]: ...


class Carrier:
    """Of the replica `own` of a group."""

    def __init__(self, request: Request, *, group: str, own: str) -> None:
        self._request = request
        self._group = group
        self._own = own
        self.gid = ""
        self._waiting: dict[str, deque[Message]] = {}
        self._in_flight: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._told: str = ""  # the last failure that was logged

    def send(self, to: str, message: Message) -> None:
        """Send this, with what else goes there in this turn."""
        waiting = self._waiting.get(to)
        if waiting is None:
            waiting = self._waiting[to] = deque(maxlen=WAITING_MAX)
        waiting.append(message)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def tell(self, to: str, message: list[Any]) -> None:
        """Send what the formation of the group says."""
        self._spawn(self._post(node_of(to), FORM, [self._group, self._own, message]))

    def _flush(self) -> None:
        self._flushing = False
        for to in list(self._waiting):
            self._flush_to(to)

    def _flush_to(self, to: str) -> None:
        waiting = self._waiting.get(to)
        if not waiting or self._in_flight.get(to, 0) >= IN_FLIGHT_MAX:
            return
        messages: list[list[Any]] = []
        size = 0
        while waiting and (not messages or size < SMALL_BYTES):
            message = waiting.popleft()
            messages.append(encode(message))
            if type(message) is Append:
                size += sum(entry.size for entry in message.entries)
        self._in_flight[to] = self._in_flight.get(to, 0) + 1
        self._spawn(self._deliver(to, [self._group, self.gid, self._own, to, messages]))
        if waiting:
            self._flush_to(to)

    async def _deliver(self, to: str, payload: list[Any]) -> None:
        try:
            await self._post(node_of(to), REPLICA, payload)
        finally:
            self._in_flight[to] -= 1
            self._flush_to(to)

    async def _post(self, node: str, directive: str, payload: list[Any]) -> None:
        try:
            await self._request(node, directive, payload, timeout=TIMEOUT)
        except (UnreachableError, DeadlineExceededError) as error:  # it is said again
            _LOG.debug("group %s: %s", self._group, error)
        except MeshError as error:
            if str(error) != self._told:
                self._told = str(error)
                _LOG.warning("group %s: %s refuses a message: %s", self._group, node, error)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._waiting.clear()
