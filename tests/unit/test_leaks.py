"""What a test leaves behind is found, whatever it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests import conftest


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "SETTLE_TIMEOUT", 0.05)


@pytest.fixture
def before() -> Iterator[dict[str, object]]:
    things = conftest._open_things()
    yield things
    assert conftest._left_since(things) == []


def found(before: dict[str, object], kind: str) -> bool:
    return any(text.startswith(kind) for text in conftest._left_since(before))


def test_an_open_file_is_found(before: dict[str, object]) -> None:
    read, write = os.pipe()
    assert found(before, f"file {read} pipe:")
    os.close(read)
    os.close(write)


def test_a_thread_that_runs_on_is_found_and_one_that_ends_is_waited_for(
    before: dict[str, object],
) -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, args=(10,), name="stray")
    thread.start()
    assert found(before, "thread")
    go.set()
    assert conftest._left_since(before) == []


def test_a_task_that_nobody_awaits_is_found(before: dict[str, object]) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(0), name="stray")
    assert found(before, "task")
    loop.run_until_complete(task)
    loop.close()


def test_a_child_process_is_found_also_when_it_has_ended(before: dict[str, object]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert found(before, f"process {child.pid}")
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert found(before, f"process {child.pid}")


def test_a_socket_of_zeromq_is_found(before: dict[str, object]) -> None:
    zmq = pytest.importorskip("zmq")
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    assert found(before, "file")
    assert "DEALER" in conftest._open_zmq()
    socket.close(0)
    context.term()
