"""One service object while it is served: its life, and its calls.

Calls run one after the other, in the order in which they came; a method that says `concurrent` runs
beside them, as many at a time as it says. What waits is bounded. When it is served no more, the
calls that it has are done first, for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from meshcore.errors import BusyError, ClosedError, RPCNotFoundError
from meshcore.payload.values import encode_value
from meshcore.services.service import Method, Request, Response, Service

_LOG = logging.getLogger("meshcore.services")
WAITING_MAX = 1024  # calls that wait for those before them, and as many for concurrent ones
STOP_WAIT = 5.0  # seconds for the calls that are there when it stops


class Instance:
    """Of `service`, in the group of that name, on the node of that id."""

    def __init__(self, service: Service, *, group: str, node_id: str) -> None:
        self.service = service
        self.group = group
        self.node_id = node_id
        self.turn = asyncio.Lock()
        self.done = 0  # calls that have ended: it does something
        self._waiting = 0  # sequential calls that are here
        self._beside = 0  # concurrent ones
        self._closed = False
        self._idle = asyncio.Event()
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._tasks: list[asyncio.Task[None]] = []
        kind = type(service)
        self._is_hooked = (
            kind.on_service_called is not Service.on_service_called
            or kind.on_service_return is not Service.on_service_return
        )

    async def start(self) -> None:
        """`init`, then its tasks; whatever `init` raises."""
        await self.service.init()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run_task(name)) for name in self.service.tasks]

    async def _run_task(self, name: str) -> None:
        try:
            await getattr(self.service, name)()
        except Exception:
            _LOG.exception("task %s of service %s failed", name, self.group)

    async def stop(self, wait: float = STOP_WAIT) -> None:
        """Take no more calls; when those that are here have ended, end its tasks, `clean_up`."""
        self._closed = True
        if self._waiting or self._beside:
            try:
                async with asyncio.timeout(wait):
                    await self._idle.wait()
            except TimeoutError:
                count = self._waiting + self._beside
                _LOG.warning("%d calls of %s have not ended in %g s", count, self.group, wait)
        for running in self._tasks:
            running.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.service.clean_up()
        except Exception:
            _LOG.exception("clean_up of service %s failed", self.group)

    def method(self, name: str) -> Method:
        """RPCNotFoundError where there is none of that name."""
        found = self.service.methods.get(name)
        if found is None:
            close = difflib.get_close_matches(name, self.service.methods, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise RPCNotFoundError(
                f"{self.group} has no method {name!r}{hint}",
                node_id=self.node_id,
                may_have_run=False,
            )
        return found

    async def call(self, request: Request) -> Any:
        """Run one call, in its turn.

        Raises:
            RPCNotFoundError: there is no such method.
            BusyError: too many calls wait.
            ClosedError: it is served no more.
            whatever the method or a hook raises.
        """
        method = self.method(request.method)
        if self._closed:
            raise ClosedError(f"{self.node_id} serves {self.group} no more", may_have_run=False)
        if not method.concurrent:
            self._check_room(self._waiting)
            self._waiting += 1
            try:
                async with self.turn:
                    try:
                        return await self._answer(method, request)
                    finally:
                        self.done += 1
            finally:
                self._waiting -= 1
                self._ended()
        gate = self._gates.get(method.name)
        if gate is None:
            gate = self._gates[method.name] = asyncio.Semaphore(method.concurrent)
        self._check_room(self._beside)
        self._beside += 1
        try:
            async with gate:
                return await self._answer(method, request)
        finally:
            self._beside -= 1
            self._ended()

    def _check_room(self, count: int) -> None:
        if count >= WAITING_MAX:
            raise BusyError(f"{WAITING_MAX} calls wait for {self.group}", may_have_run=False)

    def _ended(self) -> None:
        if self._closed and not self._waiting and not self._beside:
            self._idle.set()

    def _answer(self, method: Method, request: Request) -> Awaitable[Any]:
        return self.invoke(method, request.args, request.kwargs, request.client, request.req_num)

    def invoke(
        self, method: Method, args: list[Any], kwargs: dict[str, Any], client: str, number: int
    ) -> Awaitable[Any]:
        """One call now, with its hooks."""
        if self._is_hooked:
            request = Request(self.group, client, self.node_id, number, args, kwargs, method.name)
            return self._invoke_hooked(method, request)
        return self._invoke(method, args, kwargs)

    async def _invoke_hooked(self, method: Method, request: Request) -> Any:
        await self.service.on_service_called(request)
        response = Response(
            request.service, request.client, request.server, request.req_num, method=method.name
        )
        try:
            response.result = await self._invoke(method, request.args, request.kwargs)
        except Exception as error:
            response.exception = error
        await self.service.on_service_return(response)
        if response.exception is not None:
            raise response.exception
        return response.result

    def _invoke(
        self, method: Method, args: list[Any], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        if method.is_async:
            return cast("Coroutine[Any, Any, Any]", method.function(self.service, *args, **kwargs))
        return _in_thread(method.function, self.service, *args, **kwargs)

    def state(self) -> bytes:
        """The state as bytes; BadPayloadError where it holds what cannot be sent."""
        return encode_value(self.service.get_checkpoint())

    def digest(self) -> str:
        """A digest of the state."""
        return hashlib.sha256(self.state()).hexdigest()[:16]

    async def probe(self) -> None:
        """Returns when the calls before it are done: the service answers."""
        beat = self.service.methods["heartbeat"]
        async with self.turn:
            await self._invoke(beat, [], {})


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run this in a thread; who is cancelled waits for it nevertheless.

    A thread cannot be ended. If its turn were over before it is, the next call would run beside it,
    and a state that is put back would be changed by a call that counts no more.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # once more: it is known already
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # nobody asks for it any more
        raise
