"""The main module of a worker process: runs one job at a time for the node at the other end.

The main thread runs actions; a second one reads what the node says, so that a cancel arrives while
the action works, and so that the process ends at once when its node is gone, whatever it does.
Standard output goes to standard error: the node's own output may be read by a program.
"""

from __future__ import annotations

import importlib
import logging
import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Callable
from operator import attrgetter
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from meshcore.work.away import context_of
from meshcore.work.context import Context
from meshcore.work.failures import failure_of
from meshcore.work.pipe import AHEAD, HEADER, MAIN, pack, pack_value, unpack, unpack_value


class _Worker:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._lock = threading.Lock()  # of sending: actions may log from threads of their own
        self._jobs: SimpleQueue[list[Any]] = SimpleQueue()
        self._context: Context | None = None
        self._room = threading.Semaphore(AHEAD)

    def listen(self) -> None:
        """Take what the node says, until it is gone."""
        try:
            while header := self._stream.read(HEADER.size):
                what, *fields = unpack(self._stream.read(*HEADER.unpack(header)))
                self._take(what, fields)
        finally:
            os._exit(0)

    def _take(self, what: str, fields: list[Any]) -> None:
        if what == "job":
            # Here, not when it is run: a cancel that follows at once finds its context.
            self._context = context_of(**fields[5])
            self._room = threading.Semaphore(AHEAD)
            self._jobs.put(fields)
        elif what == "credit":
            self._room.release()
        elif self._context is not None:
            self._context.cancel()
            self._room.release()

    def work(self) -> None:
        """Run jobs for ever."""
        while True:
            self._run(*self._jobs.get())

    def send(self, *fields: Any) -> None:
        with self._lock:
            self._connection.sendall(pack(*fields))

    def _run(
        self,
        module: str,
        qualname: str,
        file: str | None,
        kind: int,
        body: bytes,
        _context_fields: dict[str, Any],
        wants_context: bool,
    ) -> None:
        context = self._context
        assert context is not None
        try:
            function = _find(module, qualname, file)
            argument = unpack_value(kind, body)
            called = function(argument, context) if wants_context else function(argument)
            if hasattr(called, "send"):
                self._pull(called, context)
                last = pack("end")
            else:
                last = pack("value", *pack_value(called))
        except BaseException as error:  # whatever an action raises is its outcome
            code, name, message, trace, _ = failure_of(error)
            last = pack("failure", int(code), name, message, trace)
        with self._lock:
            self._connection.sendall(last)

    def _pull(self, generator: Any, context: Context) -> None:
        try:
            for value in generator:
                self._room.acquire()
                if context.cancelled:
                    return
                self.send("item", *pack_value(value))
        finally:
            generator.close()


class _Forward(logging.Handler):
    """Sends log records to the node, which has the configuration of logging."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        self._worker.send("log", record.levelno, record.name, self.format(record))


def _find(module: str, qualname: str, file: str | None) -> Callable[..., Any]:
    home: Any
    if file is None:
        home = importlib.import_module(module)
    elif MAIN in sys.modules:
        home = sys.modules[MAIN]
    else:
        home = SimpleNamespace(**runpy.run_path(file, run_name=MAIN))
        sys.modules[MAIN] = home
    found: Callable[..., Any] = attrgetter(qualname)(home)
    return found


def main(descriptor: int) -> None:
    """Serve the node at the other end of this socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the node's; it ends us in order
    os.dup2(2, 1)
    worker = _Worker(socket.socket(fileno=descriptor))
    logging.basicConfig(level=logging.INFO, handlers=[_Forward(worker)], format="%(message)s")
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.work()
