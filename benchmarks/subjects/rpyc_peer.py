"""rpyc: a threaded server and one connection; `async_` keeps many calls in flight."""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping

import rpyc
from rpyc.utils.server import ThreadedServer

from benchmarks import answering


class Echo(rpyc.Service):
    """One exposed method."""

    def exposed_echo(self, body: bytes) -> bytes:
        """Give back what came."""
        return body


def server(options: Mapping[str, object]) -> None:
    """Serve until killed."""
    threaded = ThreadedServer(Echo, hostname="127.0.0.1", port=0)
    answering.announce(threaded.port)
    threaded.start()


def client(address: int, options: Mapping[str, object]) -> None:
    """Blocking calls one by one; pipelined with async_ for many."""
    connection = rpyc.connect("127.0.0.1", address)
    echo = connection.root.echo
    echo_later = rpyc.async_(echo)

    def call() -> None:
        answering.check(echo(answering.PAYLOAD))

    def many(seconds: float, in_flight: int) -> int:
        waiting = collections.deque(echo_later(answering.PAYLOAD) for _ in range(in_flight))
        count = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            result = waiting.popleft()
            result.wait()
            answering.check(result.value)
            count += 1
            waiting.append(echo_later(answering.PAYLOAD))
        for result in waiting:
            result.wait()
        return count + in_flight

    call()
    answering.answer_blocking(call, many)
