"""What becomes of links when the process at the other end dies, freezes or comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.transport.peers import Peer, eventually, linked, run, with_peers

ROOT = Path(__file__).parents[3]


@contextmanager
def other(url: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A transport in another process, and where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.transport.other_process", url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


async def echoed(peer: Peer, link: int) -> None:
    """One message there and back."""
    count = len(peer.frames)
    assert peer.send(link, 0, [b"ping"])
    await peer.until(lambda: len(peer.frames) > count)


def test_a_killed_peer_is_noticed_at_once_and_refuses_the_probe(loop: str, url: str) -> None:
    async def work() -> None:
        with other(url) as (process, bound):
            async with Peer() as peer:
                peer.transport.dial(1, bound)
                await peer.until(lambda: peer.connected)
                await echoed(peer, 1)
                process.send_signal(signal.SIGKILL)
                started = time.monotonic()
                await peer.until(lambda: peer.closed)
                assert time.monotonic() - started < 1.0
                assert peer.closed == [(1, "connection lost")]
                assert not peer.send(1, 0, [b"anybody?"])
                assert await peer.transport.probe([bound])

    run(work(), loop)


def test_a_peer_that_comes_back_on_its_port_can_be_dialled_again(url: str) -> None:
    async def work() -> None:
        async with Peer() as peer:
            bound = url
            for link in (1, 3, 5):
                with other(bound) as (process, bound):
                    peer.transport.dial(link, bound)
                    await peer.until(lambda link=link: link in peer.connected)
                    await echoed(peer, link)
                    process.kill()
                    await asyncio.to_thread(process.wait)
                    await peer.until(lambda link=link: (link, "connection lost") in peer.closed)

    run(work())


def test_a_frozen_peer_is_noticed_by_the_heartbeats_of_the_connection() -> None:
    async def work() -> None:
        with other("tcp://127.0.0.1:0") as (process, bound):
            async with Peer() as peer:
                peer.transport.dial(1, bound)
                await peer.until(lambda: peer.connected)
                os.kill(process.pid, signal.SIGSTOP)
                started = time.monotonic()
                await peer.until(lambda: peer.closed)
                assert 1.0 < time.monotonic() - started < 5.0
                assert not await peer.transport.probe([bound])  # its kernel still accepts

    run(work())


def test_many_lives_leave_nothing_open(loop: str) -> None:
    async def life(a: Peer, b: Peer, number: int, url: str) -> None:
        at_a, at_b = await linked(a, b, url, link=2 * number + 1)
        b.transport.connect_news(at_b, a.transport.news_urls)
        closing, other_side = ((a, at_a), (b, at_b))[:: 1 if number % 2 else -1]
        closing[0].transport.close_link(closing[1], "enough")
        await other_side[0].until(lambda: other_side[1] in [n for n, _ in other_side[0].closed])

    async def work(a: Peer, b: Peer) -> None:
        url = a.transport.listen("tcp://127.0.0.1:0")
        before = None
        for number in range(50):
            await life(a, b, number, url)
            if number == 4:
                before = await _settled()
        assert before is not None
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert a.transport.stats()["sockets"] == 3
        assert b.transport.stats()["sockets"] == 0

    run(with_peers(work), loop)


async def _settled() -> int:
    """The number of open files once sockets that are closing have gone."""
    seen = -1
    while True:
        now = len(os.listdir("/proc/self/fd"))
        if now == seen:
            return now
        seen = now
        await asyncio.sleep(0.3)


def test_many_transports_leave_nothing_open() -> None:
    async def work(a: Peer, b: Peer) -> None:
        at_a, at_b = await linked(a, b, a.transport.listen("tcp://127.0.0.1:0"))
        for number in range(100):
            b.send(at_b, 0, [b"%d" % number])
        await a.transport.close(0)
        assert not a.transport.send(at_a, 0, [b"too late"])
        await a.transport.close(0)

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        run(with_peers(work))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_queued_is_handed_over_before_a_transport_closes(loop: str) -> None:
    async def work(a: Peer, b: Peer) -> None:
        _, link = await linked(a, b, a.transport.listen("tcp://127.0.0.1:0"))
        for number in range(1000):
            assert b.send(link, 0, [b"%d" % number])
        await b.transport.close(1.0)
        await a.until(lambda: a.closed)
        assert [frame[2] for frame in a.frames] == [b"%d" % number for number in range(1000)]

    run(with_peers(work), loop)
