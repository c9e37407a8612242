"""What a replica keeps on disk: who it is, its group, its vote, its log, its checkpoint.

One SQLite file for each group, written by a thread of its own: everything that waits when it comes
round is one transaction and one sync to disk (group commit). What is on disk is told on the event
loop. When the disk refuses, that is told once and nothing more is written: the replica has stopped.

Without a path it is kept in memory, with the same order of events.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshcore.errors import BadPayloadError, ConfigError
from meshcore.payload.values import decode_value, encode_value
from meshcore.protocol.replication.effects import Persist
from meshcore.protocol.replication.plain import (
    BadMessage,
    checkpoint_of,
    pack,
    plain_checkpoint,
    unpack,
)  # fmt: skip
from meshcore.protocol.replication.records import Entry, Stored
from meshcore.storage.sqlite import Schema, prepare, transaction

_LOG = logging.getLogger("meshcore.storage")
APPLICATION_ID = 0x6D657367  # "mesg"
SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (first INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""  # a row holds entries from `first` on; where a later row begins within them, its are valid
_PUT = "INSERT OR REPLACE INTO about VALUES (?, ?)"
_DELETE_BEFORE = """DELETE FROM entries
WHERE first < (SELECT max(first) FROM entries WHERE first <= ?)"""
SLOW = 0.5  # seconds for a write that are worth a line in the log
WAL_BYTES_KEPT = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Formed:
    """Write down how far the formation of the group is."""

    token: int
    record: dict[str, Any]


Job = Persist | Formed


class MemoryStore:
    """Forgets everything when the process ends."""

    def __init__(self) -> None:
        self.state_id = os.urandom(6).hex()
        self.formation: dict[str, Any] | None = None
        self._written: Callable[[list[Job]], None] = lambda jobs: None
        self._waiting: list[Job] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, written: Callable[[list[Job]], None], failed: Callable[[str], None]) -> None:
        """From now on `written` is called with what is kept, on this loop."""
        self._written = written
        self._loop = asyncio.get_running_loop()

    def stored(self) -> Stored | None:
        """What is there of the replica; None in a new file."""
        return None

    def add(self, job: Job) -> None:
        """Keep this as well."""
        if self._loop is None:
            return
        if not self._waiting:
            self._loop.call_soon(self._tell)
        self._waiting.append(job)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._loop is not None:
            self._written(waiting)

    def close(self) -> None:
        self._loop = None


class ReplicaStore:
    """In the file `path`; ConfigError where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # None: the end
        self._closing = False
        self._failed = False
        self._next = 0  # the entry after the last one that was written in this life
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                self._read()
            except BaseException:
                self._database.close()
                raise
        except (sqlite3.Error, OSError, ValueError, BadPayloadError) as error:
            raise ConfigError(
                f"{path}: cannot be read as the state of a replica ({error}); move it away, and"
                " the node is taken in as a new replica"
            ) from error

    def _prepare(self) -> None:
        state_id = encode_value(os.urandom(6).hex()).hex()  # with its id, or not at all
        begin = f"{_SCHEMA} INSERT INTO about VALUES ('state_id', x'{state_id}');"
        prepare(self._database, Schema(APPLICATION_ID, SCHEMA_VERSION, begin, WAL_BYTES_KEPT))

    def _read(self) -> None:
        state_id = self._get("state_id")
        if not isinstance(state_id, str):
            raise ValueError("it has no id")
        self.state_id = state_id
        record = self._get("formation")
        self.formation: dict[str, Any] | None = record if isinstance(record, dict) else None

    def _get(self, name: str) -> Any:
        row = self._database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else decode_value(row[0])

    def stored(self) -> Stored | None:
        """What is there of the replica; None in a new file. ConfigError where it is damaged."""
        try:
            vote, checkpoint = self._get("vote"), self._get("checkpoint")
            if checkpoint is None and vote is None:
                return None
            entries = self._entries()
            term, voted_for = vote or (0, None)
            if checkpoint is None:
                formation = self.formation or {}
                stored = Stored.new(tuple(formation.get("members") or ()))
                return Stored(term, voted_for, stored.checkpoint, entries)
            return Stored(term, voted_for, checkpoint_of(checkpoint), entries)
        except (sqlite3.Error, BadMessage, BadPayloadError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{self._path}: the state of the replica is damaged ({error}); move it away, and"
                " the node is taken in as a new replica"
            ) from error

    def _entries(self) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        for (data,) in self._database.execute("SELECT data FROM entries ORDER BY first"):
            batch = unpack(data)
            known = batch[0].index - entries[0].index if entries else 0
            if known > len(entries):
                raise ValueError("entries are missing")
            entries[known:] = batch
        return tuple(entries)

    # Writing -------------------------------------------------------------------------------------

    def start(self, written: Callable[[list[Job]], None], failed: Callable[[str], None]) -> None:
        """From now on `written` is called on this loop with what is on disk, in order."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(written, failed), name="meshcore-replica-disk", daemon=True
        )
        self._thread.start()

    def add(self, job: Job) -> None:
        """Write this as well; at once, together with what else waits."""
        if not (self._failed or self._closing):  # nobody would come for it
            self._waiting.put(job)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._closing = True
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()
        self._database.close()

    def _run(self, written: Callable[[list[Job]], None], failed: Callable[[str], None]) -> None:
        ended = False
        while not ended:
            jobs: list[Job] = []
            while not jobs or not self._waiting.empty():
                job = self._waiting.get()
                if job is None:
                    ended = True
                    break
                jobs.append(job)
            if not jobs:
                return
            began = time.monotonic()
            try:
                self._write(jobs)
            except Exception as error:  # whatever it is, nothing may be acknowledged any more
                self._failed = True
                self._tell(failed, str(error) or type(error).__name__)
                return
            took = time.monotonic() - began
            if took >= SLOW:
                _LOG.warning("%s: the disk took %.1f s for one write", self._path, took)
            self._tell(written, jobs)

    def _tell(self, function: Callable[[Any], None], argument: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, argument)

    def _write(self, jobs: list[Job]) -> None:
        """All of it, durable, or nothing."""
        statements = [statement for job in jobs for statement in self._statements(job)]
        run = self._database.execute
        if len(statements) == 1:  # a transaction by itself: each more waits for the interpreter
            run(*statements[0])
            return
        with transaction(self._database):
            for statement in statements:
                run(*statement)

    def _statements(self, job: Job) -> Iterator[tuple[str, tuple[Any, ...]]]:
        if isinstance(job, Formed):
            yield _PUT, ("formation", encode_value(job.record))
            return
        if job.term is not None:
            yield _PUT, ("vote", encode_value([job.term, job.voted_for]))
        if job.checkpoint is not None:
            yield _PUT, ("checkpoint", encode_value(plain_checkpoint(job.checkpoint)))
            if job.reset:
                yield "DELETE FROM entries", ()
            else:
                yield _DELETE_BEFORE, (job.keep_from,)
        if job.entries:
            first = job.entries[0].index
            if first != self._next:
                yield "DELETE FROM entries WHERE first >= ?", (first,)
            yield "INSERT INTO entries VALUES (?, ?)", (first, pack(job.entries))
            self._next = job.entries[-1].index + 1
