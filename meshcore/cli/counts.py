"""`meshctl counts`: how much is offered, by organization, node and tag."""

from __future__ import annotations

from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column

SHOWN_MAX = 20  # of each kind, to people; programs get all
_KINDS = (("organization", "ORGANIZATION"), ("node", "NODE"), ("tags", "TAG"))


@click.command(epilog=examples("meshctl counts", "meshctl counts --json | jq .tags"))
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options) -> None:
    """Count what is offered, by organization, node and tag.

    The nearest registry of the mesh answers; where there is none, the node that this command is
    attached to, for itself.
    """
    run_async(_show(options))


async def _show(options: Options) -> None:
    async with session(options) as client:
        counts = await client.ask("mesh:counts")
    if options.json:
        render.print_json(counts)
        return
    total = counts["total"]
    registry = counts.get("registry")
    whose = f"from {registry}" if registry else f"of {client.node_id}: there is no registry"
    click.echo(f"{total:,} offered, {whose}")
    for key, title in _KINDS:
        rows = _rows(counts.get(key) or {})
        if rows:
            click.echo()
            columns = (Column(title, style="bold"), Column("OFFERED", right=True))
            render.print_table(columns, rows)


def _rows(counts: dict[str, Any]) -> list[tuple[str, str]]:
    """The most frequent first; what has no name last of all."""
    ordered = sorted(counts.items(), key=lambda item: (not item[0], -item[1], item[0]))
    rows = [(name or render.UNKNOWN, f"{count:,}") for name, count in ordered[:SHOWN_MAX]]
    if len(ordered) > SHOWN_MAX:
        left = ordered[SHOWN_MAX:]
        rows.append((f"{len(left):,} more", f"{sum(count for _, count in left):,}"))
    return rows
