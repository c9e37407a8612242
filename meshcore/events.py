"""What a node tells its application about the mesh, and how it is told: callbacks and `watch`.

Callbacks are plain functions, called on the node's loop in the order of the events; each
subscription returns a function that ends it. A callback that raises is logged and stays subscribed.

`Watch` is the same for `async for`. It holds at most `WATCHED_MAX` events for a reader that is
slow; what is beyond that is replaced by one `Overflow` with everything as it is then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from meshcore.node_info import NodeInfo
from meshcore.protocol.view import NodeStatus

_LOG = logging.getLogger("meshcore.connectivity")
WATCHED_MAX = 1024  # events that wait for one reader


@dataclass(frozen=True, slots=True)
class Change:
    """Nodes that are known from now on, or no longer."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """A node's status has changed."""

    node_id: str
    old: NodeStatus
    new: NodeStatus
    reachable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A link to a neighbour came up or went down; `reason` says why it went down."""

    node_id: str
    up: bool
    reason: str
    url: str | None


@dataclass(frozen=True, slots=True)
class MasterEvent:
    """Another node is master, or several are forced to be.

    `old` and `new` are node ids, None where there is no master, and equal where only `contested`
    has changed: the ids of the nodes that are forced on, the oldest first, where these are several.
    """

    old: str | None
    new: str | None
    contested: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overflow:
    """A reader of `watch` was too slow: `dropped` events are lost, and this is how things are."""

    dropped: int
    nodes: dict[str, NodeInfo]
    master: str | None


Event: TypeAlias = Change | StatusEvent | LinkEvent | MasterEvent | Overflow


class Subscribers:
    """Callbacks by kind of event."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._callbacks: dict[str, list[Callable[[Any], None]]] = {kind: [] for kind in kinds}

    def add(self, kind: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Returns a function that ends the subscription."""
        callbacks = self._callbacks[kind]
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return unsubscribe

    def tell(self, kind: str, event: object) -> None:
        for callback in list(self._callbacks[kind]):
            try:
                callback(event)
            except Exception:
                _LOG.exception("a callback for %s events failed", kind)


class Watch:
    """An async iterator of events; it ends with `aclose`, or when the node has stopped."""

    def __init__(
        self, snapshot: Callable[[int], Overflow], on_close: Callable[[Watch], None]
    ) -> None:
        self._snapshot = snapshot
        self._on_close = on_close
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        if len(self._events) < WATCHED_MAX:
            self._events.append(event)
        else:  # what waits is out of date with it: the snapshot says it all
            self._dropped += len(self._events) + 1
            self._events.clear()
        self._wake()

    def close(self) -> None:
        """No more events: what waits is still read."""
        self._closed = True
        self._wake()

    async def aclose(self) -> None:
        """End the watching."""
        self._events.clear()
        self._dropped = 0
        self.close()
        self._on_close(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                dropped += len(self._events)
                self._events.clear()
                return self._snapshot(dropped)
            if self._events:
                return self._events.popleft()
            if self._closed:
                raise StopAsyncIteration
            if self._waiting is not None:
                raise RuntimeError("two readers wait for one watch; give each its own")
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
