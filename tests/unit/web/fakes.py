"""A node that exists on paper only, with a catalogue of made-up flows, to test the web part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import ASGIApp

from meshcore.errors import BadPayloadError
from meshcore.protocol.catalogue.messages import BadMessageError, decode
from meshcore.urls import parse_url
from meshcore.web.access import Access
from meshcore.web.app import make_app

NOW = 1_780_000_000.25  # 2026-05-28T20:26:40.250000Z
BASE = "http://127.0.0.1:8080"
COLUMNS = (
    "registry node mesh organization created modified heartbeat url name author description tags"
    " status kind"
).split()


@dataclass
class Settings:
    http: str | None = "127.0.0.1:8080"
    http_url: str | None = None
    http_token: str | None = None
    insecure: bool = False


@dataclass
class Registered:
    first_visit: bool
    seen: float | None


@dataclass
class FakeCatalogue:
    """Answers as `meshcore.catalogue.Catalogue` does; it knows words, tags and one column."""

    items: list[dict[str, Any]]
    registry: bool = True
    node_id: str = "alpha"
    failure: Exception | None = None
    registered: list[Any] = field(default_factory=list)
    exchanged: list[Any] = field(default_factory=list)
    reached: list[Any] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)

    async def flows(self, q: str = "", *, by: str = "", p: int = 0, pp: int = 10) -> dict[str, Any]:
        self._fail()
        self.asked.append({"q": q, "by": by, "p": p, "pp": pp})
        column, _, way = by.partition(",")[0].partition(":")
        if by and not {key.partition(":")[0] for key in by.split(",")} <= set(COLUMNS):
            raise BadPayloadError(f"by: there is no column {column!r}; did you mean name?")
        found = [item for item in self.items if _fits(item, q)]
        found.sort(key=lambda item: str(item[column or "name"]), reverse=way == "d")
        page = {
            "total": len(self.items),
            "filtered": len(found),
            "p": p,
            "pp": pp,
            "items": found[p * pp : (p + 1) * pp],
            "by": by,
            "q": q,
        }
        return (
            {**page, "reason": "a bracket is not closed"} if q.count("(") > q.count(")") else page
        )

    async def counts(self) -> dict[str, Any]:
        self._fail()
        counted = {
            key: Counter(item[key] for item in self.items) for key in ("organization", "node")
        }
        tags = Counter(tag for item in self.items for tag in item["tags"])
        return {"total": len(self.items), **counted, "tags": tags}

    async def records(self) -> list[dict[str, Any]]:
        self._fail()
        more = {"incarnation": 3, "version": 7, "deleted": False}
        return [{**item, **more} for item in self.items]

    def about(self) -> dict[str, Any]:
        self._fail()
        return {
            "url": BASE,
            "node_id": self.node_id,
            "organization": "acme",
            "registry": self.registry,
            "feed": self.registry,
            "connection": {"https://other.example/": NOW - 3, "beta": None},
            "started_at": NOW - 7200,
            "idle": True,
            "now": NOW,
            "version": "0.1.0",
        }

    def map(self) -> dict[str, Any]:
        return {**self.about(), "providers": ["beta"], "registers": ["https://other.example/"]}

    def register(
        self, url: str, organization: str, flows: Sequence[Any], *, ttl: float
    ) -> Registered:
        self.registered.append((url, organization, list(flows), ttl))
        before = self.seen.get(url)
        self.seen[url] = NOW
        return Registered(before is None, before)

    def exchange(self, kind: str, message: object) -> dict[str, Any]:
        self._fail()
        try:
            decode(message)
        except BadMessageError as error:
            raise BadPayloadError(str(error)) from None
        self.exchanged.append((kind, message))
        own = {"url": BASE, "mesh": "mesh", "life": 7, "organization": "acme"}
        return {**own, "feed": True, "nodes": []}

    def use_http(self, url: str, carry: Any) -> None:
        self.reached.append((url, carry))

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


def _fits(item: dict[str, Any], query: str) -> bool:
    """A small part of the query language."""
    for tag in re.findall(r'@tag\("([^"]*)"\)', query):
        if tag not in item["tags"]:
            return False
    for column, value in re.findall(r'([a-z]+) == "([^"]*)"', query):
        if item[column] != value:
            return False
    words = re.sub(r'@tag\("[^"]*"\)|[a-z]+ == "[^"]*"|[&()]', " ", query)
    columns = ("organization", "name", "author", "description", "tags")
    text = " ".join(str(item[column]) for column in columns).lower()
    return all(word.lower() in text for word in words.split())


@dataclass
class FakeSite:
    config: Settings
    catalogue: FakeCatalogue


def item(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One item, as a registry tells it."""
    made = {
        "registry": "alpha",
        "node": "beta",
        "mesh": "mesh",
        "organization": "acme",
        "created": NOW - 90_000,
        "modified": NOW - 60 * number,
        "heartbeat": NOW - 2,
        "url": f"https://flows.example/{number}",
        "name": f"flow {number:03}",
        "author": "Ada",
        "description": f"Does thing number {number}.",
        "tags": ["demo", "even" if number % 2 == 0 else "odd"],
        "status": "online",
        "kind": "flow",
    }
    return {**made, **changes}


def site(
    items: Sequence[dict[str, Any]] = (), *, registry: bool = True, **settings: Any
) -> FakeSite:
    return FakeSite(Settings(**settings), FakeCatalogue(list(items), registry=registry))


def app_of(made: FakeSite) -> ASGIApp:
    return make_app(made, Access(made.config, parse_url(made.config.http or "", key="http")))


def client_of(
    made: FakeSite, *, client: str = "127.0.0.1", headers: dict[str, str] | None = None
) -> httpx.AsyncClient:
    """A client at that address; an error of the application is its own."""
    transport = httpx.ASGITransport(app_of(made), client=(client, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)
