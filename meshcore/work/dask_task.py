"""What a task of a Dask cluster does: runs one action, watched by an event that cancels it.

A worker of the cluster needs meshcore (its version must be the node's) and what the action imports.
What comes back is the frames of `pipe`: ["value", …], ["end", how many values there were] or
["failure", …] as the task's result; values of a generator before that as ["item", …] in a queue,
closed by ["last"].
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from meshcore.errors import Code
from meshcore.work.away import context_of
from meshcore.work.failures import failure_of
from meshcore.work.pipe import AHEAD, pack_value, unpack_value

__all__ = ["AHEAD", "name_of_began", "name_of_cancel", "perform"]

_LOOK = 0.5  # seconds between looks whether the action has ended


def name_of_began(name: str) -> str:
    """The event that says that the task was started once."""
    return f"{name}-began"


def name_of_cancel(name: str) -> str:
    """The event that says that nobody wants its result any more."""
    return f"{name}-cancel"


def perform(
    name: str,
    function: Callable[..., Any],
    argument: tuple[int, bytes],
    fields: dict[str, Any],
    wants_context: bool,
) -> list[Any]:
    """Run the action; its last frame."""
    from distributed import Event, get_client

    client = get_client()
    began = Event(name_of_began(name), client=client)
    if began.is_set():
        return _failure(Code.INTERNAL, "", "its Dask worker died; it may have run in part", "")
    began.set()
    cancel = Event(name_of_cancel(name), client=client)
    context, ended = context_of(**fields), threading.Event()
    if cancel.is_set():
        return _failure(Code.CANCELLED, "", "cancelled before it was started", "")

    def watch() -> None:
        try:
            while not ended.is_set():
                if cancel.wait(timeout=_LOOK):
                    break
        finally:  # also where the scheduler is gone: nobody can take the result
            context.cancel()

    threading.Thread(target=watch, name="meshcore-cancel", daemon=True).start()
    try:
        value = unpack_value(*argument)
        called = function(value, context) if wants_context else function(value)
        if hasattr(called, "send"):
            return ["end", _pull(name, called, context, client)]
        kind, body = pack_value(called)
        return ["value", kind, bytes(body)]
    except BaseException as error:  # whatever an action raises is its outcome
        code, kind_of_error, message, trace, _ = failure_of(error)
        return _failure(code, kind_of_error, message, trace)
    finally:
        ended.set()


def _pull(name: str, generator: Any, context: Any, client: Any) -> int:
    from distributed import Queue

    queue = Queue(name, client=client, maxsize=AHEAD)

    def give(*frame: Any) -> bool:
        while not context.cancelled:
            try:
                queue.put(list(frame), timeout=_LOOK)
            except TimeoutError:  # nobody takes values now
                continue
            return True
        return False

    given = 0
    try:
        for value in generator:
            kind, body = pack_value(value)
            if not give("item", kind, bytes(body)):
                break
            given += 1
        else:
            give("last")
        return given
    finally:
        generator.close()
        queue.close()


def _failure(code: Code, name: str, message: str, trace: str) -> list[Any]:
    return ["failure", int(code), name, message, trace]
