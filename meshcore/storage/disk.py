"""The file of a registry: an SQLite database that is complete at every moment.

What `write` has returned from survives a crash of the machine, and a process that is killed at any
moment leaves the file as it was before or after one `write`, which puts everything it is given into
one transaction. The last lines of defence are SQLite's own.

A file of another program, of a newer schema, or one that cannot be read is a ConfigError that names
it and the way out; it is never repaired or overwritten by itself.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from sys import intern
from typing import Any

from meshcore.errors import ConfigError
from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage.batch import Batch
from meshcore.storage.changes import ONLINE, STALE, PutOrigin
from meshcore.storage.record import Record
from meshcore.storage.sqlite import Schema, prepare, transaction

APPLICATION_ID = 0x6D636174  # "mcat"
SCHEMA_VERSION = 1
CACHE_KIB = 4096  # pages that SQLite keeps; the file is read once and then only written
WAL_BYTES_KEPT = 8 * 2**20  # a longer log is cut when it has been taken over
BUSY_TIMEOUT = 5.0  # seconds; somebody may be looking at the file with another program

_SCHEMA = """
    CREATE TABLE origin (
        number INTEGER PRIMARY KEY,
        mesh TEXT NOT NULL, node TEXT NOT NULL,
        organization TEXT NOT NULL, registry TEXT NOT NULL,
        incarnation INTEGER NOT NULL, version INTEGER NOT NULL, direct INTEGER NOT NULL,
        status TEXT NOT NULL, heartbeat REAL, at REAL NOT NULL, ttl REAL
    );
    CREATE TABLE flow (
        origin INTEGER NOT NULL, url TEXT NOT NULL,
        name TEXT NOT NULL, description TEXT NOT NULL, author TEXT NOT NULL,
        tags TEXT NOT NULL, -- JSON
        kind TEXT NOT NULL,
        incarnation INTEGER NOT NULL, version INTEGER NOT NULL, deleted INTEGER NOT NULL,
        created REAL, modified REAL,
        PRIMARY KEY (origin, url)
    ) WITHOUT ROWID;
"""
SCHEMA = Schema(APPLICATION_ID, SCHEMA_VERSION, _SCHEMA, WAL_BYTES_KEPT)
_PUT_ORIGIN = f"INSERT OR REPLACE INTO origin VALUES ({', '.join('?' * 12)})"
_PUT_FLOW = f"INSERT OR REPLACE INTO flow VALUES ({', '.join('?' * 12)})"


class RegistryFile:
    """One open file; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create it; ConfigError where that cannot be."""
        self._path = path
        with self._explained():
            self._database = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong here is what the user can do something about."""
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"{self._path}: cannot be read as the catalogue of a registry ({error}); move it"
                " away, or start with --reset to begin with an empty one"
            ) from error

    def _prepare(self) -> None:
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        prepare(self._database, SCHEMA)

    def read(self) -> Iterator[tuple[int, PutOrigin, list[Record]]]:
        """Every origin with its records and its number; who was online is stale now."""
        with self._explained():
            rows = self._database.execute("SELECT * FROM origin ORDER BY number").fetchall()
            for row in rows:
                try:
                    origin = int(row[0]), _origin_of(row), self._records(row[0])
                except (TypeError, ValueError, OverflowError) as error:
                    raise ValueError("it has a row that was not written by meshcore") from error
                yield origin

    def _records(self, number: int) -> list[Record]:
        rows = self._database.execute(
            "SELECT url, name, description, author, tags, kind, incarnation, version, deleted,"
            " created, modified FROM flow WHERE origin = ?",
            (number,),
        )
        return [_record_of(row) for row in rows]

    def write(self, batch: Batch) -> None:
        """All of it, durable, or nothing: sqlite3.Error."""
        run = self._database.executemany
        with transaction(self._database):
            run("DELETE FROM flow WHERE origin = ?", batch.gone())
            run("DELETE FROM origin WHERE number = ?", batch.gone())
            run("DELETE FROM flow WHERE origin = ? AND url = ?", batch.forgotten())
            run(_PUT_FLOW, batch.flows())
            run(_PUT_ORIGIN, batch.origins())

    def close(self) -> None:
        self._database.close()


def remove(path: Path) -> None:
    """Delete a registry's file with what belongs to it; nothing where there is none."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _origin_of(row: tuple[Any, ...]) -> PutOrigin:
    _, mesh, node, organization, registry, incarnation, version, direct, status, *times = row
    heartbeat, at, ttl = times
    return PutOrigin(
        origin=Origin(intern(mesh), intern(node)),
        organization=intern(organization),
        registry=intern(registry),
        incarnation=int(incarnation),
        version=int(version),
        direct=bool(direct),
        status=STALE if status == ONLINE else intern(status),
        heartbeat=_time(heartbeat),
        at=float(at),
        ttl=_time(ttl),
    )


def _record_of(row: tuple[Any, ...]) -> Record:
    # What many records share is one object: it is most of what a tag costs.
    url, name, description, author, tags, kind, incarnation, version, deleted, *times = row
    created, modified = times
    return Record(
        Flow(
            url=_text(url),
            name=_text(name),
            description=_text(description),
            author=intern(author),
            tags=_tags(tags),
            kind=intern(kind),
        ),
        incarnation=int(incarnation),
        version=int(version),
        deleted=bool(deleted),
        created=_time(created),
        modified=_time(modified),
    )


@functools.lru_cache(maxsize=4096)
def _tags(text: str) -> tuple[str, ...]:
    """Tags as they are on disk; records with the same ones share them."""
    return tuple(map(intern, json.loads(text)))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _time(value: Any) -> float | None:
    return None if value is None else float(value)
