"""`meshctl`: the group of all commands, and the one place where errors become exit codes.

The group is lazy: it knows the name, the module and the one-line help of each command from a
table, so that `meshctl --help` and a wrong name load no command at all, let alone ZeroMQ.

`main` never lets a traceback out: what a command raises becomes one line on stderr (or, with
--json, `{"error": …}` as the last line on stdout) and an exit code; see `failure.py`. A closed
pipe (`| head`) ends quietly with 0: the reader has had what it wanted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, NoReturn, TextIO

import click

from meshcore.cli import failure

# name -> (module, one-line help); the command is the attribute `command` of its module.
COMMANDS = {
    "demo": ("demo", "Show a mesh of three nodes on this machine."),
    "run": ("run", "Run a node until it is interrupted."),
    "nodes": ("nodes", "List the nodes of the mesh."),
    "ping": ("ping", "Measure the way to a node and back."),
    "send": ("send", "Have a node do something and print what it answers."),
    "actions": ("actions", "List what can be called, and where."),
    "services": ("services", "List the groups of services, their members and roles."),
    "call": ("call", "Call a method of a group of services."),
    "console": ("console", "Call services and nodes interactively."),
    "flows": ("flows", "List what can be done where, or offer something."),
    "counts": ("counts", "Count what is offered, by organization, node and tag."),
    "trace": ("trace", "Show the way to a node, hop by hop, with times."),
    "master": ("master", "Show which node is master, or choose it."),
    "edges": ("edges", "List the links between nodes with their cost."),
    "route": ("route", "Show the way to a node."),
    "status": ("status", "Show how a node is connected, or why it is not."),
    "wait": ("wait", "Wait until nodes can be reached."),
    "sim": ("sim", "Simulate a mesh under faults, and report what to expect of it."),
    "config": ("config", "Show or check the settings of a node."),
}


ENTRY_POINTS = "meshcore.commands"


@cache
def added_commands() -> dict[str, Any]:
    """Commands that other packages bring along: click commands, by their entry points."""
    from importlib.metadata import entry_points

    return {
        point.name: point
        for point in entry_points(group=ENTRY_POINTS)
        if point.name not in COMMANDS
    }


def command_names() -> list[str]:
    """All commands, those of other packages last."""
    return [*COMMANDS, *sorted(added_commands())]


def _load_added(name: str) -> click.Command:
    """The command of another package; UsageError where it cannot be used."""
    point = added_commands()[name]
    try:
        found = point.load()
    except Exception as error:  # it is not ours: its import may raise anything
        raise click.UsageError(
            f"command '{name}' ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, click.Command):
        raise click.UsageError(f"command '{name}' ({point.value}) is no click command")
    return found


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return command_names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return _load_added(cmd_name) if cmd_name in added_commands() else None
        module = import_module(f"meshcore.cli.{COMMANDS[cmd_name][0]}")
        found = module.command
        if not isinstance(found, click.Command):
            raise TypeError(f"meshcore.cli.{cmd_name}.command is no command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        if added_commands():
            with formatter.section("Commands of other packages"):
                formatter.write_dl(
                    [(name, added_commands()[name].value) for name in sorted(added_commands())]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = name.startswith("-") or name in COMMANDS or name in added_commands()
        if not known:
            hint = failure.did_you_mean(name, command_names())
            raise click.UsageError(f"no command '{name}'{hint} (meshctl --help)")
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import meshcore

        click.echo(f"meshctl {meshcore.__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it: meshctl demo.  Help on one command: meshctl COMMAND --help.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def cli() -> None:
    """Run a node of a meshcore mesh, and look at a mesh or have it work through a node.

    Every command but run, demo and sim attaches to a node: the one that runs on this machine, or
    the one that --via (or MESHCORE_VIA) names by id or by URL.

    Exit codes: 0 done, 1 the remote side failed, 2 usage or configuration, 3 unreachable or
    unknown node, 4 timed out, 5 denied, 6 busy, 130 interrupted.
    """


def run_cli(argv: Sequence[str]) -> int:
    """Run one command line; the exit code. Raises nothing that a command can cause."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail_on_a_character(stream)
    asked = failure.Asked.from_argv(argv)
    try:
        # Not cli.main(): it would turn an interrupt and a closed pipe into exits of its own.
        with cli.make_context("meshctl", list(argv), obj=list(argv)) as context:
            result = cli.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return 0
    except (Exception, KeyboardInterrupt) as error:
        try:
            return failure.report(error, asked)
        except BrokenPipeError:
            _drop_stdout()
            return failure.exit_code(error)
    return result if isinstance(result, int) else 0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the `meshctl` script and of `python -m meshcore`."""
    if "_MESHCTL_COMPLETE" in os.environ:  # a shell asks how to complete a line
        cli.main(prog_name="meshctl")
    code = run_cli(sys.argv[1:] if argv is None else argv)
    # The work is done: an impatient Ctrl-C now must not become a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def _never_fail_on_a_character(stream: TextIO | None) -> None:
    """A terminal that knows no `→` shows an escape instead of a traceback."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Lead what is still buffered to nowhere, or the interpreter complains when it exits."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # not a real file: nothing to drop
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
