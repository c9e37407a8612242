"""The thread that keeps the file up to date.

What is to be written gathers in one `Batch`, in which a later word on a record replaces the earlier
one: however slow the disk is, no more waits than one row for each record. The thread takes
everything that has gathered and writes it in one transaction, so that under load one sync to disk
serves many changes. Beats of origins come all the time and are worth little: they alone wait up to
`BEATS_WAIT` for company.

When the disk refuses (full, broken), nothing is given up: what could not be written gathers
further, is tried again after `RETRY_AFTER`, and `on_failure` hears of it once for each time it
begins. Who waits in `when_written` is told of the failure.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

from meshcore.storage.batch import Batch
from meshcore.storage.disk import RegistryFile

BEATS_WAIT = 5.0  # seconds
RETRY_AFTER = 2.0  # seconds

Written = Callable[[Exception | None], None]


class Writer:
    """Writes in a thread of its own, from construction to `close`."""

    def __init__(self, file: RegistryFile, *, on_failure: Callable[[str], None]) -> None:
        self._file = file
        self._on_failure = on_failure
        self._wake = threading.Condition()
        self._waiting = Batch()
        self._closing = False
        self._failing = False
        self._told: list[Written] = []
        self._thread = threading.Thread(
            target=self._run, name="meshcore-catalogue-disk", daemon=True
        )
        self._thread.start()

    def add(self, batch: Batch) -> None:
        """Write this as well; from any thread."""
        with self._wake:
            self._waiting.update(batch)
            self._wake.notify()

    def when_written(self, told: Written) -> None:
        """Call this, in the thread, when all that was added before is on disk or was refused."""
        with self._wake:
            self._told.append(told)
            self._wake.notify()

    def close(self) -> None:
        """Write what waits, with one attempt, and close the file."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wait()
                batch, self._waiting = self._waiting, Batch()
                told, self._told = self._told, []
                closing = self._closing
            error = self._write(batch) if batch else None
            if error is not None:
                with self._wake:
                    batch.update(self._waiting)
                    self._waiting = batch
            for tell in told:
                tell(error)
            if closing:
                return

    def _wait(self) -> None:
        """Until there is something to do; the lock is held before and after."""
        if self._failing:
            self._wake.wait_for(lambda: self._closing or self._told, RETRY_AFTER)
            return
        self._wake.wait_for(lambda: self._is_urgent() or self._waiting)
        self._wake.wait_for(self._is_urgent, BEATS_WAIT)

    def _is_urgent(self) -> bool:
        return bool(self._closing or self._told or self._waiting.is_urgent)

    def _write(self, batch: Batch) -> Exception | None:
        try:
            self._file.write(batch)
        except (sqlite3.Error, OSError) as error:
            if not self._failing:
                self._failing = True
                self._on_failure(f"the catalogue cannot be written to disk: {error}")
            return error
        self._failing = False
        return None
