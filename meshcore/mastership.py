"""Have one node be master: force it on, and release whoever was forced otherwise.

Each node decides about itself alone; here is who is asked, and in which order. The new one is
forced on before the others are released, so that no third node is master in between; the moment in
which two are forced on is shorter than what counts as a contradiction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from meshcore.connectivity import Connectivity
from meshcore.errors import MeshError, UnreachableError

TIMEOUT = 5.0  # seconds for each node


async def set_master(
    connectivity: Connectivity,
    node_id: str | None,
    request: Callable[..., Awaitable[Any]],
) -> None:
    """Force `node_id` on, or nobody where it is None, and release all others.

    Args:
        request: calls a directive of a node, as `Node.request` does.

    Raises:
        UnknownNodeError: nobody of that id; then nothing has changed.
        MeshError: what the new master answered; or, naming them, which others could not be
            released: they are masters again, beside the new one, should they come back.
    """

    async def force(one: str, forced: bool | None) -> None:
        await request(one, "mesh:force", forced, timeout=TIMEOUT)

    if node_id is not None:
        connectivity.get(node_id)
        await force(node_id, True)
    others = [
        info.id
        for info in connectivity.nodes.values()
        if info.id != node_id and info.is_master_forced is not None
    ]
    results = await asyncio.gather(*(force(one, None) for one in others), return_exceptions=True)
    failed: list[str] = []
    for one, result in zip(others, results, strict=True):
        if isinstance(result, MeshError):
            failed.append(f"{one}: {result}")
        elif isinstance(result, BaseException):
            raise result
    if failed:
        raise UnreachableError(
            f"not released from being forced: {'; '.join(failed)}", may_have_run=True
        )
