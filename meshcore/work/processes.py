"""Runs plain functions and generators in spawned processes.

Each process runs one job at a time, is kept for the next one, and ends after 30 s without any. It
is a fresh interpreter (`worker` is its main module), never a fork: it shares no locks, sockets or
threads with the node. Node and process talk over a socket pair in MessagePack frames (see `pipe`);
a process whose node is gone sees the end of the socket and ends, so there are no orphans.

Cancelling tells the action first (its context); a process that does not end its job within 1 s is
killed. A process that dies fails its job with INTERNAL and the signal's number.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from typing import Any

from meshcore.errors import Code
from meshcore.work.away import context_fields
from meshcore.work.job import Failure, Host, Job
from meshcore.work.pipe import HEADER, pack, pack_value, reference_of, unpack, unpack_value

CANCEL_GRACE = 1.0  # seconds from the cancel to the kill
IDLE_TIMEOUT = 30.0  # seconds until a process without work ends
END_WAIT = 0.5  # seconds for a process to end by itself, once its socket is closed
_POLL = 0.005
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from meshcore.work.worker import main; main(int(sys.argv[1]))"
)


class _Worker:
    """One process and the node's end of its socket."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.idle_timer: asyncio.TimerHandle | None = None
        self.kill_timer: asyncio.TimerHandle | None = None

    def send(self, *fields: Any) -> None:
        self.writer.write(pack(*fields))

    async def receive(self) -> list[Any]:
        """The next frame; IncompleteReadError or OSError when the process is gone."""
        (length,) = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        return unpack(await self.reader.readexactly(length))

    async def end(self, *, kill: bool) -> int:
        """Close its socket, wait until it has ended; its exit status (-9 = signal 9)."""
        self.writer.close()
        give_up = time.monotonic() + END_WAIT
        if kill:
            self.process.kill()
        while (status := self.process.poll()) is None:
            if time.monotonic() > give_up:
                self.process.kill()
            await asyncio.sleep(_POLL)
        return status


class Processes:
    """The runner for executor="process"; each job has a slot."""

    def __init__(self, host: Host, *, idle_timeout: float = IDLE_TIMEOUT) -> None:
        self._host, self._idle_timeout = host, idle_timeout
        self._idle: list[_Worker] = []
        self._busy: dict[Job, _Worker] = {}
        self._waiting: dict[Job, asyncio.Future[None]] = {}
        self._ending: dict[asyncio.Task[int], None] = {}

    def run(self, job: Job) -> None:
        """Run a job that has a slot."""
        job.handle = asyncio.Task(self._drive(job), loop=self._host.loop)

    def cancel(self, job: Job) -> None:
        """Tell the action; kill its process where it does not end."""
        worker = self._busy.get(job)
        if worker is not None and worker.kill_timer is None:
            worker.send("cancel")
            worker.kill_timer = self._host.loop.call_later(CANCEL_GRACE, worker.process.kill)
        if job in self._waiting:
            self._waiting[job].cancel()

    async def stop(self) -> None:
        """End all processes; returns when they are gone."""
        for worker in [*self._idle, *self._busy.values()]:
            self._dismiss(worker, kill=worker not in self._idle)
        self._idle.clear()
        while self._ending or self._busy:  # noqa: ASYNC110 (bounded: what does not end is killed)
            await asyncio.sleep(_POLL)

    async def _drive(self, job: Job) -> None:
        worker, in_order = None, False
        try:
            if not job.cancelled:
                worker = self._busy[job] = await self._hire()
                if not job.cancelled:  # meanwhile
                    await self._converse(job, worker)
                in_order = True
        except (asyncio.IncompleteReadError, OSError) as error:
            self._host.failed(job, await self._obituary(worker, error))
            worker = None
        except BaseException as error:  # a payload that does not fit, above all
            self._host.raised(job, error)
        finally:
            self._busy.pop(job, None)
            if worker is not None:
                self._retire(worker, in_order=in_order or not job.begun)
            self._host.left(job)
            self._host.release()

    async def _converse(self, job: Job, worker: _Worker) -> None:
        frame = self._frame_of(job)
        job.begun = True
        worker.writer.write(frame)
        while True:
            what, *fields = await worker.receive()
            if what == "value":
                self._host.result(job, unpack_value(*fields))
                return
            if what == "failure":
                self._host.failed(job, Failure(Code(fields[0]), *fields[1:]))
                return
            if what == "end":
                self._host.exhausted(job)
                return
            if what == "log":
                level, name, text = fields
                logging.getLogger(name).log(level, "%s", text)
                continue
            if not self._host.item(job, unpack_value(*fields)):
                await self._room(job)
            worker.send("credit")

    def _frame_of(self, job: Job) -> bytes:
        argument = pack_value(self._host.argument(job))
        where = reference_of(job.spec.function)
        context = context_fields(job, self._host.services)
        return pack("job", *where, *argument, context, job.spec.wants_context)

    async def _room(self, job: Job) -> None:
        """Wait until the stream takes values again, or the job is cancelled."""
        waiting = self._waiting[job] = asyncio.ensure_future(self._host.writable(job))
        try:
            await asyncio.wait([waiting])
        finally:
            del self._waiting[job]
            waiting.cancel()
        if not waiting.cancelled():
            waiting.result()

    async def _hire(self) -> _Worker:
        if self._idle:
            worker = self._idle.pop()
            if worker.idle_timer is not None:
                worker.idle_timer.cancel()
            return worker
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: ASYNC220 (a vfork: some ms, once per process)
                [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        worker = _Worker(process)
        worker.reader, worker.writer = await asyncio.open_unix_connection(sock=ours)
        return worker

    def _retire(self, worker: _Worker, *, in_order: bool) -> None:
        """Keep the process for the next job, unless its job did not end in good order."""
        if worker.kill_timer is not None or not in_order:
            if worker.kill_timer is not None:
                worker.kill_timer.cancel()
            self._dismiss(worker, kill=True)
            return
        worker.idle_timer = self._host.loop.call_later(self._idle_timeout, self._expire, worker)
        self._idle.append(worker)

    def _expire(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        self._dismiss(worker, kill=False)

    def _dismiss(self, worker: _Worker, *, kill: bool) -> None:
        if worker.idle_timer is not None:
            worker.idle_timer.cancel()
        task = asyncio.Task(worker.end(kill=kill), loop=self._host.loop)
        self._ending[task] = None
        task.add_done_callback(self._ending.pop)

    async def _obituary(self, worker: _Worker | None, error: Exception) -> Failure:
        if worker is None:
            return Failure(Code.INTERNAL, "", f"no worker process: {error}", may_have_run=False)
        if worker.kill_timer is not None:
            worker.kill_timer.cancel()
        status = await worker.end(kill=False)
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return Failure(Code.INTERNAL, "", f"worker process died ({how})")
