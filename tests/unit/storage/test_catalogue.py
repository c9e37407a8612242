"""The store as the node uses it: changes in, pages out, and what is left after a restart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshcore.errors import BadPayloadError, ClosedError, ConfigError
from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage.catalogue import (
    CatalogueStore,
    DropFlow,
    DropOrigin,
    PutFlow,
    PutOrigin,
    Search,
    reset,
)

ALPHA, BETA = Origin("mesh", "alpha"), Origin("mesh", "beta")


def origin(who: Origin, **fields: Any) -> PutOrigin:
    known: dict[str, Any] = {
        "organization": "acme",
        "registry": "hub",
        "incarnation": 1,
        "version": 1,
        "direct": True,
        "status": "online",
        "heartbeat": 50.0,
        "at": 50.0,
        "ttl": None,
    }
    return PutOrigin(origin=who, **{**known, **fields})


def flow(
    who: Origin,
    url: str,
    *,
    version: int = 1,
    at: float | None = 100.0,
    life: int = 1,
    **fields: Any,
) -> PutFlow:
    return PutFlow(who, Flow(url, **fields), life, version, False, at)


def deleted(who: Origin, url: str, *, version: int, at: float) -> PutFlow:
    return PutFlow(who, Flow(url), 1, version, True, at)


class Stores:
    """Makes stores that are closed when the test ends, and keeps what they complain about."""

    def __init__(self) -> None:
        self.made: list[CatalogueStore] = []
        self.complaints: list[str] = []

    def open(self, path: Path | None = None) -> CatalogueStore:
        store = CatalogueStore(path, on_failure=self.complaints.append)
        self.made.append(store)
        return store


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        store.close()
    assert made.complaints == []


def run(work: Callable[[], Any]) -> Any:
    import asyncio

    return asyncio.run(work())


async def found(store: CatalogueStore, q: str = "", **fields: Any) -> list[str]:
    page = await store.search(Search(q, **fields))
    return [item["url"] for item in page["items"]]


@pytest.fixture(params=["in memory", "on disk"])
def store(request: pytest.FixtureRequest, stores: Stores, tmp_path: Path) -> CatalogueStore:
    return stores.open(tmp_path / "catalogue.db" if request.param == "on disk" else None)


def test_an_item_has_every_column(store: CatalogueStore) -> None:
    store.submit(
        [
            origin(ALPHA),
            flow(ALPHA, "http://a", name="A", description="D", author="Me", tags=("x", "y")),
        ]
    )
    page = run(lambda: store.search(Search()))
    assert page == {
        "total": 1,
        "filtered": 1,
        "p": 0,
        "pp": 10,
        "by": "",
        "q": "",
        "items": [
            {
                "registry": "hub",
                "node": "alpha",
                "mesh": "mesh",
                "organization": "acme",
                "created": 100.0,
                "modified": 100.0,
                "heartbeat": 50.0,
                "url": "http://a",
                "name": "A",
                "author": "Me",
                "description": "D",
                "tags": ["x", "y"],
                "status": "online",
                "kind": "flow",
            }
        ],
    }


def test_a_search_sees_what_was_submitted_before_it(store: CatalogueStore) -> None:
    async def check() -> None:
        store.submit([origin(ALPHA)])
        for number in range(200):
            store.submit([flow(ALPHA, f"http://{number}")])
            page = await store.search(Search())
            assert page["total"] == number + 1

    run(check)


def test_created_stays_and_modified_follows_newer_versions(store: CatalogueStore) -> None:
    async def times() -> tuple[float, float]:
        (item,) = (await store.search(Search()))["items"]
        return item["created"], item["modified"]

    async def check() -> None:
        store.submit([origin(ALPHA), flow(ALPHA, "http://a", at=100.0)])
        assert await times() == (100.0, 100.0)
        store.submit([flow(ALPHA, "http://a", at=200.0, version=2)])
        assert await times() == (100.0, 200.0)
        store.submit([flow(ALPHA, "http://a", at=300.0, version=2)])
        assert await times() == (100.0, 200.0)
        store.submit([deleted(ALPHA, "http://a", at=400.0, version=3)])
        assert await found(store) == []
        store.submit([flow(ALPHA, "http://a", at=500.0, version=4)])
        assert await times() == (100.0, 500.0)
        store.submit([flow(ALPHA, "http://a", at=600.0, version=1, life=2)])
        assert await times() == (100.0, 600.0)

    run(check)


def test_what_was_dropped_is_forgotten(store: CatalogueStore) -> None:
    async def check() -> None:
        store.submit([origin(ALPHA), origin(BETA)])
        store.submit([flow(ALPHA, "http://a"), flow(ALPHA, "http://b"), flow(BETA, "http://c")])
        store.submit([DropFlow(ALPHA, "http://a"), DropFlow(ALPHA, "http://unknown")])
        assert await found(store) == ["http://b", "http://c"]
        store.submit([DropOrigin(ALPHA), DropOrigin(Origin("no", "body"))])
        assert await found(store) == ["http://c"]
        store.submit([origin(ALPHA), flow(ALPHA, "http://b", at=900.0)])
        page = await store.search(Search("node == alpha"))
        assert [item["created"] for item in page["items"]] == [900.0]
        assert len(await store.dump()) == 2

    run(check)


def test_counts_and_dump_tell_the_deleted_apart(store: CatalogueStore) -> None:
    async def check() -> None:
        store.submit([origin(ALPHA), origin(BETA, organization="umbrella")])
        store.submit(
            [flow(ALPHA, "http://a", tags=("x",)), flow(BETA, "http://b", tags=("x", "y"))]
        )
        store.submit([flow(BETA, "http://c"), deleted(BETA, "http://c", version=7, at=8.0)])
        assert await store.counts() == {
            "total": 2,
            "organization": {"acme": 1, "umbrella": 1},
            "node": {"alpha": 1, "beta": 1},
            "tags": {"x": 2, "y": 1},
        }
        dump = await store.dump()
        assert [
            (row["url"], row["incarnation"], row["version"], row["deleted"]) for row in dump
        ] == [
            ("http://a", 1, 1, False),
            ("http://b", 1, 1, False),
            ("http://c", 1, 7, True),
        ]

    run(check)


def test_pages_are_slices_of_one_order(store: CatalogueStore) -> None:
    async def check() -> None:
        store.submit([origin(ALPHA)])
        store.submit([flow(ALPHA, f"http://{number:02}", name="same") for number in range(25)])
        pages = [await found(store, p=p) for p in range(4)]
        assert pages[3] == []
        assert [url for page in pages for url in page] == [
            f"http://{number:02}" for number in range(25)
        ]
        assert await found(store, by="url:d", pp=2) == ["http://24", "http://23"]
        assert await found(store, p=10**30) == []

    run(check)


def test_a_query_that_does_not_parse_is_full_text_with_its_reason(store: CatalogueStore) -> None:
    async def check() -> None:
        store.submit([origin(ALPHA), flow(ALPHA, "http://a", name="a (b")])
        page = await store.search(Search("a (b"))
        assert (page["filtered"], page["q"]) == (1, "a (b")
        assert page["reason"] == "it ends too early"
        assert "reason" not in await store.search(Search("a"))

    run(check)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"by": "nam"}, "by: no column 'nam'; did you mean name?"),
        ({"by": "name:x"}, "by: name:'x' must be name:a"),
        ({"by": "name,,url"}, "by: no column ''"),
        ({"p": -1}, "p: -1 must be a number from 0"),
        ({"pp": 0}, "pp: 0 must be a number from 1 to 1000"),
        ({"pp": 1001}, "pp: 1001 must be"),
        ({"pp": True}, "pp: True must be"),
    ],
)
def test_an_order_or_page_that_does_not_exist_is_named(
    store: CatalogueStore, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadPayloadError) as caught:
        run(lambda: store.search(Search(**fields)))
    assert str(caught.value).startswith(says)


def test_a_restart_brings_everything_back_and_marks_it_stale(
    stores: Stores, tmp_path: Path
) -> None:
    path = tmp_path / "catalogue.db"

    async def fill(store: CatalogueStore) -> dict[str, Any]:
        assert store.load() == []
        store.submit([origin(ALPHA, version=9), origin(BETA, status="offline", ttl=5.0)])
        store.submit([flow(ALPHA, "http://a", tags=("x", "ü"), at=1.0), flow(BETA, "http://b")])
        store.submit([flow(ALPHA, "http://a", tags=("x", "ü"), at=2.0, version=2)])
        store.submit([flow(BETA, "http://c"), deleted(BETA, "http://c", version=3, at=4.0)])
        await store.flush()
        return await store.search(Search())

    first = stores.open(path)
    before = run(lambda: fill(first))
    dump = run(first.dump)
    first.close()

    second = stores.open(path)
    alpha, beta = second.load()
    assert alpha.put == origin(ALPHA, version=9, status="stale")
    assert beta.put == origin(BETA, status="offline", ttl=5.0)
    assert alpha.flows == [(Flow("http://a", tags=("x", "ü")), 1, 2, False)]
    assert beta.flows == [(Flow("http://b"), 1, 1, False), (Flow("http://c"), 1, 3, True)]
    after = run(lambda: second.search(Search()))
    before["items"][0]["status"] = "stale"
    assert after == before
    dump[0]["status"] = "stale"
    assert run(second.dump) == dump


def test_numbers_of_dropped_origins_are_used_again_on_disk(stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    first = stores.open(path)
    first.submit([origin(ALPHA), flow(ALPHA, "http://a"), origin(BETA), flow(BETA, "http://b")])
    run(first.flush)
    gamma = Origin("mesh", "gamma")
    first.submit([DropOrigin(ALPHA), origin(gamma), flow(gamma, "http://c")])
    first.close()
    second = stores.open(path)
    assert [(each.put.origin, [row.flow.url for row in each.flows]) for each in second.load()] == [
        (gamma, ["http://c"]),
        (BETA, ["http://b"]),
    ]
    second.submit([DropOrigin(gamma)])
    second.close()
    third = stores.open(path)
    third.submit([origin(ALPHA), flow(ALPHA, "http://d")])
    assert run(lambda: found(third)) == ["http://d", "http://b"]


def test_a_file_that_is_no_catalogue_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(ConfigError) as caught:
        CatalogueStore(path, on_failure=print)
    assert str(path) in str(caught.value)
    assert "--reset" in str(caught.value)
    reset(path)
    CatalogueStore(path, on_failure=print).close()


def test_a_closed_store_takes_nothing(stores: Stores) -> None:
    store = stores.open()
    store.close()
    store.close()
    with pytest.raises(ClosedError):
        store.submit([origin(ALPHA)])
    with pytest.raises(ClosedError):
        run(lambda: store.search(Search()))


def test_a_node_that_is_no_registry_loads_neither_sqlite_nor_the_parser() -> None:
    program = """
import asyncio, sys
from meshcore.storage.catalogue import CatalogueStore, Search
store = CatalogueStore(None, on_failure=print)
async def search(q):
    return (await store.search(Search(q)))["total"]
asyncio.run(search(""))
print(sorted({"sqlite3", "lark"} & set(sys.modules)))
asyncio.run(search("name == x"))
print(sorted({"sqlite3", "lark"} & set(sys.modules)))
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n['lark']\n"
