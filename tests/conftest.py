"""What holds for every test: a world of its own, and nothing left behind.

A test gets its own XDG directories, below a short path because the path of a local socket may have
107 bytes, and no `MESHCORE_*` variables. When it has ended, sockets, tasks, threads, open files or
child processes that it left fail it; what is still closing gets a bounded time.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On a shared machine the time that an example takes says nothing of the code; and on a fresh clone
# the first text that is drawn builds tables of Unicode for more than a second.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

SETTLE_TIMEOUT = 3.0  # seconds for what is closing on another thread


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a short path, for this test alone, that holds its XDG directories."""
    path = Path(tempfile.mkdtemp(prefix="mc-", dir="/tmp"))
    for name in [name for name in os.environ if name.startswith("MESHCORE_")]:
        monkeypatch.delenv(name)
    for name in ("RUNTIME_DIR", "STATE_HOME", "DATA_HOME", "CONFIG_HOME", "CACHE_HOME"):
        directory = path / name.partition("_")[0].lower()
        directory.mkdir(mode=0o700)
        monkeypatch.setenv(f"XDG_{name}", str(directory))
    yield path
    shutil.rmtree(path, ignore_errors=True)  # a process that the test lost may still write there


@pytest.fixture(autouse=True)
def own_world(home: Path) -> None:
    """Every test has a home of its own, also where it does not ask for it."""


@pytest.fixture(autouse=True)
def nothing_left_behind(own_world: None) -> Iterator[None]:
    """Fail the test that leaves something open."""
    before = _open_things()
    yield
    left = _left_since(before)
    if left:
        pytest.fail("left behind: " + "; ".join(left) + _open_zmq())


def _left_since(before: dict[str, object]) -> list[str]:
    """What is open that was not, after a bounded wait for what is still closing."""
    deadline = time.monotonic() + SETTLE_TIMEOUT
    collected = False
    while True:
        now = _open_things()
        left = [f"{name} ({now[name]})" for name in sorted(now) if name not in before]
        if not left:
            return []
        if not collected:
            gc.collect()  # only now: a collection takes longer than most tests
            collected = True
        elif time.monotonic() > deadline:
            return left
        else:
            time.sleep(0.01)


def _open_things() -> dict[str, object]:
    """Everything open in this process, by a name that lasts as long as the thing."""
    things: dict[str, object] = {}
    for thread in threading.enumerate():
        if thread.is_alive() and not thread.daemon:
            things[f"thread {thread.ident}"] = thread.name
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # that of listdir itself
            continue
        things[f"file {fd} {target}"] = "open"
    for child in _children():
        things[f"process {child[0]}"] = child[1]
    things.update(_tasks())
    return things


def _children() -> list[tuple[int, str]]:
    """Child processes, zombies too: a child that nobody waited for is a leak."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            pids = Path(f"/proc/self/task/{task}/children").read_text().split()
        except OSError:  # the thread has ended
            continue
        for pid in pids:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            found.append((int(pid), command.decode(errors="replace").strip()[:120] or "zombie"))
    return found


def _tasks() -> dict[str, object]:
    """Tasks that are not done, whichever loop they belong to."""
    # all_tasks() wants a loop, and that of a finished test is closed; 3.11 has the second name.
    names = ("_scheduled_tasks", "_all_tasks")
    known = next((getattr(asyncio.tasks, n) for n in names if hasattr(asyncio.tasks, n)), ())
    return {f"task {id(task)}": task.get_name() for task in list(known) if not task.done()}


def _open_zmq() -> str:
    """Sockets and contexts of ZeroMQ that are not closed, to explain files that are open.

    Each of them has files of its own, so that looking for files finds them; walking through all
    objects for every test would take longer than the tests.
    """
    zmq = sys.modules.get("zmq")
    if zmq is None:
        return ""
    things = [
        repr(thing)
        for thing in gc.get_objects()
        if isinstance(thing, zmq.Socket | zmq.Context) and not thing.closed
    ]
    return "".join("; " + thing for thing in things)
