"""Transports whose sink remembers everything, and waiting for what it has seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

from meshcore.transport.hub import Knobs
from meshcore.transport.transport import Transport

Result = TypeVar("Result")

TIMEOUT = 10.0  # seconds for anything to happen
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run(work: Coroutine[Any, Any, Result], loop: str = "uvloop") -> Result:
    """Run `work` on a loop of that kind; what it raises, and what callbacks raise, fails."""
    errors: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: errors.append(context))
        result = runner.run(work)
    assert not errors, errors
    return result


class Peer:
    """A transport and everything that it told."""

    def __init__(self, *, echo: bool = False, knobs: Knobs | None = None) -> None:
        self.frames: list[tuple[int, int, bytes, bytes | None]] = []
        self.bodies: list[object] = []
        self.news: list[tuple[int, bytes]] = []
        self.accepted: list[int] = []
        self.connected: list[int] = []
        self.failed: dict[int, str] = {}
        self.closed: list[tuple[int, str]] = []
        self.drained = 0
        self._echo = echo
        self._answers: list[tuple[int, int, Sequence[bytes | memoryview]]] = []
        self._news = asyncio.Event()
        self._sending = False
        self.transport = Transport(asyncio.get_running_loop(), self, knobs=knobs)

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close(0.2)

    # The sink.

    def on_frames(
        self, link: int, lane: int, frame: bytes | memoryview, body: bytes | memoryview | None
    ) -> None:
        self.bodies.append(body)
        self.frames.append((link, lane, bytes(frame), None if body is None else bytes(body)))
        if self._echo:
            self._answers.append((link, lane, (frame,) if body is None else (frame, body)))
        self._happened()

    def on_news(self, link: int, data: bytes) -> None:
        self.news.append((link, data))
        self._happened()

    def on_accepted(self, link: int) -> None:
        self.accepted.append(link)
        self._happened()

    def on_connected(self, link: int) -> None:
        self.connected.append(link)
        self._happened()

    def on_dial_failed(self, link: int, reason: str) -> None:
        assert link not in self.failed
        self.failed[link] = reason
        self._happened()

    def on_closed(self, link: int, reason: str) -> None:
        assert link not in [each for each, _ in self.closed], "told twice"
        self.closed.append((link, reason))
        self._happened()

    def on_drained(self) -> None:
        self.drained += 1
        answers, self._answers = self._answers, []
        for link, lane, frames in answers:
            self.send(link, lane, frames)

    def _happened(self) -> None:
        assert not self._sending, "the sink was called from within send()"
        self._news.set()

    # What tests do with it.

    def send(self, link: int, lane: int, frames: Sequence[bytes | memoryview]) -> bool:
        self._sending = True
        try:
            return self.transport.send(link, lane, frames)
        finally:
            self._sending = False

    @property
    def drops(self) -> dict[str, int]:
        found = self.transport.stats()["drops"]
        assert isinstance(found, dict)
        return found

    async def until(self, seen: Callable[[], object], timeout: float = TIMEOUT) -> None:
        """Wait for `seen()`, which is asked again after each call of the sink."""
        try:
            async with asyncio.timeout(timeout):
                while not seen():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not seen: {self.describe()}") from None

    def describe(self) -> str:
        return (
            f"{len(self.frames)} frames, news {self.news[-3:]}, accepted {self.accepted}, "
            f"connected {self.connected}, failed {self.failed}, closed {self.closed}, "
            f"drops {self.drops}"
        )


async def eventually(seen: Callable[[], object], timeout: float = TIMEOUT) -> None:
    """Wait for what no call of a sink announces."""
    deadline = time.monotonic() + timeout
    while not seen():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)


async def linked(a: Peer, b: Peer, url: str, *, link: int = 1) -> tuple[int, int]:
    """Dial from `b` to `a`, which listens at `url`; the numbers of the link at `a` and at `b`."""
    count = len(a.accepted)
    b.transport.dial(link, url)
    await b.until(lambda: link in b.connected)
    await a.until(lambda: len(a.accepted) > count)
    return a.accepted[-1], link


async def with_peers(
    work: Callable[[Peer, Peer], Awaitable[None]],
    *,
    echo: bool = False,
    knobs: Knobs | None = None,
) -> None:
    """Run `work` with two peers; the first echoes where that is wanted, and has the knobs."""
    async with Peer(echo=echo, knobs=knobs) as a, Peer() as b:
        await work(a, b)
