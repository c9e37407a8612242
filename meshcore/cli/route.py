"""`meshctl route`: the way to a node."""

from __future__ import annotations

import click

from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.failure import one_line
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.errors import UnreachableError


@click.command(epilog=examples("meshctl route gamma", "meshctl route gamma --via alpha --json"))
@click.argument("node")
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options, *, node: str) -> None:
    """Show the way that messages take to NODE, what it costs and what its links measured."""
    run_async(_show(options, node))


async def _show(options: Options, node: str) -> None:
    async with session(options) as client:
        found = await client.ask("mesh:route", node)
    if not found["path"]:
        raise UnreachableError(
            f"{node} is known to {client.node_id}, but no way leads there now", node_id=node
        )
    if options.json:
        render.print_json(found)
    else:
        latency = found.get("latency_ms")
        measured = "" if latency is None else f", {render.milliseconds(latency)} there and back"
        click.echo(one_line(" → ".join(found["path"])) + f"  (cost {found['cost']:g}{measured})")
