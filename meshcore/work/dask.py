"""Runs plain functions and generators on a Dask cluster (`executor="dask"`).

The node is a client of the scheduler that the setting `dask` names, and connects with the first
job. Each job is one task of the cluster (`dask_task` is what runs there); Dask carries the function
as it carries any, so modules that the workers can import go by name, and scripts by value. Values
of a generator come through a queue of the cluster, at most AHEAD of them before they are taken.

Contract: as of the other runners (see `job.Host`). A cancel sets an event that the task watches,
and the action's context is told. What does not end within 1 s is given up: Dask forgets the task,
its slot here is free, the function may run on there, as a thread does. Dask would start a task
again whose worker died; the task refuses that, for it may have had effects.

Complications: Dask's client lives on a loop in a thread of its own, so what is said to it is a
coroutine over there (`_there`); nothing of Dask runs on the node's loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from meshcore.errors import Code, ConfigError
from meshcore.work.actions import Kind
from meshcore.work.away import context_fields
from meshcore.work.dask_task import AHEAD, name_of_began, name_of_cancel, perform
from meshcore.work.job import Failure, Host, Job
from meshcore.work.pipe import pack_value, unpack_value

CONNECT_TIMEOUT = 5.0  # seconds until the scheduler has answered
CANCEL_GRACE = 1.0  # seconds from the cancel until the task is given up
LOOK = 1.0  # seconds without a value until we look whether the task has ended


class _Flight:
    """One job on the cluster."""

    def __init__(self) -> None:
        self.name = f"meshcore-{uuid.uuid4().hex}"
        self.client: Any = None
        self.future: Any = None
        self.task: asyncio.Task[None]


class DaskRunner:
    """The runner for executor="dask"; each job has a slot.

    Args:
        host: the executor.
        address: of the scheduler, `tcp://HOST:PORT`; None = there is none, and jobs fail.
    """

    def __init__(self, host: Host, address: str | None) -> None:
        self._host, self._address = host, address
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._flights: dict[Job, _Flight] = {}
        self._ending: dict[asyncio.Task[None], None] = {}

    def run(self, job: Job) -> None:
        """Run a job that has a slot."""
        flight = self._flights[job] = _Flight()
        flight.task = asyncio.Task(self._drive(job, flight), loop=self._host.loop)

    def cancel(self, job: Job) -> None:
        """Tell the action; give the task up where it does not end."""
        flight = self._flights.get(job)
        if flight is not None:
            task = asyncio.Task(self._call_off(flight), loop=self._host.loop)
            self._ending[task] = None
            task.add_done_callback(self._ending.pop)

    async def stop(self) -> None:
        """Give up what runs, and leave the cluster."""
        for task in [flight.task for flight in self._flights.values()]:
            task.cancel()
        while self._flights or self._ending:  # noqa: ASYNC110 (bounded by CANCEL_GRACE)
            await asyncio.sleep(0.005)
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close, 2)

    async def _drive(self, job: Job, flight: _Flight) -> None:
        try:
            client = await self._connect()
            if not job.cancelled:  # meanwhile
                await self._converse(job, flight, client)
        except ConfigError as error:
            name = type(error).__name__
            self._host.failed(
                job, Failure(Code.ACTION_FAILED, name, str(error), may_have_run=False)
            )
        except _ClusterError as error:
            self._host.failed(job, Failure(Code.INTERNAL, "", str(error), may_have_run=job.begun))
        except asyncio.CancelledError:
            self._host.failed(job, Failure(Code.CANCELLED, "", "its task at Dask was given up"))
        except BaseException as error:  # a payload that does not fit, above all
            self._host.raised(job, error)
        finally:
            del self._flights[job]
            self._host.left(job)
            self._host.release()

    async def _converse(self, job: Job, flight: _Flight, client: Any) -> None:
        kind, body = pack_value(self._host.argument(job))
        job.begun, flight.client = True, client
        streams = job.spec.kind is Kind.GENERATOR
        queue, taken = None, 0
        try:
            if streams:
                queue = await self._in_thread(_queue_of, flight)
            flight.future = await self._there(client, self._submit(job, flight, kind, bytes(body)))
            if queue is not None:
                taken = await self._take_values(job, flight, queue)
            last = await self._there(client, _result_of(flight.future))
        finally:
            if queue is not None:
                queue.close()
        what, *fields = last
        if what == "value":
            self._host.result(job, unpack_value(*fields))
        elif what == "failure":
            self._host.failed(job, Failure(Code(fields[0]), *fields[1:]))
        elif fields == [taken] or job.settled:
            self._host.exhausted(job)
        else:
            raise _ClusterError(f"Dask at {self._address} lost values: {taken} of {fields} came")
        await self._there(client, _tidy(flight))

    async def _submit(self, job: Job, flight: _Flight, kind: int, body: bytes) -> Any:
        return flight.client.submit(
            perform,
            flight.name,
            job.spec.function,
            (kind, body),
            context_fields(job, self._host.services),
            job.spec.wants_context,
            key=flight.name,
            pure=False,
            retries=0,
        )

    async def _take_values(self, job: Job, flight: _Flight, queue: Any) -> int:
        """Give the values on as they come; how many there were."""
        taken = 0
        while not job.settled:  # else nobody takes values; the task ends by its context
            ended = flight.future.done()  # asked first: a value may come before the end
            frame = await self._there(flight.client, _next_of(queue, 0.01 if ended else LOOK))
            if frame is None:
                if ended:
                    break
                continue
            if frame[0] == "last":
                break
            taken += 1
            if not self._host.item(job, unpack_value(*frame[1:])):
                await self._host.writable(job)
        return taken

    async def _call_off(self, flight: _Flight) -> None:
        if flight.future is not None:
            try:
                await self._there(flight.client, _set(flight))
            except _ClusterError:  # then there is nobody to be told; the task here ends below
                flight.task.cancel()
        await asyncio.wait([flight.task], timeout=CANCEL_GRACE)
        if not flight.task.done():
            if flight.future is not None:
                flight.client.loop.add_callback(flight.future.cancel)
            flight.task.cancel()

    async def _connect(self) -> Any:
        async with self._connecting:
            if self._client is None or self._client.status != "running":
                self._client = await asyncio.to_thread(_client_of, self._address)
            return self._client

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return await asyncio.to_thread(function, *args)
        except Exception as error:
            raise self._cluster_error(error) from error

    async def _there(self, client: Any, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine on Dask's own loop; _ClusterError where Dask fails."""
        loop = client.loop.asyncio_loop
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
        except Exception as error:
            if isinstance(error, TypeError):
                raise  # a function that cannot be carried there
            raise self._cluster_error(error) from error

    def _cluster_error(self, error: Exception) -> _ClusterError:
        return _ClusterError(f"Dask at {self._address}: {type(error).__name__}: {str(error)[:500]}")


