"""`meshctl send`: have a node do something, and print what it answers as it comes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshcore.cli import payload as payloads
from meshcore.cli import render
from meshcore.cli.attach import session
from meshcore.cli.failure import Reported, exit_code
from meshcore.cli.failure import as_json as error_as_json
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.identity import is_directive

if TYPE_CHECKING:
    from meshcore import Message

_NEGATIVE = re.compile(r"-(\d|\.\d)")
_MARK = "\N{WORD JOINER}"  # before a negative number, which click would take for an option


class _Command(click.Command):
    """Lets a negative number be the payload: `meshctl send gamma demo:echo -5`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(
            ctx, [_MARK + arg if _NEGATIVE.match(arg) else arg for arg in args]
        )


@click.command(
    cls=_Command,
    epilog=examples(
        "meshctl send gamma demo:count 5",
        "meshctl send gamma tools:resize '{\"width\": 640}'",
        "meshctl send gamma demo:echo --file photo.jpg > copy.jpg",
        "echo hello | meshctl send gamma demo:echo - --json",
    ),
)
@click.argument("node")
@click.argument("directive")
@click.argument("payload", required=False, metavar="[PAYLOAD | -]")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="Send the bytes of a file.",
)
@click.option("--text", "as_text", is_flag=True, help="PAYLOAD is text, whatever it looks like.")
@with_options(timeout=None, timeout_help="Give up after this time.  [default: never]")
def command(
    options: Options,
    *,
    node: str,
    directive: str,
    payload: str | None,
    path: Path | None,
    as_text: bool,
) -> None:
    """Have NODE do DIRECTIVE with PAYLOAD, and print what it answers as it comes.

    PAYLOAD is JSON if it parses, else text; - takes it from standard input. Text is printed as it
    is, bytes go raw into a pipe or file, other values are printed as JSON. With --json there is
    one object a line: {"serial", "payload", "code", "eof", "error"}.
    """
    if not is_directive(directive):
        raise click.UsageError(f"'{directive}' is no directive; write namespace:action")
    if path is not None and payload is not None:
        raise click.UsageError("PAYLOAD or --file, not both")
    run_async(_send(options, node, directive, _payload(payload, path, as_text)))


def _payload(text: str | None, path: Path | None, as_text: bool) -> Any:
    if path is not None:
        return path
    if text is None:
        return None
    if text == "-":
        return payloads.from_stdin(sys.stdin.buffer, as_text=as_text)
    return payloads.parse(text.removeprefix(_MARK), as_text=as_text)


async def _send(options: Options, node: str, directive: str, payload: Any) -> None:
    async with (
        session(options) as client,
        client.controller.stream(node, directive, payload, timeout=options.timeout) as responses,
    ):
        async for message in responses:
            if options.json:
                render.print_json_line(await as_json(message))
            else:
                await payloads.show(message.payload)
            if message.error is not None:
                # Its line has said it all; without --json it is reported as any other failure.
                raise Reported(exit_code(message.error)) if options.json else message.error


async def as_json(message: Message) -> dict[str, Any]:
    """One response as an object of the output of `send --json`."""
    return {
        "serial": message.header.serial,
        "payload": await payloads.value_of(message.payload) if message.payload else None,
        "code": message.header.code,
        "eof": message.header.eof,
        "error": None if message.error is None else error_as_json(message.error),
    }
