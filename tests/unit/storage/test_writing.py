"""What reaches the disk when, and what happens when it does not."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshcore.errors import BusyError, ClosedError, ConfigError
from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage import catalogue, disk, writing
from meshcore.storage.batch import Batch
from meshcore.storage.catalogue import CatalogueStore, Change, PutFlow, PutOrigin, Search

ALPHA = Origin("mesh", "alpha")
DEADLINE = 20.0


def origin(heartbeat: float = 0.0, **fields: Any) -> PutOrigin:
    known = {"organization": "acme", "registry": "hub", "incarnation": 1, "version": 1}
    known |= {"direct": True, "status": "online", "at": 0.0, "ttl": None}
    return PutOrigin(origin=ALPHA, heartbeat=heartbeat, **{**known, **fields})  # type: ignore[arg-type]


def flow(number: int, version: int = 1) -> PutFlow:
    return PutFlow(ALPHA, Flow(f"u{number}"), 1, version, False, float(version))


def eventually(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


class Disk:
    """Counts what is written, and refuses or waits when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses = False
        self.open = threading.Event()
        self.open.set()
        self.transactions: list[int] = []
        self.attempts = 0
        write = disk.RegistryFile.write

        def watched(file: disk.RegistryFile, batch: Batch) -> None:
            self.attempts += 1
            assert self.open.wait(DEADLINE)
            if self.refuses:
                raise sqlite3.OperationalError("database or disk is full")
            self.transactions.append(len(list(batch.flows())))
            write(file, batch)

        monkeypatch.setattr(disk.RegistryFile, "write", watched)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def on_disk(path: Path) -> tuple[float | None, list[tuple[str, int]]]:
    """The heartbeat of alpha, and its flows with their versions, as another process sees them."""
    database = sqlite3.connect(path)
    try:
        beat = database.execute("SELECT heartbeat FROM origin").fetchone()
        rows = database.execute("SELECT url, version FROM flow ORDER BY url").fetchall()
    finally:
        database.close()
    return beat[0] if beat else None, rows


def test_what_comes_while_the_disk_is_busy_is_one_transaction(
    tmp_path: Path, watched: Disk
) -> None:
    store = CatalogueStore(tmp_path / "c", on_failure=pytest.fail)
    watched.open.clear()
    store.submit([origin()])
    eventually(lambda: watched.attempts)
    for number in range(50):
        store.submit([flow(number % 5, version=number)])
    asyncio.run(store.search(Search()))  # they have all been taken
    watched.open.set()
    asyncio.run(store.flush())
    assert watched.transactions == [0, 5]  # one row for each record, however often it changed
    assert on_disk(tmp_path / "c")[1] == [(f"u{number}", 45 + number) for number in range(5)]
    store.close()


