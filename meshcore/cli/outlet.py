"""Output of a node that must never wait for its reader.

A node that prints into a pipe which nobody drains would block its loop as soon as the pipe is
full, and with it the mesh around it. So a thread writes, and what the reader cannot take is dropped
and counted. When the reader has gone, `on_closed` is called once, from that thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import TextIO

_LINES_MAX = 1000  # waiting for the reader


class Outlet:
    """Writes lines to `stream` in the background; `close` gives what is waiting a moment."""

    def __init__(self, stream: TextIO, on_closed: Callable[[], object] | None = None) -> None:
        self.dropped = 0
        self._stream = stream
        self._on_closed = on_closed
        self._lines: queue.Queue[str | None] = queue.Queue(_LINES_MAX)
        self._thread = threading.Thread(target=self._write, name="output", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Write a line soon, or never where the reader is too slow."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self.dropped += 1

    def close(self, timeout: float = 0.5) -> None:
        """Write what is waiting, for at most `timeout` seconds."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=timeout)
        self._thread.join(timeout)

    def _write(self) -> None:
        while (text := self._lines.get()) is not None:
            try:
                self._stream.write(text + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # the reader has gone, or the file is closed
                if self._on_closed is not None:
                    self._on_closed()
                return


class OutletHandler(logging.Handler):
    """Hands log records to an Outlet."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._outlet.line(text)
