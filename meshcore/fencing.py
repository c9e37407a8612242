"""Fencing: whoever is told to do something by a primary refuses older terms than it has seen.

::

    fence = Fence(data_dir / "press.term")

    @action
    @fenced(fence)
    async def press(payload, context): ...

    # in the replicated service, which alone knows its term:
    await self.controller.call("press1", "shop:press", self.served.fenced({"force": 3}))

A primary that was cut off or stood still, and wakes up, has an older term than the one after it: it
is refused with FencedError. With a path the newest term is on disk before anything is done in it,
so that a restart forgets nothing.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from meshcore.errors import BadPayloadError, ConfigError, FencedError
from meshcore.paths import write_durably

F = TypeVar("F", bound=Callable[..., Any])


class Fence:
    """Knows the newest term that it has seen; from any thread.

    Args:
        path: where it is kept; without one it is forgotten when the process ends.

    Raises:
        ConfigError: the file holds no term.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._lock = threading.Lock()
        self._term = 0
        if self._path is not None and self._path.exists():
            text = self._path.read_text(encoding="utf-8", errors="replace").strip()
            if not text.isdecimal():
                raise ConfigError(f"{self._path} must hold a term (a number), not {text[:40]!r}")
            self._term = int(text)

    @property
    def term(self) -> int:
        """The newest term that was seen."""
        return self._term

    def check(self, term: int) -> None:
        """Take a term that is as new as all before it.

        Raises:
            FencedError: somebody with a newer term has been here.
            OSError: the newer term cannot be written down.
        """
        with self._lock:
            if term < self._term:
                raise FencedError(
                    f"term {term} is over: term {self._term} has been here", may_have_run=False
                )
            if term > self._term:
                if self._path is not None:
                    write_durably(self._path, f"{term}\n".encode())
                self._term = term


def fenced(fence: Fence) -> Callable[[F], F]:
    """Let an action take only payloads of `Served.fenced`, and refuse those of older terms.

    The function gets the payload alone. BadPayloadError for one without a term.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(payload: Any, *more: Any) -> Any:
            match payload:
                case {"term": int() as term, "payload": inner} if term >= 0:
                    fence.check(term)
                    return function(inner, *more)
            raise BadPayloadError(
                f"{function.__name__} is fenced: it takes {{term, payload}} (Served.fenced)",
                may_have_run=False,
            )

        @functools.wraps(function)
        async def call_async(payload: Any, *more: Any) -> Any:
            return await call(payload, *more)

        wrapped: Any = call_async if inspect.iscoroutinefunction(function) else call
        return wrapped  # type: ignore[no-any-return]

    return decorate
