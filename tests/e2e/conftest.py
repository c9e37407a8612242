from __future__ import annotations

import pytest
import uvloop
import zmq


@pytest.fixture(scope="session", autouse=True)
def process_is_warm() -> None:
    """Open once what libraries keep open for ever.

    pyzmq has a thread with sockets for the buffers that it lends, uvloop a pipe for signals.
    """
    uvloop.new_event_loop().close()
    with zmq.Context() as context, context.socket(zmq.PAIR) as a, context.socket(zmq.PAIR) as b:
        a.bind("inproc://warm")
        b.connect("inproc://warm")
        a.send(b"x" * 100_000, copy=False)
        b.recv()
