"""The first answer of an active group: if the primary is slow, another replica is asked too.

Every replica of an active group runs every call, so that each can answer once it has run it. The
second one is asked to attend the call, not to do it: only the primary puts calls into the log.
"""

from __future__ import annotations

import asyncio
from typing import Any

from meshcore.services.replicated.carrier import Post

HEDGE = 0.1  # seconds without an answer until another replica is asked
ATTEND = 2  # the flag of `mesh:submit` that asks for that
FLAGS = 5  # where the flags are in its payload


async def first_of(
    post: Post, node: str, other: str, directive: str, payload: list[Any], *, timeout: float
) -> Any:
    """The reply of `node`, or the answer of `other` where that comes sooner."""
    first = post(node, directive, payload, timeout=timeout)

    def ask_other() -> None:
        attend = [*payload[:FLAGS], ATTEND]
        post(other, directive, attend, timeout=timeout - HEDGE).add_done_callback(take)

    def take(second: asyncio.Future[Any]) -> None:
        # Whatever else it says is of no use: the reply of `node` is waited for anyway.
        if second.exception() is None and second.result()[0] == 0 and not first.done():
            first.set_result(second.result())

    if timeout <= HEDGE:
        return await first
    timer = asyncio.get_running_loop().call_later(HEDGE, ask_other)
    try:
        return await first
    finally:
        timer.cancel()
