"""Signals, output that nobody reads, and processes that must not stay behind."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from meshcore.cli import fleet as fleet_module
from meshcore.cli.failure import Interrupted, reader_has_gone
from meshcore.cli.fleet import Fleet
from meshcore.cli.interrupts import run_async
from meshcore.cli.outlet import Outlet, OutletHandler
from meshcore.errors import MeshError

TWICE = """
import asyncio, os, signal, sys
from meshcore.cli.interrupts import run_async

async def stubborn():
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("once", flush=True)
            os.kill(os.getpid(), signal.SIGINT)

run_async(stubborn(), at_once=lambda: print("at once", flush=True))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_leaves_in_good_order(number: int, code: int) -> None:
    left = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            left.append(True)

    with pytest.raises(Interrupted) as caught:
        run_async(work())
    assert (left, 128 + caught.value.signal_number) == ([True], code)


def test_the_second_signal_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (130, "once\nat once\n")


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)

    async def nothing() -> int:
        return 5

    assert run_async(nothing()) == 5
    assert signal.getsignal(signal.SIGINT) == before


class Blocked(io.StringIO):
    """A pipe that nobody drains."""

    def __init__(self) -> None:
        super().__init__()
        self.drained = threading.Event()

    def write(self, text: str) -> int:
        self.drained.wait(30)
        return super().write(text)


def test_a_reader_that_stops_reading_holds_nobody_up() -> None:
    stream = Blocked()
    outlet = Outlet(stream)
    for number in range(5000):
        outlet.line(str(number))
    assert outlet.dropped > 3000
    outlet.close(timeout=0.01)
    stream.drained.set()
    outlet.close()
    assert stream.getvalue().startswith("0\n1\n2\n")


def test_lines_come_in_order_and_all_of_them() -> None:
    stream = io.StringIO()
    outlet = Outlet(stream)
    for number in range(500):
        outlet.line(str(number))
    outlet.close()
    assert stream.getvalue() == "".join(f"{number}\n" for number in range(500))


def test_a_reader_that_goes_is_told_once() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    gone = threading.Semaphore(0)
    stream = os.fdopen(writer, "w")
    outlet = Outlet(stream, on_closed=gone.release)
    outlet.line("anybody there?")
    assert gone.acquire(timeout=10)
    outlet.line("still?")
    outlet.close()
    assert not gone.acquire(blocking=False)
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_pipe_without_reader_is_noticed_without_writing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert not reader_has_gone()
        os.close(reader)
        assert reader_has_gone()
    monkeypatch.setattr(sys, "stdout", None)
    assert not reader_has_gone()


def test_log_records_become_lines() -> None:
    stream = io.StringIO()
    outlet = Outlet(stream)
    handler = OutletHandler(outlet)
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "%s links", (3,), None))
    outlet.close()
    assert stream.getvalue() == "3 links\n"


def fake_node(body: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Have the fleet start a small script in place of `python -m meshcore`."""
    package = home / "meshcore"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"import json, os, signal, sys, time\n{body}\n")
    cli = package / "cli"
    cli.mkdir()
    monkeypatch.setattr(fleet_module, "__file__", str(cli / "fleet.py"))


READY = "print(json.dumps({'event': 'ready', 'listen': ['tcp://127.0.0.1:9']}), flush=True)\n"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_fleet_leaves_no_process_and_no_file(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    fake_node(READY + "open(os.environ['XDG_RUNTIME_DIR'] + '/x', 'w')\ntime.sleep(60)",
              monkeypatch, home)  # fmt: skip

    async def work() -> tuple[int, Path]:
        fleet = Fleet()
        async with fleet:
            member = await fleet.start("alpha", None)
            assert member.url == "tcp://127.0.0.1:9"
            assert fleet._directory is not None
            return member.pid, fleet._directory

    pid, directory = run_async(work())
    assert not alive(pid)
    assert not directory.exists()


def test_a_node_that_does_not_leave_in_time_is_killed(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    fake_node("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "time.sleep(60)",
              monkeypatch, home)  # fmt: skip
    monkeypatch.setattr(fleet_module, "_END_TIMEOUT", 0.05)

    async def work() -> int:
        async with Fleet() as fleet:
            return (await fleet.start("alpha", None)).pid

    assert not alive(run_async(work()))


def test_a_node_that_does_not_start_is_quoted(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    fake_node("sys.exit('no module named demo')", monkeypatch, home)

    async def work() -> None:
        async with Fleet() as fleet:
            await fleet.start("alpha", None)

    with pytest.raises(MeshError, match="alpha did not start: no module named demo"):
        run_async(work())


def test_a_node_that_says_why_in_json_is_quoted_with_that(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    fake_node("print(json.dumps({'error': {'name': 'X', 'message': 'no such plugin'}}))",
              monkeypatch, home)  # fmt: skip

    async def work() -> None:
        async with Fleet() as fleet:
            await fleet.start("alpha", None)

    with pytest.raises(MeshError, match="alpha did not start: no such plugin"):
        run_async(work())


def test_settings_of_the_user_do_not_reach_the_fleet(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("MESHCORE_PEERS", "tcp://10.0.0.1:1")
    environment = Fleet._environment(home)
    assert not [name for name in environment if name.startswith("MESHCORE_")]
    assert environment["XDG_RUNTIME_DIR"] == str(home)
