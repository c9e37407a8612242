"""Addresses that are kept: whatever the file holds, the node starts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from meshcore.protocol.membership.targets import Target
from meshcore.runtime import address_book
from meshcore.runtime.address_book import ADDRESSES_MAX, AGE_MAX, AddressBook, Entry

NOW = 1_800_000_000.0
A, B = "tcp://10.0.0.1:1", "tcp://10.0.0.2:1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / address_book.FILE_NAME


def book(path: Path, mesh: str = "mesh") -> AddressBook:
    return AddressBook(path, mesh=mesh)


def target(node_id: str, *urls: str, reachable: bool = True) -> Target:
    return Target(node_id, urls, 1, reachable)


def write(path: Path, *rows: Any, **more: Any) -> None:
    path.write_text(json.dumps({"format": 1, "mesh": "mesh", "addresses": list(rows), **more}))


def row(node_id: Any = "alpha", urls: Any = (A,), heard_at: Any = NOW - 60) -> dict[str, Any]:
    return {"node_id": node_id, "urls": urls, "heard_at": heard_at}


def test_what_is_written_is_read_again(path: Path) -> None:
    first = book(path)
    content = first.update([target("alpha", A), target("beta", B, reachable=False)], NOW)
    assert content is not None
    first.write(content)
    assert path.stat().st_mode & 0o777 == 0o600
    assert book(path).load(NOW + 5) == [Entry("alpha", (A,), NOW), Entry("beta", (B,), NOW)]
    assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing else is left"


def test_no_file_is_no_news(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert book(path).load(NOW) == []
    assert caplog.records == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"format": 2, "mesh": "mesh", "addresses": []}',
        b'{"format": 1, "mesh": "mesh", "addresses": {}}',
        b'{"format": 1, "mesh": "mesh", "addr',
        b"[" * 100_000,
        b" " * (address_book.FILE_BYTES_MAX + 1),
    ],
    ids=range(10),
)
def test_a_damaged_file_is_a_warning_and_then_replaced(
    path: Path, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(raw)
    one = book(path)
    with caplog.at_level(logging.WARNING):
        assert one.load(NOW) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    content = one.update([target("alpha", A)], NOW)
    assert content is not None
    one.write(content)
    assert [entry.node_id for entry in book(path).load(NOW)] == ["alpha"]


def test_a_file_that_cannot_be_read_is_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    assert book(path).load(NOW) == []
    assert "starting without" in caplog.text


def test_a_file_that_cannot_be_written_is_one_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = book(path / "missing" / "file")
    one.write(b"x")
    one.write(b"x")
    assert caplog.text.count("cannot be written") == 1


def test_addresses_of_another_mesh_are_not_taken_over(path: Path) -> None:
    write(path, row())
    assert book(path, "another").load(NOW) == []


@pytest.mark.parametrize(
    "odd",
    [
        row(heard_at=NOW - AGE_MAX),
        row(heard_at=float("nan")),
        row(heard_at="yesterday"),
        row(heard_at=True),
        row(node_id="no id"),
        row(node_id=7),
        row(urls=[]),
        row(urls=A),
        row(urls=["ipc:///x", "nonsense://", 7, None]),
        "alpha",
        None,
    ],
    ids=range(11),
)
def test_an_odd_or_old_entry_is_left_out_and_the_others_stay(path: Path, odd: Any) -> None:
    write(path, odd, row("beta", [B]))
    assert book(path).load(NOW) == [Entry("beta", (B,), NOW - 60)]


def test_a_clock_that_was_set_back_makes_nobody_young_for_ever(path: Path) -> None:
    write(path, row(heard_at=NOW + 1e9))
    assert book(path).load(NOW) == [Entry("alpha", (A,), NOW)]


def test_who_is_not_heard_of_grows_old_until_it_is_dropped(path: Path) -> None:
    one = book(path)
    assert one.update([target("alpha", A), target("beta", B)], NOW) is not None
    silent = target("beta", B, reachable=False)
    later = NOW + AGE_MAX - 10
    assert one.update([target("alpha", A), silent], later) is not None
    assert one.entries["beta"].heard_at == NOW
    assert one.entries["alpha"].heard_at == later
    assert one.update([target("alpha", A), silent], later + 20) is not None
    assert "beta" not in one.entries


def test_nothing_is_written_where_nothing_has_changed(path: Path) -> None:
    one = book(path)
    assert one.update([target("alpha", A)], NOW) is not None
    assert one.update([target("alpha", A)], NOW + 10) is None
    assert one.update([target("alpha", A, B)], NOW + 20) is not None
    assert one.update([target("alpha", A, B)], NOW + 20 + AGE_MAX / 50) is not None, "its age"


def test_a_node_that_knows_nobody_keeps_the_file(path: Path) -> None:
    write(path, row())
    one = book(path)
    one.load(NOW)
    assert one.update([], NOW) is None


def test_the_file_has_a_bound(path: Path) -> None:
    many = [target(f"n{at}", *(f"tcp://10.0.{at}.{k}:1" for k in range(3))) for at in range(60)]
    content = book(path).update(many, NOW)
    assert content is not None
    rows = json.loads(content)["addresses"]
    assert sum(len(each["urls"]) for each in rows) <= ADDRESSES_MAX
    write(path, *(row(f"n{at}", [f"tcp://10.0.0.1:{at + 1}"]) for at in range(500)))
    assert len(book(path).load(NOW)) == ADDRESSES_MAX
