"""The first answer of an active group: if the primary is slow, another replica is asked too.

Every replica of an active group runs every call, so that each can answer once it has run it. The
second one is asked to attend the call, not to do it: only the primary puts calls into the log.
"""

from __future__ import annotations

import asyncio
from typing import Any

from meshcore.errors import MeshError
from meshcore.services.calling import Request

HEDGE = 0.1  # seconds without an answer until another replica is asked
ATTEND = 2  # the flag of `mesh:submit` that asks for that
FLAGS = 5  # where the flags are in its payload


async def first_of(
    request: Request, node: str, other: str, directive: str, payload: list[Any], *, timeout: float
) -> Any:
    """The reply of `node`, or the answer of `other` where that comes sooner."""
    first = asyncio.ensure_future(request(node, directive, payload, timeout=timeout))
    asking = {first}
    try:
        done, _ = await asyncio.wait(asking, timeout=HEDGE)
        if done or timeout <= HEDGE:
            return await first
        attend = [*payload[:FLAGS], ATTEND]
        second = asyncio.ensure_future(request(other, directive, attend, timeout=timeout - HEDGE))
        asking.add(second)
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        if first not in done and _is_answer(second):
            return second.result()
        return await first
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


def _is_answer(second: asyncio.Future[Any]) -> bool:
    error = second.exception()
    if error is not None and not isinstance(error, MeshError):
        raise error
    return error is None and bool(second.result()[0] == 0)
