"""distributed (Dask): its core Server and its pooled `rpc`, as the scheduler and workers use it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from distributed.core import Server, rpc

from benchmarks import answering


async def echo(data: bytes) -> bytes:
    """Give back what came."""
    return data


def server(options: Mapping[str, object]) -> None:
    """Serve until killed."""

    async def serve() -> None:
        node = Server({"echo": echo})
        await node.listen("tcp://127.0.0.1:0")
        answering.announce(node.address)
        await asyncio.Event().wait()

    asyncio.run(serve())


def client(address: str, options: Mapping[str, object]) -> None:
    """`rpc` keeps as many connections open as there are calls in flight."""

    async def run() -> None:
        async with rpc(address) as remote:

            async def call() -> None:
                answering.check(await remote.echo(data=answering.PAYLOAD))

            await call()
            await answering.answer_async(call)

    asyncio.run(run())
