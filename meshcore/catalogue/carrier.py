"""The requests of the exchange: over the mesh, or over HTTP to registries of other meshes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from meshcore.errors import MeshError
from meshcore.protocol.catalogue.effects import Ask
from meshcore.protocol.catalogue.messages import BadMessageError, Exchange, decode, encode

_LOG = logging.getLogger("meshcore.catalogue")
MESH_TIMEOUT = 5.0  # seconds; a registry that takes longer is asked again later
EXCHANGE = "mesh:catalogue"

Carry = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Request(Protocol):
    """`Node.request`."""

    def __call__(
        self, recipient: str, directive: str, payload: Any, *, timeout: float | None
    ) -> Awaitable[Any]: ...


class Carrier:
    """Delivers what the exchange asks.

    Args:
        request: one call in the mesh.
        answered, failed: the exchange, told of the outcome.
    """

    def __init__(
        self,
        request: Request,
        *,
        answered: Callable[[str, int, Exchange], None],
        failed: Callable[[str, int], None],
    ) -> None:
        self._request = request
        self._answered = answered
        self._failed = failed
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._silent: dict[str, str] = {}  # registries that do not answer, and why
        self.carry: Carry | None = None  # over HTTP; set by whoever brings it along

    def deliver(self, ask: Ask) -> None:
        """Start the request; its outcome is told later."""
        task = asyncio.get_running_loop().create_task(self._deliver(ask))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _deliver(self, ask: Ask) -> None:
        try:
            answer = decode(await self._send(ask))
        except (MeshError, BadMessageError) as error:
            self._on_silent(ask.key, str(error))
            self._failed(ask.key, ask.token)
        except Exception as error:  # a bug, ours or of what carries: this registry is asked again
            _LOG.exception("registry %s was not asked", ask.key)
            self._on_silent(ask.key, f"{type(error).__name__}: {error}")
            self._failed(ask.key, ask.token)
        else:
            if self._silent.pop(ask.key, None) is not None:
                _LOG.info("registry %s answers again", ask.key)
            self._answered(ask.key, ask.token, answer)

    async def _send(self, ask: Ask) -> Any:
        message = encode(ask.message)
        if not ask.outside:
            return await self._request(ask.key, EXCHANGE, message, timeout=MESH_TIMEOUT)
        if self.carry is None:
            raise MeshError("this node has no way to speak HTTP: start it with http = HOST:PORT")
        return await self.carry(ask.key, "connect" if ask.connect else "update", message)

    def _on_silent(self, key: str, reason: str) -> None:
        if self._silent.get(key) != reason:
            self._silent[key] = reason
            told = reason if reason.startswith(key) else f"{key}: {reason}"
            _LOG.warning("registry %s; it is asked again", told)

    def why_silent(self, key: str) -> str | None:
        """Why a registry does not answer; None where it does."""
        return self._silent.get(key)

    def forget(self, key: str) -> None:
        self._silent.pop(key, None)

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
