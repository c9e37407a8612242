"""`meshctl services`: which groups there are, who is in them, who leads."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Session, session
from meshcore.cli.failure import one_line, reader_has_gone
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column

_REFRESH = 0.5  # seconds between two looks of --watch
_VOLATILE = ("beats", "commit", "applied", "checkpoint")  # change all the time

COLUMNS = (
    Column("GROUP", style="bold"),
    Column("NODE"),
    Column("ROLE"),
    Column("STATE"),
    Column("TERM", right=True),
    Column("CHECKPOINT", right=True, rank=2),
    Column("BEATS", right=True, rank=3),
    Column("REPLICATION", rank=1),
)


@click.command(
    epilog=examples(
        "meshctl services",
        "meshctl services bank --watch",
        "meshctl services --json | jq -r '.[] | select(.primary == null) | .group'",
    )
)
@click.argument("group", required=False, metavar="[GROUP]")
@click.option("--watch", is_flag=True, help="Tell every change until interrupted.")
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def command(options: Options, *, group: str | None, watch: bool) -> None:
    """List the groups of services with their members.

    ROLE is member where a group is not replicated; else primary, replica, or candidate; learner
    and spare are not members yet. STATE is ready, or how far a replica is on its way: forming,
    joining, checkpoint, replay; stopped says that it has failed (meshctl services --json tells
    why), and silent that the service does not answer. CHECKPOINT and BEATS are counts.

    With --watch there is a line for each group that changes, with --json an object.
    """
    run_async(_watch(options, group) if watch else _show(options, group))


async def _show(options: Options, group: str | None) -> None:
    async with session(options) as client:
        groups = await client.ask("mesh:services", group)
    if options.json:
        render.print_json(groups)
    elif groups:
        render.print_table(COLUMNS, [row for found in groups for row in cells(found)])
    else:
        click.echo(f"nobody serves {group}" if group else "nobody serves anything")


def cells(group: dict[str, Any]) -> list[list[str]]:
    """The rows of one group, as the cells of a table."""
    return [
        [
            str(group.get("group")),
            str(member.get("node")),
            f"{member.get('role')}{' *' if member.get('node') == group.get('primary') else ''}",
            "silent" if not member.get("answering") else str(member.get("state")),
            render.known(member.get("term")),
            render.known(member.get("checkpoint")),
            render.known(member.get("beats")),
            _replication(group),
        ]
        for member in group.get("members") or ()
    ]


def _replication(group: dict[str, Any]) -> str:
    kind = group.get("replication")
    return "none" if kind == "none" else f"{kind}, {group.get('replicas')} replicas"


async def _watch(options: Options, group: str | None) -> None:
    async with session(options) as client:
        shown: dict[str, str] = {}
        while True:
            shown = _tell(client, await client.ask("mesh:services", group), shown)
            await asyncio.sleep(_REFRESH)
            if reader_has_gone():
                raise BrokenPipeError


def _tell(client: Session, groups: list[dict[str, Any]], shown: dict[str, str]) -> dict[str, str]:
    """Tell what is not as shown; what is shown now."""
    fresh: dict[str, str] = {}
    for group in groups:
        name = str(group["group"])
        line = members_line(group)
        steady = [
            {key: value for key, value in member.items() if key not in _VOLATILE}
            for member in group["members"]
        ]
        fresh[name] = f"{line} {steady}" if client.options.json else line
        if shown.get(name) != fresh[name]:
            _print(client, group, line)
    for name in shown:
        if name not in fresh:
            gone: dict[str, Any] = {"group": name, "members": [], "primary": None}
            _print(client, gone, f"{name}: 0 members")
    return fresh


def _print(client: Session, group: dict[str, Any], line: str) -> None:
    if client.options.json:
        render.print_json_line({"time": datetime.now(UTC), **group})
    else:
        click.echo(f"{time.strftime('%H:%M:%S')}  {one_line(line)}")


def members_line(group: dict[str, Any]) -> str:
    """`bank: 2 members: S1 S2; S1 leads, term 3`: who can be called, and who cannot."""
    members = group["members"]
    able = [m["node"] for m in members if m["answering"] and m["state"] == "ready"]
    text = f"{group['group']}: {len(able)} member{'' if len(able) == 1 else 's'}"
    if able:
        text += ": " + " ".join(able)
    others = [f"{m['node']} {m['state'] if m['answering'] else 'silent'}"
              for m in members if m["node"] not in able]  # fmt: skip
    if others:
        text += f" ({', '.join(others)})"
    if group["replication"] != "none":
        term = max((m["term"] or 0 for m in members), default=0)
        leads = group["primary"]
        text += f"; {leads} leads, term {term}" if leads else "; nobody leads"
    return text
