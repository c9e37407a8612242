"""A file of meshcore's in SQLite: durable, recognised, never repaired or overwritten by itself.

WAL with synchronous=FULL: what was committed survives a crash of the machine. The schema has a
number (`user_version`), and the file a mark that says whose it is (`application_id`).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schema:
    """Of one kind of file; `begin` is SQL that makes a new one what it is."""

    application_id: int
    version: int
    begin: str
    wal_bytes_kept: int  # a longer log is cut when it has been taken over


def prepare(database: sqlite3.Connection, schema: Schema) -> bool:
    """Make it ours if it is empty: whether it was. ValueError where it is of somebody else."""
    run = database.execute
    run("PRAGMA synchronous = FULL")
    run(f"PRAGMA journal_size_limit = {schema.wal_bytes_kept}")
    tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and run("PRAGMA application_id").fetchone()[0] != schema.application_id:
        raise ValueError("it is a database of another program")
    version = run("PRAGMA user_version").fetchone()[0]
    if tables and version != schema.version:
        raise ValueError(f"its schema is version {version}, this is {schema.version}")
    run("PRAGMA journal_mode = WAL")
    if not tables:
        database.executescript(
            f"BEGIN IMMEDIATE; {schema.begin}"
            f"PRAGMA application_id = {schema.application_id};"
            f"PRAGMA user_version = {schema.version}; COMMIT;"
        )
    return not tables


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All that is done in it, durable, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # it may have been rolled back already
            database.execute("ROLLBACK")
        raise
