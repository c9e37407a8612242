"""The way out, to registries that answer, refuse, lie, or never say a word."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore.errors import (
    AccessDeniedError,
    BadPayloadError,
    BusyError,
    ConfigError,
    DeadlineExceededError,
    MeshError,
    ProtocolError,
    UnreachableError,
)
from meshcore.web import partners
from meshcore.web.partners import Partners
from meshcore.web.server import WebServer
from tests.integration.nodes import run
from tests.unit.web.fakes import FakeSite, site

MESSAGE = {"url": "http://127.0.0.1:9/a%20b", "organization": "ö", "feed": True, "nodes": []}
Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def registry(made: FakeSite) -> AsyncIterator[str]:
    web = WebServer(made)
    await web.start()
    try:
        assert web.url is not None
        yield web.url
    finally:
        await web.stop()


@asynccontextmanager
async def stand_in(reply: Reply) -> AsyncIterator[str]:
    """A server that reads the head of a request and then does as it likes."""
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reply(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(status: str, body: bytes, *headers: str) -> Reply:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
        writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + body)
        await writer.drain()

    return reply


def refused(reply: Reply, *, kind: str = "update") -> MeshError:
    async def scenario() -> MeshError:
        async with stand_in(reply) as url:
            with pytest.raises(MeshError) as caught:
                await Partners(None).carry(url, kind, MESSAGE)
            assert str(caught.value).startswith(url)
            assert "\n" not in str(caught.value)
            return caught.value

    return run(scenario)


# -- those who answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["connect", "update", "disconnect"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_message_arrives_and_the_answer_comes_back(kind: str, end: str) -> None:
    async def scenario() -> None:
        made = site(http="127.0.0.1:0")
        async with registry(made) as url:
            answer = await Partners(None).carry(url + end, kind, MESSAGE)
        assert answer["life"] == 7
        [(said, message)] = made.catalogue.exchanged
        assert said == kind
        assert message["url"] == MESSAGE["url"]
        if kind != "disconnect":
            assert message == {"mesh": "", "life": 0, **MESSAGE}

    run(scenario)


def test_names_are_looked_up_and_said_to_the_other_side() -> None:
    async def scenario() -> None:
        made = site(http="127.0.0.1:0")
        async with registry(made) as url:
            port = url.rpartition(":")[2]
            await Partners(None).carry(f"http://localhost:{port}", "update", MESSAGE)
        assert len(made.catalogue.exchanged) == 1

    run(scenario)


def test_the_token_goes_along() -> None:
    async def scenario() -> None:
        made = site(http="127.0.0.1:0", http_token="tökén")
        async with registry(made) as url:
            await Partners("tökén").carry(url, "update", MESSAGE)
            for wrong in (None, "other"):
                with pytest.raises(AccessDeniedError, match=r"token.* \(HTTP 401\)"):
                    await Partners(wrong).carry(url, "update", MESSAGE)
        assert len(made.catalogue.exchanged) == 1

    run(scenario)


def test_a_path_before_the_api_is_kept() -> None:
    heard: list[bytes] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says("200 OK", b"{}")(reader, writer)

    async def scenario() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            await reply(reader, writer)
            writer.close()

        listening = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        await Partners(None).carry(f"http://127.0.0.1:{port}/mesh/one/", "update", MESSAGE)
        listening.close()

    run(scenario)
    assert heard[0].startswith(b"POST /mesh/one/update HTTP/1.1\r\n")
    assert b"accept-encoding: identity" in heard[0].lower()


# -- those who refuse ------------------------------------------------------------------------------


def test_a_node_that_is_no_registry_is_told_so() -> None:
    async def scenario() -> None:
        async with registry(site(http="127.0.0.1:0", registry=False)) as url:
            with pytest.raises(UnreachableError, match=r"this node is no registry \(HTTP 404\)"):
                await Partners(None).carry(url, "connect", MESSAGE)

    run(scenario)


def test_what_the_other_side_finds_wrong_is_told_in_its_words() -> None:
    async def scenario() -> None:
        made = site(http="127.0.0.1:0")
        made.catalogue.failure = BadPayloadError("nodes[0].age must be a number")
        async with registry(made) as url:
            with pytest.raises(BadPayloadError, match=r"nodes\[0\].age must.* \(HTTP 409\)"):
                await Partners(None).carry(url, "connect", MESSAGE)

    run(scenario)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("404 Not Found", UnreachableError),
        ("405 No", UnreachableError),
        ("403 Forbidden", AccessDeniedError),
        ("413 Too Large", BadPayloadError),
        ("429 Slow Down", BusyError),
        ("503 Busy", BusyError),
        ("500 Oops", UnreachableError),
        ("204 Nothing", UnreachableError),
    ],
)
def test_another_status_is_an_error_of_its_kind(status: str, kind: type[MeshError]) -> None:
    error = refused(says(status, b"" if status.startswith("204") else b"<h1>no</h1>"))
    assert type(error) is kind
    assert f"(HTTP {status[:3]})" in str(error)


def test_a_redirect_is_not_followed() -> None:
    asked = 0

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1

    async def scenario() -> None:
        async with stand_in(trap) as elsewhere:
            reply = says("307 There", b"", f"Location: {elsewhere}/update")
            async with stand_in(reply) as url:
                with pytest.raises(ProtocolError, match="redirects"):
                    await Partners("secret").carry(url, "update", MESSAGE)

    run(scenario)
    assert asked == 0


# -- those who are none ----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"5", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    assert isinstance(refused(says("200 OK", body)), ProtocolError)


def test_a_compressed_answer_is_not_unpacked() -> None:
    body = gzip.compress(json.dumps({}).encode())
    assert isinstance(refused(says("200 OK", body, "Content-Encoding: gzip")), ProtocolError)


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partners, "ANSWER_MAX", 1_000_000)

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()

    error = refused(endless)
    assert isinstance(error, ProtocolError)
    assert "1,000,000 bytes" in str(error)


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_silence_ends(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partners, "CARRY_TIMEOUT", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        await asyncio.sleep(60)

    error = refused(silent)
    assert isinstance(error, DeadlineExceededError)
    assert "no answer in 0.3 s" in str(error)


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_a_connection_that_breaks_is_an_error_of_the_network(said: bytes) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    assert isinstance(refused(breaks), UnreachableError)


def test_nobody_there() -> None:
    async def scenario() -> None:
        async with stand_in(says("200 OK", b"{}")) as url:
            pass
        with pytest.raises(UnreachableError, match=url):
            await Partners(None).carry(url, "update", MESSAGE)

    run(scenario)


# -- where nothing is sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1/?x=1",
        "http://127.0.0.1/#x",
        "http://127.0.0.1:99999/",
        "http://[::1/",
        "http://a..b/",
        "http://" + "ü" * 80 + ".example/",
    ],
)
def test_what_is_no_url_of_a_registry_is_refused(url: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match="registry") as caught:
            await Partners(None).carry(url, "update", MESSAGE)
        assert "secret" not in str(caught.value)

    run(scenario)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "224.0.0.251",
        "[ff02::fb]",
        "0.0.0.0",
        "[::]",
        "0xA9FEA9FE",
        "2852039166",
    ],
)
def test_nothing_is_sent_to_link_local_addresses(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        with pytest.raises((AccessDeniedError, UnreachableError)) as caught:
            await Partners(None).carry(f"http://{host}:9/", "update", MESSAGE)
        assert "is no address of a registry" in str(caught.value) or "does not resolve" in str(
            caught.value
        )

    monkeypatch.setattr(partners, "CARRY_TIMEOUT", 2.0)
    run(scenario)


def test_what_was_looked_at_is_what_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is looked up twice may lead to two places."""
    made = site(http="127.0.0.1:0")

    async def scenario() -> None:
        async with registry(made) as url:
            port = int(url.rpartition(":")[2])
            loop = asyncio.get_running_loop()
            asked: list[Any] = []

            async def lookup(host: Any, *_: Any, **__: Any) -> list[Any]:
                asked.append(host)
                address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
                return [(2, 1, 6, "", (address, port))]

            monkeypatch.setattr(type(loop), "getaddrinfo", lambda self, *a, **k: lookup(*a, **k))
            with pytest.raises(BadPayloadError, match=r"not called 'rebinds\.example'"):
                await Partners(None).carry(f"http://rebinds.example:{port}", "update", MESSAGE)
            assert "rebinds.example" not in asked[1:]

    run(scenario)


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with stand_in(says("200 OK", b'{"proxied": true}')) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy)
            monkeypatch.setenv("ALL_PROXY", proxy)
            async with registry(site(http="127.0.0.1:0")) as url:
                assert "proxied" not in await Partners(None).carry(url, "update", MESSAGE)

    run(scenario)
