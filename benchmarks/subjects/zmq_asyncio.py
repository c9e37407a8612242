"""zmq.asyncio, as pyzmq documents it: ROUTER and DEALER, a message and a future per call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import zmq
import zmq.asyncio

from benchmarks import answering


def server(options: Mapping[str, object]) -> None:
    """Echo every message."""

    async def serve() -> None:
        socket = zmq.asyncio.Context().socket(zmq.ROUTER)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        answering.announce(f"tcp://127.0.0.1:{port}")
        while True:
            await socket.send_multipart(await socket.recv_multipart())

    asyncio.run(serve())


def client(address: str, options: Mapping[str, object]) -> None:
    """A number per call finds the future that waits for its answer."""

    async def run() -> None:
        socket = zmq.asyncio.Context().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        loop = asyncio.get_running_loop()
        waiting: dict[bytes, asyncio.Future[bytes]] = {}
        number = 0

        async def read() -> None:
            while True:
                key, body = await socket.recv_multipart()
                waiting.pop(key).set_result(body)

        async def call() -> None:
            nonlocal number
            number += 1
            key = number.to_bytes(8, "big")
            waiting[key] = loop.create_future()
            future = waiting[key]
            await socket.send_multipart((key, answering.PAYLOAD))
            answering.check(await future)

        reader = asyncio.create_task(read())
        await call()
        await answering.answer_async(call)
        reader.cancel()

    asyncio.run(run())
