"""`meshctl console`: commands, one after the other, with history and completion.

A line is a command of meshctl without its name (`nodes`, `ping beta`, `call bank add 5`), or
`GROUP.METHOD ARG…`, which is short for `call GROUP METHOD ARG…`. What fails says so, and the next
line is read. Commands of one's own (the entry-point group `meshcore.commands`) work here as well.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import click

from meshcore.cli.attach import session
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.errors import MeshError
from meshcore.paths import console_history

PROMPT = "mesh> "
HISTORY_MAX = 1000  # lines
KNOWN_FOR = 5.0  # seconds that completion believes what it was told
ASK_TIMEOUT = 2.0
_NOT_HERE = ("console", "run", "demo")
_WITH_NODE = ("ping", "send", "route", "trace", "actions", "wait", "master")
HELP = """\
A line is a command as after 'meshctl' (nodes, ping beta, services, call bank add 5 …), or
GROUP.METHOD ARG…, short for call. 'help' lists the commands, 'help COMMAND' explains one; Tab
completes; Ctrl-D or 'exit' ends."""


@click.command(epilog=examples("meshctl console", "echo 'bank.add 5' | meshctl console --via a"))
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options) -> int:
    """Call services and nodes interactively.

    Takes the commands of meshctl, and GROUP.METHOD ARG... for short, with history and completion.
    Reads lines from a pipe as well; then the exit code is that of the last line.
    """
    from meshcore.cli.main import run_cli

    if options.via is not None:
        os.environ["MESHCORE_VIA"] = options.via
    return Console(run_cli, Knowledge(options)).run()


class Knowledge:
    """What can be completed, as the node that we are attached to knows it."""

    def __init__(self, options: Options) -> None:
        self._options = Options(options.via, ASK_TIMEOUT, False, False)
        self._groups: dict[str, list[str]] = {}
        self._nodes: dict[str, list[str]] = {}
        self._asked_at = float("-inf")

    def groups(self) -> dict[str, list[str]]:
        """The methods of each group."""
        self._refresh()
        return self._groups

    def nodes(self) -> dict[str, list[str]]:
        """The directives of each node."""
        self._refresh()
        return self._nodes

    def _refresh(self) -> None:
        if time.monotonic() < self._asked_at + KNOWN_FOR:
            return
        self._asked_at = time.monotonic()
        with suppress(MeshError, KeyboardInterrupt):  # then nothing is completed
            groups, actions, nodes = run_async(self._ask())
            self._groups = {
                name: sorted({m for offer in offers.values() for m in offer.get("methods") or ()})
                for name, offers in groups.items()
            }
            self._nodes = {row["node_id"]: [] for row in nodes}
            for row in actions:
                for node in row["nodes"]:
                    self._nodes.setdefault(node, []).append(row["directive"])

    async def _ask(self) -> tuple[Any, Any, Any]:
        async with session(self._options) as client:
            return (
                await client.ask("mesh:groups"),
                await client.ask("mesh:actions"),
                await client.ask("mesh:nodes"),
            )


class Console:
    """`execute` runs one command line and gives its exit code."""

    def __init__(self, execute: Callable[[list[str]], int], knowledge: Knowledge) -> None:
        self._execute = execute
        self._knowledge = knowledge
        self._code = 0

    def run(self) -> int:
        """Until the input ends; the exit code of the last line."""
        interactive = sys.stdin.isatty()
        if interactive:
            self._prepare()
            click.echo(HELP)
        while True:
            try:
                line = input(PROMPT if interactive else "")
            except EOFError:
                if interactive:
                    click.echo()
                return 0 if interactive else self._code
            except KeyboardInterrupt:
                click.echo()
                continue
            if line.strip() in ("exit", "quit"):
                return 0
            self.do(line)

    def do(self, line: str) -> None:
        """Run one line; whatever it does, the next one can follow."""
        try:
            words = words_of(line)
        except ValueError as error:
            click.echo(f"{error}: {line.strip()}", err=True)
            self._code = 2
            return
        if not words:
            return
        if words[0] == "help":
            words = [*words[1:], "--help"]
        elif words[0] in _NOT_HERE:
            click.echo(f"'{words[0]}' is for a terminal of its own", err=True)
            self._code = 2
            return
        self._code = self._execute(words)

    # Completion and history ------------------------------------------------------------------

    def _prepare(self) -> None:
        try:
            import atexit
            import readline
        except ImportError:  # a Python without it: lines are read all the same
            return
        path = console_history()
        with suppress(OSError):
            readline.read_history_file(path)
        readline.set_history_length(HISTORY_MAX)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")

        def complete(text: str, state: int) -> str | None:
            if state == 0:
                before = readline.get_line_buffer()[: readline.get_begidx()]
                self._found = [f"{one} " for one in self.candidates(before, text)]
            return self._found[state] if state < len(self._found) else None

        def save() -> None:
            with suppress(OSError):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                readline.write_history_file(path)
                path.chmod(0o600)  # arguments may be nobody's business

        readline.set_completer(complete)
        atexit.register(save)

    def candidates(self, before: str, text: str) -> list[str]:
        """What the word `text` may become, after `before`."""
        try:
            words = shlex.split(before)
        except ValueError:
            return []
        return sorted(one for one in self._possible(words, text) if one.startswith(text))

    def _possible(self, words: list[str], text: str) -> Iterable[str]:
        from meshcore.cli.main import command_names

        groups = self._knowledge.groups
        if not words:
            if "." in text:
                return [f"{name}.{method}" for name, methods in groups().items()
                        for method in methods]  # fmt: skip
            return [*(n for n in command_names() if n not in _NOT_HERE), "help", "exit"]
        if words[0] == "call":
            return groups() if len(words) == 1 else groups().get(words[1], ())
        if words[0] == "services":
            return groups()
        if words[0] in _WITH_NODE:
            nodes = self._knowledge.nodes()
            return nodes if len(words) == 1 else nodes.get(words[1], ())
        return command_names() if words[0] == "help" else ()


def words_of(line: str) -> list[str]:
    """The command line that a line stands for; ValueError for quotes that do not end."""
    words = shlex.split(line, comments=True)
    if words and "." in words[0]:
        group, _, method = words[0].rpartition(".")
        words[:1] = ["call", group, method]
    return words
