"""The programs in examples/, as a user starts them: each a process of its own."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.nodes import TCP, eventually, is_busy, pair, run

ROOT = Path(__file__).parents[2]
TIMEOUT = 15.0


class Program:
    """A running example."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, pattern: str) -> re.Match[str]:
        """The next line that it prints, which must match."""
        assert self._process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            text = (await self._process.stdout.readline()).decode().strip()
        match = re.fullmatch(pattern, text)
        assert match, f"{text!r} is not {pattern!r}"
        return match

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def terminate(self) -> int:
        self._process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(TIMEOUT):
            return await self._process.wait()


@asynccontextmanager
async def program(name: str, *arguments: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / f"{name}.py"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_a_listener_and_a_peer_meet_and_end_on_sigterm() -> None:
    async def scenario() -> None:
        async with program("listener", "tcp://127.0.0.1:0") as listener:
            url = (await listener.line(r"listening on (tcp://.*)"))[1]
            async with program("peer", url) as peer:
                await listener.line("peer joined")
                async with program("until_eof", url, "listener", "example:greet", '"you"') as asker:
                    name = (await listener.line(r"(.*) joined"))[1]
                    await asker.line(f"1 hello you, says listener to {name}")
                    await asker.line("eof, code 0")
                    await asker.line("done")
                    assert await asker.ended() == 0
                await listener.line(f"{name} left: .+")
                assert await peer.terminate() == 0
                await listener.line("peer left: .+")
            assert await listener.terminate() == 0

    run(scenario)


def test_a_handler_prints_until_eof_and_the_program_ends_with_its_app() -> None:
    async def scenario() -> None:
        async with program("listener", "tcp://127.0.0.1:0") as listener:
            url = (await listener.line(r"listening on (tcp://.*)"))[1]
            async with (
                program("peer", url, "worker"),
                program("until_eof", url, "worker", "example:lines", "3") as asker,
            ):
                for number in range(3):
                    await asker.line(f"{number + 1} line {number}")
                await asker.line("eof, code 0")
                await asker.line("done")
                assert await asker.ended() == 0

    run(scenario)


def test_a_controller_relays_work_that_comes_from_elsewhere() -> None:
    async def scenario() -> None:
        async with program("relay_work", "tcp://127.0.0.1:0") as relay:
            url = (await relay.line(r"listening on (tcp://.*)"))[1]
            async with program("peer", url, "worker"):
                relay.type("worker example:lines 2")
                number = (await relay.line(r"(\S+) sent to worker"))[1]
                for line in range(2):
                    await relay.line(f"{re.escape(number)} line {line}")
                relay.type("worker example:nothing")
                await relay.line(r"\S+ sent to worker")
                await relay.line(r"\S+ failed: .*")
            assert await relay.terminate() == 0

    run(scenario)


def test_what_a_background_task_raises_ends_the_program() -> None:
    async def scenario() -> None:
        async with program("relay_work", "tcp://127.0.0.1:0") as relay:
            await relay.line(r"listening on .*")
            relay.type("only-one-word")
            assert await relay.ended() == 1

    run(scenario)


def test_a_ping_handler_reads_the_older_shape() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            await oscar.send(recipient="alpha", directive="demo:sleep", payload=60)
            await eventually(lambda: is_busy(oscar, "alpha"))
            async with program("ping_older", alpha.endpoints[0], "alpha") as pinger:
                await pinger.line(r"alpha answered after \d+\.\d ms")
                await pinger.line(r"it does demo:sleep for oscar \(.+\)")
                assert await pinger.ended() == 0
            await oscar.stop()  # cancels what it sent

    run(scenario)


def test_cell_tells_who_is_there_and_who_is_master() -> None:
    async def scenario() -> None:
        async with pair() as (_, alpha), program("cell", "cell", TCP, alpha.endpoints[0]) as cell:
            time = r"\d\d:\d\d:\d\d\.\d{6}"
            seen: set[str] = set()
            wanted = {"link to alpha up", "+alpha", "master is alpha"}
            while not wanted <= seen:
                seen.add((await cell.line(rf"{time}  (.*)"))[1])
            await alpha.stop()
            while "-alpha" not in seen:
                seen.add((await cell.line(rf"{time}  (.*)"))[1])
            assert await cell.terminate() == 0

    run(scenario)


def test_flows_of_a_file_and_a_function_are_offered_and_found() -> None:
    async def scenario() -> None:
        async with program("offers", TCP) as offers:
            await offers.line("Archive north: https://north.example/archive")
            await offers.line("Archive south: https://south.example/archive")
            await offers.line("Depth: https://lab.example/depth")
            await offers.line(r"3 of 5; listening on tcp://.*")
            assert await offers.terminate() == 0

    run(scenario)
