"""What commands print: JSON for programs, tables and lines for people.

JSON: bytes are `{"base64": "…"}`, times ISO 8601 UTC with a Z, what JSON lacks (NaN) is null. One
document is one line, indented only when a person looks at it.

Tables: on a terminal rich draws them, and gives up the least important columns where it is narrow;
anywhere else they are plain columns with two spaces between, whole, without colour.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from meshcore.cli.failure import one_line, stdout_is_terminal

if TYPE_CHECKING:
    from rich.table import Table

_DEPTH_MAX = 100  # of nested values; deeper ones are shown as text
_GAP = 2  # spaces between columns
_WRAPPED_WIDTH = 24  # a column that wraps should have that much
UNKNOWN = "-"  # in a table, for what is not known yet


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Where a terminal is narrow, `wraps` lets the cells of a column run over several lines, and the
    column of the greatest `rank` is given up first; those of rank 0 stay.
    """

    title: str
    right: bool = False
    rank: int = 0
    style: str = ""
    wraps: bool = False


def to_json(value: Any, *, depth: int = 0) -> Any:
    """`value` with everything that JSON lacks replaced (see above)."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, datetime):
        return iso(value)
    if depth > _DEPTH_MAX:
        return str(value)
    if isinstance(value, dict):
        return {_key(key): to_json(item, depth=depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, depth=depth + 1) for item in value]
    return value.isoformat() if isinstance(value, date) else str(value)


def _key(key: Any) -> str:
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    return key if isinstance(key, str) else json.dumps(to_json(key))


def iso(moment: datetime) -> str:
    """`2026-11-22T10:30:00.123456Z`; a time without a zone is taken for UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    text = moment.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"


def active_work(active: Any) -> list[Any]:
    """Running work with its start as ISO 8601 instead of Unix seconds."""
    return [
        {**work, "started": iso(datetime.fromtimestamp(work["started"], UTC))}
        if isinstance(work.get("started"), (int, float))
        else work
        for work in active or ()
    ]


def print_json(value: Any) -> None:
    """Print one document."""
    indent = 2 if stdout_is_terminal() else None
    click.echo(json.dumps(to_json(value), ensure_ascii=False, indent=indent))


def print_json_line(value: Any) -> None:
    """Print one object of a stream, on one line."""
    click.echo(json.dumps(to_json(value), ensure_ascii=False))


def text_of(value: Any) -> str:
    """A value for people: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(to_json(value), ensure_ascii=False)


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, indent: int = 0
) -> None:
    """Print a table: a header and a line for each row; a cell is one line of text."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not stdout_is_terminal():
        text = plain_table(columns, cells)
        click.echo("\n".join(" " * indent + line for line in text.split("\n")))
        return
    from rich.console import Console
    from rich.padding import Padding

    console = Console(highlight=False)
    table = rich_table(columns, cells, width=console.width - indent)
    console.print(Padding(table, (0, 0, 0, indent), expand=False))


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The table as text: columns aligned, two spaces between them, no trailing spaces."""
    lines = [[column.title for column in columns], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    )


def rich_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None = None
) -> Table:
    """The table as rich draws it, without the columns for which the terminal is too narrow."""
    from rich.table import Table
    from rich.text import Text

    kept = _fitting(columns, rows, width or shutil.get_terminal_size().columns)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for at in kept:
        column = columns[at]
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            style=column.style or None,
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",  # half a URL leads nowhere
            min_width=None if column.wraps else _width(column, [row[at] for row in rows]),
        )
    for row in rows:
        table.add_row(*(Text(row[at], style=status_style(row[at])) for at in kept))
    return table


def status_style(cell: str) -> str:
    """The colour of a cell whose first word says how a node or a link is."""
    return _STYLES.get(cell.partition(" ")[0], "")


_STYLES = {
    "ALIVE": "green",
    "SLOW": "yellow",
    "WARNING": "yellow",
    "DEAD": "red",
    "online": "green",
    "stale": "yellow",
    "offline": "red",
    "up": "green",
    "down": "red",
}


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The indexes of the columns to show, in order."""
    widths = [_width(column, [row[at] for row in rows]) + _GAP for at, column in enumerate(columns)]
    kept = list(range(len(columns)))
    while sum(widths[at] for at in kept) - _GAP > width:
        candidates = [at for at in kept if columns[at].rank > 0]
        if not candidates:
            break
        kept.remove(max(candidates, key=lambda at: (columns[at].rank, at)))
    return kept


def _width(column: Column, cells: Sequence[str]) -> int:
    """The columns of the terminal that it needs."""
    widest = max([len(column.title), *map(len, cells)])
    return min(widest, _WRAPPED_WIDTH) if column.wraps else widest


def milliseconds(value: float | None) -> str:
    """`0.84 ms`, `12.3 ms`, `1,204 ms`; the value is in milliseconds."""
    if value is None:
        return UNKNOWN
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} ms"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 m 12 s`, `2 h 5 m`, `4 d 3 h`: two units at most."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def known(value: Any) -> str:
    """A cell: `-` for what is not known yet."""
    return UNKNOWN if value is None else str(value)
