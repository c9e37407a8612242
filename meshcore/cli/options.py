"""Options that commands share, and the kinds of values that they take.

Every command that talks to a mesh takes `--via`, `--timeout`, `--json` and `--traceback`, and gets
them as one `Options`. Durations are seconds, or a number with its unit: `5`, `5s`, `500ms`, `2m`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(ms|s|m|h)?\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}
DURATION_MAX = 30 * 86400.0  # seconds; beyond it selectors and timers overflow


if TYPE_CHECKING:
    _FloatType = click.ParamType[float]
else:
    _FloatType = click.ParamType  # not generic before click 8.2


class Duration(_FloatType):
    """A length of time in seconds, from `5`, `5s`, `500ms`, `2m` or `1h`."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):  # a default
            return value
        match = _DURATION.match(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no duration; write 5, 5s, 500ms or 2m", param, ctx)
        seconds = float(match[1]) * _SECONDS[match[2]]
        if seconds > DURATION_MAX or (seconds == 0 and not self.zero):
            self.fail(f"{value!r} must be {self._range()}", param, ctx)
        return seconds

    def _range(self) -> str:
        return "0 to 30 days" if self.zero else "more than 0, at most 30 days"


@dataclass(frozen=True, slots=True)
class Options:
    """What every command that talks to a mesh was given. `timeout` in seconds, None: no limit."""

    via: str | None = None
    timeout: float | None = None
    json: bool = False
    traceback: bool = False


def with_options(*, timeout: float | None, timeout_help: str) -> Callable[[F], F]:
    """Add the shared options; the command gets them as its first argument, an `Options`."""

    def decorate(function: F) -> F:
        @wraps(function)
        def call(
            *,
            via: str | None,
            timeout: float | None,
            json: bool,
            traceback: bool,
            **arguments: Any,
        ) -> Any:
            return function(Options(via, timeout, json, traceback), **arguments)

        decorated: Any = call
        for option in reversed(_shared(timeout, timeout_help)):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


json_option = click.option("--json", is_flag=True, help="Print JSON for programs.")


def _shared(timeout: float | None, timeout_help: str) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--via",
            metavar="NODE|URL",
            envvar="MESHCORE_VIA",
            show_envvar=True,
            help="The node to attach to: the id of one on this machine, or a URL."
            "  [default: the one that runs here]",
        ),
        click.option(
            "--timeout",
            type=Duration(),
            default=timeout,
            metavar="DURATION",
            help=timeout_help + (f"  [default: {timeout:g}s]" if timeout is not None else ""),
        ),
        json_option,
        click.option(
            "--traceback", is_flag=True, help="When an action fails, show where it did so."
        ),
    ]


def examples(*lines: str) -> str:
    """An epilog of examples that click does not re-wrap."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
