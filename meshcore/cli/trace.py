"""`meshctl trace`: the way to a node, hop by hop, like traceroute(8)."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Session, session
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column
from meshcore.errors import DeadlineExceededError, MeshError, UnreachableError

_COLUMNS = (
    Column("HOP", right=True),
    Column("NODE", style="bold"),
    Column("LINK COST", right=True, rank=2),
    Column("LINK", right=True, rank=1),
    Column("MIN", right=True),
    Column("AVG", right=True, rank=3),
    Column("LOST", right=True, rank=4),
)


@click.command(
    epilog=examples(
        "meshctl trace gamma",
        "meshctl trace gamma --count 10",
        "meshctl trace gamma --via alpha --json",
    )
)
@click.argument("node")
@click.option(
    "--count",
    type=click.IntRange(min=1, max=1000),
    default=3,
    metavar="N",
    help="How many pings to each node on the way.  [default: 3]",
)
@with_options(timeout=5.0, timeout_help="How long to wait for each answer.")
def command(options: Options, *, node: str, count: int) -> None:
    """Show the way that messages take to NODE, with the time to each node on it.

    MIN and AVG are round trips from the node that this command is attached to; LINK is that of the
    last link alone, as its ends measure it (known after a minute for links of other nodes). Exits
    with 3 if there is no such node or no way, 4 if NODE does not answer.
    """
    run_async(_show(options, node, count))


async def _show(options: Options, node: str, count: int) -> None:
    async with session(options) as client:
        found = await client.ask("mesh:route", node)
        if not found["path"]:
            raise UnreachableError(
                f"{node} is known to {client.node_id}, but no way leads there now", node_id=node
            )
        links = [None, *found["links"]]
        hops = []
        for number, (node_id, link) in enumerate(zip(found["path"], links, strict=True)):
            times = await _times(client, node_id, count)
            hops.append(_hop(number, node_id, link, times, count))
    if options.json:
        render.print_json({"node_id": node, "hops": hops})
    else:
        render.print_table(_COLUMNS, [_cells(hop) for hop in hops])
    if hops[-1]["received"] == 0:
        raise DeadlineExceededError(
            f"{node}: none of {count} pings was answered; the way is that of the topology",
            node_id=node,
        )


async def _times(client: Session, node_id: str, count: int) -> list[float]:
    """Milliseconds of the pings that were answered; the first opens the channel, uncounted."""
    timeout = client.options.timeout or 5.0
    times = []
    for number in range(count + 1):
        try:
            pong = await client.controller.ping(node_id, timeout=timeout)
        except asyncio.CancelledError:
            raise
        except (MeshError, TimeoutError):
            continue  # lost: it counts as such
        if number:
            times.append(pong.round_trip * 1000)
    return times


def _hop(
    number: int, node_id: str, link: dict[str, Any] | None, times: list[float], sent: int
) -> dict[str, Any]:
    return {
        "hop": number,
        "node_id": node_id,
        "cost": None if link is None else link["cost"],
        "link_latency_ms": None if link is None else link["latency_ms"],
        "sent": sent,
        "received": len(times),
        "round_trips_ms": [round(each, 3) for each in times],
    }


def _cells(hop: dict[str, Any]) -> list[str]:
    times, cost = hop["round_trips_ms"], hop["cost"]
    return [
        str(hop["hop"]),
        hop["node_id"],
        render.UNKNOWN if cost is None else f"{cost:g}",
        render.milliseconds(hop["link_latency_ms"]),
        render.milliseconds(min(times) if times else None),
        render.milliseconds(sum(times) / len(times) if times else None),
        str(hop["sent"] - hop["received"]),
    ]
