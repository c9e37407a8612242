"""`meshctl run --supervise`: what ends is started again, and all end in good order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

from tests.e2e.mesh_processes import MESHCTL, World

TIMEOUT = 30.0


class Supervised:
    """One `meshctl run --supervise --json`, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []

    async def line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next line of that kind."""
        assert self._process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            while data := await self._process.stdout.readline():
                line = json.loads(data)
                self.lines.append(line)
                if wanted(line):
                    return line
        raise AssertionError(f"it ended: {self.lines}")

    async def end(self, number: int | None = signal.SIGTERM) -> int:
        if number is not None:
            self._process.send_signal(number)
        async with asyncio.timeout(TIMEOUT):
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode


def supervised(*arguments: str) -> Callable[[Callable[..., Awaitable[None]]], None]:
    """Run a scenario with a supervisor."""

    def decorate(scenario: Callable[..., Awaitable[None]]) -> None:
        async def main() -> None:
            async with World() as world:
                process = await asyncio.create_subprocess_exec(
                    *MESHCTL, "run", "--json", *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    env=world.environment,
                    cwd=world.directory,
                    start_new_session=True,
                )  # fmt: skip
                world.groups.append(process.pid)
                one = Supervised(process)
                try:
                    await scenario(world, one)
                finally:
                    if process.returncode is None:
                        await one.end()

        asyncio.run(main())

    return decorate


def test_a_killed_node_is_started_again_up_to_the_count() -> None:
    @supervised("--id", "w", "--supervise", "2", "--listen", "tcp://127.0.0.1:0")
    async def _(world: World, one: Supervised) -> None:
        pids: dict[str, int] = {}
        while len(pids) < 2:
            line = await one.line(lambda line: line.get("event") == "ready")
            pids[line["node_id"]] = line["pid"]
        assert set(pids) == {"w-1", "w-2"}
        await one.line(lambda line: line.get("event") == "added")  # they have found each other
        os.kill(pids["w-2"], signal.SIGKILL)
        told = await one.line(lambda line: line.get("event") == "restart")
        assert told == {"event": "restart", "node_id": "w-2", "code": -9, "in_s": 0.5}
        again = await one.line(lambda line: line.get("event") == "ready")
        assert again["node_id"] == "w-2"
        assert again["pid"] != pids["w-2"]
        assert await one.end() == 0
        for pid in (pids["w-1"], again["pid"]):
            assert not psutil.pid_exists(pid)


def test_a_wrong_configuration_ends_all_with_its_error() -> None:
    @supervised("--id", "w", "--supervise", "--plugin", "no_such_module")
    async def _(world: World, one: Supervised) -> None:
        failed = await one.line(lambda line: line.get("event") == "failed")
        assert failed["code"] == 2
        assert any("no_such_module" in str(line.get("error")) for line in one.lines)
        assert await one.end(None) == 2
