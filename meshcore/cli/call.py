"""`meshctl call`: call a method of a group of services."""

from __future__ import annotations

import re
from typing import Any

import click

from meshcore.cli import payload as payloads
from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.failure import FAILED, Reported, one_line
from meshcore.cli.failure import as_json as error_as_json
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)\Z", re.DOTALL)
_NEGATIVE = re.compile(r"-(\d|\.\d)")
_MARK = "\N{WORD JOINER}"  # before a negative number, which click would take for an option


class _Command(click.Command):
    """Lets negative numbers be arguments: `meshctl call bank add -5`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(
            ctx, [_MARK + arg if _NEGATIVE.match(arg) else arg for arg in args]
        )


@click.command(
    cls=_Command,
    epilog=examples(
        "meshctl call bank add 5",
        "meshctl call lights set room=kitchen on=true",
        "meshctl call fleet heartbeat --policy all",
        "meshctl call fleet status --policy quorum --json",
    ),
)
@click.argument("group", metavar="GROUP")
@click.argument("method", metavar="METHOD")
@click.argument("arguments", nargs=-1, metavar="[ARG | NAME=VALUE]...")
@click.option(
    "--policy",
    type=click.Choice(("first", "all", "quorum")),
    help="What to make of several answers.  [default: first where replicated, else all]",
)
@with_options(timeout=10.0, timeout_help="Give up after this time.")
def command(
    options: Options,
    *,
    group: str,
    method: str,
    arguments: tuple[str, ...],
    policy: Any,
) -> None:
    """Call METHOD of the services of GROUP, and print what they answer.

    Each ARG is JSON if it parses, else text; NAME=VALUE is an argument by name. One value is
    printed as `meshctl send` does; of several members there is a line each, and the exit code is 1
    if one of them failed. With --json: {"value"}, or {"ok", "failed"} by node.
    """
    args, kwargs = parse_arguments(arguments)
    run_async(_call(options, group, method, args, kwargs, policy))


def parse_arguments(words: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by place and by name."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        word = word.removeprefix(_MARK)
        named = _NAMED.match(word)
        if named is None:
            args.append(payloads.parse(word, as_text=False))
        else:
            kwargs[named[1]] = payloads.parse(named[2], as_text=False)
    return args, kwargs


async def _call(
    options: Options, name: str, method: str, args: list[Any], kwargs: dict[str, Any], policy: Any
) -> None:
    from meshcore import GroupResult

    async with session(options) as client:
        group = client.controller.group(name, policy=policy, timeout=options.timeout)
        value = await group.call(method, *args, **kwargs)
    if isinstance(value, GroupResult):
        show_result(value, as_json=options.json)
        if value.failed:
            raise Reported(FAILED)
    elif options.json:
        render.print_json({"value": value})
    else:
        click.echo(render.text_of(value))


def show_result(result: Any, *, as_json: bool) -> None:
    """What each member answered."""
    if as_json:
        failed = {node: error_as_json(error) for node, error in result.failed.items()}
        render.print_json({"ok": result.ok, "failed": failed})
        return
    width = max(map(len, [*result.ok, *result.failed]), default=0)
    for node, value in sorted(result.ok.items()):
        click.echo(f"{node:<{width}}  {render.text_of(value)}")
    for node, error in sorted(result.failed.items()):
        click.echo(f"{node:<{width}}  failed: {one_line(str(error))}")
