"""Functions that others may call: the `@action` decorator and what it finds out.

The decorator only checks its options and leaves a mark on the function, which stays an ordinary
function. `describe` looks at the function once, when it is registered, and gives an `ActionSpec`:
running an action asks no questions any more.

What runs where:

- `async def` (coroutine or async generator): on the node's loop.
- plain function or generator: in a thread; with `executor="process"` in a spawned process, which
  imports the function by module and name, so it must be at the top level of a module; with
  `executor="dask"` on the Dask cluster that the node's setting `dask` names. A plain
  function with `executor="loop"` runs on the loop in the receiving turn and must not block.
- `eager=True` (coroutines): the first step runs in the receiving turn. On Python 3.11 it then runs
  outside of any task: until its first real wait, `asyncio.current_task()`, `asyncio.timeout()` and
  `TaskGroup` do not work, and a context variable set there cannot be reset later. Use it for what
  answers at once.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, overload

from meshcore.errors import ConfigError
from meshcore.identity import is_directive

Function = TypeVar("Function", bound=Callable[..., Any])

MARK = "__meshcore_action__"
PAYLOADS = ("value", "bytes", "file", "stream")
EXECUTORS = ("loop", "thread", "process", "dask")
ON_RESTART = ("lost", "rerun")
# From 3.12 on an eager task costs as little as a bare step and has none of its limits.
STEP_BARE = sys.version_info < (3, 12)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class Kind(Enum):
    """What calling the function gives."""

    COROUTINE = "coroutine function"
    ASYNC_GENERATOR = "async generator"
    FUNCTION = "function"
    GENERATOR = "generator"

    @property
    def is_async(self) -> bool:
        return self in (Kind.COROUTINE, Kind.ASYNC_GENERATOR)

    @property
    def streams(self) -> bool:
        return self in (Kind.GENERATOR, Kind.ASYNC_GENERATOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `@action` was given; None = the default of the kind of function."""

    payload: str = "value"
    executor: str | None = None
    eager: bool = False
    on_restart: str = "lost"
    concurrency: int | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    author: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_choice("payload", self.payload, PAYLOADS)
        if self.executor is not None:
            _check_choice("executor", self.executor, EXECUTORS)
        _check_choice("on_restart", self.on_restart, ON_RESTART)
        if type(self.eager) is not bool:
            raise ConfigError(f"action: eager = {self.eager!r} must be True or False")
        if self.concurrency is not None and (
            type(self.concurrency) is not int or self.concurrency < 1
        ):
            raise ConfigError(
                f"action: concurrency = {self.concurrency!r} must be None or a number from 1"
            )
        for option in ("description", "author", "name"):
            value = getattr(self, option)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"action: {option} = {value!r} must be a text")
        if self.name is not None and not _NAME.match(self.name):
            raise ConfigError(
                f"action: name = {self.name!r} must be 1 to 64 characters out of A-Z a-z 0-9 . _ -"
            )
        object.__setattr__(self, "tags", _checked_tags(self.tags))


def _check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        expected = ", ".join(f'"{choice}"' for choice in choices)
        raise ConfigError(f"action: {option} = {value!r} must be one of {expected}")


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise ConfigError(f"action: tags = {tags!r} must be a list of texts")
    return tuple(tags)


@overload
def action(function: Function, /) -> Function: ...


@overload
def action(**options: Any) -> Callable[[Function], Function]: ...


def action(function: Any = None, /, **options: Any) -> Any:
    """Mark a function as an action: `@action` or `@action(option=…)`.

    Args:
        function: an async function, a plain function or a generator of either sort that takes
            `(payload, context)` or `(payload)`.
        **options: `payload` ("value", "bytes", "file" or "stream": the form in which it takes its
            payload), `executor` ("loop", "thread", "process", "dask"), `eager`, `on_restart`
            ("lost" or "rerun"), `concurrency` (how many run at once on this node), `description`
            (default: the first line of its docstring), `tags`, `author`, `name` (default: the
            function's).

    Raises:
        TypeError: an unknown option, or not a function.
        ConfigError: an option with a value that is not allowed; the text says what is.
    """
    checked = Options(**options)

    def mark(marked: Any) -> Any:
        if isinstance(marked, type) or not callable(marked):
            raise TypeError(f"@action expects a function, not {marked!r}")
        setattr(marked, MARK, checked)
        return marked

    return mark if function is None else mark(function)


