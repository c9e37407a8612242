"""Questions that nobody would ask: any text as query, order and page of a real catalogue.

Whatever the query is, it is answered; whatever the order or the page is, it is answered or refused
with the name of the field.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshcore import Config, Node
from meshcore.protocol.catalogue.records import Flow
from meshcore.runtime.loop import loop_factory

WORDS = (
    '" \' ( ) & | && || not in == != < > <= >= ~ , @tag( @tag("a") @ name tags modified url kind'
    ' nothing 1 -1 1e999 2026-01-01 "2026-13-45" None null true \\ \\" % * _ ; -- $ { } [ ] \x00'
    " \x1f \x7f \u2028 \u202e \U0001f600 ü ß İ __import__('os').system('true') {{7*7}} <script>"
    " :a :d : , name:d, name:x aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
).split(" ")
TEXTS = st.one_of(
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=40),
    st.lists(st.sampled_from(WORDS), max_size=30).map(lambda words: " ".join(words).encode()),
    st.tuples(
        st.sampled_from(['"', "(", "not ", "a & ", "a | ", "@tag(("]), st.integers(1, 900)
    ).map(lambda pair: (pair[0] * pair[1]).encode()),
)
QUESTIONS = st.fixed_dictionaries(
    {"q": TEXTS},
    optional={
        "by": TEXTS,
        "p": st.one_of(st.integers(-2, 10**12).map(lambda number: str(number).encode()), TEXTS),
        "pp": st.one_of(st.integers(-2, 2000).map(lambda number: str(number).encode()), TEXTS),
        "format": st.sampled_from([b"json", b"html", b"", b"xml"]),
    },
)


def run(examples: int) -> int:
    """How many questions were asked; AssertionError where one was answered as it must not be."""
    count = 0

    async def ask(client: httpx.AsyncClient, asked: dict[str, bytes]) -> httpx.Response:
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items())
        return await client.get(f"/flows?{query}")

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        node = Node(Config(node_id="alpha", registry=True, http="127.0.0.1:0"))
        runner.run(node.start())
        try:

            async def opened() -> httpx.AsyncClient:
                for number in range(30):
                    tags = ("a", f"t{number % 3}")
                    flow = Flow(f"https://a.example/{number}", f"name {number}", tags=tags)
                    node.catalogue.add(flow)
                return httpx.AsyncClient(base_url=node.http_url or "", timeout=20)

            client = runner.run(opened())

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(QUESTIONS)
            def each(asked: dict[str, bytes]) -> None:
                nonlocal count
                count += 1
                check(asked, runner.run(ask(client, asked)))

            each()
            assert runner.run(ask(client, {"q": b"name"})).json()["filtered"] == 30
            runner.run(client.aclose())
        finally:
            runner.run(node.stop())
    return count


def check(asked: dict[str, bytes], response: httpx.Response) -> None:
    told: Any = None if "html" in response.headers["content-type"] else response.json()
    if response.status_code == 200:
        if told is not None:
            assert told["q"] == asked["q"].decode("utf-8", "replace")
        return
    assert response.status_code == 422, (asked, response.text)
    assert told["error"]["field"] in set(asked) - {"q"}, (asked, told)
