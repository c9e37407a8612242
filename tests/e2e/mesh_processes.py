"""Nodes and commands as real processes, for tests: start, kill, freeze, start again, ask.

    async with World() as world:
        alpha = await world.start("alpha")
        beta = await world.start("beta", peers=[alpha])
        assert (await world.meshctl("ping", "beta", "--via", "alpha")).code == 0
        await beta.kill()
        await beta.start_again()

A World has XDG directories of its own below a short path, so that it meets nobody else's nodes.
Every process is the leader of its own group. Leaving the World kills every group that is left and
removes the directory; what a test wants to show about an orderly end, it does itself before.

Waiting is for lines of output, ends of processes and answers, always with a deadline. Times are
those of `time.monotonic()`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from meshcore import Config, Controller

ROOT = Path(__file__).parents[2]
MESHCTL = (sys.executable, "-m", "meshcore")
READY_TIMEOUT = 30.0  # seconds; a start takes half of one, with a dozen beside it some more
COMMAND_TIMEOUT = 30.0
END_TIMEOUT = 15.0
TCP = "tcp://127.0.0.1:0"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """What a command said and how it ended; `seconds` from its start to its end."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        """The one document, or the last line."""
        try:
            return json.loads(self.out)
        except ValueError:
            return self.lines[-1]

    @property
    def lines(self) -> list[Any]:
        """One object per line."""
        return [json.loads(line) for line in self.out.splitlines()]


class NodeProcess:
    """One `meshctl run --json`, which may be ended and started again."""

    def __init__(self, world: World, node_id: str, arguments: Sequence[str]) -> None:
        self._world = world
        self.node_id = node_id
        self._arguments = list(arguments)
        self.lines: list[dict[str, Any]] = []
        self.log = world.directory / f"{node_id}.log"
        self.ready_at = 0.0
        self.listen: list[str] = []
        self.socket = ""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()

    @property
    def url(self) -> str:
        """Its first TCP address, else its local socket."""
        return self.listen[0] if self.listen else self.socket

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.returncode

    async def launch(self) -> None:
        """Start the process, without waiting for anything."""
        self.lines.clear()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *MESHCTL,
                "run",
                "--json",
                "--id",
                self.node_id,
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._world.environment,
                cwd=self._world.directory,
                start_new_session=True,
            )
        self._world.groups.append(self._process.pid)
        self._reader = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b'{"event": "ready"'):
                self.ready_at = time.monotonic()
            with suppress(ValueError):
                self.lines.append(json.loads(line))
            async with self._news:
                self._news.notify_all()
        await process.wait()
        async with self._news:
            self._news.notify_all()

    async def ready(self) -> None:
        """Return when it said that it is ready; AssertionError with its last words otherwise."""
        line = await self.line(lambda line: line.get("event") == "ready", READY_TIMEOUT)
        self.listen, self.socket = line["listen"], line["socket"]
        if self.listen:  # the next life listens on the same ports
            self._arguments = _with_listen(self._arguments, self.listen)

    async def line(self, wanted: Callable[[dict[str, Any]], bool], timeout: float) -> Any:
        """The first line of output for which `wanted` holds."""

        def found() -> bool:
            return any(map(wanted, self.lines)) or not self.is_running

        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(found)
        except TimeoutError:
            raise AssertionError(f"{self.node_id} in {timeout} s: {self._told()}") from None
        for line in self.lines:
            if wanted(line):
                return line
        raise AssertionError(f"{self.node_id} ended with {self.returncode}: {self._told()}")

    def _told(self) -> str:
        return f"{self.lines}; log: {self.log.read_text(errors='replace')[-2000:]}"

    async def start_again(self) -> None:
        """A new life with the same arguments, ports and data; ready when this returns."""
        assert not self.is_running
        await self.launch()
        await self.ready()

    async def kill(self) -> None:
        """kill -9 of the process; gone when this returns."""
        os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> tuple[int, float]:
        """SIGTERM; its exit code, and the seconds that it took."""
        start = time.monotonic()
        self.signal(signal.SIGTERM)
        return await self.ended(), time.monotonic() - start

    async def ended(self) -> int:
        """Its exit code, once it has one."""
        assert self._process is not None
        assert self._reader is not None
        async with asyncio.timeout(END_TIMEOUT):
            code = await self._process.wait()
            await self._reader
        return code

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    async def status(self) -> dict[str, Any]:
        """What it says of itself, asked through an ephemeral client."""
        async with self._world.client(self) as client:
            return await client.call(self.node_id, "mesh:status", timeout=5)  # type: ignore[no-any-return]


class World:
    """A throw-away mesh of processes on this machine."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mcw-", dir="/tmp"))
        self.groups: list[int] = []
        self.nodes: dict[str, NodeProcess] = {}
        self.environment = self._environment()

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESHCORE_")}
        for name in ("RUNTIME_DIR", "STATE_HOME", "DATA_HOME", "CONFIG_HOME", "CACHE_HOME"):
            path = self.directory / name.partition("_")[0].lower()
            path.mkdir(mode=0o700)
            kept[f"XDG_{name}"] = str(path)
        path = self.directory / "tmp"
        path.mkdir()
        return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(path), "PYTHONWARNINGS": "error"}

    @property
    def sockets(self) -> Path:
        """Where the local sockets of the nodes lie."""
        return self.directory / "runtime"

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        for pid in self.groups:
            # The children of a node that was killed are in its group still.
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        for node in self.nodes.values():
            with suppress(AssertionError, TimeoutError):
                await node.ended()
        shutil.rmtree(self.directory, ignore_errors=True)

    def node(
        self,
        node_id: str,
        *arguments: str,
        peers: Iterable[NodeProcess | str] = (),
        listen: Sequence[str] = (TCP,),
        plugins: Sequence[str] = ("demo=meshcore.plugins.demo",),
    ) -> NodeProcess:
        """A node that is not started yet."""
        told = [*arguments]
        for url in listen:
            told += ["--listen", url]
        for peer in peers:
            told += ["--peer", peer if isinstance(peer, str) else peer.url]
        for plugin in plugins:
            told += ["--plugin", plugin]
        node = self.nodes[node_id] = NodeProcess(self, node_id, told)
        return node

    async def start(self, node_id: str, *arguments: str, **more: Any) -> NodeProcess:
        """A node that is ready."""
        node = self.node(node_id, *arguments, **more)
        await node.launch()
        await node.ready()
        return node

    async def chain(self, *node_ids: str) -> list[NodeProcess]:
        """Nodes that each dial the one before."""
        nodes: list[NodeProcess] = []
        for node_id in node_ids:
            nodes.append(await self.start(node_id, peers=nodes[-1:]))
        return nodes

    async def meshctl(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> Result:
        """Run a command to its end."""
        start = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *MESHCTL,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
            cwd=self.directory,
            start_new_session=True,
        )
        self.groups.append(process.pid)
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            raise AssertionError(f"{arguments} took {timeout} s: {out!r} {err!r}") from None
        assert process.returncode is not None
        seconds = time.monotonic() - start
        self.groups.remove(process.pid)
        return Result(process.returncode, out.decode(), err.decode(), seconds)

    @asynccontextmanager
    async def client(self, node: NodeProcess) -> AsyncIterator[Controller]:
        """An ephemeral client of a node, in this process."""
        async with Controller(Config(ephemeral=True, peers=[node.url])) as controller:
            await controller.wait_attached(10)
            yield controller


def _with_listen(arguments: list[str], listen: list[str]) -> list[str]:
    """The arguments with the addresses that were really bound."""
    bound = iter(listen)
    return [
        next(bound, argument) if before == "--listen" else argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
    ]


async def eventually(
    condition: Callable[[], Awaitable[T | None]] | Callable[[], T | None],
    timeout: float,
    what: Callable[[], object] | str = "",
    interval: float = 0.02,
) -> T:
    """The first true outcome of `condition`; AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        outcome: Any = condition()
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        if outcome:
            return outcome  # type: ignore[no-any-return]
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {timeout} s: {text or condition}")
        await asyncio.sleep(interval)
