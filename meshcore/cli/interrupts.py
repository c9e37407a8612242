"""Ctrl-C once ends a command in good order, twice ends it now.

`run_async` runs the coroutine of a command on a loop of its own. The first SIGINT or SIGTERM
cancels the coroutine, which so leaves its `async with` blocks: work is cancelled, sessions say
goodbye. If it then ends with the cancellation, `Interrupted` is raised (exit code 130, or 143 for
SIGTERM); if it returns a value instead, as ping does, that counts. The second signal calls
`at_once` and ends the process without another word.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from meshcore.cli.failure import Interrupted

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_async(work: Coroutine[Any, Any, T], *, at_once: Callable[[], object] | None = None) -> T:
    """Run `work` to its end; its value. Raises what it raises, and Interrupted (see above)."""
    received: list[int] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(work)

        def on_signal(number: int) -> None:
            received.append(number)
            if len(received) > 1:
                end_now(number, at_once)
            task.cancel()

        for number in _SIGNALS:
            add_signal_handler(loop, number, on_signal)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            if received:
                raise Interrupted(received[0]) from None
            raise
        finally:
            for number in _SIGNALS:
                remove_signal_handler(loop, number)


def add_signal_handler(
    loop: asyncio.AbstractEventLoop, number: int, handler: Callable[[int], object]
) -> None:
    """Have the loop call `handler(number)`; where loops cannot (Windows), the default stays."""
    try:
        loop.add_signal_handler(number, handler, number)
    except (NotImplementedError, RuntimeError, ValueError):
        return


def remove_signal_handler(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Undo `add_signal_handler`."""
    try:
        loop.remove_signal_handler(number)
    except (NotImplementedError, RuntimeError, ValueError):
        return


def end_now(number: int, at_once: Callable[[], object] | None = None) -> NoReturn:
    """End this process with 128 + `number`: no clean-up but `at_once`."""
    try:
        if at_once is not None:
            at_once()
    finally:
        os._exit(128 + number)


async def swallow_cancel() -> None:
    """Go on after a cancellation that was taken as "end well": later timeouts must work again."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
