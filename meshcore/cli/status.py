"""`meshctl status`: is a node connected, to whom, since when, and if not, why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.failure import one_line
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column

_LINKS = (
    Column("LINK TO", style="bold"),
    Column("STATE"),
    Column("LATENCY", right=True, rank=1),
    Column("SINCE", rank=2),
    Column("URL", rank=3),
)
_DIALLING = (
    Column("DIALLING", style="bold"),
    Column("STATE"),
    Column("TRIES", right=True),
    Column("NEXT IN", right=True, rank=1),
    Column("WHY", wraps=True),
)
_LABEL_WIDTH = 10


@click.command(epilog=examples("meshctl status", "meshctl status --via alpha --json"))
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options) -> None:
    """Show how the node is connected, or why it is not; its work, queues and counters."""
    run_async(_show(options))


async def _show(options: Options) -> None:
    async with session(options) as client:
        status = with_times(await client.ask("mesh:status"))
    if options.json:
        render.print_json(status)
        return
    _head(status)
    links, dialling = status.get("links") or [], _unlinked(status)
    if links:
        click.echo()
        render.print_table(_LINKS, [_link(link) for link in links])
    if dialling:
        click.echo()
        render.print_table(_DIALLING, [_dialled(each) for each in dialling])
    _numbers("Queues", status.get("queues"))
    for way, kinds in (status.get("control") or {}).items():
        _numbers(f"Control messages {way}", kinds)
    _numbers("Counters", status.get("counters"))
    transport = status.get("transport") or {}  # its figures for each link are for programs
    _numbers("Transport", {key: transport[key] for key in transport if key != "links"})


def with_times(status: dict[str, Any]) -> dict[str, Any]:
    """The answer to `mesh:status` with instants as people and programs read them: ISO 8601 UTC.

    Nodes tell ages and Unix seconds, which need no agreement on time zones or types.
    """
    now = datetime.now(UTC)
    links = [
        {"since": render.iso(now - timedelta(seconds=link["since_s"])), **link}
        if "since_s" in link
        else link
        for link in status.get("links") or ()
    ]
    work = dict(status.get("work") or {})
    work["active"] = render.active_work(work.get("active"))
    return {**status, "links": links, "work": work}


def _head(status: dict[str, Any]) -> None:
    links, dialling = status.get("links") or [], _unlinked(status)
    _line("Node", f"{status.get('node_id')}, meshcore {status.get('version')}")
    _line("Mesh", f"{status.get('mesh')}; {_connection(len(links), len(dialling))}")
    _line("Process", f"{status.get('pid')}, up {render.duration(status.get('uptime_s'))}")
    _line("Listens", ", ".join(status.get("listen") or ()) or "nowhere: it only dials")
    work = status.get("work") or {}
    _line(
        "Work",
        f"{len(work.get('active') or ())} running (at most {render.known(work.get('max_workers'))}"
        f" at a time), {work.get('queued', 0)} waiting",
    )
    for each in work.get("active") or ():
        _line("", f"{each.get('directive')} for {each.get('sender')} since {each.get('started')}")
    _line(
        "Open",
        f"{status.get('clients', 0)} clients, {status.get('channels', 0)} channels,"
        f" {status.get('streams', 0)} streams",
    )


def _unlinked(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Whom it dials in vain; a URL that has its link is listed with the links."""
    return [each for each in status.get("dialling") or () if each.get("state") != "linked"]


def _connection(links: int, dialling: int) -> str:
    if links:
        return f"connected by {links} link{'' if links == 1 else 's'}"
    if dialling:
        return "not connected: see below whom it dials"
    return "not connected: it dials nobody, and nobody has dialled it yet"


def _link(link: dict[str, Any]) -> list[str]:
    direction = "" if link.get("dialled") else " (dialled us)"
    return [
        render.known(link.get("node_id")),
        render.known(link.get("state")),
        render.milliseconds(link.get("latency_ms")),
        render.known(render.to_json(link.get("since"))),
        f"{link.get('url') or ''}{direction}".strip(),
    ]


def _dialled(each: dict[str, Any]) -> list[str]:
    return [
        f"{each.get('url')}{' (learnt)' if each.get('learnt') else ''}",
        render.known(each.get("state")),
        render.known(each.get("attempts")),
        render.duration(each.get("next_in_s")),
        (each.get("last_error") or "").removeprefix(f"{each.get('url')}: "),
    ]


def _line(label: str, text: str) -> None:
    click.echo(f"{label:<{_LABEL_WIDTH}}{one_line(text)}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _numbers(title: str, values: dict[str, Any] | None) -> None:
    """One name and value a line; nothing where there is nothing to tell."""
    told = {name: value for name, value in sorted(_flat(values or {}).items()) if value}
    if not told:
        return
    click.echo(f"\n{title}")
    width = max(len(name) for name in told)
    for name, value in told.items():
        click.echo(f"  {one_line(name):<{width}}  {render.to_json(value)}")
