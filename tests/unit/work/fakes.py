"""An outlet that records, and an executor around it."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshcore.payload import encode_body
from meshcore.work.executor import Executor
from meshcore.work.job import NO_VALUE
from meshcore.work.registry import Registry

DEADLINE = 20.0  # seconds: far above what any step takes, for an overloaded machine


class FakeOutlet:
    """Keeps every response; `window[ref]` values are taken before the stream is full."""

    def __init__(self) -> None:
        self.values = defaultdict(list)
        self.failures = {}
        self.ended = {}  # in order
        self.window = {}
        self.thread = threading.current_thread()
        self._news = asyncio.Event()

    def respond(self, ref, value, eof):
        assert threading.current_thread() is self.thread
        assert ref not in self.ended, f"a response after the last one of {ref}"
        if value is not NO_VALUE:
            encode_body(value)  # raises BadPayloadError as the node does
        self.values[ref].append(value)
        if eof:
            self.ended[ref] = True
        self._tell()
        if ref not in self.window:
            return True
        self.window[ref] -= 1
        return self.window[ref] > 0

    def fail(self, ref, code, name, message, traceback, may_have_run):
        assert threading.current_thread() is self.thread
        assert ref not in self.ended, f"a failure after the last response of {ref}"
        self.failures[ref] = (code, name, message, traceback, may_have_run)
        self.ended[ref] = True
        self._tell()

    async def writable(self, ref):
        await self.until(lambda: self.window.get(ref, 1) > 0 or ref in self.ended)

    def never_writable(self):
        """From now on `writable` does not return; gives an event that is set when it is awaited."""
        awaited = asyncio.Event()

        async def writable(ref):
            awaited.set()
            await asyncio.Event().wait()

        self.writable = writable
        return awaited

    def open(self, ref, count):
        self.window[ref] = count
        self._tell()

    def _tell(self):
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await self._news.wait()

    async def end_of(self, *refs):
        await self.until(lambda: all(ref in self.ended for ref in refs))


class Bench:
    """An executor with a fake outlet; `start` numbers the work."""

    def __init__(self, **options) -> None:
        self.registry = Registry()
        self.outlet = FakeOutlet()
        options = {"max_workers": 4, "queue_max": 100, "node_id": "beta", **options}
        self.executor = Executor(
            self.registry, self.outlet, loop=asyncio.get_running_loop(), **options
        )
        self._refs = iter(range(1, 1_000_000))

    def add(self, function, name=None, **options):
        directive = f"test:{name or function.__name__}"
        self.registry.add_function(directive, function, **options)
        return directive

    def start(self, directive, payload=None, *, deadline=None, sender="alpha", attempt=1):
        ref = next(self._refs)
        self.executor.start(ref, sender, directive, payload, deadline, f"id-{ref}", attempt)
        return ref

    async def values(self, directive, payload=None, **options):
        """All values of one piece of work; fails the test where it failed."""
        ref = self.start(directive, payload, **options)
        await self.outlet.end_of(ref)
        assert ref not in self.outlet.failures, self.outlet.failures[ref]
        return self.outlet.values[ref]

    async def failure(self, directive, payload=None, **options):
        ref = self.start(directive, payload, **options)
        await self.outlet.end_of(ref)
        return self.outlet.failures[ref]

    async def quiet(self):
        """Returns when nothing runs any more."""
        admission = self.executor._admission
        await eventually(
            lambda: not self.executor.active() and admission.free == admission.max_workers
        )


@asynccontextmanager
async def bench(**options) -> AsyncIterator[Bench]:
    made = Bench(**options)
    try:
        yield made
        made.executor._admission.check_invariants()
    finally:
        async with asyncio.timeout(DEADLINE):
            await made.executor.stop(0.0)
    made.executor._admission.check_invariants()


def live_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("meshcore")]


async def eventually(condition):
    """For facts that nothing announces (a thread's state): look again until the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.001)
