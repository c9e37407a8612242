"""What a replica keeps: order, group commit, what is there after a restart, disks that refuse."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from meshcore import ConfigError
from meshcore.protocol.replication.effects import Persist
from meshcore.protocol.replication.records import Call, Checkpoint, Entry, Kind
from meshcore.storage.replicas import Formed, Job, MemoryStore, ReplicaStore

Store = MemoryStore | ReplicaStore


class Told:
    """What the store tells, and waiting for it."""

    def __init__(self, store: Store) -> None:
        self.jobs: list[Job] = []
        self.turns: list[int] = []
        self.failures: list[str] = []
        self._more = asyncio.Event()
        store.start(self._written, self._failed)

    def _written(self, jobs: list[Job]) -> None:
        self.jobs += jobs
        self.turns.append(len(jobs))
        self._more.set()

    def _failed(self, reason: str) -> None:
        self.failures.append(reason)
        self._more.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._more.clear()
                await self._more.wait()

    @property
    def tokens(self) -> list[int]:
        return [job.token for job in self.jobs]


def entry(index: int, term: int = 1, answer: bytes | None = b"\x00\xff") -> Entry:
    return Entry(index, term, Kind.CALL, Call(1, index, 1, b"\xff\x00", 1.5, 7, answer))


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await scenario()

    asyncio.run(all_of_it())


def make(kind: str, directory: Path) -> Store:
    return MemoryStore() if kind == "memory" else ReplicaStore(directory / "services" / "x.db")


def write(path: Path, *jobs: Job) -> None:
    """In one life of a store."""

    async def scenario() -> None:
        store = ReplicaStore(path)
        told = Told(store)
        for job in jobs:
            store.add(job)
        await told.until(lambda: len(told.jobs) == len(jobs))
        store.close()

    run(scenario)


KINDS = pytest.mark.parametrize("kind", ["memory", "file"])


@KINDS
def test_all_is_told_once_in_order_and_never_within_the_call(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = make(kind, tmp_path)
        assert store.stored() is None
        assert store.formation is None
        told = Told(store)
        store.add(Formed(1, {"gid": "g"}))
        for token in range(2, 200):
            store.add(Persist(token, entries=(entry(token),)))
        assert told.jobs == []
        await told.until(lambda: len(told.jobs) == 199)
        assert told.tokens == list(range(1, 200))
        assert told.failures == []
        store.close()

    run(scenario)


@KINDS
def test_what_comes_after_the_end_is_dropped(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = make(kind, tmp_path)
        told = Told(store)
        store.close()
        store.add(Persist(1, term=1))
        await asyncio.sleep(0)
        assert told.jobs == []

    run(scenario)


def test_what_waits_is_one_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = ReplicaStore(tmp_path / "x.db")
        for token in range(1, 101):
            store.add(Persist(token, entries=(entry(token),)))
        told = Told(store)
        await told.until(lambda: bool(told.jobs))
        assert told.turns == [100]
        store.close()

    run(scenario)


def test_a_new_file_has_an_id_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    first = ReplicaStore(tmp_path / "x.db")
    own = first.state_id
    first.close()
    again, other = ReplicaStore(tmp_path / "x.db"), ReplicaStore(tmp_path / "y.db")
    assert again.state_id == own
    assert other.state_id != own
    again.close()
    other.close()


def test_a_restart_finds_the_vote_the_log_and_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    checkpoint = Checkpoint(3, 1, ("a/1", "b/2"), [], b"\x00state\xff", 4)
    write(
        path,
        Formed(1, {"members": ["a/1", "b/2"], "gid": "g"}),
        Persist(2, term=1, voted_for="a/1", entries=tuple(entry(i) for i in range(1, 6))),
        Persist(3, term=2, voted_for=None, entries=(entry(4, 2), entry(5, 2, None))),
        Persist(4, checkpoint=checkpoint, keep_from=2),
    )
    store = ReplicaStore(path)
    stored = store.stored()
    assert store.formation == {"members": ["a/1", "b/2"], "gid": "g"}
    assert stored is not None
    assert (stored.term, stored.voted_for) == (2, None)
    assert stored.checkpoint == checkpoint
    kept = (entry(1), entry(2), entry(3), entry(4, 2), entry(5, 2, None))  # the batch of 2 whole
    assert stored.entries == kept
    store.close()


def test_shorter_entries_replace_all_that_came_after(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    write(
        path,
        Formed(1, {"members": ["a/1"]}),
        Persist(2, term=1, entries=tuple(entry(i) for i in range(1, 10))),
        Persist(3, term=2, entries=(entry(4, 2),)),
    )
    store = ReplicaStore(path)
    stored = store.stored()
    assert stored is not None
    assert [(e.index, e.term) for e in stored.entries] == [(1, 1), (2, 1), (3, 1), (4, 2)]
    assert stored.checkpoint.members == ("a/1",)
    store.close()


def test_batches_that_overlap_are_the_log_that_was_last_written(tmp_path: Path) -> None:
    path = tmp_path / "x.db"

    def some(first: int, last: int, term: int) -> tuple[Entry, ...]:
        return tuple(entry(i, term) for i in range(first, last + 1))

    write(
        path,
        Formed(1, {"members": ["a/1"]}),
        Persist(2, term=1, entries=some(1, 9, 1)),
        Persist(3, entries=some(10, 20, 1)),
        Persist(4, entries=some(14, 16, 2)),  # within the second batch
        Persist(5, entries=some(17, 18, 2)),
        Persist(6, entries=some(15, 15, 3)),  # within the third, which goes on after it
        Persist(7, entries=some(16, 17, 4)),
    )
    expected = [*[(i, 1) for i in range(1, 14)], (14, 2), (15, 3), (16, 4), (17, 4)]
    store = ReplicaStore(path)
    stored = store.stored()
    assert stored is not None
    assert [(e.index, e.term) for e in stored.entries] == expected
    store.close()
    # A checkpoint within a batch keeps that batch, and nothing before it.
    write(path, Persist(8, checkpoint=Checkpoint(15, 3, ("a/1",), [], b""), keep_from=15))
    store = ReplicaStore(path)
    stored = store.stored()
    assert stored is not None
    assert [(e.index, e.term) for e in stored.entries] == expected[14:]
    store.close()


def test_a_checkpoint_of_another_log_leaves_none_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    write(
        path,
        Persist(1, term=1, entries=tuple(entry(i) for i in range(1, 10))),
        Persist(
            2, checkpoint=Checkpoint(50, 3, ("a/1",), [], b""), reset=True, entries=(entry(51, 3),)
        ),
    )
    store = ReplicaStore(path)
    stored = store.stored()
    assert stored is not None
    assert stored.entries == (entry(51, 3),)
    store.close()


def test_a_disk_that_refuses_is_told_once_and_acknowledges_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "x.db"
        store = ReplicaStore(path)
        told = Told(store)
        store.add(Persist(1, term=1))
        await told.until(lambda: bool(told.jobs))
        other = sqlite3.connect(path)
        other.execute("DROP TABLE entries")
        other.commit()
        store.add(Persist(2, term=2, entries=(entry(1),)))
        await told.until(lambda: bool(told.failures))
        assert "entries" in told.failures[0]
        for token in range(3, 10):
            store.add(Persist(token, term=3))
        store.close()
        await asyncio.sleep(0)
        assert told.tokens == [1]
        assert len(told.failures) == 1
        other.close()

    run(scenario)
    kept = sqlite3.connect(tmp_path / "x.db")
    assert kept.execute("SELECT count(*) FROM about WHERE name = 'vote'").fetchone() == (1,)
    kept.close()


def test_what_no_disk_can_hold_is_a_failure_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = ReplicaStore(tmp_path / "x.db")
        told = Told(store)
        store.add(Persist(1, entries=(entry(2**70),)))
        await told.until(lambda: bool(told.failures))
        assert told.jobs == []
        store.close()

    run(scenario)


def _spoil(path: Path, statement: str, *values: Any) -> None:
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("DELETE FROM entries WHERE first = 2", ()),
        ("UPDATE entries SET data = ? WHERE first = 2", (b"\xc1",)),
        ("UPDATE about SET value = ? WHERE name = 'vote'", (b"\xc1",)),
    ],
)
def test_a_damaged_log_is_named(tmp_path: Path, statement: str, values: tuple[Any, ...]) -> None:
    path = tmp_path / "x.db"
    write(path, Persist(1, term=1), *(Persist(i + 1, entries=(entry(i),)) for i in range(1, 4)))
    _spoil(path, statement, *values)
    store = ReplicaStore(path)
    with pytest.raises(ConfigError, match=r"x\.db: the state of the replica is damaged"):
        store.stored()
    store.close()


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("PRAGMA application_id = 5", "another program"),
        ("PRAGMA user_version = 99", "its schema is version 99"),
        ("DELETE FROM about WHERE name = 'state_id'", "it has no id"),
    ],
)
def test_a_file_that_is_not_ours_is_named(tmp_path: Path, statement: str, text: str) -> None:
    path = tmp_path / "x.db"
    ReplicaStore(path).close()
    _spoil(path, statement)
    with pytest.raises(ConfigError, match=text):
        ReplicaStore(path)


def test_a_disk_that_is_slow_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "x.db", Persist(1, term=1))
    assert caplog.messages == []
    monkeypatch.setattr("meshcore.storage.replicas.SLOW", 0.0)
    write(tmp_path / "y.db", Persist(1, term=1))
    (message,) = caplog.messages
    assert re.fullmatch(r".*y\.db: the disk took 0\.\d s for one write", message)
