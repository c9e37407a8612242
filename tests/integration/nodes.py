"""Nodes in this process, for tests of the API: a controller, and nodes that offer actions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from meshcore import Config, Controller, Node
from meshcore.plugins import demo
from meshcore.runtime import loop as event_loop

T = TypeVar("T")
TCP = "tcp://127.0.0.1:0"
TIMEOUT = 20.0  # seconds for anything that ought to take none


def run(scenario: Callable[[], Coroutine[Any, Any, T]], *, timeout: float = TIMEOUT) -> T:
    """Run a scenario on the loop that nodes use, bounded in time."""

    async def bounded() -> T:
        async with asyncio.timeout(timeout):
            return await scenario()

    return event_loop.run(bounded())


def node(node_id: str, *, peers: Any = (), listen: Any = (TCP,), **settings: Any) -> Node:
    """A node, not started, that offers the demo actions."""
    made = Node(Config(node_id=node_id, peers=peers, listen=listen, **settings))
    made.add_plugin(demo)
    return made


@asynccontextmanager
async def pair(**settings: Any) -> AsyncIterator[tuple[Controller, Node]]:
    """A controller "oscar" and a worker "alpha" with these settings, linked."""
    alpha = node("alpha", **settings)
    async with (
        alpha,
        Controller(Config(node_id="oscar", peers=[alpha.endpoints[0]])) as oscar,
    ):
        await oscar.wait_for("alpha")
        yield oscar, alpha


async def eventually(condition: Callable[[], Awaitable[Any] | Any], timeout: float = 5.0) -> Any:
    """The first true outcome of `condition`."""
    end = time.monotonic() + timeout
    while True:
        outcome = condition()
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        if outcome:
            return outcome
        assert time.monotonic() < end, f"not within {timeout} s"
        await asyncio.sleep(0.005)


async def is_idle(controller: Controller, node_id: str) -> bool:
    """Whether nothing runs there."""
    return not (await controller.ping(node_id)).active_work


async def is_busy(controller: Controller, node_id: str) -> bool:
    """Whether something runs there."""
    return bool((await controller.ping(node_id)).active_work)
