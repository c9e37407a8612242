"""A real node and its own OpenAPI document: whatever the document allows is answered as it says.

`bin/soak http` has the long form, with many more requests.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshcore import Config, Node
from meshcore.plugins import demo
from meshcore.runtime import loop as event_loop
from tests.integration.web import described

TOKEN = "s3cret"


def node(**settings: Any) -> Node:
    made = Node(Config(node_id="alpha", http="127.0.0.1:0", **settings))
    made.add_plugin(demo)
    return made


@pytest.mark.timeout(120)
def test_a_registry_keeps_to_its_document(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> tuple[int, str]:
        async with node(registry=True, http_token=TOKEN) as alpha:
            described.call_nobody(alpha)
            url = alpha.http_url or ""
            return await described.check(url, examples=8, seed=1, directory=tmp_path, token=TOKEN)

    code, report = event_loop.run(story())
    print(described.summary(report))
    assert code == 0, report
    assert "Tested: 10" in report
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_document_is_whole_and_says_what_needs_the_token() -> None:
    async def story(**settings: Any) -> Any:
        async with node(**settings) as alpha, httpx.AsyncClient() as client:
            return (await client.get(f"{alpha.http_url}/openapi.json")).json()

    document = event_loop.run(story(registry=True, http_token=TOKEN))
    operations = {
        (path, method): about
        for path, methods in document["paths"].items()
        for method, about in methods.items()
    }
    assert set(operations) == {
        ("/", "get"),
        ("/map", "get"),
        ("/health", "get"),
        ("/counts", "get"),
        ("/flows", "get"),
        ("/catalogue", "get"),
        ("/register", "post"),
        ("/connect", "post"),
        ("/connect", "delete"),
        ("/update", "post"),
    }
    guarded = {key for key, about in operations.items() if "security" in about}
    changing = {key for key in operations if key[1] != "get"}
    assert guarded == changing | {("/catalogue", "get")}
    assert all(about.get("description") for about in operations.values())
    open_to_all = event_loop.run(story())
    assert "securitySchemes" not in open_to_all["components"]


def test_requests_at_the_same_time_do_not_meet() -> None:
    async def story() -> None:
        async with (
            node(registry=True) as alpha,
            httpx.AsyncClient(base_url=alpha.http_url or "") as c,
        ):
            urls = [f"https://p{number}.example/" for number in range(20)]
            flows = [{"url": "https://a.example/1"}, {"url": "https://a.example/2"}]
            answers = await asyncio.gather(
                *(c.post("/register", json={"url": url, "flows": flows}) for url in urls),
                *(c.get("/flows", params={"q": "demo", "pp": 3}) for _ in range(20)),
            )
            assert {answer.status_code for answer in answers} == {200}
            counts = (await c.get("/counts")).json()
            assert {counts["node"][url] for url in urls} == {2}

    event_loop.run(story())
