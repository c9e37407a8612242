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
    from meshcore import Message, Selector

_NEGATIVE = re.compile(r"-(\d|\.\d)")
_MARK = "\N{WORD JOINER}"  # before a negative number, which click would take for an option
_ANY = "least-loaded"  # whom --any means when it does not say


class _Command(click.Command):
    """Lets a negative number be the payload: `meshctl send gamma demo:echo -5`.

    And `--any` stand alone: click would take the next word for its value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = args.index("--") if "--" in args else len(args)
        args = [
            f"--any={_ANY}" if arg == "--any" and at < ours else arg for at, arg in enumerate(args)
        ]
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
        "meshctl send --any demo:burn 5",
        "meshctl send --any=nearest demo:echo hello",
    ),
)
@click.argument("node", required=False, metavar="NODE")
@click.argument("directive", required=False, metavar="DIRECTIVE")
@click.argument("payload", required=False, metavar="[PAYLOAD | -]")
@click.option(
    "--any",
    "policy",
    metavar="[=SELECTOR]",
    help="Leave NODE out: one that offers DIRECTIVE is picked by SELECTOR, which is master, first,"
    f" same-host, least-loaded, nearest or round-robin.  [default: {_ANY}]",
)
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
    node: str | None,
    directive: str | None,
    payload: str | None,
    policy: str | None,
    path: Path | None,
    as_text: bool,
) -> None:
    """Have NODE do DIRECTIVE with PAYLOAD, and print what it answers as it comes.

    With --any there is no NODE: the one that this command is attached to picks any of those that
    offer DIRECTIVE, itself included.

    PAYLOAD is JSON if it parses, else text; - takes it from standard input. Text is printed as it
    is, bytes go raw into a pipe or file, other values are printed as JSON. With --json there is
    one object a line: {"serial", "payload", "code", "eof", "error"}, with --any also "node_id".
    """
    recipient: str | Selector | None = node
    if policy is not None:
        from meshcore import selector

        if payload is not None:
            raise click.UsageError("NODE or --any, not both")
        recipient, directive, payload = selector(policy), node, directive
    missing = "NODE" if recipient is None else "DIRECTIVE"
    if recipient is None or directive is None:
        raise click.UsageError(f"Missing argument '{missing}'.")
    if not is_directive(directive):
        hint = "; a selector is written --any=SELECTOR" if policy is not None else ""
        raise click.UsageError(f"'{directive}' is no directive; write namespace:action{hint}")
    if path is not None and payload is not None:
        raise click.UsageError("PAYLOAD or --file, not both")
    run_async(_send(options, recipient, directive, _payload(payload, path, as_text)))


def _payload(text: str | None, path: Path | None, as_text: bool) -> Any:
    if path is not None:
        return path
    if text is None:
        return None
    if text == "-":
        return payloads.from_stdin(sys.stdin.buffer, as_text=as_text)
    return payloads.parse(text.removeprefix(_MARK), as_text=as_text)


async def _send(options: Options, recipient: str | Selector, directive: str, payload: Any) -> None:
    async with (
        session(options) as client,
        client.controller.stream(
            recipient, directive, payload, timeout=options.timeout
        ) as responses,
    ):
        async for message in responses:
            if options.json:
                line = await as_json(message)
                if not isinstance(recipient, str):
                    line["node_id"] = message.header.sender
                render.print_json_line(line)
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
