"""A sketch of the fast path, to see what this machine gives to asyncio and Python at their best.

The socket's descriptor is drained from uvloop without blocking; the first message is sent at once
when nothing is in flight, everything else of a turn goes out in one batch of at most 64; no acks,
no dedupe, no deadlines, no routing. meshcore adds all of these: what it loses against this row is
their price.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgpack
import uvloop
import zmq

from benchmarks import answering

BATCH_MAX = 64
Message = tuple[int, bytes]


class Port:
    """One socket, drained on its descriptor; what is sent in a turn leaves in batches."""

    def __init__(self, socket: zmq.Socket[bytes], on_batch: Callable[[bytes, list[Message]], None]):
        self._socket = socket
        self._on_batch = on_batch
        self._is_router = socket.type == zmq.ROUTER
        self._loop = asyncio.get_running_loop()
        self._queues: dict[bytes, list[Message]] = {}
        self._flush_scheduled = False
        self._pack = msgpack.Packer(autoreset=True).pack
        self._loop.add_reader(int(socket.getsockopt(zmq.FD)), self._drain)
        self._loop.call_soon(self._drain)

    def send_now(self, to: bytes, message: Message) -> None:
        """Send one message alone, at once."""
        self._put(to, [message])
        self._look_again()

    def queue(self, to: bytes, message: Message) -> None:
        """Send it at the end of this turn, with what else gathers until then."""
        self._queues.setdefault(to, []).append(message)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what has gathered."""
        self._flush_scheduled = False
        queues, self._queues = self._queues, {}
        for to, messages in queues.items():
            for start in range(0, len(messages), BATCH_MAX):
                self._put(to, messages[start : start + BATCH_MAX])
        self._look_again()

    def _put(self, to: bytes, messages: list[Message]) -> None:
        if self._is_router:
            self._socket.send(to, zmq.SNDMORE | zmq.DONTWAIT)
        self._socket.send(self._pack(messages), zmq.DONTWAIT)

    def _look_again(self) -> None:
        # A send may have consumed the descriptor's edge: what arrived meanwhile shows only here.
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        socket = self._socket
        while int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            sender = socket.recv(zmq.DONTWAIT) if self._is_router else b""
            self._on_batch(sender, msgpack.unpackb(socket.recv(zmq.DONTWAIT), use_list=True))
        if self._queues:
            self.flush()


def server(options: Mapping[str, object]) -> None:
    """Echo each message of each batch."""

    async def serve() -> None:
        socket = zmq.Context().socket(zmq.ROUTER)
        port_number = socket.bind_to_random_port("tcp://127.0.0.1")

        async def echo(body: bytes) -> bytes:
            return body

        def on_batch(sender: bytes, messages: list[Message]) -> None:
            for number, body in messages:
                try:
                    echo(body).send(None)
                except StopIteration as done:
                    port.queue(sender, (number, done.value))

        port = Port(socket, on_batch)
        answering.announce(f"tcp://127.0.0.1:{port_number}")
        await asyncio.Event().wait()

    uvloop.run(serve())


def client(address: str, options: Mapping[str, object]) -> None:
    """A future per call; alone in flight it is sent at once."""

    async def run() -> None:
        socket = zmq.Context().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        loop = asyncio.get_running_loop()
        waiting: dict[int, asyncio.Future[bytes]] = {}
        number = 0

        def on_batch(_sender: bytes, messages: list[Message]) -> None:
            for key, body in messages:
                waiting.pop(key).set_result(body)

        port = Port(socket, on_batch)

        async def call() -> None:
            nonlocal number
            number += 1
            alone = not waiting
            waiting[number] = future = loop.create_future()
            (port.send_now if alone else port.queue)(b"", (number, answering.PAYLOAD))
            answering.check(await future)

        await call()
        await answering.answer_async(call)

    uvloop.run(run())
