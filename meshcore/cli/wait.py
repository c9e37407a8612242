"""`meshctl wait`: for scripts that start nodes and go on when they are there."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Patience, session
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.errors import DeadlineExceededError, UnreachableError

_TIMEOUT = 30.0  # seconds
_RETRY = 0.1  # seconds between two tries to find the node to attach to


class MissingError(DeadlineExceededError):
    """Some nodes did not come in time."""

    def __init__(self, missing: list[str], timeout: float, reason: str) -> None:
        text = f"{', '.join(missing)}: not there after {timeout:g} s"
        super().__init__(f"{text}; {reason}" if reason else text)
        self.details: dict[str, Any] = {"name": "DeadlineExceededError", "missing": missing}


@click.command(
    epilog=examples(
        "meshctl run --id alpha & meshctl wait alpha",
        "meshctl wait beta gamma --timeout 10 && meshctl send gamma demo:count 5",
    )
)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@with_options(timeout=_TIMEOUT, timeout_help="How long to wait.")
def command(options: Options, *, nodes: tuple[str, ...]) -> None:
    """Wait until every NODE can be reached.

    Exits with 0 then, or with 4 when the time is over, naming those that are missing. The node to
    attach to may itself still be starting.
    """
    wanted = list(dict.fromkeys(nodes))
    run_async(_wait(options, wanted))
    if options.json:
        render.print_json({"nodes": wanted, "missing": []})


async def _wait(options: Options, wanted: list[str]) -> None:
    timeout = options.timeout or _TIMEOUT
    patience = Patience(timeout)
    missing, reason = wanted, ""
    while True:
        try:
            async with session(options, timeout=max(patience.left, _RETRY)) as client:
                found = await asyncio.gather(
                    *(_arrives(client.controller, node, patience) for node in wanted)
                )
            missing, reason = [n for n, here in zip(wanted, found, strict=True) if not here], ""
        except UnreachableError as error:
            reason = str(error)
        if not missing:
            return
        if patience.left <= _RETRY:
            raise MissingError(missing, timeout, reason)
        await asyncio.sleep(_RETRY)


async def _arrives(controller: Any, node: str, patience: Patience) -> bool:
    try:
        await controller.wait_for(node, timeout=patience.left)
    except TimeoutError:
        return False
    return True
