"""The console: lines to command lines, completion, errors that end nothing."""

from __future__ import annotations

import importlib.metadata
import io
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest

from meshcore.cli import main
from meshcore.cli.console import Console, words_of


class Known:
    """A mesh that is always the same."""

    def groups(self) -> dict[str, list[str]]:
        return {"bank": ["add", "minus"], "lamps": ["set"]}

    def nodes(self) -> dict[str, list[str]]:
        return {"beta": ["demo:echo", "demo:fail"], "alpha": []}


def console(codes: dict[str, int] | None = None) -> tuple[Console, list[list[str]]]:
    ran: list[list[str]] = []

    def execute(words: list[str]) -> int:
        ran.append(words)
        return (codes or {}).get(words[0], 0)

    return Console(execute, Known()), ran  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nodes --json", ["nodes", "--json"]),
        ("bank.add 5 'a b'", ["call", "bank", "add", "5", "a b"]),
        ("my.bank.add -5", ["call", "my.bank", "add", "-5"]),
        ("# a comment", []),
        ("  ", []),
    ],
)
def test_what_a_line_stands_for(line: str, words: list[str]) -> None:
    assert words_of(line) == words


@pytest.mark.parametrize(
    ("before", "text", "found"),
    [
        ("", "pi", ["ping"]),
        ("", "bank.a", ["bank.add"]),
        ("call ", "", ["bank", "lamps"]),
        ("call bank ", "m", ["minus"]),
        ("services ", "l", ["lamps"]),
        ("send ", "b", ["beta"]),
        ("send beta ", "demo:e", ["demo:echo"]),
        ("call 'x", "", []),
        ("nodes ", "", []),
    ],
)
def test_completion(before: str, text: str, found: list[str]) -> None:
    assert console()[0].candidates(before, text) == found


def test_lines_of_a_pipe_run_one_after_the_other_and_the_last_code_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, ran = console({"ping": 3})
    text = "nodes\n'open\nrun\nhelp ping\nping zz\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert one.run() == 3
    assert ran == [["nodes"], ["ping", "--help"], ["ping", "zz"]]
    told = capsys.readouterr().err
    assert "No closing quotation: 'open" in told
    assert "'run' is for a terminal of its own" in told


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Commands of another package, by name."""
    points: dict[str, Any] = {}

    class Point:
        def __init__(self, name: str) -> None:
            self.name, self.value = name, f"acme.cli:{name}"

        def load(self) -> Any:
            found = points[self.name]
            if isinstance(found, Exception):
                raise found
            return found

    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [Point(name) for name in points]
    )
    main.added_commands.cache_clear()
    yield points
    main.added_commands.cache_clear()


def test_commands_of_other_packages_are_commands(
    added: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def hello() -> None:
        """Say hello."""
        click.echo("hello there")

    added.update(hello=hello, broken=ImportError("no acme"), nodes=hello, odd=3)
    assert main.run_cli(["hello"]) == 0
    assert "hello there" in capsys.readouterr().out
    assert main.run_cli(["broken"]) == 2
    told = capsys.readouterr().err
    assert "command 'broken' (acme.cli:broken) cannot be loaded: ImportError: no acme" in told
    assert main.run_cli(["odd"]) == 2
    assert "is no click command" in capsys.readouterr().err
    assert main.run_cli(["--help"]) == 0
    told = capsys.readouterr().out
    assert "Commands of other packages" in told
    assert "acme.cli:hello" in told
    assert main.command_names().count("nodes") == 1  # ours come first
