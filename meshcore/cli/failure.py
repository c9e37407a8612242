"""How a command fails: one clear line, or `{"error": …}`, and an exit code.

::

    0 done     1 the remote side failed    2 usage or configuration   3 unreachable or unknown node
    4 timed out     5 denied     6 busy    130 interrupted

`report` writes an error and returns its code. People get one line on stderr. With --json the error
is the document, or the last line, on stdout: `{"error": {"name", "message", …}}`. --traceback adds
the traceback of the remote side; MESHCORE_DEBUG=1 adds that of this process.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from meshcore.errors import (
    AccessDeniedError,
    ActionError,
    BusyError,
    Code,
    ConfigError,
    DeadlineExceededError,
    MeshError,
    UnreachableError,
)

FAILED, USAGE, UNREACHABLE, TIMED_OUT, DENIED, BUSY, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

# The first class that fits decides.
_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (click.ClickException, USAGE),
    (click.Abort, INTERRUPTED),
    (KeyboardInterrupt, INTERRUPTED),
    (ConfigError, USAGE),
    (UnreachableError, UNREACHABLE),
    (DeadlineExceededError, TIMED_OUT),
    (AccessDeniedError, DENIED),
    (BusyError, BUSY),
    (TimeoutError, TIMED_OUT),
)
_SIGNAL_BASE = 128


class Interrupted(KeyboardInterrupt):
    """The user, or the system, asked the command to end; it did so in good order."""

    def __init__(self, signal_number: int = 2) -> None:
        super().__init__("interrupted")
        self.signal_number = signal_number


class Reported(Exception):
    """A failure that the command itself has shown already; only the exit code is left to say."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for when a command fails; true even if it could not be parsed."""

    json: bool = False
    traceback: bool = False

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> Asked:
        options = list(argv)
        if "--" in options:
            options = options[: options.index("--")]
        return cls(json="--json" in options, traceback="--traceback" in options)


def report(error: BaseException, asked: Asked) -> int:
    """Write `error` where and how it was asked for; its exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, Reported):
        return error.code
    code = exit_code(error)
    if asked.json:
        click.echo(json.dumps({"error": as_json(error)}))
    elif code not in (INTERRUPTED, _SIGNAL_BASE + 15):
        click.echo(describe(error, asked), err=True)
    if asked.traceback and (remote := getattr(error, "remote_traceback", "")):
        click.echo(printable(remote, keep="\n\t").rstrip("\n"), err=True)
    if os.environ.get("MESHCORE_DEBUG"):
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    return code


def exit_code(error: BaseException) -> int:
    """The exit code that stands for `error`."""
    if isinstance(error, Interrupted):
        return _SIGNAL_BASE + error.signal_number
    if isinstance(error, Reported):
        return error.code
    for kind, code in _EXIT_CODES:
        if isinstance(error, kind):
            return code
    return FAILED


def describe(error: BaseException, asked: Asked | None = None) -> str:
    """`error` in one line for people."""
    if isinstance(error, click.ClickException):
        return _describe_usage(error)
    if isinstance(error, ActionError):
        hint = bool(error.remote_traceback) and not (asked is not None and asked.traceback)
        return _describe_remote(error, hint=hint)
    if isinstance(error, MeshError):
        return one_line(str(error)) or type(error).__name__
    if isinstance(error, (OSError, TimeoutError)) and str(error):
        return one_line(str(error))
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = f"internal error: {type(error).__name__}: {error}"
    return one_line(text) + (
        "" if os.environ.get("MESHCORE_DEBUG") else " (MESHCORE_DEBUG=1 shows where)"
    )


def _describe_remote(error: ActionError, *, hint: bool) -> str:
    """`ValueError on gamma in demo:fail: boom (--traceback shows it)`."""
    where = f" on {error.node_id}" if error.node_id else ""
    where += f" in {error.directive}" if error.directive else ""
    text = one_line(f"{error.remote_type or 'error'}{where}: {error.message}").rstrip(": ")
    return text + (" (--traceback shows it)" if hint else "")


def as_json(error: BaseException) -> dict[str, Any]:
    """The value of "error": name and message always, the rest where it is known."""
    if isinstance(error, click.ClickException):
        return {"name": "UsageError", "message": _describe_usage(error, short=True)}
    if isinstance(error, KeyboardInterrupt):
        return {"name": "Interrupted", "message": "interrupted"}
    found: dict[str, Any] = {"name": type(error).__name__, "message": str(error)}
    if isinstance(error, MeshError):
        if error.code != Code.INTERNAL:
            found["code"] = error.code
        for key in ("node_id", "directive", "message_id"):
            if (value := getattr(error, key)) is not None:
                found[key] = value
        if not isinstance(error, ConfigError):
            found["may_have_run"] = error.may_have_run
    if isinstance(error, ActionError):
        found["remote_type"] = error.remote_type
        found["remote_traceback"] = error.remote_traceback
    found.update(getattr(error, "details", None) or {})
    return found


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean nodes?`, or nothing where nothing is close."""
    from difflib import get_close_matches  # 5 ms that only a wrong name pays

    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def one_line(text: str) -> str:
    """`text` without line breaks and control characters: a peer wrote it, a terminal obeys it."""
    return printable(" ".join(text.split()))


def printable(text: str, *, keep: str = "") -> str:
    """`text` with every control character but those in `keep` shown as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char in keep or char.isprintable() else ascii(char)[1:-1] for char in text
    )


def _describe_usage(error: click.ClickException, *, short: bool = False) -> str:
    if type(error).__name__ == "NoArgsIsHelpError":  # a group alone; its text is the whole help
        return "name a command; --help lists them" if short else error.format_message()
    message = one_line(error.format_message())
    if short or not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    path = error.ctx.command_path
    return message if "--help" in message else f"{message} ({path} --help)"


def stdout_is_terminal() -> bool:
    """Whether a person looks at what is printed."""
    return sys.stdout is not None and sys.stdout.isatty()


def reader_has_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as after `| head`."""
    try:
        descriptor = sys.stdout.fileno()
        poll = select.poll()
    except (OSError, ValueError, AttributeError):  # no real file, or a system without poll
        return False
    poll.register(descriptor, 0)  # errors are always told
    return any(events & select.POLLERR for _, events in poll.poll(0))
