"""Node processes that a command starts and takes down again.

`Fleet` runs `meshctl run` as processes with one temporary directory for data and sockets. Leaving
`async with fleet` ends them in good order, and by force where that takes too long; `kill` is for
a process that has no time left. Both remove the directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from meshcore.errors import DeadlineExceededError, MeshError

_READY_TIMEOUT = 20.0  # seconds; a start takes half of one, on a busy machine a few
_END_TIMEOUT = 5.0  # seconds to leave in good order
_SHORT = 40  # characters; a longer temporary directory leaves too few for the path of a socket


@dataclass(frozen=True, slots=True)
class Member:
    """A running node: its id, its first address and its process."""

    node_id: str
    url: str
    pid: int


class Fleet:
    """Nodes of a throw-away mesh."""

    def __init__(self) -> None:
        self._processes: list[asyncio.subprocess.Process] = []
        self._directory: Path | None = None

    async def __aenter__(self) -> Fleet:
        self._directory = _new_directory()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._stop()
        finally:
            self.kill()

    async def start(self, node_id: str, peer: str | None) -> Member:
        """Start a node that offers the demo actions; it listens when this returns.

        Raises:
            MeshError: it ended instead; the text is its last words.
            DeadlineExceededError: it was not ready in time.
        """
        assert self._directory is not None, "use it as an async context manager"
        arguments = ["run", "--json", "--id", node_id, "--plugin", "meshcore.plugins.demo"]
        arguments += ["--listen", "tcp://127.0.0.1:0"]
        if peer is not None:
            arguments += ["--peer", peer]
        log = self._directory / f"{node_id}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # this package, not one that happens to lie in the current directory
                "-m",
                "meshcore",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                env=self._environment(self._directory),
                start_new_session=True,  # Ctrl-C is ours: we end them in order
            )
        self._processes.append(process)
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _READY_TIMEOUT)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"{node_id} was not ready in {_READY_TIMEOUT:g} s", node_id=node_id
            ) from error
        try:
            return Member(node_id, json.loads(line)["listen"][0], process.pid)
        except (ValueError, KeyError, IndexError) as error:
            raise MeshError(
                f"{node_id} did not start: {_last_words(line, log)}", node_id=node_id
            ) from error

    def kill(self) -> None:
        """End every process now and remove the directory; twice is harmless."""
        for process in self._processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self._processes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.terminate()
        if self._processes:
            waits = [asyncio.create_task(_ended(process)) for process in self._processes]
            _, late = await asyncio.wait(waits, timeout=_END_TIMEOUT)
            for process in self._processes if late else ():
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*waits)

    @staticmethod
    def _environment(directory: Path) -> dict[str, str]:
        """Ours without the settings of the user's own nodes, and with places of their own."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESHCORE_")}
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [kept.get("PYTHONPATH")])]
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(paths),
            "XDG_RUNTIME_DIR": str(directory),
            "XDG_STATE_HOME": str(directory / "state"),
        }


def _new_directory() -> Path:
    parent = tempfile.gettempdir()
    if len(parent) > _SHORT and os.path.isdir("/tmp"):
        parent = "/tmp"
    return Path(tempfile.mkdtemp(prefix="meshcore-", dir=parent))


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the end, taking what it still prints so that a full pipe does not hold it up."""
    assert process.stdout is not None
    while await process.stdout.read(65536):
        continue
    await process.wait()


def _last_words(line: bytes, log: Path) -> str:
    try:
        return str(json.loads(line)["error"]["message"])
    except (ValueError, KeyError, TypeError):  # it could not even say that
        pass
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = [text for text in lines if text.strip()] or [line.decode(errors="replace").strip()]
    return said[-1] or "it ended without a word"
