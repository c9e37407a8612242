"""What people write: a class with methods that can be called from anywhere in the mesh.

::

    class Counter(Service):
        async def init(self): self.value = 0
        @service
        async def add(self, number): self.value += number; return self.value
        @service(readonly=True)
        async def get(self): return self.value
        @task
        async def report(self): ...                 # runs while it is served
        def get_checkpoint(self): return {"value": self.value}
        def put_checkpoint(self, state): self.value = state["value"]

Calls run one after the other, unless a method says `concurrent`. Plain functions (no `async`) run
in a thread, still one after the other. A call runs to its end, whether its caller waits or not.

In a replicated service every replica runs the same calls in the same order, so what a method does
must follow from the state and its arguments: it takes the time from `self.time()` and random
numbers from `self.random`, which are the same on all replicas. That holds for the hooks too.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

_SERVICE = "_meshcore_service"
_TASK = "_meshcore_task"

# The public members of `Group`: a method of that name could not be called on one.
RESERVED = frozenset(
    "add_node call close get_node members name on_change on_rpc_call on_rpc_returned policy proxy"
    " remove_node set_beats_per_minute set_checkpoint_interval set_checkpoint_log_bytes"
    " set_heartbeat_interval set_network_timeout set_primary set_rpc_timeout watch".split()
)


@dataclass(slots=True)
class Request:
    """A call of a service, as the hooks on both sides see it; they may change the arguments."""

    service: str
    client: str
    server: str
    req_num: int
    args: list[Any]
    kwargs: dict[str, Any]
    method: str = ""


@dataclass(slots=True)
class Response:
    """The outcome of a call: a result, or an exception."""

    service: str
    client: str
    server: str
    req_num: int
    result: Any = None
    exception: BaseException | None = None
    method: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """One method that can be called.

    `concurrent`: how many calls may run at a time beside all others; 0: one, and nothing else.
    """

    name: str
    function: Callable[..., Any]
    readonly: bool
    concurrent: int
    is_async: bool

    @property
    def description(self) -> str:
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


CONCURRENT_MAX = 1024


@overload
def service(function: F, /) -> F: ...
@overload
def service(*, readonly: bool = False, concurrent: bool | int = False) -> Callable[[F], F]: ...
def service(
    function: F | None = None, /, *, readonly: bool = False, concurrent: bool | int = False
) -> F | Callable[[F], F]:
    """Let a method be called from the mesh.

    Args:
        readonly: it changes nothing; a replicated service answers it without an entry in its log.
        concurrent: True, or how many calls may run at a time; else one after the other.
    """
    count = CONCURRENT_MAX if concurrent is True else int(concurrent)
    if not 0 <= count <= CONCURRENT_MAX:
        raise TypeError(f"concurrent = {concurrent!r} must be from 0 to {CONCURRENT_MAX}, or True")

    def mark(marked: F) -> F:
        setattr(marked, _SERVICE, (readonly, count))
        return marked

    return mark if function is None else mark(function)


def task(function: F) -> F:
    """Run an async method from when the service is served until it is not."""
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"a task is an async method; {function.__qualname__} is none")
    setattr(function, _TASK, True)
    return function


class Service:
    """The base of services. `controller` sends calls and work; it stands before `init`."""

    methods: ClassVar[dict[str, Method]] = {}
    tasks: ClassVar[tuple[str, ...]] = ()
    controller: Any = None
    served: Any = None  # the Served that runs it
    _draws: tuple[float, int] | None = None
    _random: random.Random | None = None

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.methods = _methods_of(cls)
        cls.tasks = tuple(name for name in dir(cls) if hasattr(getattr(cls, name), _TASK))

    async def init(self) -> None:
        """Called before the first call."""

    async def clean_up(self) -> None:
        """Called after the last call."""

    def get_checkpoint(self) -> Any:
        """The state, as plain values or bytes: what `put_checkpoint` needs to be as now."""
        raise NotImplementedError(f"{type(self).__name__} has no get_checkpoint")

    def put_checkpoint(self, state: Any) -> None:
        """Be as at `get_checkpoint`, whatever it was before."""
        raise NotImplementedError(f"{type(self).__name__} has no put_checkpoint")

    async def on_service_called(self, request: Request) -> None:
        """Called before each call; may change its arguments, and may raise to refuse it."""

    async def on_service_return(self, response: Response) -> None:
        """Called after each call."""

    def time(self) -> float:
        """Unix seconds; in a replicated call the same on all replicas."""
        return time.time() if self._draws is None else self._draws[0]

    @property
    def random(self) -> random.Random:
        """Random numbers; in a replicated call the same on all replicas."""
        if self._random is None:
            self._random = random.Random(None if self._draws is None else self._draws[1])
        return self._random

    def set_draws(self, draws: tuple[float, int] | None) -> None:
        """What the next call sees as the time, and the seed of its random numbers."""
        self._draws = draws
        self._random = None

    @service(concurrent=True)
    async def heartbeat(self) -> dict[str, Any]:
        """Tell that it works: how often it has told so, its role and its term."""
        beat: dict[str, Any] = self.served.beat()
        return beat


def _methods_of(cls: type) -> dict[str, Method]:
    found: dict[str, Method] = {}
    for name in dir(cls):
        function = getattr(cls, name)
        options = getattr(function, _SERVICE, None)
        if options is None:
            continue
        if name in RESERVED or name.startswith("_"):
            raise TypeError(
                f"{cls.__name__}.{name} cannot be a @service: "
                + ("it is private" if name.startswith("_") else "a Group has a member of that name")
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{cls.__name__}.{name} cannot be a @service: it yields several values")
        readonly, concurrent = options
        is_async = inspect.iscoroutinefunction(function)
        found[name] = Method(name, function, readonly, concurrent, is_async)
    if "heartbeat" not in found:
        raise TypeError(f"{cls.__name__}.heartbeat must be a @service: others call it")
    return found


Service.methods = _methods_of(Service)
