"""One piece of work, and what the node, the executor and its runners are to each other.

The node sees `Outlet` (which it implements) and `NO_VALUE`. The runners (tasks, threads, processes)
see `Host`, the executor's inner side. A `Job` exists only for work that does not end in the turn in
which it came.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from meshcore.errors import Code
from meshcore.work.actions import ActionSpec
from meshcore.work.context import Context, Services

if TYPE_CHECKING:
    from meshcore.payload import Spool


# How the node names one piece of work: any hashable value, unique among open work.
Ref: TypeAlias = Hashable


class _NoValue:
    """The value of a response that carries none: the eof of a generator."""

    def __repr__(self) -> str:
        return "NO_VALUE"


NO_VALUE: Final = _NoValue()


class Outlet(Protocol):
    """Where outcomes go; the node implements it. Called on the loop's thread only."""

    def respond(self, ref: Ref, value: object, eof: bool) -> bool:
        """One response. `NO_VALUE` with eof is an end without payload.

        False = the stream's window is full now (this value was taken): await `writable` before the
        next. Raises BadPayloadError, before anything is sent, where `value` cannot be encoded.
        """
        ...

    def fail(
        self,
        ref: Ref,
        code: Code,
        name: str,
        message: str,
        traceback: str,
        may_have_run: bool,
    ) -> None:
        """The last response, a failure; `name` is the class of the action's exception or ""."""
        ...

    async def writable(self, ref: Ref) -> None:
        """Returns when the stream takes values again, or has ended."""
        ...


class Failure(NamedTuple):
    """Why work ended without its result; the fields of `Outlet.fail`."""

    code: Code
    name: str
    message: str
    traceback: str = ""
    may_have_run: bool = True


class Job:
    """Work that waits or runs. `ref` is the node's name for it, good until it is settled."""

    __slots__ = (
        "attempt",
        "begun",
        "cancelled",
        "cleanup",
        "context",
        "deadline",
        "handle",
        "message_id",
        "payload",
        "queue",
        "ref",
        "sender",
        "settled",
        "spec",
        "started",
    )

    def __init__(
        self,
        ref: Ref,
        spec: ActionSpec,
        context: Context | None,
        payload: object,
        sender: str,
        message_id: str,
        deadline: float | None,
        attempt: int,
    ) -> None:
        self.ref = ref
        self.spec = spec
        self.context = context
        self.payload = payload
        self.sender = sender
        self.message_id = message_id
        self.deadline = deadline
        self.attempt = attempt
        # A worker thread sets `begun`, then reads `cancelled`; the loop does it the other way
        # round: so "did not start it" is certain when it is said.
        self.begun = False
        self.cancelled = False
        self.settled = False  # its last response was given: nothing more may be
        self.started = 0.0  # Unix seconds; 0 while it waits
        self.queue: OrderedDict[Job, None] | None = None  # where it waits
        self.handle: Any = None  # what its runner needs to cancel it
        self.cleanup: Callable[[], None] | None = None  # removes the file that it was given


class Host(Protocol):
    """What the executor does for its runners. Loop's thread only, but for `argument`."""

    loop: asyncio.AbstractEventLoop
    spool: Spool
    services: Services

    def argument(self, job: Job) -> object:
        """The payload in the form that the action declared; may block; BadPayloadError."""
        ...

    def result(self, job: Job, value: object) -> None:
        """The one value of a job, its last response."""
        ...

    def item(self, job: Job, value: object) -> bool:
        """One of several values; False = wait for `writable`. Raises BadPayloadError."""
        ...

    def exhausted(self, job: Job) -> None:
        """A generator has ended: eof without payload."""
        ...

    async def writable(self, job: Job) -> None:
        """Returns when `item` may be called again."""
        ...

    def raised(self, job: Job, error: BaseException) -> None:
        """The action, or the encoding of a value, raised."""
        ...

    def failed(self, job: Job, failure: Failure) -> None:
        """The job ended without its result."""
        ...

    def left(self, job: Job) -> None:
        """The job runs no more."""
        ...

    def release(self) -> None:
        """One of the `max_workers` slots is free again."""
        ...

    def requeue(self, jobs: list[Job]) -> None:
        """Jobs that have not begun go back to the head of the queue, in this order."""
        ...
