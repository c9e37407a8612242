"""The limit: plain pyzmq, blocking, one ROUTER and one DEALER, one ZeroMQ message per call.

No loop, no header, no acks: what is left when everything that meshcore adds is taken away.
`relay` is the same thought for a hop in between: two blocking sockets and a poll.

options: `numbered` puts a frame with a number before each body, as everybody must whose answers
may come back in another order. It is shown for comparison; bars are measured without.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping

import zmq

from benchmarks import answering


def server(options: Mapping[str, object]) -> None:
    """Send every message back to where it came from."""
    socket = zmq.Context().socket(zmq.ROUTER)
    answering.announce(_bind(socket))
    receive, send = socket.recv_multipart, socket.send_multipart
    while True:
        send(receive())


def relay(address: str, options: Mapping[str, object]) -> None:
    """Forward between clients (ROUTER) and the next hop (DEALER) without looking inside."""
    context = zmq.Context()
    front = context.socket(zmq.ROUTER)
    back = context.socket(zmq.DEALER)
    back.connect(address)
    answering.announce(_bind(front))
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(back, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            other = back if socket is front else front
            try:
                while True:
                    other.send_multipart(socket.recv_multipart(zmq.DONTWAIT))
            except zmq.Again:
                continue


def client(address: str, options: Mapping[str, object]) -> None:
    """Blocking calls; with N in flight, one more is sent for each answer."""
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(address)
    payload = answering.PAYLOAD
    send, receive = _numbered(socket) if options.get("numbered") else (socket.send, socket.recv)

    def call() -> None:
        send(payload)
        answering.check(receive())

    def many(seconds: float, in_flight: int) -> int:
        for _ in range(in_flight):
            send(payload)
        count = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            answering.check(receive())
            count += 1
            send(payload)
        for _ in range(in_flight):
            receive()
        return count + in_flight

    call()
    answering.answer_blocking(call, many)


def _numbered(
    socket: zmq.Socket[bytes],
) -> tuple[Callable[[bytes], object], Callable[[], bytes]]:
    numbers = itertools.count()

    def send(body: bytes) -> None:
        socket.send_multipart((next(numbers).to_bytes(8, "big"), body))

    def receive() -> bytes:
        return socket.recv_multipart()[1]

    return send, receive


def _bind(socket: zmq.Socket[bytes]) -> str:
    socket.setsockopt(zmq.LINGER, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    return f"tcp://127.0.0.1:{port}"
