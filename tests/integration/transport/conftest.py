from __future__ import annotations

from pathlib import Path

import pytest
import uvloop
import zmq

from tests.integration.transport.peers import LOOPS


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


@pytest.fixture(params=sorted(LOOPS))
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["tcp", "tcp6", "ipc"])
def url(request: pytest.FixtureRequest, home: Path) -> str:
    """An address of each kind to listen at."""
    return {
        "tcp": "tcp://127.0.0.1:0",
        "tcp6": "tcp://[::1]:0",
        "ipc": f"ipc://{home}/node.sock",
    }[request.param]
