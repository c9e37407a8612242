"""A node that sends work: `send` with handlers, `call`, `stream`, `ping`, `cancel`, `wait_for`."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from meshcore.config import Config
from meshcore.errors import (
    BadPayloadError,
    Code,
    ConfigError,
    DeadlineExceededError,
    UnreachableError,
)
from meshcore.identity import is_directive
from meshcore.mastership import set_master
from meshcore.message import Message
from meshcore.node import Node
from meshcore.protocol.view import NodeStatus
from meshcore.responses import PickedResponses, Responses
from meshcore.runtime.calls import Progress
from meshcore.selectors import Selector

_LOG = logging.getLogger("meshcore.controller")
CHECKED_MAX = 1024  # directives that are known to be well formed

Handler: TypeAlias = Callable[[Message], Awaitable[None] | None]
Priority: TypeAlias = Literal["control", "interactive", "bulk"]

__all__ = ["Controller", "Handler", "Pong", "Priority", "Responses"]


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping.

    Attributes:
        node_id: who answered.
        round_trip: seconds, by this node's monotonic clock.
        initial_time: when the ping was sent, UTC by this node's clock.
        response_time: when it was answered, UTC by the answering node's clock.
        active_work: what runs there: dicts with id, directive, sender, started (datetime, UTC).
        hops: with `trace`, the nodes on the way and the seconds of a round trip to each of them.
        status: how alive the node is, as this node sees it.
        up_time: seconds since the answering node started.
    """

    node_id: str
    round_trip: float
    initial_time: datetime
    response_time: datetime
    active_work: list[dict[str, Any]]
    hops: list[tuple[str, float]]
    status: NodeStatus
    up_time: float


