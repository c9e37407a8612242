"""`meshctl nodes`: who is in the mesh, how alive, how far."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Session, session
from meshcore.cli.failure import one_line, reader_has_gone, stdout_is_terminal
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column
from meshcore.errors import DeadlineExceededError, UnreachableError

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFRESH = 1.0  # seconds between two looks of --watch
_VOLATILE = ("latency_ms", "uptime_s")  # change at every look: no news by themselves

COLUMNS = (
    Column("NODE", style="bold"),
    Column("STATUS"),
    Column("HOPS", right=True),
    Column("LATENCY", right=True, rank=1),
    Column("UP", right=True, rank=3),
    Column("HOST", rank=4),
    Column("WORK", right=True, rank=2),
)


@click.command(
    epilog=examples(
        "meshctl nodes",
        "meshctl nodes --watch",
        "meshctl nodes --json | jq -r '.[] | select(.status == \"ALIVE\") | .node_id'",
    )
)
@click.option("--watch", is_flag=True, help="Show every change until interrupted.")
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options, *, watch: bool) -> None:
    """List the nodes of the mesh.

    HOPS and LATENCY are those of the way from the node that this command is attached to, which is
    the one with 0 hops; * marks the master. STATUS says why a node is not ALIVE, where that is
    known: stalled (its loop is stuck), gone (its process ended), silent, unreachable. With --watch
    --json there is one object a line, {"time", "nodes"}, whenever something but latency and uptime
    changes.
    """
    run_async(_watch(options) if watch else _show(options))


async def _show(options: Options) -> None:
    async with session(options) as client:
        rows = await client.ask("mesh:nodes")
    if options.json:
        render.print_json(rows)
    else:
        render.print_table(COLUMNS, cells(rows))


async def _watch(options: Options) -> None:
    async with session(options) as client:
        if stdout_is_terminal() and not options.json:
            await _watch_live(client)
        else:
            await _watch_lines(client)


async def _watch_lines(client: Session) -> None:
    shown = None
    while True:
        rows = await client.ask("mesh:nodes")
        steady = [{key: row[key] for key in row if key not in _VOLATILE} for row in rows]
        if steady != shown:
            if client.options.json:
                render.print_json_line({"time": datetime.now(UTC), "nodes": rows})
            else:
                click.echo(("" if shown is None else "\n") + _plain(rows))
            shown = steady
        await asyncio.sleep(_REFRESH)
        if reader_has_gone():  # a quiet mesh would keep us from noticing by a failed write
            raise BrokenPipeError


async def _watch_live(client: Session) -> None:
    """Redraw in place; a node that does not answer is shown as such, and asked again."""
    from rich.live import Live

    rows: list[dict[str, Any]] = await client.ask("mesh:nodes")
    trouble = ""
    with Live(auto_refresh=False) as live:
        while True:
            live.update(_picture(rows, client.node_id, trouble), refresh=True)
            await asyncio.sleep(_REFRESH)
            try:
                rows = await client.ask("mesh:nodes")
                trouble = ""
            except (UnreachableError, DeadlineExceededError) as error:
                trouble = one_line(str(error))


def _picture(rows: Sequence[dict[str, Any]], node_id: str, trouble: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    alive = sum(row.get("status") == "ALIVE" for row in rows)
    note = Text(f"\n{alive} of {len(rows)} alive, seen from {node_id}; Ctrl-C ends", style="dim")
    if trouble:
        note = Text(f"\n{trouble}", style="red")
    return Group(render.rich_table(COLUMNS, _clean(cells(rows))), note)


def _plain(rows: Sequence[dict[str, Any]]) -> str:
    return render.plain_table(COLUMNS, _clean(cells(rows)))


def _clean(table: list[list[str]]) -> list[list[str]]:
    return [[one_line(cell) for cell in row] for row in table]


def cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The rows of the answer to `mesh:nodes` as the cells of a table."""
    return [
        [
            f"{row.get('node_id')}{' *' if row.get('is_master') else ''}",
            _status(row),
            render.known(row.get("hops")),
            render.milliseconds(row.get("latency_ms")),
            render.duration(row.get("uptime_s")),
            _host(row.get("host")),
            render.known(row.get("active_work")),
        ]
        for row in rows
    ]


def _status(row: dict[str, Any]) -> str:
    """`ALIVE`, `WARNING stalled`, `DEAD gone`: how it is, and what is known of why."""
    why = "stalled" if row.get("stalled") else row.get("reason")
    return f"{render.known(row.get('status'))} {why or ''}".rstrip()


def _host(host: Any) -> str:
    if isinstance(host, dict):
        host = host.get("name")
    return render.known(host)
