"""`meshctl actions`: what can be called, and where."""

from __future__ import annotations

import click

from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column

_COLUMNS = (
    Column("DIRECTIVE", style="bold"),
    Column("DESCRIPTION", wraps=True),
    Column("TAGS", rank=2),
    Column("NODES", rank=1),
)


@click.command(epilog=examples("meshctl actions", "meshctl actions gamma --json"))
@click.argument("node", required=False)
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options, *, node: str | None) -> None:
    """List what can be called, and where; with NODE only what that node offers."""
    run_async(_show(options, node))


async def _show(options: Options, node: str | None) -> None:
    async with session(options) as client:
        actions = await client.ask("mesh:actions", node)
    if options.json:
        render.print_json(actions)
        return
    if not actions:
        click.echo(f"{node or 'no node'} offers {'no' if node else 'any'} actions", err=True)
    render.print_table(
        _COLUMNS,
        [
            [
                action["directive"],
                action.get("description") or "",
                ", ".join(action.get("tags") or ()),
                ", ".join(action.get("nodes") or ()),
            ]
            for action in actions
        ],
    )