class Controller(Node):
    """A node that sends work. With `Config(ephemeral=True)` it attaches to one node as a client."""

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        if self.config.ephemeral and len(self._peers) > 1:
            raise ConfigError(
                f"an ephemeral node attaches to one node: peers has {len(self._peers)} URLs"
            )
        self._open: dict[str, Responses] = {}
        self._checked: set[str] = set()

    # Work ------------------------------------------------------------------------------------

    async def send(
        self,
        *,
        recipient: str | Selector,
        directive: str,
        payload: Any = None,
        response_handler: Handler | None = None,
        timeout: float | None = None,
        durable: bool = False,
        priority: Priority = "interactive",
        progress: Progress | None = None,
    ) -> str:
        """Start work and return its message id; responses go to `response_handler`, in order.

        Args:
            recipient: a node id, or a `selector(…)` that picks one.
            directive: `namespace:action`.
            payload: bytes, str, None, numbers, lists and dicts; a Path, binary file or async
                iterator of bytes is sent as it is read.
            response_handler: called with each Message; if it raises, that is logged, the work is
                cancelled and `run()` raises it.
            timeout: seconds for all of it; None: until it ends.
            durable: not in this version.
            priority: "bulk" gives way to the others.
            progress: called with (bytes sent, bytes in all or None) while a payload is read.

        Raises:
            UnreachableError: nobody of that id, or it is dead. BadPayloadError, BusyError,
            ConfigError for arguments that cannot be.
        """
        if durable:
            raise ConfigError("durable work is not supported in this version")
        responses = self.stream(
            recipient, directive, payload, timeout=timeout, priority=priority, progress=progress
        )
        await responses.open()
        # Without a handler nobody reads: what comes is taken, so that the work can end.
        self._started().spawn(self._handle(responses, response_handler))
        return responses.message_id

    async def _handle(self, responses: Responses, handler: Handler | None) -> None:
        try:
            async for message in responses:
                if handler is not None:
                    outcome = handler(message)
                    if inspect.isawaitable(outcome):
                        await outcome
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _LOG.exception("the handler of %s failed; its work is cancelled", responses.message_id)
            self._background.fail(error)
        finally:
            responses.close()

    async def call(
        self,
        recipient: str | Selector,
        directive: str,
        payload: Any = None,
        *,
        timeout: float | None = None,
        priority: Priority = "interactive",
    ) -> Any:
        """Do work and return its one value.

        Args:
            recipient: a node id, or a `selector(…)` that picks one.
            timeout: seconds; None: the setting `request_timeout`.

        Raises:
            ActionError: the action raised. UnreachableError, PeerLostError, DeadlineExceededError,
            BusyError, UnknownDirectiveError; BadPayloadError also where there are more responses
            than one.
        """
        # The hot path: one coroutine, one future, nothing made that is not needed.
        driver = self._driver
        if driver is None or directive not in self._checked:
            driver = self._started()
            self._check(directive)
        if isinstance(recipient, Selector):
            return await self._picker.call(
                recipient,
                directive,
                payload,
                timeout=self.config.request_timeout if timeout is None else timeout,
                priority=priority,
            )
        future: asyncio.Future[Any] = driver.loop.create_future()
        call = self._calls.start(
            recipient,
            directive,
            payload,
            future,
            self.config.request_timeout if timeout is None else timeout,
            priority,
        )
        try:
            return await future
        except asyncio.CancelledError:
            self._calls.cancel(call)
            raise

    def stream(
        self,
        recipient: str | Selector,
        directive: str,
        payload: Any = None,
        *,
        timeout: float | None = None,
        priority: Priority = "interactive",
        progress: Progress | None = None,
    ) -> Responses:
        """The responses of a piece of work: `async with` it and iterate; leaving early cancels."""
        self._started()
        about: dict[str, Any] = {
            "directive": self._check(directive),
            "payload": payload,
            "own_id": self.node_id,
            "timeout": timeout,
            "priority": priority,
            "progress": progress,
            "register": self._open,
        }
        if isinstance(recipient, Selector):
            return PickedResponses(self._calls, picker=self._picker, chosen=recipient, **about)
        return Responses(self._calls, recipient=recipient, **about)

    async def cancel(self, message_id: str) -> bool:
        """Cancel work that `send` or `stream` started; False if it had ended."""
        responses = self._open.get(message_id)
        return responses is not None and responses.cancel()

    # The mesh --------------------------------------------------------------------------------

    async def ping(
        self,
        recipient: str,
        *,
        timeout: float = 5.0,
        trace: bool = False,
        response_handler: Callable[[str], Any] | None = None,
    ) -> Pong:
        """Ask a node whether it answers.

        Args:
            trace: find the way, and ping every node on it for its round trip.
            response_handler: gets the answer in the older shape, as JSON text.
        """
        if trace:
            await self.request(recipient, "mesh:ping", None, timeout=timeout)  # opens the channel
        driver = self._started()
        sent_at = time.time()
        start = driver.now()
        answer = await self.request(recipient, "mesh:ping", sent_at, timeout=timeout, trace=trace)
        round_trip = driver.now() - start
        hops: list[tuple[str, float]] = []
        if trace:
            hops = await self._time_hops(answer["hops"], timeout)
            hops.append((recipient, round_trip))
        active = [
            {**work, "started": datetime.fromtimestamp(work["started"], UTC)}
            for work in answer["active_work"]
        ]
        if response_handler is not None:
            outcome = response_handler(_older_shape(sent_at, answer))
            if inspect.isawaitable(outcome):
                await outcome
        entry = self._mesh.roster.get(recipient)
        return Pong(
            node_id=recipient,
            round_trip=round_trip,
            initial_time=datetime.fromtimestamp(sent_at, UTC),
            response_time=datetime.fromtimestamp(answer["response_time"], UTC),
            active_work=active,
            hops=hops,
            status=NodeStatus.ALIVE if entry is None else entry.status,
            up_time=answer["up_time"],
        )

    async def _time_hops(self, way: list[str], timeout: float) -> list[tuple[str, float]]:
        """A round trip to each relay: without synchronous clocks nothing else can be measured."""

        async def one(node_id: str) -> tuple[str, float]:
            await self.request(node_id, "mesh:ping", None, timeout=timeout)
            start = self._started().now()
            await self.request(node_id, "mesh:ping", None, timeout=timeout)
            return node_id, self._started().now() - start

        return [await one(node_id) for node_id in way]

    async def set_master(self, node_id: str | None) -> None:
        """Force one node to be master and release all others; None: release everybody.

        Raises:
            UnknownNodeError: nobody of that id.
            MeshError: a node that could not be told; see `mastership`.
        """
        if self.config.ephemeral:
            attached = self.attached_to or ""
            await self.request(attached, "mesh:set_master", node_id, timeout=None)
        else:
            await set_master(self.connectivity, node_id, self.request)

    async def wait_for(self, recipient: str, *, timeout: float = 10.0) -> None:
        """Returns when `recipient` is routable and not DEAD, else DeadlineExceededError."""

        def routable() -> bool:
            entry = self._mesh.roster.get(recipient)
            return entry is not None and entry.reachable and entry.status is not NodeStatus.DEAD

        if not await self._wait_event(routable, timeout):
            raise DeadlineExceededError(
                f"{recipient} was not reachable within {timeout:g} s",
                node_id=recipient,
                may_have_run=False,
            )

    @property
    def attached_to(self) -> str | None:
        """The node that an ephemeral controller hangs on, once it is attached."""
        return self._mesh.attached_to

    async def wait_attached(self, timeout: float = 5.0) -> None:
        """For ephemeral controllers: returns when attached and told whom there is.

        Raises:
            UnreachableError: not within `timeout` seconds; the text says what was tried.
        """
        self._started()

        def ready() -> bool:
            return self._mesh.attached_to is not None and len(self._mesh.roster) > 0

        if not await self._wait_event(ready, timeout):
            tried = [
                f"{dial.url}: {dial.last_error or 'no answer'}"
                for dial in self._mesh.links.dials(self._started().now())
            ]
            raise UnreachableError(
                f"not attached within {timeout:g} s ({'; '.join(tried) or 'no peer is given'})",
                may_have_run=False,
            )

    def _check(self, directive: str) -> str:
        """`directive` itself; BadPayloadError where it cannot be one. Good ones are remembered."""
        if directive not in self._checked:
            if not is_directive(directive):
                raise BadPayloadError(
                    f"{directive!r} is no directive; expected namespace:action",
                    directive=str(directive),
                    code=Code.UNKNOWN_DIRECTIVE,
                    may_have_run=False,
                )
            if len(self._checked) >= CHECKED_MAX:
                self._checked.clear()
            self._checked.add(directive)
        return directive

    async def _wait_event(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Look again whenever the view or a link has changed."""
        self._started()
        changed = asyncio.Event()
        watch = self.connectivity
        ends = [
            subscribe(lambda _: changed.set())
            for subscribe in (watch.on_change, watch.on_status, watch.on_attached, watch.on_routes)
        ]
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            for end in ends:
                end()
        return True


def _older_shape(sent_at: float, answer: dict[str, Any]) -> str:
    def when(seconds: float) -> dict[str, Any]:
        return {"_type": "datetime.datetime", "value": seconds}

    work = [
        {key: one[key] for key in ("id", "directive", "sender")} for one in answer["active_work"]
    ]
    return json.dumps(
        {
            "initial_time": when(sent_at),
            "response_time": when(answer["response_time"]),
            "active_work": work,
        }
    )
