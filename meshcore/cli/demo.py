"""`meshctl demo`: a mesh of three nodes on this machine, to look at.

Three real processes, `alpha ─ beta ─ gamma`, in a temporary directory that also holds their
sockets, so that they meet nobody else's nodes. Every step prints what it did. Whatever happens, the
processes and the directory are gone afterwards; a second Ctrl-C kills them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Session, Target, session_at
from meshcore.cli.failure import describe, stdout_is_terminal
from meshcore.cli.fleet import Fleet, Member
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples
from meshcore.errors import ActionError, MeshError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHAIN = ("alpha", "beta", "gamma")
_FAR = _CHAIN[-1]
_PINGS = 3
_SPACING = 20  # columns from one node of the picture to the next
_TIMEOUT = 10.0  # seconds for each step


@click.command(epilog=examples("meshctl demo"))
def command() -> None:
    """Show a mesh of three nodes on this machine.

    It starts them in a chain, pings over two hops, has the far end stream work, lets an error
    arrive, lists the nodes, and cleans up.
    """
    started = time.monotonic()
    fleet = Fleet()
    run_async(_demo(fleet), at_once=fleet.kill)
    seconds = time.monotonic() - started
    click.echo()
    _done(f"all three have left, nothing is left behind ({seconds:.1f} s in all)")
    _next_steps()


async def _demo(fleet: Fleet) -> None:
    _title("Three nodes on this machine, each a process of its own")
    async with fleet:
        members: list[Member] = []
        for node_id in _CHAIN:
            peer = members[-1].url if members else None
            with _step(f"starting {node_id}"):
                members.append(await fleet.start(node_id, peer))
            joined = f"joins {_CHAIN[len(members) - 2]}, " if peer else ""
            _done(f"{node_id:<5} {joined}listens on {members[-1].url}")
        _picture(members)
        async with _attached(members[0]) as client:
            with _step("waiting for the news to go round"):
                for node_id in _CHAIN[1:]:
                    await client.controller.wait_for(node_id, timeout=_TIMEOUT)
            await _show_pings(client)
            await _show_stream(client)
            await _show_error(client)
            await _show_nodes(client)


@asynccontextmanager
async def _attached(member: Member) -> AsyncIterator[Session]:
    with _step("attaching to alpha"):
        context = session_at(
            Target(member.url, member.node_id), Options(timeout=_TIMEOUT), timeout=_TIMEOUT
        )
        client = await context.__aenter__()
    try:
        yield client
    finally:
        await context.__aexit__(None, None, None)


async def _show_pings(client: Session) -> None:
    from meshcore.cli.ping import trace_line, way_from

    _title("Ping over two hops, with the way", f"meshctl ping {_FAR} --trace --via {_CHAIN[0]}")
    for _ in range(_PINGS):
        pong = await client.controller.ping(_FAR, timeout=_TIMEOUT, trace=True)
        back = render.milliseconds(pong.round_trip * 1000)
        way = trace_line(client.node_id, way_from(client.node_id, pong.hops))
        click.echo(f"  {way}, {back} there and back")


async def _show_stream(client: Session) -> None:
    _title(
        f"Work on {_FAR} whose answers stream back over {_CHAIN[1]}",
        f"meshctl send {_FAR} demo:count 5 --via {_CHAIN[0]}",
    )
    started = time.monotonic()
    async with client.controller.stream(_FAR, "demo:count", 5, timeout=_TIMEOUT) as responses:
        async for value in responses.values():
            age = render.milliseconds((time.monotonic() - started) * 1000)
            click.echo(f"  {value}" + _dim(f"    after {age}"))


async def _show_error(client: Session) -> None:
    _title(
        "An error there is an error here, with its type and text",
        f"meshctl send {_FAR} demo:fail boom --via {_CHAIN[0]}",
    )
    try:
        await client.controller.call(_FAR, "demo:fail", "boom", timeout=_TIMEOUT)
    except ActionError as error:
        click.echo("  " + _red(describe(error)))
    else:
        raise MeshError("demo:fail did not fail")


async def _show_nodes(client: Session) -> None:
    from meshcore.cli.nodes import COLUMNS, cells

    _title("The mesh as alpha sees it", f"meshctl nodes --via {_CHAIN[0]}")
    render.print_table(COLUMNS, cells(await client.ask("mesh:nodes")), indent=2)


def _picture(members: list[Member]) -> None:
    """The chain, as it was just built."""
    last = len(members) - 1
    links = [
        _bold(each.node_id) + " " + "─" * (_SPACING - len(each.node_id) - 2) + " "
        for each in members[:last]
    ]
    pids = [f"pid {each.pid}".ljust(_SPACING) for each in members]
    click.echo("\n      " + "".join(links) + _bold(members[last].node_id))
    click.echo("      " + _dim("".join(pids).rstrip()))


def _next_steps() -> None:
    meshctl = "meshctl" if shutil.which("meshctl") else "./bin/meshctl"
    _title("Next: a mesh of your own, in three terminals")
    click.echo(f"  {meshctl} run --id alpha --plugin demo")
    click.echo(f"  {meshctl} run --id beta --plugin demo --peer 127.0.0.1")
    click.echo(f"  {meshctl} send beta demo:count 5 --via alpha")


def _title(text: str, command_line: str = "") -> None:
    click.echo(f"\n{_bold(text)}")
    if command_line:
        click.echo("  " + _dim(f"$ {command_line}"))


def _done(text: str) -> None:
    click.echo(f"  {_green('✓')} {text}")


@contextmanager
def _step(text: str) -> Iterator[None]:
    """On a terminal, say what is waited for while it is."""
    if not stdout_is_terminal():
        yield
        return
    click.echo("  " + _dim(f"· {text} …"), nl=False)
    try:
        yield
    finally:
        click.echo("\r\x1b[2K", nl=False)


def _styled(text: str, **style: Any) -> str:
    return click.style(text, **style) if stdout_is_terminal() else text


def _bold(text: str) -> str:
    return _styled(text, bold=True)


def _dim(text: str) -> str:
    return _styled(text, dim=True)


def _green(text: str) -> str:
    return _styled(text, fg="green")


def _red(text: str) -> str:
    return _styled(text, fg="red")
