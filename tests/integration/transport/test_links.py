"""Two transports of one process, over real sockets: how links begin, carry messages and end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from meshcore.errors import ConfigError
from meshcore.transport.hub import Knobs
from tests.integration.transport.peers import TIMEOUT, Peer, eventually, linked, run, with_peers

TCP = "tcp://127.0.0.1:0"


def test_messages_go_both_ways_on_both_lanes(loop: str, url: str) -> None:
    async def work(a: Peer, b: Peer) -> None:
        at_a, at_b = await linked(a, b, a.transport.listen(url))
        assert (at_a % 2, at_b) == (0, 1)
        assert b.send(at_b, 0, [b"hello"])
        assert b.send(at_b, 1, [b"head", b"body"])
        await a.until(lambda: len(a.frames) == 2)
        assert sorted(a.frames) == [(at_a, 0, b"hello", None), (at_a, 1, b"head", b"body")]
        assert a.send(at_a, 0, [b""])
        assert a.send(at_a, 1, [b"x" * 70_000])
        await b.until(lambda: len(b.frames) == 2)
        assert sorted(b.frames) == [(at_b, 0, b"", None), (at_b, 1, b"x" * 70_000, None)]
        assert a.drained > 0

    run(with_peers(work), loop)


def test_the_side_that_accepts_may_speak_first(url: str) -> None:
    async def work(a: Peer, b: Peer) -> None:
        b.transport.dial(1, a.transport.listen(url))
        await a.until(lambda: a.accepted)
        for lane in (0, 1):  # the second lane may not be known yet: it queues
            assert a.send(a.accepted[0], lane, [b"first"])
        await b.until(lambda: len(b.frames) == 2)
        assert b.connected == [1]

    run(with_peers(work))


def test_a_large_body_arrives_as_a_view_and_goes_on_without_a_copy(loop: str) -> None:
    async def work(a: Peer, b: Peer) -> None:
        _, link = await linked(a, b, a.transport.listen(TCP))
        body = os.urandom(256 * 1024)
        assert b.send(link, 1, [b"head", body])
        await b.until(lambda: b.frames)
        assert isinstance(a.bodies[0], memoryview)
        assert b.frames == [(link, 1, b"head", body)]

    run(with_peers(work, echo=True), loop)


@pytest.mark.parametrize("lane", [0, 1])
def test_ten_thousand_messages_keep_their_order(loop: str, url: str, lane: int) -> None:
    async def work(a: Peer, b: Peer) -> None:
        _, link = await linked(a, b, a.transport.listen(url))
        for number in range(10_000):
            assert b.send(link, lane, [number.to_bytes(4)])
        await b.until(lambda: len(b.frames) == 10_000, timeout=30)
        assert [int.from_bytes(frame[2]) for frame in b.frames] == list(range(10_000))
        assert [int.from_bytes(frame[2]) for frame in a.frames] == list(range(10_000))

    run(with_peers(work, echo=True), loop)


def test_a_link_that_is_closed_ends_at_both_sides_after_its_last_words(loop: str, url: str) -> None:
    async def work(a: Peer, b: Peer) -> None:
        bound = a.transport.listen(url)
        at_a, at_b = await linked(a, b, bound)
        for number in range(500):  # more than libzmq takes at once
            assert b.send(at_b, 0, [b"%d" % number])
        b.transport.close_link(at_b, "done here")
        assert not b.send(at_b, 0, [b"too late"])
        assert not b.closed, "the sink was called from within close_link()"
        await b.until(lambda: b.closed == [(at_b, "done here")])
        await a.until(lambda: a.closed)
        assert a.closed == [(at_a, "connection lost")]
        assert [frame[2] for frame in a.frames] == [b"%d" % number for number in range(500)]

        at_a, at_b = await linked(a, b, bound, link=3)
        for number in range(500):
            assert a.send(at_a, 0, [b"%d" % number])
        a.transport.close_link(at_a, "go away")
        await b.until(lambda: (at_b, "connection lost") in b.closed)
        assert (at_a, "go away") in a.closed
        assert [frame[2] for frame in b.frames] == [b"%d" % number for number in range(500)]

    run(with_peers(work), loop)


def test_nothing_is_handed_over_from_a_link_after_its_end() -> None:
    async def work(a: Peer, b: Peer) -> None:
        at_a, at_b = await linked(a, b, a.transport.listen(TCP))
        a.transport.close_link(at_a, "enough")
        await a.until(lambda: a.closed)
        b.send(at_b, 0, [b"still here"])
        await b.until(lambda: b.closed)
        await linked(a, b, a.transport.listen(TCP), link=3)
        assert a.frames == []

    run(with_peers(work))


def test_numbers_of_links_are_odd_and_used_once() -> None:
    async def work(a: Peer, b: Peer) -> None:
        _, link = await linked(a, b, a.transport.listen(TCP))
        with pytest.raises(ValueError, match="odd"):
            b.transport.dial(2, "tcp://127.0.0.1:1")
        with pytest.raises(ValueError, match="once"):
            b.transport.dial(link, "tcp://127.0.0.1:1")
        assert not b.transport.send(99, 0, [b"to nobody"])
        b.transport.close_link(99, "nobody")

    run(with_peers(work))


def test_messages_that_no_peer_would_take_are_refused_here() -> None:
    async def work(a: Peer, b: Peer) -> None:
        _, link = await linked(a, b, a.transport.listen(TCP))
        for frames in ([b"x" * (512 * 1024 + 1)], [b"a", b"b", b"c"]):
            with pytest.raises(ValueError, match="one or two frames"):
                b.send(link, 0, frames)
        assert b.send(link, 0, [b"x" * (512 * 1024)])
        await a.until(lambda: a.frames)

    run(with_peers(work))


def test_a_refused_dial_says_so_at_once(loop: str, home: Path) -> None:
    async def work(a: Peer, b: Peer) -> None:
        free = a.transport.listen(TCP)
        await a.transport.close(0)
        b.transport.dial(1, free)
        b.transport.dial(3, f"ipc://{home}/nobody.sock")
        b.transport.dial(5, free.replace("127.0.0.1", "localhost"))
        b.transport.dial(7, "nonsense://x")
        assert not b.failed, "the sink was called from within dial()"
        await b.until(lambda: len(b.failed) == 4, timeout=3)
        assert b.failed[1] == f"{free}: connection refused"
        assert b.failed[3] == f"ipc://{home}/nobody.sock: no such socket"
        assert b.failed[5].endswith(": connection refused")
        assert "nonsense" in b.failed[7]

    run(with_peers(work), loop)


def test_a_dial_that_nobody_answers_ends_in_time(loop: str) -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
            async with Peer(knobs=Knobs(dial_timeout=0.2)) as peer:
                peer.transport.dial(1, url)
                await peer.until(lambda: peer.failed)
                assert peer.failed == {1: f"{url}: no answer in 0.2 s"}

    run(work(), loop)


def test_a_dial_to_something_else_fails_in_the_handshake() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100)
        await writer.drain()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, Peer() as peer:
            peer.transport.dial(1, url)
            await peer.until(lambda: peer.failed)
            assert peer.failed[1].startswith(url)
            assert not peer.connected

    run(work())


def test_closing_a_link_that_is_still_dialling_ends_the_dial() -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            async with Peer() as peer:
                peer.transport.dial(1, f"tcp://127.0.0.1:{silent.getsockname()[1]}")
                peer.transport.close_link(1, "not needed")
                await peer.until(lambda: peer.failed)
                assert peer.failed == {1: "not needed"}
                assert not peer.closed

    run(work())


def test_a_name_with_several_addresses_is_tried_at_each() -> None:
    async def work(a: Peer, b: Peer) -> None:
        url = a.transport.listen(TCP).replace("127.0.0.1", "localhost")  # often ::1 at first
        await linked(a, b, url)

    run(with_peers(work))


def test_a_wildcard_serves_every_address_and_its_news_follow(loop: str) -> None:
    async def work(a: Peer, b: Peer) -> None:
        bound = a.transport.listen("tcp://0.0.0.0:0")
        port = bound.rpartition(":")[2]
        assert bound == f"tcp://0.0.0.0:{port}"
        for number, host in ((1, "127.0.0.1"), (3, "127.0.0.2")):
            at_a, at_b = await linked(a, b, f"tcp://{host}:{port}", link=number)
            urls = a.transport.news_urls_for(at_a)
            assert all(url.startswith("tcp://0.0.0.0:") for url in urls)
            b.transport.connect_news(at_b, urls)
        await eventually(lambda: not b.transport.links_without_news())

    run(with_peers(work), loop)


def test_an_occupied_port_is_explained() -> None:
    async def work(a: Peer, b: Peer) -> None:
        url = a.transport.listen(TCP)
        with pytest.raises(ConfigError) as caught:
            b.transport.listen(url)
        assert str(caught.value) == (
            f"{url}: address in use by another process; "
            "choose --listen tcp://127.0.0.1:0 or stop it"
        )

    run(with_peers(work))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("tcp://192.0.2.1:0", "no such address"),
        ("tcp://no-such-name.invalid:1", "does not resolve"),
        ("ipc:///no/such/directory/x.sock", "does not exist"),
        ("rnp://x", "unknown scheme"),
    ],
)
def test_what_cannot_be_bound_is_explained(url: str, text: str) -> None:
    async def work(a: Peer, _: Peer) -> None:
        with pytest.raises(ConfigError, match=text):
            a.transport.listen(url)
        assert a.transport.news_urls == ()

    run(with_peers(work))


def test_an_ipc_path_is_taken_from_the_dead_but_not_from_the_living(home: Path) -> None:
    path = home / "node.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def work(a: Peer, b: Peer) -> None:
        url = a.transport.listen(f"ipc://{path}")
        with pytest.raises(ConfigError, match="in use"):
            b.transport.listen(url)
        await linked(a, b, url)
        assert path.stat().st_mode & 0o777 == 0o600

    run(with_peers(work))
    assert [each.name for each in home.iterdir() if each.is_socket()] == []


def test_news_reach_every_neighbour_both_ways(loop: str, url: str) -> None:
    async def work(a: Peer, b: Peer) -> None:
        bound = a.transport.listen(url)
        at_a, at_b = await linked(a, b, bound)
        assert a.transport.links_without_news() == (at_a,)
        assert b.transport.links_without_news() == (at_b,)
        b.transport.connect_news(at_b, a.transport.news_urls)
        await eventually(
            lambda: not a.transport.links_without_news() + b.transport.links_without_news()
        )
        a.transport.publish(b"h-beat of a")
        b.transport.publish(b"n-news of b")
        await a.until(lambda: a.news)
        await b.until(lambda: b.news)
        assert a.news == [(at_a, b"n-news of b")]
        assert b.news == [(at_b, b"h-beat of a")]
        b.transport.close_link(at_b, "bye")
        await a.until(lambda: a.closed)
        a.transport.publish(b"h-to nobody")
        assert a.transport.links_without_news() == ()

    run(with_peers(work), loop)


def test_news_of_two_neighbours_are_told_apart() -> None:
    async def work(a: Peer, b: Peer) -> None:
        bound = a.transport.listen(TCP)
        numbers = [await linked(a, b, bound, link=link) for link in (1, 3)]
        for _, at_b in numbers:
            b.transport.connect_news(at_b, a.transport.news_urls)
        await eventually(lambda: not b.transport.links_without_news())
        b.transport.publish(b"hello")
        await a.until(lambda: len(a.news) == 2)
        assert sorted(a.news) == [(at_a, b"hello") for at_a, _ in numbers]

    run(with_peers(work))


def test_news_are_not_fetched_from_where_the_peer_points_us(home: Path) -> None:
    async def work(a: Peer, b: Peer) -> None:
        _, link = await linked(a, b, a.transport.listen(TCP))
        for bad in ("tcp://127.0.0.1:0", f"ipc://{home}/other", "no address", ""):
            b.transport.connect_news(link, [bad, bad])
        assert b.drops == {"bad news url": 4}
        b.transport.connect_news(
            link, [url.replace("127.0.0.1", "192.0.2.1") for url in a.transport.news_urls]
        )
        await eventually(lambda: not b.transport.links_without_news())

    run(with_peers(work))


def test_a_peer_without_news_sockets_is_named() -> None:
    async def work(a: Peer, b: Peer) -> None:
        at_a, at_b = await linked(a, b, a.transport.listen(TCP, news=False))
        assert a.transport.news_urls == a.transport.news_urls_for(at_a) == ()
        b.transport.connect_news(at_b, ())
        b.transport.publish(b"hello")
        assert b.transport.links_without_news() == (at_b,)

    run(with_peers(work))


def test_the_probe_tells_the_dead_from_the_silent_and_the_living(loop: str, home: Path) -> None:
    async def work(a: Peer, b: Peer) -> None:
        living = a.transport.listen(TCP)
        gone = b.transport.listen(TCP)
        await b.transport.close(0)
        assert await a.transport.probe([gone])
        assert await a.transport.probe([gone, f"ipc://{home}/gone.sock"])
        assert not await a.transport.probe([gone, living])
        assert not await a.transport.probe([])
        assert not await a.transport.probe(["no address"])
        assert not await a.transport.probe([gone] * 9)

    run(with_peers(work), loop)


def test_drain_hands_over_what_has_arrived() -> None:
    async def work(a: Peer, b: Peer) -> None:
        _, link = await linked(a, b, a.transport.listen(TCP))
        b.send(link, 0, [b"hello"])
        deadline = time.monotonic() + TIMEOUT
        while not a.frames:  # the loop does not run here, libzmq's thread does
            assert time.monotonic() < deadline
            a.transport.drain()

    run(with_peers(work))


def test_a_sink_that_raises_loses_its_message_and_no_other() -> None:
    class Clumsy(Peer):
        def on_news(self, link: int, data: bytes) -> None:
            super().on_news(link, data)
            if len(self.news) == 1:
                raise ArithmeticError("a bug of the driver")

    async def work() -> None:
        errors: list[dict[str, Any]] = []
        handler = asyncio.get_running_loop().get_exception_handler()
        asyncio.get_running_loop().set_exception_handler(lambda _, each: errors.append(each))
        async with Clumsy() as a, Peer() as b:
            _, link = await linked(a, b, a.transport.listen(TCP))
            b.transport.connect_news(link, a.transport.news_urls)
            await eventually(lambda: not b.transport.links_without_news())
            for number in range(10):
                b.transport.publish(b"h%d" % number)
            await a.until(lambda: len(a.news) == 10)
        asyncio.get_running_loop().set_exception_handler(handler)
        assert len(errors) == 1

    run(work())


def test_stats_count_bytes_and_messages() -> None:
    async def work(a: Peer, b: Peer) -> None:
        at_a, at_b = await linked(a, b, a.transport.listen(TCP))
        b.send(at_b, 0, [b"12345"])
        b.send(at_b, 1, [b"12345", b"678"])
        await a.until(lambda: len(a.frames) == 2)
        lanes = a.transport.stats()["links"][at_a]["lanes"]  # type: ignore[index]
        assert (lanes["c"]["bytes_in"], lanes["c"]["messages_in"]) == (5, 1)
        assert (lanes["b"]["bytes_in"], lanes["b"]["messages_in"]) == (8, 1)
        assert lanes["b"]["queued_bytes"] == 0

    run(with_peers(work))
