"""`meshctl edges`: the links of the mesh."""

from __future__ import annotations

import click

from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column

_COLUMNS = (Column("FROM", style="bold"), Column("TO", style="bold"), Column("COST", right=True))


@click.command(epilog=examples("meshctl edges", "meshctl edges --via alpha --json"))
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options) -> None:
    """List the links between nodes with their cost.

    Each live link is listed once. Messages take the way with the least sum of costs.
    """
    run_async(_show(options))


async def _show(options: Options) -> None:
    async with session(options) as client:
        edges = await client.ask("mesh:edges")
    if options.json:
        render.print_json(edges)
    else:
        rows = [[edge["from"], edge["to"], f"{edge['cost']:g}"] for edge in edges]
        render.print_table(_COLUMNS, rows)
