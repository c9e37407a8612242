"""JSON for programs, tables for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from meshcore.cli import render
from meshcore.cli.render import Column

COLUMNS = (
    Column("NODE"),
    Column("HOPS", right=True),
    Column("HOST", rank=2),
    Column("WORK", right=True, rank=1),
)
ROWS = [["alpha", "0", "a-machine-with-a-name", "12"], ["b", "10", "box", "0"]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x00\xff", {"base64": "AP8="}),
        (datetime(2026, 11, 22, 10, 30, tzinfo=UTC), "2026-11-22T10:30:00Z"),
        (datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=2))), "2026-11-22T10:00:00Z"),
        (datetime(2026, 11, 22, 10, 30), "2026-11-22T10:30:00Z"),
        (float("nan"), None),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({1: b"", b"key": 2, None: 3}, {"1": {"base64": ""}, "key": 2, "null": 3}),
        ({"a": [None, True, 1.5, "x"]}, {"a": [None, True, 1.5, "x"]}),
        ({3}, "{3}"),
    ],
)
def test_what_json_lacks_is_replaced(value: Any, expected: Any) -> None:
    assert render.to_json(value) == expected


def test_a_value_nested_without_end_is_cut_off() -> None:
    value: list[Any] = []
    value.append(value)
    json.dumps(render.to_json(value))


def test_a_lone_surrogate_can_be_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    render.print_json_line({"text": "a\udc80"})
    assert json.loads(capsys.readouterr().out) == {"text": "a\udc80"}


def test_a_piped_table_is_plain_aligned_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out == (
        "NODE   HOPS  HOST                   WORK\n"
        "alpha     0  a-machine-with-a-name    12\n"
        "b        10  box                       0\n"
    )


@pytest.mark.parametrize(
    ("width", "titles"),
    [(80, "NODE HOPS HOST WORK"), (30, "NODE HOPS WORK"), (14, "NODE HOPS"), (5, "NODE HOPS")],
)
def test_a_narrow_terminal_gives_up_the_least_important_columns(width: int, titles: str) -> None:
    table = render.rich_table(COLUMNS, ROWS, width=width)
    assert [column.header for column in table.columns] == titles.split()


def test_a_table_on_a_terminal_has_no_line_longer_than_it() -> None:
    console = Console(width=30, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(render.rich_table(COLUMNS, ROWS, width=30))
    assert max(map(len, capture.get().splitlines())) <= 30


def test_what_wraps_leaves_the_other_columns_whole() -> None:
    columns = (Column("DIRECTIVE"), Column("DESCRIPTION", wraps=True))
    table = render.rich_table(columns, [["demo:count", "many words " * 10]], width=40)
    console = Console(width=40, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert lines[1].startswith("demo:count  many words")
    assert len(lines) > 3
    assert max(map(len, lines)) <= 40


def test_a_long_word_is_folded_and_not_cut() -> None:
    url = "https://lab.example/" + "abcdefghij" * 5
    columns = (Column("NAME"), Column("URL", wraps=True))
    console = Console(width=40, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(render.rich_table(columns, [["resize", url]], width=40))
    assert url in capture.get().replace("resize", "").replace(" ", "").replace("\n", "")


def test_cells_cannot_break_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table([Column("A")], [["one\ntwo\x1b[2J"]])
    assert capsys.readouterr().out == "A\none two\\x1b[2J\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.00 ms"),
        (0.844, "0.84 ms"),
        (12.34, "12.3 ms"),
        (1204.2, "1,204 ms"),
    ],
)
def test_latencies_read_well(value: float | None, text: str) -> None:
    assert render.milliseconds(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (59.9, "59 s"),
        (192, "3 m 12 s"),
        (7500, "2 h 5 m"),
        (360000, "4 d 4 h"),
    ],
)
def test_durations_read_well(seconds: float | None, text: str) -> None:
    assert render.duration(seconds) == text
