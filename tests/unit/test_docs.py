"""What the documents say and the code can answer: tables, numbers, commands, links, programs.

`python tests/unit/test_docs.py --write` writes the table of settings in docs/operations.md anew.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":  # as a script it must find the package of this checkout
    sys.path.insert(0, str(ROOT))

from meshcore.answers import Answers  # noqa: E402 (see above)
from meshcore.catalogue.directives import Directives  # noqa: E402
from meshcore.cli import failure  # noqa: E402
from meshcore.cli.main import COMMANDS, cli  # noqa: E402
from meshcore.config import SETTINGS, Timings  # noqa: E402
from meshcore.config.layers import OTHER_VARIABLES  # noqa: E402
from meshcore.errors import Code  # noqa: E402
from meshcore.protocol.view import NodeStatus  # noqa: E402
from meshcore.protocol.wire import control, packet, records  # noqa: E402

OPERATIONS = ROOT / "docs" / "operations.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")],
    key=lambda path: str(path.relative_to(ROOT)),
)
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->"
SCRIPT_FLAGS = {"--many", "--write", "--quick", "--assert", "--only", "--json"}  # not of meshctl
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND_LINE = re.compile(r"(?:^|[\s/=])meshctl((?: [a-z-](?:'[^']*'|[^#|>&'])*)?)(?:[#|>&]|$)")


# -- Markdown, as far as needed --------------------------------------------------------------------


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return [body for name, body in _FENCE.findall(text_of(path)) if name == language]


def prose(path: Path) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text_of(path))


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, the header first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not inside:
                found.append([])
            inside = True
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                found[-1].append(cells)
        else:
            inside = False
    return found


def table(path: Path, *header: str, nth: int = 0) -> list[list[str]]:
    """The rows below the nth table whose header begins like this."""
    fitting = [t[1:] for t in tables(text_of(path)) if tuple(t[0][: len(header)]) == header]
    assert len(fitting) > nth, f"{path.name} has no table {header}"
    return fitting[nth]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- links, commands, flags, variables -------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(path: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file) if file else path
        if not found.exists() or (anchor and anchor not in anchors(found)):
            wrong.append(target)
    assert wrong == []


def _command(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """The command that these words call, and its arguments; None where it is a placeholder."""
    if not words or words[0] == "COMMAND" or words[0].startswith("-"):
        return None
    context = click.Context(cli)
    found = cli.get_command(context, words[0])  # type: ignore[attr-defined]
    assert found is not None, f"no command {words[0]!r}"
    if isinstance(found, click.Group) and len(words) > 1:
        inner = found.get_command(context, words[1])
        assert inner is not None, f"no command {words[:2]}"
        return inner, words[2:]
    return found, words[1:]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_command_line_in_a_block_is_one(path: Path) -> None:
    for _, body in _FENCE.findall(text_of(path)):
        for line in body.splitlines():
            match = _COMMAND_LINE.search(line)
            called = None if match is None else _command(shlex.split(match[1]))
            if called is not None:
                command, arguments = called
                command.make_context(command.name, arguments)  # raises where it cannot be used


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_command_in_the_text_exists_with_its_flags(path: Path) -> None:
    for span in spans(prose(path)):
        words = span.split()
        if words[0] not in ("meshctl", "bin/meshctl", "./bin/meshctl"):
            continue
        called = _command([word for word in words[1:] if not word.startswith("[")])
        if called is not None:
            command, arguments = called
            known = {option for each in command.params for option in each.opts} | {"--help"}
            flags = {word for word in arguments if word.startswith("--")}
            assert flags <= known, span


def test_every_flag_that_is_named_is_some_command_s() -> None:
    known = {"--help", "--version"} | SCRIPT_FLAGS
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)  # type: ignore[attr-defined]
        for one in (command, *getattr(command, "commands", {}).values()):
            known |= {option for each in one.params for option in each.opts + each.secondary_opts}
    for path in DOCUMENTS:
        flags = {flag for span in spans(prose(path)) for flag in re.findall(r"--[a-z-]+", span)}
        assert flags <= known, path


def test_every_environment_variable_that_is_named_is_read() -> None:
    known = {spec.environment for spec in SETTINGS.values()} | set(OTHER_VARIABLES)
    for path in DOCUMENTS:
        assert set(re.findall(r"MESHCORE_[A-Z_]*[A-Z]", text_of(path))) <= known, path


def test_every_command_is_in_the_readme() -> None:
    text = " ".join(row[0] for row in table(ROOT / "README.md", "command", "does"))
    assert all(re.search(rf"\b{name}\b", text) for name in COMMANDS)


def test_the_exit_codes_are_those_of_the_code() -> None:
    said = {int(code) for row in table(OPERATIONS, "code", "meaning") for code in row[0].split(",")}
    ours = [failure.FAILED, failure.USAGE, failure.UNREACHABLE, failure.TIMED_OUT, failure.DENIED]
    assert said == {0, *ours, failure.BUSY, failure.INTERRUPTED, 128 + signal.SIGTERM}


# -- settings --------------------------------------------------------------------------------------


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value in ("", (), {}):
        return ""
    return f"`{value:g}`" if isinstance(value, float) and value < 1000 else f"`{value}`"


def settings_table() -> str:
    lines = ["| setting | default | may be | why |", "|---|---|---|---|"]
    for key, spec in SETTINGS.items():
        why = ("*Reserved.* " if spec.reserved else "") + spec.reason.replace("<", "\\<")
        cells = [f"`{key}`", _default(spec.default), spec.expected, why]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    text = text_of(OPERATIONS)
    standing = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert standing == settings_table(), "run: python tests/unit/test_docs.py --write"


def test_the_defaults_of_the_timings_are_those_of_the_code() -> None:
    rows = table(PROTOCOL, "timing", "default")
    said = {row[0].strip("`"): float(row[1]) for row in rows}
    assert said == dataclasses.asdict(Timings())


# -- the wire --------------------------------------------------------------------------------------


def _fields(cell: str) -> list[str]:
    return [] if not cell else [name.strip() for name in cell.split(",")]


def test_the_control_messages_are_those_of_the_code() -> None:
    rows = table(PROTOCOL, "kind", "name", "fields")
    said = {int(kind): (name, _fields(fields)) for kind, name, fields in rows}
    ours = {
        kind: (
            re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper(),
            [each.name for each in dataclasses.fields(cls)],
        )
        for kind, cls in control._CLASSES.items()
    }
    assert said == ours


def test_the_records_are_those_of_the_code() -> None:
    rows = table(PROTOCOL, "kind", "name", "fields", nth=1)
    said = {int(kind): (name, _fields(fields)) for kind, name, fields in rows}
    assert said == {
        records.LINK_STATE: ("LINK_STATE", _names(records.LinkState)),
        records.DETAILS: ("DETAILS", _names(records.Details)),
    }


def _names(cls: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(cls)]


def _said(*header: str, nth: int = 0) -> dict[str, int]:
    return {row[1]: int(row[0]) for row in table(PROTOCOL, *header, nth=nth)}


def _ours(*names: str, prefix: str = "") -> dict[str, int]:
    return {name: getattr(packet, prefix + name) for name in names}


def test_the_codes_and_flags_are_those_of_the_code() -> None:
    def members(cls: type[enum.IntEnum] | type[enum.IntFlag]) -> dict[str, int]:
        return {each.name: int(each) for each in cls if each}

    assert _said("code", "name", "meaning, and what the refused side does") == members(
        control.Refusal
    )
    assert _said("bit", "name") == members(control.Flags)
    codes = {each.name: int(each) for each in Code}
    assert _said("code", "name", "meaning") == codes
    said = {row[0]: int(row[1]) for row in table(PROTOCOL, "status", "value")}
    assert said == {each.name: int(each) for each in NodeStatus}


def test_the_packets_are_those_of_the_code() -> None:
    rows = [t for t in tables(text_of(PROTOCOL)) if t[0] == ["kind", "name"]]
    assert {row[1]: int(row[0]) for row in rows[0][1:]} == _ours("PACKET", "HINT")
    assert _said("flag", "name") == _ours("BULK", "TRACE", "BODY", prefix="FLAG_")
    hints = ("NO_ROUTE", "FULL", "HOP_LIMIT", "CLIENT_GONE")
    assert _said("reason", "name") == _ours(*hints, prefix="HINT_")
    assert _said("mode", "name") == _ours("INLINE", "BODY", "NOTHING")
    assert _said("content", "name") == _ours("BYTES", "TEXT", "VALUE", prefix="CONTENT_")
    assert _said("kind", "name", "from") == _ours("INIT", "OPEN", "RESET")
    messages = ("CALL", "CANCEL", "RESULT", "ITEM", "ERROR", "CHUNK", "CREDIT")
    assert _said("kind", "name", "from", nth=1) == _ours(*messages)


def test_the_hop_header_has_the_lengths_of_the_code() -> None:
    rows = table(PROTOCOL, "offset", "bytes", "field")
    assert int(rows[-2][0]) == packet.HEAD_BYTES
    assert [int(row[0]) for row in rows[:8]] == [0, 1, 2, 3, 4, 8, 16, 20]
    assert sum(int(row[1]) for row in rows[:8]) == packet.HEAD_BYTES
    key = table(PROTOCOL, "offset", "bytes", "field", nth=1)
    assert packet.make_key(0, "a", 1, "b", 2)[int(key[-1][0]) :] == b"ab"
    ends = [int(row[0]) + int(row[1]) for row in key[:-1]]
    assert ends == [int(row[0]) for row in key[1:]]


@pytest.mark.parametrize(
    ("value", "constant"),
    [(row[1], row[2]) for row in table(PROTOCOL, "number", "value", "constant")],
    ids=lambda text: text,
)
def test_every_number_is_that_of_the_code(value: str, constant: str) -> None:
    module, _, name = constant.rpartition(".")
    assert float(value) == getattr(importlib.import_module(f"meshcore.{module}"), name)


def test_the_directives_of_every_node_are_those_of_the_code() -> None:
    serving = SimpleNamespace(internal={})
    driver = SimpleNamespace(mesh=None, now=lambda: 0.0)
    Answers(None, driver, serving, None, None).register()  # type: ignore[arg-type]
    Directives(None).register(serving.internal)  # type: ignore[arg-type]
    said = [row[0].strip("`") for row in table(PROTOCOL, "directive")]
    assert sorted(said) == sorted(serving.internal)


# -- counters --------------------------------------------------------------------------------------

COUNTING = ("Count", "count", "_count", "drop", "cut", "_refuse", "_refuse_lane", "_cut_source")


def _counters() -> Iterator[str]:
    """The texts that the code counts; of one that ends in a variable, what stands before it."""
    for path in sorted((ROOT / "meshcore").rglob("*.py")):
        if path.relative_to(ROOT).parts[1] in ("sim", "cli", "urls.py"):
            continue
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in COUNTING and not (called == "drop" and len(node.args) > 1):
                    yield from _texts(node.args)


def _texts(arguments: list[ast.expr]) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, ast.JoinedStr):
            first = argument.values[0]
            yield str(first.value) if isinstance(first, ast.Constant) else ""
        elif isinstance(argument, ast.IfExp):
            yield from _texts([argument.body, argument.orelse])
        elif isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def _documented() -> list[str]:
    """The counters of the two tables, each up to its `…`."""
    rows = table(OPERATIONS, "counter") + table(OPERATIONS, "drop")
    return [span.partition("…")[0] for row in rows for span in spans(row[0])]


def test_every_counter_is_explained() -> None:
    said = _documented()
    counted = {text for text in _counters() if text}
    assert len(counted) > 40  # else we look at the wrong calls
    missing = [
        text
        for text in sorted(counted)
        if not any(text == each or each.startswith(text) or text.startswith(each) for each in said)
    ]
    assert missing == []


def test_every_counter_that_is_explained_is_counted() -> None:
    source = "".join(text_of(path) for path in sorted((ROOT / "meshcore").rglob("*.py")))
    gone = [each for each in _documented() if re.sub(r"\d$", "{reason}", each) not in source]
    assert gone == []


# -- layout and programs ---------------------------------------------------------------------------


def test_the_layout_names_what_there_is() -> None:
    path = ROOT / "ARCHITECTURE.md"
    named: set[Path] = set()
    for row in table(path, "where", "what"):
        places = [ROOT / "meshcore" / each for each in spans(row[0])]
        places = [each if each.exists() else ROOT / each.name for each in places]
        assert all(each.exists() for each in places), row[0]
        named |= set(places)
        for file in re.findall(r"`(\w+\.py)`", row[1]):
            assert any((each / file).exists() for each in places), f"{row[0]}: {file}"
    package = ROOT / "meshcore"
    ours = {each for each in package.iterdir() if each.suffix == ".py" or each.is_dir()}
    ours |= {each.parent for each in (package / "protocol").glob("*/*.py")}
    unnamed = {each.name for each in ours - named} - {"__pycache__"}
    assert unnamed == set()


def test_the_demo_of_the_readme_is_that_of_the_code() -> None:
    [shown] = [body for body in blocks(ROOT / "README.md", "") if "there and back" in body]
    source = text_of(ROOT / "meshcore" / "cli" / "demo.py")
    titles = [line for line in shown.splitlines() if line and not line.startswith(" ")]
    assert len(titles) == 5
    for title in titles:
        assert re.sub(r"gamma|beta|alpha", "{", title).partition("{")[0] in source, title


def test_the_programs_of_the_readme_run(home: Path) -> None:
    serve, ask, counter = blocks(ROOT / "README.md", "python")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{home}"}
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    try:
        node = start(*"-m meshcore run --json --id alpha --listen tcp://127.0.0.1:0".split())
        assert node.stdout is not None
        url = json.loads(node.stdout.readline())["listen"][0]

        def program(name: str, text: str) -> str:
            path = home / name
            path.write_text(re.sub(r"tcp://[\d.:]+", url, text))
            return str(path)

        start(program("serve.py", serve))
        said = start(program("ask.py", ask)).communicate(timeout=30)[0]
        assert said.split("\n") == ["42", "3", "2", "1", "TypeError True", "['alpha', 'gamma']", ""]
        assert started.pop().returncode == 0
        program("counter.py", counter)
        service = "counter=counter:Counter,replication=passive,replicas=1"
        other = start(*f"-m meshcore run --json --id beta --peer {url} --service {service}".split())
        assert other.stdout is not None
        assert json.loads(other.stdout.readline())["event"] == "ready"
        call = start(*"-m meshcore call counter add 3 --via beta".split())
        assert call.communicate(timeout=30)[0] == "3\n"
        assert started.pop().returncode == 0
        for process in reversed(started):
            process.terminate()
            assert process.wait(timeout=15) == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()


def write() -> None:
    before, _, rest = text_of(OPERATIONS).partition(BEGIN)
    OPERATIONS.write_text(before + BEGIN + settings_table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/unit/test_docs.py --write")
    write()
