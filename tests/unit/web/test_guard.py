"""Bodies: their kind, their size, the time they take; and what every answer says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from meshcore.web import guard
from tests.unit.web.fakes import FakeSite, app_of, client_of, item, site

BODY = json.dumps({"url": "https://a.example/", "flows": []}).encode()
JSON = {"Content-Type": "application/json"}


def post(content: Any, headers: dict[str, str], *, made: FakeSite | None = None) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client_of(made or site()) as client:
            return await client.post("/register", content=content, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_json_is_taken(kind: str) -> None:
    assert post(BODY, {"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml"],
)
def test_any_other_kind_is_not(kind: str) -> None:
    response = post(BODY, {"Content-Type": kind})
    assert response.status_code == 415
    assert response.json()["error"]["field"] == "Content-Type"
    assert post(BODY, {}).status_code == 415


def test_a_compressed_body_is_not_taken() -> None:
    response = post(BODY, {**JSON, "Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["error"]["field"]) == (415, "Content-Encoding")


def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    async def endless() -> AsyncIterator[bytes]:
        pytest.fail("it was read")
        yield b""

    headers = {**JSON, "Content-Length": str(guard.BODY_MAX + 1)}
    response = post(endless(), headers)
    assert (response.status_code, response.json()["error"]["field"]) == (413, "body")


def test_a_body_that_grows_too_large_is_read_no_further() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1024 * 1024
            yield b" " * 1024 * 1024

    assert post(endless(), JSON).status_code == 413
    assert read <= guard.BODY_MAX + 2 * 1024 * 1024


@pytest.mark.parametrize("size", ["-1", "x", "1" * 30, "1e3", ""])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    assert post(BODY, {**JSON, "Content-Length": size}).status_code in (400, 413)


def test_all_bodies_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODIES_MAX", 100)
    made = site()
    assert post(BODY + b" " * 100, JSON, made=made).status_code == 503
    assert post(BODY, JSON, made=made).status_code == 200

    async def one_after_another() -> list[int]:
        async with client_of(made) as client:
            return [
                (await client.post("/register", content=BODY, headers=JSON)).status_code
                for _ in range(5)
            ]

    assert asyncio.run(one_after_another()) == [200] * 5  # what was held is given back


def test_a_body_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_TIMEOUT", 0.05)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    assert post(stuck(), JSON).status_code == 408


def test_an_answer_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_TIMEOUT", 0.0)
    monkeypatch.setattr(guard, "ANSWER_TIMEOUT", 0.05)
    made = site()

    async def stuck(*_: Any, **__: Any) -> dict[str, Any]:
        await asyncio.sleep(30)
        raise AssertionError

    made.catalogue.flows = stuck  # type: ignore[method-assign]

    async def ask() -> httpx.Response:
        async with client_of(made) as client:
            return await client.get("/flows")

    response = asyncio.run(ask())
    assert response.status_code == 504
    assert response.json()["error"]["name"] == "DeadlineExceededError"


def test_a_client_that_goes_away_in_the_middle_is_no_mistake_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[dict[str, Any]] = []
    incoming = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/register",
        "query_string": b"",
        "client": ("127.0.0.1", 5),
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", b"50"),
        ],
    }
    asyncio.run(app_of(site())(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 400
    assert caplog.text == ""


@pytest.mark.parametrize(
    "path", ["/", "/flows", "/flows?format=html", "/nothing", "/static/page.css"]
)
def test_every_answer_bounds_what_a_browser_does_with_it(path: str) -> None:
    async def ask() -> httpx.Response:
        async with client_of(site([item(1)])) as client:
            return await client.get(path)

    headers = asyncio.run(ask()).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert headers["date"].endswith("GMT")
