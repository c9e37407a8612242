"""What an action gets besides its payload.

One `Context` per piece of work: who asked, until when, whether it is still wanted, and a way to ask
other nodes with the time that is left. It is made for every call, so it holds little and works out
the rest when asked.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from meshcore.errors import DeadlineExceededError, WorkCancelledError


class Call(Protocol):
    """How a node calls another one; the node provides it."""

    def __call__(
        self, recipient: str, directive: str, payload: Any, /, *, timeout: float | None
    ) -> Awaitable[Any]: ...


class Services:
    """What all contexts of one node share.

    Args:
        call: calls another node, on the loop; None where there is no node around (tests, worker
            processes).
        clock: the monotonic clock of the deadlines.
        config: sections per plugin, by namespace.
        loop: the node's loop.
    """

    __slots__ = ("call", "clock", "config", "loop")

    def __init__(
        self,
        *,
        call: Call | None,
        clock: Callable[[], float],
        config: Mapping[str, Mapping[str, Any]],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.call, self.clock, self.config, self.loop = call, clock, config, loop


class ActionLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the message id before each line."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        assert self.extra is not None
        return f"[{self.extra['message_id']}] {msg}", kwargs


class Context:
    """The circumstances of one piece of work.

    Attributes:
        message_id: the directive's id; the same when durable work is run again.
        sender: the id of the node that asked.
        directive: what was asked for, `namespace:action`.
        deadline: an instant of `time.monotonic()` after which nobody wants the result, or None.
        attempt: 1, or more where durable work is run again after a crash.
        cancelled: True once nobody wants the result any more.
    """

    __slots__ = (
        "_services",
        "_waiting",
        "attempt",
        "cancelled",
        "deadline",
        "directive",
        "message_id",
        "sender",
    )

    def __init__(
        self,
        services: Services,
        message_id: str,
        sender: str,
        directive: str,
        deadline: float | None,
        attempt: int,
    ) -> None:
        self._services = services
        self.message_id = message_id
        self.sender = sender
        self.directive = directive
        self.deadline = deadline
        self.attempt = attempt
        self.cancelled = False
        self._waiting: concurrent.futures.Future[Any] | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """The plugin's section of the configuration; empty where there is none."""
        return self._services.config.get(self.directive.partition(":")[0], {})

    @property
    def log(self) -> ActionLog:
        """A logger whose lines carry the message id."""
        name = "meshcore.action." + self.directive.replace(":", ".")
        return ActionLog(logging.getLogger(name), {"message_id": self.message_id})

    def check_cancelled(self) -> None:
        """Raise WorkCancelledError once nobody wants the result; call it between steps."""
        if self.cancelled:
            raise WorkCancelledError(
                f"{self.directive} was cancelled",
                directive=self.directive,
                message_id=self.message_id,
            )

    def remaining(self) -> float | None:
        """Seconds until the deadline (0 when it has passed), or None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - self._services.clock())

    async def call(self, node: str, directive: str, payload: Any = None) -> Any:
        """Call an action of another node, with the time that is left for this work.

        Raises what Controller.call raises, DeadlineExceededError when no time is left.
        """
        self.check_cancelled()
        timeout = self.remaining()
        if timeout == 0.0:
            raise DeadlineExceededError(
                f"no time left to call {directive} on {node}",
                node_id=node,
                directive=directive,
                may_have_run=False,
            )
        call = self._services.call
        if call is None:
            raise RuntimeError("this context has no node to call from (a process has none)")
        return await call(node, directive, payload, timeout=timeout)

    def call_blocking(self, node: str, directive: str, payload: Any = None) -> Any:
        """`call` for actions that run in threads. Raises the same, and WorkCancelledError."""
        return self._wait(self.call(node, directive, payload))

    def _wait(self, coroutine: Any) -> Any:
        """The result of a coroutine that runs on the loop, for a worker thread."""
        loop = self._services.loop
        if loop is None:
            coroutine.close()
            raise RuntimeError("this context has no node to call from (a process has none)")
        self._waiting = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            if self.cancelled:  # it was cancelled before `cancel` could see what we wait for
                self._waiting.cancel()
            return self._waiting.result()
        except concurrent.futures.CancelledError:
            self.check_cancelled()
            raise
        finally:
            self._waiting = None

    def cancel(self) -> None:
        """Nobody wants the result any more. For the executor."""
        self.cancelled = True
        waiting = self._waiting
        if waiting is not None:
            waiting.cancel()