class _ClusterError(Exception):
    """The cluster failed, not the action."""


def _client_of(address: str | None) -> Any:
    if address is None:
        raise ConfigError(
            'executor = "dask" needs the setting dask: the address of a scheduler '
            '(dask = "tcp://HOST:8786")'
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            'executor = "dask" needs the extra: pip install meshcore-runtime[dask]'
        ) from error
    try:
        return Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False, name="meshcore")
    except (OSError, TimeoutError) as error:
        raise _ClusterError(f"Dask at {address} gives no answer: {str(error)[:500]}") from error
    except ValueError as error:
        raise ConfigError(f"dask = {address!r} is no address of a scheduler: {error}") from error


def _queue_of(flight: _Flight) -> Any:
    """Make the queue; returns when the scheduler has it, so it is there before the task is."""
    from distributed import Queue

    return Queue(flight.name, client=flight.client, maxsize=AHEAD)


# What runs on Dask's loop


async def _result_of(future: Any) -> Any:
    return await future


async def _next_of(queue: Any, timeout: float) -> Any:
    try:
        return await queue.get(timeout=timeout)
    except TimeoutError:
        return None


async def _set(flight: _Flight) -> None:
    from distributed import Event

    await Event(name_of_cancel(flight.name), client=flight.client).set()


async def _tidy(flight: _Flight) -> None:
    """What the task has left at the scheduler, once it has ended."""
    from distributed import Event

    for name in (name_of_began(flight.name), name_of_cancel(flight.name)):
        await Event(name, client=flight.client).clear()