@dataclass(frozen=True, slots=True, eq=False)
class ActionSpec:
    """All that is known of one action of one node.

    `direct` is the executor's fast path; `eq=False` makes it a cheap key.
    """

    directive: str
    function: Callable[..., Any]
    kind: Kind
    executor: str  # one of EXECUTORS
    payload: str
    wants_context: bool
    eager: bool
    on_restart: str
    concurrency: int | None
    name: str
    description: str
    author: str
    tags: tuple[str, ...]
    direct: bool  # the executor calls it in the receiving turn, without a job
    inline: bool  # a plain function on the loop: its value is there when it returns

    @property
    def namespace(self) -> str:
        return self.directive.partition(":")[0]

    def capability(self) -> dict[str, Any]:
        """What the mesh is told about it."""
        return {
            "name": self.name,
            "description": self.description,
            "author": self.author,
            "tags": list(self.tags),
        }


def describe(directive: str, function: Callable[..., Any], options: Options) -> ActionSpec:
    """The spec of `function` as the action `directive`; ConfigError where that cannot work."""
    if not is_directive(directive):
        raise ConfigError(
            f"action {directive!r} must have the form namespace:action, "
            "each 1 to 64 characters out of A-Z a-z 0-9 . _ -"
        )
    kind = _kind_of(function)
    executor = options.executor or ("loop" if kind.is_async else "thread")
    _check_executor(directive, function, kind, executor, options)
    inline = executor == "loop" and kind is Kind.FUNCTION
    plain = options.payload == "value" and options.concurrency is None
    return ActionSpec(
        directive=directive,
        function=function,
        kind=kind,
        executor=executor,
        payload=options.payload,
        wants_context=_wants_context(directive, function),
        eager=options.eager,
        on_restart=options.on_restart,
        concurrency=options.concurrency,
        name=options.name or directive.partition(":")[2],
        description=_first_line(function) if options.description is None else options.description,
        author=options.author or "",
        tags=options.tags,
        direct=plain and (inline or (options.eager and STEP_BARE)),
        inline=inline,
    )


def _kind_of(function: Callable[..., Any]) -> Kind:
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function):
        return Kind.COROUTINE
    return Kind.GENERATOR if inspect.isgeneratorfunction(function) else Kind.FUNCTION


def _check_executor(
    directive: str, function: Callable[..., Any], kind: Kind, executor: str, options: Options
) -> None:
    def refuse(reason: str) -> ConfigError:
        return ConfigError(f"action {directive}: {reason}")

    if kind.is_async and executor != "loop":
        raise refuse(f'executor = "{executor}" is for plain functions, this is a {kind.value}')
    if kind is Kind.GENERATOR and executor == "loop":
        raise refuse(
            'a plain generator needs executor = "thread", "process" or "dask", or async def'
        )
    if options.eager and kind is not Kind.COROUTINE:
        raise refuse(f"eager = True is for coroutine functions, this is a {kind.value}")
    if executor == "dask" and options.payload in ("file", "stream"):
        raise refuse(f'payload = "{options.payload}" stays on this machine; use "value" or "bytes"')
    if executor == "process":
        if options.payload == "stream":
            raise refuse('payload = "stream" is not for processes; use payload = "file"')
        _check_importable(refuse, function)


def _check_importable(refuse: Callable[[str], ConfigError], function: Callable[..., Any]) -> None:
    """A spawned process imports the function: a closure or method has no name to import it by."""
    if not isinstance(function, types.FunctionType):
        raise refuse('executor = "process" needs a plain function of a module')
    if "<" in function.__qualname__:
        raise refuse(
            'executor = "process" needs a function at the top level of a module, '
            f"not {function.__qualname__}"
        )
    if function.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise refuse('executor = "process" needs a function of a file')


def _wants_context(directive: str, function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"action {directive}: its parameters cannot be read") from error
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    others = [
        parameter
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    ]
    needed = [parameter for parameter in positional if parameter.default is parameter.empty]
    spread = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if others or len(needed) > 2 or not (positional or spread):
        raise ConfigError(
            f"action {directive}: takes {inspect.signature(function)}, "
            "expected (payload, context) or (payload)"
        )
    if len(positional) < 2:
        return spread
    return positional[1].name == "context" or len(needed) == 2


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
