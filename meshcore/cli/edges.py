"""`meshctl edges`: the links of the mesh."""

from __future__ import annotations

import click

from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column

_COLUMNS = (
    Column("FROM", style="bold"),
    Column("TO", style="bold"),
    Column("COST", right=True),
    Column("LATENCY", right=True),
)


@click.command(epilog=examples("meshctl edges", "meshctl edges --via alpha --json"))
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options) -> None:
    """List the links between nodes with their cost and latency.

    Each live link is listed once. Messages take the way with the least sum of costs. A link costs
    what was configured for it, else 1 in its first minute and then its latency in milliseconds, in
    steps of half an octave. LATENCY is a round trip as the ends measured it: of links of other
    nodes it is known after a minute.
    """
    run_async(_show(options))


async def _show(options: Options) -> None:
    async with session(options) as client:
        edges = await client.ask("mesh:edges")
    if options.json:
        render.print_json(edges)
    else:
        rows = [
            [
                edge["from"],
                edge["to"],
                f"{edge['cost']:g}",
                render.milliseconds(edge.get("latency_ms")),
            ]
            for edge in edges
        ]
        render.print_table(_COLUMNS, rows)