def test_signs_of_life_wait_for_company(
    tmp_path: Path, watched: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BEATS_WAIT", 3600.0)
    store = CatalogueStore(tmp_path / "c", on_failure=pytest.fail)
    store.submit([origin()])
    asyncio.run(store.flush())
    assert watched.attempts == 1
    store.submit([origin(heartbeat=5.0)])
    store.submit([origin(heartbeat=6.0)])
    (item,) = asyncio.run(store.dump()) or [None]
    assert item is None
    assert watched.attempts == 1
    store.submit([flow(1)])
    eventually(lambda: watched.attempts == 2)
    asyncio.run(store.flush())
    assert on_disk(tmp_path / "c") == (6.0, [("u1", 1)])
    store.submit([origin(heartbeat=7.0)])
    store.close()
    assert on_disk(tmp_path / "c")[0] == 7.0


def test_any_other_change_of_an_origin_does_not_wait(
    tmp_path: Path, watched: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BEATS_WAIT", 3600.0)
    store = CatalogueStore(tmp_path / "c", on_failure=pytest.fail)
    for number, change in enumerate([origin(), origin(status="offline"), origin(version=2)], 1):
        store.submit([change])
        eventually(lambda: watched.attempts == number)  # noqa: B023
    store.close()


def test_a_full_disk_is_told_once_and_nothing_is_given_up(
    tmp_path: Path, watched: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_AFTER", 0.02)
    complaints: list[str] = []
    store = CatalogueStore(tmp_path / "c", on_failure=complaints.append)

    async def fill() -> None:
        store.submit([origin(), flow(1)])
        await store.flush()
        watched.refuses = True
        watched.open.clear()
        store.submit([flow(2), flow(1, version=2)])
        eventually(lambda: watched.attempts == 2)
        store.submit([flow(1, version=3)])  # while the disk makes up its mind
        await store.search(Search())
        watched.open.set()
        with pytest.raises(OSError, match="disk is full"):
            await store.flush()
        store.submit([flow(3)])
        assert (await store.search(Search()))["total"] == 3  # searches do not notice
        attempts = watched.attempts
        eventually(lambda: watched.attempts > attempts + 2)
        watched.refuses = False
        await store.flush()

    asyncio.run(fill())
    assert complaints == ["the catalogue cannot be written to disk: database or disk is full"]
    assert on_disk(tmp_path / "c")[1] == [("u1", 3), ("u2", 1), ("u3", 1)]
    watched.refuses = True
    store.submit([flow(4)])
    store.close()
    assert len(complaints) == 2  # it is heard of again


def busy(store: CatalogueStore) -> threading.Event:
    """Keep the store's thread until the event is set."""
    gate = threading.Event()
    with store._wake:
        store._hand_over(lambda: assert_set(gate))
    return gate


def assert_set(gate: threading.Event) -> None:
    assert gate.wait(DEADLINE)


def test_at_the_bound_submit_waits_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "CHANGES_MAX", 10)
    store = CatalogueStore(None, on_failure=pytest.fail)
    gate = busy(store)
    store.submit([origin(), *map(flow, range(9))])
    done = threading.Event()

    def more() -> None:
        store.submit([flow(9)])
        done.set()

    thread = threading.Thread(target=more)
    thread.start()
    assert not done.wait(0.1)
    gate.set()
    assert done.wait(DEADLINE)
    thread.join()
    assert asyncio.run(store.search(Search()))["total"] == 10
    store.close()


def test_a_submit_that_waits_is_told_when_the_store_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "CHANGES_MAX", 1)
    store = CatalogueStore(None, on_failure=pytest.fail)
    gate = busy(store)
    store.submit([origin()])
    told: list[BaseException] = []

    def more() -> None:
        try:
            store.submit([flow(1)])
        except ClosedError as error:
            told.append(error)

    thread = threading.Thread(target=more)
    thread.start()
    closing = threading.Thread(target=store.close)
    closing.start()
    eventually(lambda: told)
    gate.set()
    closing.join()
    thread.join()


def test_too_many_searches_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SEARCHES_MAX", 3)
    store = CatalogueStore(None, on_failure=pytest.fail)

    async def ask() -> list[Any]:
        gate = busy(store)
        asked = [asyncio.create_task(store.search(Search())) for _ in range(5)]
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert (await store.search(Search()))["total"] == 0  # there is room again
        return answers

    answers = asyncio.run(ask())
    assert [type(answer) for answer in answers] == [dict, dict, dict, BusyError, BusyError]
    store.close()


def test_a_search_that_nobody_waits_for_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    store = CatalogueStore(None, on_failure=pytest.fail)
    made: list[str] = []
    search = store._search
    monkeypatch.setattr(
        store, "_search", lambda asked, order: made.append(asked.q) or search(asked, order)
    )

    async def ask() -> None:
        gate = busy(store)
        asked = asyncio.create_task(store.search(Search("dropped")))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        gate.set()
        await store.search(Search("kept"))

    asyncio.run(ask())
    assert made == ["kept"]
    store.close()


def test_a_change_that_cannot_be_taken_is_heard_of_and_the_store_lives_on() -> None:
    complaints: list[str] = []
    store = CatalogueStore(None, on_failure=complaints.append)
    changes: list[Change] = [flow(1)]  # of an origin that was never put
    store.submit(changes)
    store.submit([origin(), flow(2)])
    assert asyncio.run(store.search(Search()))["total"] == 1
    (complaint,) = complaints
    assert "never put" in complaint
    store.close()


def damage_schema(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


def damage_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000:9000] = bytes(4000)
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def other_program(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE mine (x)")
    database.close()


def wrong_tags(path: Path) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE flow SET tags = '{'")
    database.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_schema, "its schema is version 99"),
        (damage_page, "malformed|not written by meshcore"),
        (cut, "malformed"),
        (other_program, "of another program"),
        (wrong_tags, "a row that was not written by meshcore"),
    ],
)
def test_a_damaged_file_stops_the_start_and_is_left_alone(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "c"
    store = CatalogueStore(path, on_failure=pytest.fail)
    store.submit([origin(), *map(flow, range(2000))])
    store.close()
    damage(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=says) as caught:
        CatalogueStore(path, on_failure=pytest.fail)
    assert str(path) in str(caught.value)
    assert "--reset" in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unable to open"):
        CatalogueStore(tmp_path / "missing" / "c", on_failure=pytest.fail)


def test_texts_that_utf8_cannot_have_do_not_stop_the_disk(tmp_path: Path) -> None:
    store = CatalogueStore(tmp_path / "c", on_failure=pytest.fail)
    odd = Flow("u\ud800", name="a\0b", tags=("\udfff",))
    store.submit([origin(), PutFlow(ALPHA, odd, 2**63, 2**70, False, 1.0)])
    asyncio.run(store.flush())
    assert asyncio.run(store.search(Search('"\ud800"')))["total"] == 1
    store.close()
    again = CatalogueStore(tmp_path / "c", on_failure=pytest.fail)
    ((_, ((found, *_),)),) = again.load()
    assert (found.url, found.name, found.tags) == ("u?", "a\0b", ("\udfff",))
    again.close()
