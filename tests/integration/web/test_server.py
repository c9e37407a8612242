"""The web server on real sockets: addresses, connections that misbehave, and its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from meshcore.errors import ConfigError
from meshcore.web import connections, server
from meshcore.web.server import WebServer
from tests.integration.nodes import run
from tests.unit.web.fakes import FakeSite, item, site

SHORT = 0.2  # seconds, in the place of bounds that take longer


@asynccontextmanager
async def serving(made: FakeSite) -> AsyncIterator[WebServer]:
    web = WebServer(made)
    await web.start()
    try:
        yield web
    finally:
        await web.stop()


def on_port_0(**settings: Any) -> FakeSite:
    return site([item(1)], http="127.0.0.1:0", **settings)


@asynccontextmanager
async def connected(
    web: WebServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    assert web.url is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", int(web.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()


# -- addresses -------------------------------------------------------------------------------------


def test_the_real_port_is_known_and_told_to_the_catalogue() -> None:
    async def scenario() -> None:
        made = on_port_0()
        async with serving(made) as web, httpx.AsyncClient() as client:
            assert web.url is not None
            assert not web.url.endswith(":0")
            assert (await client.get(f"{web.url}/health")).json()["status"] == "ok"
            assert made.catalogue.reached[0][0] == web.url

    run(scenario)


def test_others_are_told_the_url_that_is_set() -> None:
    async def scenario() -> None:
        made = on_port_0(http_url="https://mesh.example/")
        async with serving(made) as web:
            assert web.url is not None
            assert web.url.startswith("http://127.0.0.1:")
            assert made.catalogue.reached[0][0] == "https://mesh.example/"

    run(scenario)


@pytest.mark.parametrize("http", ["*:0", "0.0.0.0:0"])
def test_of_every_interface_this_machine_uses_loopback_and_others_a_name(http: str) -> None:
    async def scenario() -> None:
        made = site(http=http, insecure=True)
        async with serving(made) as web, httpx.AsyncClient() as client:
            assert web.url is not None
            assert web.url.startswith("http://127.0.0.1:")
            assert (await client.get(f"{web.url}/")).status_code == 200
            assert made.catalogue.reached[0][0].rpartition(":")[2] == web.url.rpartition(":")[2]
            assert "127.0.0.1" not in made.catalogue.reached[0][0]

    run(scenario)


def test_ipv6() -> None:
    async def scenario() -> None:
        async with serving(site(http="[::1]:0")) as web, httpx.AsyncClient() as client:
            assert web.url is not None
            assert web.url.startswith("http://[::1]:")
            assert (await client.get(f"{web.url}/")).status_code == 200

    run(scenario)


def test_an_address_in_use_says_what_to_do() -> None:
    async def scenario() -> None:
        async with serving(on_port_0()) as web:
            assert web.url is not None
            port = web.url.rpartition(":")[2]
            second = WebServer(site(http=f"127.0.0.1:{port}"))
            with pytest.raises(ConfigError) as caught:
                await second.start()
            assert str(caught.value) == (
                f"http://127.0.0.1:{port}: address in use by another process;"
                " choose --http 127.0.0.1:0 or stop it"
            )
            await second.stop()

    run(scenario)


@pytest.mark.parametrize(
    ("http", "says"),
    [
        ("192.0.2.1:8080", "this machine has no such address"),
        ("no-such-host.invalid:8080", "does not resolve"),
    ],
)
def test_an_address_that_cannot_be_had_is_named(http: str, says: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match=says) as caught:
            await WebServer(site(http=http)).start()
        assert str(caught.value).startswith(f"http://{http}: ")

    run(scenario)


def test_a_port_can_be_used_again_at_once() -> None:
    async def scenario() -> None:
        async with serving(on_port_0()) as web, httpx.AsyncClient() as client:
            assert web.url is not None
            address = web.url.removeprefix("http://")
            await client.get(web.url)
        async with serving(site(http=address)) as again:
            assert again.url == web.url

    run(scenario)


def test_neither_signals_nor_logging_are_touched() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")

    def state() -> Any:
        loggers = [logging.getLogger(name) for name in names]
        told = [(each.level, each.propagate, list(each.handlers)) for each in loggers]
        return [signal.getsignal(number) for number in numbers], told

    async def scenario() -> None:
        before = state()
        async with serving(on_port_0()) as web, httpx.AsyncClient() as client:
            await client.get(f"{web.url}/")
            assert state() == before
        assert state() == before

    run(scenario)


# -- connections -----------------------------------------------------------------------------------


def test_a_connection_is_kept_for_many_requests() -> None:
    async def scenario() -> None:
        async with serving(on_port_0()) as web, connected(web) as (reader, writer):
            for _ in range(3):
                writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                await reader.readexactly(size)

    run(scenario)


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad header\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000,
        b"POST /register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_what_is_no_request_is_answered_in_the_same_shape_and_closed(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(on_port_0()) as web, connected(web) as (reader, writer):
            writer.write(sent)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b'{"error":{"name":"BadPayloadError"' in answer
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"{web.url}/")).status_code == 200

    run(scenario)
    assert caplog.text == ""


def test_a_websocket_is_answered_like_any_request() -> None:
    async def scenario() -> None:
        async with serving(on_port_0()) as web, connected(web) as (reader, writer):
            writer.write(
                b"GET /flows HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\n\r\n"
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    run(scenario)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "]
)
def test_a_head_that_does_not_come_ends_the_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT", SHORT)

    async def scenario() -> None:
        async with serving(on_port_0()) as web, connected(web) as (reader, writer):
            writer.write(sent)
            assert await reader.read() == b""

    run(scenario)


def test_a_head_that_drips_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT", SHORT)

    async def scenario() -> None:
        async with serving(on_port_0()) as web, connected(web) as (reader, writer):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"}")  # a whole request, and then one that drips
            ended = asyncio.ensure_future(reader.read())
            while not ended.done():
                writer.write(b"G")
                await asyncio.sleep(SHORT / 20)
            assert await ended == b""

    run(scenario)


def test_an_idle_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_TIMEOUT", SHORT)

    async def scenario() -> None:
        async with serving(on_port_0()) as web, connected(web) as (reader, writer):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")

    run(scenario)


def test_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", SHORT)
    made = site([item(number, description="x" * 4000) for number in range(20_000)])
    made.config.http = "127.0.0.1:0"

    async def scenario() -> None:
        async with serving(made) as web, connected(web) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /catalogue HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: len(web._state.connections) == 1)
            await until(lambda: len(web._state.connections) == 0)
            await until(lambda: len(web._state.tasks) == 0)

    run(scenario)


def test_too_many_connections_are_cut_and_the_others_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)

    async def scenario() -> None:
        async with serving(on_port_0()) as web:
            port = int((web.url or "").rpartition(":")[2])
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await until(lambda: len(web._state.connections) == 3)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await rest(reader) == b""
            writer.close()
            opened[0][1].write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await opened[0][0].readline()).startswith(b"HTTP/1.1 200")
            for _, each in opened:
                each.close()

    run(scenario)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the connection ends, in good order or not."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (the scenario has a deadline)
        await asyncio.sleep(0.005)


# -- the end ---------------------------------------------------------------------------------------


def slow(made: FakeSite, seconds: float) -> Callable[[], Coroutine[Any, Any, Any]]:
    original = made.catalogue.counts

    async def counts() -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return await original()

    return counts


def test_an_answer_under_way_is_given_before_the_end() -> None:
    made = on_port_0()
    made.catalogue.counts = slow(made, 0.2)  # type: ignore[method-assign]

    async def scenario() -> None:
        web = WebServer(made)
        await web.start()
        async with connected(web) as (reader, writer), connected(web) as (idle, _):
            writer.write(b"GET /counts HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: bool(web._state.tasks))
            await web.stop()
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            assert await idle.read() == b""
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asyncio.open_connection("127.0.0.1", int((web.url or "").rpartition(":")[2]))
        await web.stop()  # twice is harmless

    run(scenario)


def test_what_takes_too_long_is_cut_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLOSE_TIMEOUT", SHORT)
    made = on_port_0()
    made.catalogue.counts = slow(made, 60)  # type: ignore[method-assign]

    async def scenario() -> None:
        web = WebServer(made)
        await web.start()
        async with connected(web) as (reader, writer):
            writer.write(b"GET /counts HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: bool(web._state.tasks))
            begin = time.monotonic()
            await web.stop()
            assert time.monotonic() - begin < 5
            assert (await rest(reader)).startswith(b"HTTP/1.1 503")

    run(scenario)


def test_the_socket_is_closed_when_the_start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(server, "make_app", broken)

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="broken"):
            await WebServer(on_port_0()).start()

    run(scenario)  # and what is left open fails every test
