"""zerorpc: its gevent server and client; a greenlet per call in flight."""

from __future__ import annotations

import time
from collections.abc import Mapping

import gevent
import zerorpc
import zmq

from benchmarks import answering


class Echo:
    """One method."""

    def echo(self, body: bytes) -> bytes:
        """Give back what came."""
        return body


def server(options: Mapping[str, object]) -> None:
    """Serve until killed."""
    node = zerorpc.Server(Echo())
    node.bind("tcp://127.0.0.1:0")
    answering.announce(node._events._socket.getsockopt(zmq.LAST_ENDPOINT).decode())
    node.run()


def client(address: str, options: Mapping[str, object]) -> None:
    """Concurrent calls on one client."""
    remote = zerorpc.Client(address, timeout=10)

    def call() -> None:
        answering.check(remote.echo(answering.PAYLOAD))

    def many(seconds: float, in_flight: int) -> int:
        end = time.perf_counter() + seconds

        def keep_calling() -> int:
            count = 0
            while time.perf_counter() < end:
                call()
                count += 1
            return count

        jobs = [gevent.spawn(keep_calling) for _ in range(in_flight)]
        gevent.joinall(jobs, raise_error=True)
        return sum(job.value for job in jobs)

    call()
    answering.answer_blocking(call, many)
