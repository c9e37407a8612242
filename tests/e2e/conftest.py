from __future__ import annotations

import pytest
import zmq


@pytest.fixture(scope="session", autouse=True)
def process_is_warm() -> None:
    """Open once what pyzmq keeps open for ever: a thread with sockets, for buffers it has lent."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as a, context.socket(zmq.PAIR) as b:
        a.bind("inproc://warm")
        b.connect("inproc://warm")
        a.send(b"x" * 100_000, copy=False)
        b.recv()
