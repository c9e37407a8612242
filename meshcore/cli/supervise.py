"""`meshctl run --supervise [COUNT]`: node processes that are started again when they end.

The supervisor is a process that starts nodes and waits. A node that ends, however it does, is
started again after a pause, which doubles while it ends soon and is short again once it has lived
for a while. One that ends because of its configuration (exit code 2) ends all, with that error:
another attempt would not help. SIGINT and SIGTERM end all in good order, a second one at once.

With a COUNT of several the nodes are called ID-1, ID-2, …, have data directories of their own, and
each dials the local sockets of the others.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from meshcore.cli.failure import FAILED, USAGE, Reported
from meshcore.cli.interrupts import add_signal_handler
from meshcore.errors import ConfigError
from meshcore.paths import socket_path, state_dir
from meshcore.urls import Url, parse_url

COUNT_MAX = 64
FIRST_PAUSE, PAUSE_MAX = 0.5, 30.0  # seconds until a node is started again
STABLE = 60.0  # seconds of life after which the pause is the first one again
END_WAIT = 30.0  # seconds for nodes to leave in good order
_TAKES_VALUE = ("--id", "--data-dir")  # options that are different for each node


class Pauses:
    """How long to wait before one node is started again."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after(self, lived: float) -> float:
        """The pause after a life of so many seconds."""
        if lived >= STABLE:
            self._next = FIRST_PAUSE
        pause, self._next = self._next, min(self._next * 2, PAUSE_MAX)
        return pause


@dataclass(frozen=True, slots=True)
class Plan:
    """One node: its id, and the arguments of its `meshctl run`."""

    node_id: str
    arguments: tuple[str, ...]


def plans(argv: Sequence[str], *, node_id: str, count: int, listen: Sequence[str]) -> list[Plan]:
    """What to run, out of the arguments of `meshctl run` itself.

    Raises:
        ConfigError: several nodes cannot all listen on one port.
    """
    common = _without(argv)
    if count == 1:
        return [Plan(node_id, ("--id", node_id, *_data_dir(argv), *common))]
    for url in listen:
        parsed = parse_url(url, key="listen")
        if parsed.scheme == "tcp" and parsed.port != 0:
            raise ConfigError(
                f"{count} nodes cannot all listen on {url}; give --listen {parsed.scheme}://"
                f"{parsed.host}:0, or none"
            )
    names = [f"{node_id}-{number}" for number in range(1, count + 1)]
    base = _data_dir(argv)
    made = []
    for name in names:
        peers = [
            word
            for other in names
            if other != name
            for word in ("--peer", str(Url("ipc", path=str(socket_path(other)))))
        ]
        directory = f"{base[1]}/{name}" if base else str(state_dir(name))
        own = ("--id", name, "--data-dir", directory)
        made.append(Plan(name, (*own, *common, *peers)))
    return made


def _data_dir(argv: Sequence[str]) -> tuple[str, ...]:
    found = _value(argv, "--data-dir")
    return () if found is None else ("--data-dir", found)


def _value(argv: Sequence[str], option: str) -> str | None:
    for place, word in enumerate(argv):
        if word == option and place + 1 < len(argv):
            return argv[place + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None


def _without(argv: Sequence[str]) -> list[str]:
    """The arguments that all nodes share."""
    kept: list[str] = []
    skip = False
    for place, word in enumerate(argv):
        if skip:
            skip = False
        elif word == "--supervise":
            following = argv[place + 1] if place + 1 < len(argv) else ""
            skip = following.isdigit()
        elif word in _TAKES_VALUE:
            skip = True
        elif word != "--json" and not word.startswith(("--supervise=", "--id=", "--data-dir=")):
            kept.append(word)
    return kept


class Supervisor:
    """Runs these until it is told to end."""

    def __init__(self, planned: Sequence[Plan], *, as_json: bool) -> None:
        self._plans = planned
        self._json = as_json
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._signals: list[int] = []
        self._ending: asyncio.Event

    async def run(self) -> None:
        """Returns when all have left. Raises Reported where the configuration is wrong."""
        self._ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            add_signal_handler(loop, number, self._on_signal)
        keeping = [loop.create_task(self._keep(plan)) for plan in self._plans]
        ended = loop.create_task(self._ending.wait())
        try:
            await asyncio.wait([*keeping, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            self._ending.set()
            await self._end()
            outcomes = await asyncio.gather(*keeping, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        self._tell({"event": "ended"}, "all nodes have left")

    def _on_signal(self, number: int) -> None:
        self._signals.append(number)
        self._ending.set()
        if len(self._signals) > 1:
            for process in self._running.values():
                process.kill()

    async def _end(self) -> None:
        """Have all nodes leave; by force where that takes too long."""
        for process in self._running.values():
            process.terminate()
        waiting = [process.wait() for process in self._running.values()]
        try:
            await asyncio.wait_for(asyncio.gather(*waiting), END_WAIT)
        except TimeoutError:
            for process in list(self._running.values()):
                process.kill()

    async def _keep(self, plan: Plan) -> None:
        """Start one node again and again."""
        pauses = Pauses()
        while not self._ending.is_set():
            started = time.monotonic()
            code = await self._run_once(plan)
            if self._ending.is_set():
                return
            if code == USAGE:
                self._tell(
                    {"event": "failed", "node_id": plan.node_id, "code": code},
                    f"{plan.node_id} cannot start: its configuration is wrong (see above)",
                )
                raise Reported(USAGE)
            pause = pauses.after(time.monotonic() - started)
            why = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._tell(
                {"event": "restart", "node_id": plan.node_id, "code": code, "in_s": pause},
                f"{plan.node_id} {why}; it is started again in {pause:g} s",
            )
            await self._sleep(pause)

    async def _sleep(self, seconds: float) -> None:
        waiting = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait([waiting], timeout=seconds)
        waiting.cancel()

    async def _run_once(self, plan: Plan) -> int:
        """One life of a node; its exit code."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "meshcore", "run", "--json", *plan.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours: we end them in order
            )  # fmt: skip
        except OSError as error:
            click.echo(f"{plan.node_id} cannot be started: {error}", err=True)
            return FAILED
        self._running[plan.node_id] = process
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                self._on_line(plan, process.pid, line)
            return await process.wait()
        finally:
            del self._running[plan.node_id]

    def _on_line(self, plan: Plan, pid: int, line: bytes) -> None:
        """What a node tells: programs get it all, people that it is up, and its last error."""
        try:
            told = json.loads(line)
        except ValueError:
            return
        if self._json:
            self._tell({"node": plan.node_id, **told}, "")
        elif told.get("event") == "ready":
            where = ", ".join(told.get("listen") or ()) or "nowhere"
            click.echo(f"{plan.node_id} is up (pid {pid}), listens on {where}")
        elif "error" in told:
            click.echo(f"{plan.node_id}: {told['error'].get('message')}", err=True)

    def _tell(self, event: dict[str, Any], text: str) -> None:
        click.echo(json.dumps(event, ensure_ascii=False) if self._json else text)
