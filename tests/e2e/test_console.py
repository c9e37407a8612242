"""`meshctl console` in a terminal: what is typed, completed, recalled and interrupted."""

from __future__ import annotations

import asyncio
import os
import re
import select
import subprocess
import time
from collections.abc import Callable

import pytest

from meshcore.runtime import loop as event_loop
from tests.e2e.mesh_processes import MESHCTL, World

pytest.importorskip("readline", reason="this Python has no readline: no completion, no history")

TAB, UP, ENTER, INTERRUPT, END = "\t", "\x1b[A", "\r", "\x03", "\x04"
DEADLINE = 30.0  # seconds for whatever is waited for
COUNTER = "bank=benchmarks.subjects.counter:Counter"


class Terminal:
    """A console with a keyboard and a screen."""

    def __init__(self, world: World, via: str) -> None:
        self._master, slave = os.openpty()
        environment = {**world.environment, "TERM": "dumb", "INPUTRC": os.devnull}
        self._process = subprocess.Popen(
            [*MESHCTL, "console", "--via", via],
            stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=world.directory,
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        world.groups.append(self._process.pid)
        os.close(slave)
        self._screen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, pattern: str) -> str:
        """Wait until that is on the screen; what was there before it is forgotten."""
        end = time.monotonic() + DEADLINE
        while (found := re.search(pattern, self._screen)) is None:
            left = end - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(0.0, left))
            assert ready, f"{pattern!r} is not on the screen: {self._screen!r}"
            self._screen += os.read(self._master, 4096).decode()
        self._screen = self._screen[found.end() :]
        return found[0]

    def ended(self) -> int:
        """Its exit code."""
        return self._process.wait(DEADLINE)


def _take_terminal() -> None:
    """In the child: the slave is the terminal from which signals come."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _use(world: World, via: str, session: Callable[[Terminal], None]) -> None:
    with Terminal(world, via) as terminal:
        session(terminal)


def _first_lines(terminal: Terminal) -> None:
    terminal.until(r"Ctrl-D or 'exit' ends\.\s+mesh> ")
    terminal.type("bank.a" + TAB)
    terminal.until(r"bank\.add ")
    terminal.type("5" + ENTER)
    terminal.until(r"alpha +5\s+mesh> ")
    terminal.type(UP)
    terminal.until(r"bank\.add 5")
    terminal.type(ENTER)
    terminal.until(r"alpha +10\s+mesh> ")
    terminal.type("bank.nonsense" + ENTER)
    terminal.until(r"bank has no method 'nonsense'(.|\n)*mesh> ")  # and the next line is read
    terminal.type("half a line" + INTERRUPT)
    terminal.until(r"mesh> ")
    terminal.type(END)
    assert terminal.ended() == 0


def _second_lines(terminal: Terminal) -> None:
    terminal.until(r"mesh> ")
    terminal.type(UP + UP + ENTER)  # over the line that failed
    terminal.until(r"alpha +15\s+mesh> ")
    terminal.type("exit" + ENTER)
    assert terminal.ended() == 0


def test_lines_are_completed_run_recalled_and_interrupted_and_the_history_is_kept() -> None:
    async def scenario() -> None:
        async with World() as world:
            node = await world.start("alpha", "--service", COUNTER)
            for session in (_first_lines, _second_lines):
                await asyncio.to_thread(_use, world, node.url, session)

    event_loop.run(scenario())
