"""`meshctl master`: which node is master, and choosing it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Patience, Session, session
from meshcore.cli.failure import one_line
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.errors import DeadlineExceededError

_LOOK_INTERVAL = 0.1  # seconds between two looks while another master is awaited


@click.command(
    epilog=examples(
        "meshctl master",
        "meshctl master --set gamma",
        "meshctl master --clear",
        "meshctl master --json | jq -r .master",
    )
)
@click.option("--set", "node", metavar="NODE", help="Have NODE be master, and nobody else.")
@click.option("--clear", is_flag=True, help="Leave it to age again: release every node.")
@with_options(timeout=10.0, timeout_help="How long to wait for an answer, and for the change.")
def command(options: Options, *, node: str | None, clear: bool) -> None:
    """Show which node is master, or choose it.

    The master is the oldest node unless one is forced to be. Every node computes it for itself from
    what it knows, so while a mesh is split each part has one: it is a view, and no lock. The time
    of the mesh is the master's.

    With --set the node is forced on and all others are released; the command ends when the node
    that it is attached to sees it so.
    """
    if node is not None and clear:
        raise click.UsageError("--set or --clear, not both")
    run_async(_run(options, node, clear=clear))


async def _run(options: Options, node: str | None, *, clear: bool) -> None:
    async with session(options) as client:
        if node is not None or clear:
            await client.ask("mesh:set_master", node)
            found = await _settled(client, node)
        else:
            found = await client.ask("mesh:master")
    if options.json:
        render.print_json(_as_json(found, client.node_id))
    else:
        click.echo(one_line(_in_words(found, client.node_id)))


async def _settled(client: Session, node: str | None) -> dict[str, Any]:
    """What is said once the change has arrived."""
    patience = Patience(client.options.timeout or 10.0)
    forced = [] if node is None else [node]
    while True:
        found: dict[str, Any] = await client.ask("mesh:master")
        arrived = found["forced"] == forced and not found["forced_off"]
        if arrived and found["settled"] and node in (None, found["master"]):
            return found
        if not patience.left:
            raise DeadlineExceededError(
                f"{client.node_id} sees {found['master'] or 'nobody'} as master, and"
                f" {', '.join(found['forced']) or 'nobody'} forced to be",
                may_have_run=True,
            )
        await asyncio.sleep(min(_LOOK_INTERVAL, patience.left))


def _as_json(found: dict[str, Any], seen_from: str) -> dict[str, Any]:
    error = found["now_error"]
    return {
        "master": found["master"],
        "forced": found["forced"],
        "forced_off": found["forced_off"],
        "seen_from": seen_from,
        "now": render.iso(datetime.fromtimestamp(found["now"], UTC)),
        "now_error_ms": None if error is None else round(error * 1000, 3),
    }


def _in_words(found: dict[str, Any], seen_from: str) -> str:
    """`alpha is master, by age; the time there is 10:30:00.123 ± 2.00 ms, seen from beta`."""
    forced, master = found["forced"], found["master"]
    if master is None:
        return f"no node is master, seen from {seen_from}"
    how = "by age" if master not in forced else "forced"
    if len(forced) > 1:
        how = f"the oldest of {len(forced)} that are forced: {', '.join(forced)}"
    now = datetime.fromtimestamp(found["now"], UTC)
    error = found["now_error"]
    exact = "not measured yet" if error is None else f"± {render.milliseconds(error * 1000)}"
    return f"{master} is master, {how}; the time there is {now:%H:%M:%S.%f} UTC {exact}, " + (
        f"seen from {seen_from}"
    )
