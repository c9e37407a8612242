"""One service object while it is served: its life, and its calls.

Calls run one after the other, in the order in which they came; a method that says `concurrent` runs
beside them, as many at a time as it says. What waits is bounded.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import logging
from typing import Any

from meshcore.errors import BusyError, RPCNotFoundError
from meshcore.payload.values import encode_value
from meshcore.services.service import Method, Request, Response, Service

_LOG = logging.getLogger("meshcore.services")
WAITING_MAX = 1024  # calls that wait for those before them


class Instance:
    """Of `service`, in the group of that name, on the node of that id."""

    def __init__(self, service: Service, *, group: str, node_id: str) -> None:
        self.service = service
        self.group = group
        self.node_id = node_id
        self.turn = asyncio.Lock()
        self._waiting = 0
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

    async def stop(self) -> None:
        """End its tasks, then `clean_up`."""
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
            whatever the method or a hook raises.
        """
        method = self.method(request.method)
        if not method.concurrent:
            if self._waiting >= WAITING_MAX:
                raise BusyError(f"{WAITING_MAX} calls wait for {self.group}", may_have_run=False)
            self._waiting += 1
            try:
                async with self.turn:
                    return await self.run(method, request)
            finally:
                self._waiting -= 1
        gate = self._gates.get(method.name)
        if gate is None:
            gate = self._gates[method.name] = asyncio.Semaphore(method.concurrent)
        async with gate:
            return await self.run(method, request)

    async def run(self, method: Method, request: Request) -> Any:
        """Run one call now, with its hooks."""
        if not self._is_hooked:
            return await self._invoke(method, request)
        await self.service.on_service_called(request)
        response = Response(
            request.service, request.client, request.server, request.req_num, method=method.name
        )
        try:
            response.result = await self._invoke(method, request)
        except Exception as error:
            response.exception = error
        await self.service.on_service_return(response)
        if response.exception is not None:
            raise response.exception
        return response.result

    async def _invoke(self, method: Method, request: Request) -> Any:
        if method.is_async:
            return await method.function(self.service, *request.args, **request.kwargs)
        return await asyncio.to_thread(
            method.function, self.service, *request.args, **request.kwargs
        )

    def state(self) -> bytes:
        """The state as bytes; BadPayloadError where it holds what cannot be sent."""
        return encode_value(self.service.get_checkpoint())

    def digest(self) -> str:
        """A digest of the state."""
        return hashlib.sha256(self.state()).hexdigest()[:16]

    async def probe(self) -> None:
        """Returns when the calls before it are done: the service answers."""
        async with self.turn:
            await self.service.heartbeat()
