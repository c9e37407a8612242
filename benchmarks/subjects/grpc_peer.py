"""grpc.aio: one channel, a unary method on bytes (no protobuf message around them)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import grpc
import grpc.aio

from benchmarks import answering


async def echo(request: bytes, context: object) -> bytes:
    """Give back what came."""
    return request


def server(options: Mapping[str, object]) -> None:
    """Serve until killed."""

    async def serve() -> None:
        node = grpc.aio.server()
        handler = grpc.method_handlers_generic_handler(
            "bench.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        )
        node.add_generic_rpc_handlers((handler,))
        port = node.add_insecure_port("127.0.0.1:0")
        await node.start()
        answering.announce(f"127.0.0.1:{port}")
        await node.wait_for_termination()

    asyncio.run(serve())


def client(address: str, options: Mapping[str, object]) -> None:
    """Concurrent unary calls on one channel."""

    async def run() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            method = channel.unary_unary("/bench.Echo/Echo")

            async def call() -> None:
                answering.check(await method(answering.PAYLOAD))

            await call()
            await answering.answer_async(call)

    asyncio.run(run())
