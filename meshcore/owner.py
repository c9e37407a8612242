"""What the core tells its node beside work: the driver's `Owner`.

Events go to everyone who follows the mesh, in the order in which they were named. Whether an id
that is claimed twice lives elsewhere is found out by asking there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from meshcore.errors import ConfigError, MeshError
from meshcore.protocol.mesh import Mesh
from meshcore.router import Router

_LOG = logging.getLogger("meshcore.node")
IDENTIFY_WAIT = 1.0  # seconds for the holder of an id to say that it lives


class Request(Protocol):
    """`Node.request`."""

    def __call__(
        self, recipient: str, directive: str, payload: Any, *, timeout: float | None
    ) -> Awaitable[Any]: ...


class Owner:
    """Of one core; `driver` has `spawn` and `flush`."""

    def __init__(
        self,
        mesh: Mesh,
        router: Router,
        *,
        request: Request,
        followers: Sequence[Callable[[Any], None]],
        fail: Callable[[BaseException], None],
        next_incarnation: Callable[[int], int],
        renewed: Callable[[], None],
    ) -> None:
        self._mesh = mesh
        self._router = router
        self._request = request
        self._followers = tuple(followers)
        self._fail = fail
        self._next_incarnation = next_incarnation
        self._renewed = renewed
        self.driver: Any = None  # set when there is one: it is made with its owner

    def on_event(self, event: Any) -> None:
        for follower in self._followers:
            follower(event)

    def on_fatal(self, reason: str) -> None:
        _LOG.error("%s: %s", self._mesh.identity.node_id, reason)
        self._fail(ConfigError(reason))

    def ask_holder(self, node_id: str, life: int) -> None:
        self.driver.spawn(self._ask_holder(node_id, life))

    async def _ask_holder(self, node_id: str, life: int) -> None:
        try:
            answer = await self._request(node_id, "mesh:identify", None, timeout=IDENTIFY_WAIT)
        except MeshError as error:
            answered, description = False, str(error)
        else:
            answered, description = answer.get("life") == life, str(answer.get("description"))
            path = self._router.route(node_id)
            if len(path) > 2:
                description += f", reached over {path[-2]}"
        self._mesh.on_holder(
            node_id, life, answered=answered, description=description, now=time.monotonic()
        )
        self.driver.flush()

    def take_incarnation(self, number: int) -> None:
        self._mesh.set_incarnation(self._next_incarnation(number), time.monotonic())
        self._renewed()
