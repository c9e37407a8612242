"""Peers that are faulty or hostile: cut off and counted, while everybody else is served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from meshcore.transport.hub import Knobs
from meshcore.transport.link import preamble
from tests.integration.transport.peers import Peer, eventually, linked, run
from tests.integration.transport.zmtp import RawPeer, frame

TCP = "tcp://127.0.0.1:0"
KEY = bytes(range(16))
MIB = 1024 * 1024
Attack = Callable[[Peer, str], Awaitable[None]]


def attacked(attack: Attack, *, knobs: Knobs | None = None, loop: str = "uvloop") -> dict[str, int]:
    """Run `attack` on a node while it serves a peer; what the node counted."""

    async def work() -> dict[str, int]:
        async with Peer(echo=True, knobs=knobs) as victim, Peer() as honest:
            url = victim.transport.listen(TCP)
            at_victim, link = await linked(victim, honest, url)
            honest.transport.connect_news(link, victim.transport.news_urls)
            await eventually(lambda: not honest.transport.links_without_news())
            await attack(victim, url)
            honest.send(link, 0, [b"still there?"])
            honest.send(link, 1, [b"and", b"x" * 70_000])
            await honest.until(lambda: len(honest.frames) == 2)
            await eventually(lambda: not victim.transport.links_without_news())
            victim.transport.publish(b"hello")
            await honest.until(lambda: honest.news)
            assert at_victim not in [number for number, _ in victim.closed]
            return victim.drops

    return run(work(), loop)


@pytest.mark.parametrize("size", [0, 1, 19, 20, 21, 1000, 65_535, 65_536, 512 * 1024])
def test_a_stranger_that_begins_with_anything_but_the_preamble_is_cut(size: int) -> None:
    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url)
        await raw.send(b"x" * size)
        await raw.until_cut()
        assert len(victim.accepted) == 1

    assert attacked(attack) == {"no preamble": 1}


@pytest.mark.parametrize(
    "first",
    [
        preamble(2, KEY),
        preamble(255, KEY),
        b"MC2" + preamble(0, KEY)[3:],
        preamble(0, KEY) + b"x",
    ],
)
def test_a_preamble_that_is_almost_right_is_cut(first: bytes) -> None:
    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url)
        await raw.send(first)
        await raw.until_cut()

    assert attacked(attack) == {"no preamble": 1}


def test_a_preamble_with_something_behind_it_is_cut() -> None:
    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url)
        await raw.send(preamble(0, KEY), b"and more")
        await raw.until_cut()

    assert attacked(attack) == {"no preamble": 1}


def test_whoever_chooses_its_routing_id_is_cut() -> None:
    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url, identity=b"somebody")
        await raw.send(preamble(0, KEY))
        await raw.until_cut()

    assert attacked(attack) == {"chosen routing id": 1}


def test_a_lane_that_is_taken_is_not_given_again() -> None:
    async def attack(victim: Peer, url: str) -> None:
        first, second = [await RawPeer.connect(url) for _ in range(2)]
        await first.send(preamble(0, KEY))
        await victim.until(lambda: len(victim.accepted) == 2)
        await second.send(preamble(0, KEY))
        await second.until_cut()
        await first.close()

    assert attacked(attack) == {"lane is taken": 1}


def test_the_key_of_a_link_that_is_over_begins_no_new_one() -> None:
    async def attack(victim: Peer, url: str) -> None:
        first, second = [await RawPeer.connect(url) for _ in range(2)]
        await first.send(preamble(0, KEY))
        await victim.until(lambda: len(victim.accepted) == 2)
        await first.close()
        await victim.until(lambda: victim.closed)
        await second.send(preamble(1, KEY))
        await second.until_cut()
        assert len(victim.accepted) == 2

    assert attacked(attack) == {"link is over": 1}


def test_a_message_of_three_frames_ends_its_link() -> None:
    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url)
        await raw.send(preamble(0, KEY))
        await raw.send(b"fine")
        await victim.until(lambda: victim.frames)
        await raw.send(b"one", b"two", b"three", *[b"many"] * 10_000)
        await raw.until_cut()
        await victim.until(lambda: victim.closed)
        assert victim.closed == [(victim.accepted[1], "too many frames")]
        assert [each[2] for each in victim.frames] == [b"fine"]

    assert attacked(attack) == {"too many frames": 1}


def test_a_frame_above_the_limit_ends_its_link() -> None:
    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url)
        await raw.send(preamble(0, KEY))
        await victim.until(lambda: len(victim.accepted) == 2)
        await raw.send(b"x" * (512 * 1024 + 1))
        await raw.until_cut()
        await victim.until(lambda: victim.closed)

    assert attacked(attack) == {}


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 10_000,
        b"\xff" * 10_000,
        bytes(range(256)) * 100,
        b"\x01\0",
    ],
)
def test_bytes_that_are_not_zeromq_hurt_nobody(garbage: bytes) -> None:
    async def attack(victim: Peer, url: str) -> None:
        for target in (url, *victim.transport.news_urls):
            raw = await RawPeer.connect(target, socket_type=b"")
            await raw.send_bytes(garbage)
            with contextlib.suppress(OSError):  # it may be cut already
                raw.writer.write_eof()
            await raw.until_cut()

    attacked(attack)


def test_a_connection_that_says_nothing_is_cut_in_time() -> None:
    knobs = Knobs(introduction_timeout=0.2, guard_interval=0.05)

    async def attack(victim: Peer, url: str) -> None:
        out, into = victim.transport.news_urls
        raws = [
            await RawPeer.connect(url),
            await RawPeer.connect(url, socket_type=b""),
            await RawPeer.connect(out, b"SUB"),
            await RawPeer.connect(into, b"PUB"),
        ]
        for raw in raws:
            await raw.until_cut()

    assert attacked(attack, knobs=knobs) == {"no introduction": 4}


def test_a_link_without_its_second_lane_is_cut_in_time() -> None:
    knobs = Knobs(introduction_timeout=0.2, guard_interval=0.05)

    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url)
        await raw.send(preamble(1, KEY))
        await victim.until(lambda: len(victim.accepted) == 2)
        await raw.until_cut()
        await victim.until(lambda: victim.closed)

    assert attacked(attack, knobs=knobs) == {"no second lane": 1}


def test_links_above_the_limit_are_cut() -> None:
    async def attack(victim: Peer, url: str) -> None:
        raw = await RawPeer.connect(url)
        await raw.send(preamble(0, KEY))
        await raw.until_cut()

    assert attacked(attack, knobs=Knobs(links_max=1)) == {"too many links": 1}


def test_connections_above_the_limit_are_cut() -> None:
    async def attack(victim: Peer, url: str) -> None:
        raws = [await RawPeer.connect(url, socket_type=b"") for _ in range(6)]
        await raws[5].until_cut()
        await raws[4].until_cut()
        for raw in raws[:4]:
            await raw.close()

    drops = attacked(attack, knobs=Knobs(connections_max=6))
    assert drops["too many connections"] == 2
    assert set(drops) <= {"too many connections", "ended without introduction"}


@pytest.mark.parametrize("target", ["stranger", "lane", "xpub", "sub"])
@pytest.mark.parametrize("part", [b"x" * 60_000, b""], ids=["large frames", "empty frames"])
def test_an_endless_message_is_cut(target: str, part: bytes) -> None:
    knobs = Knobs(undelivered_bytes_max=MIB, guard_interval=0.02)

    async def attack(victim: Peer, url: str) -> None:
        out, into = victim.transport.news_urls
        where = {"xpub": (out, b"SUB"), "sub": (into, b"PUB")}.get(target, (url, b"DEALER"))
        raw = await RawPeer.connect(*where)
        if target == "lane":
            await raw.send(preamble(0, KEY))
        burst = frame(part, more=True) * (1 if part else 20_000)
        # Whether the attacker sees its end depends on its window: the victim's count is the proof.
        sending = asyncio.ensure_future(raw.send_for_ever(burst))
        await eventually(lambda: victim.drops)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await raw.close()
        assert raw.sent_bytes < 64 * MIB

    assert attacked(attack, knobs=knobs) == {"endless message": 1}


def test_an_honest_peer_that_sends_more_than_the_limit_is_not_cut() -> None:
    knobs = Knobs(undelivered_bytes_max=8 * MIB, guard_interval=0.01)

    async def work() -> None:
        async with Peer(knobs=knobs) as a, Peer() as b:
            _, link = await linked(a, b, a.transport.listen(TCP))
            for lane, body in ((0, b""), (1, b"x" * 100_000)):
                count = len(a.frames) + (200 if body else 50_000)
                while len(a.frames) < count:
                    b.send(link, lane, [b"head", body])
                    await asyncio.sleep(0)
            await asyncio.sleep(0.05)  # some more looks
            assert (a.drops, a.closed) == ({}, [])

    run(work())


@pytest.mark.parametrize(
    "topics",
    [[b"x"], [b""], [b"h" * 100], [b"z"], [b"h"] * 9, [b"h", b"n", b"z" + KEY]],
    ids=["foreign", "empty", "long", "no key", "nine", "unknown key"],
)
def test_foreign_subscriptions_are_cut(topics: list[bytes]) -> None:
    async def attack(victim: Peer, _: str) -> None:
        raw = await RawPeer.connect(victim.transport.news_urls[0], b"SUB")
        for topic in topics:
            await raw.send(b"\x01" + topic)
        await raw.until_cut()

    drops = attacked(attack)
    assert drops == {"news of no link" if topics[-1][1:] == KEY else "foreign subscription": 1}


@pytest.mark.parametrize("size", [1, 17, 100_000])
def test_news_from_somebody_without_a_link_are_cut(size: int) -> None:
    async def attack(victim: Peer, _: str) -> None:
        raw = await RawPeer.connect(victim.transport.news_urls[1], b"PUB")
        await raw.send(b"h" * size)
        await raw.until_cut()
        assert victim.news == []

    assert attacked(attack) == {"news of no link": 1}


def test_news_of_two_frames_are_cut() -> None:
    async def attack(victim: Peer, _: str) -> None:
        raw = await RawPeer.connect(victim.transport.news_urls[1], b"PUB")
        await raw.send(b"h", b"more")
        await raw.until_cut()

    assert attacked(attack) == {"too many frames": 1}


def test_a_peer_that_stops_reading_costs_its_queue_and_nobody_else() -> None:
    knobs = Knobs(queue_bytes_max=MIB)

    async def attack(victim: Peer, url: str) -> None:
        lanes = [await RawPeer.connect(url) for _ in range(2)]
        for number, raw in enumerate(lanes):
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await raw.send(preamble(number, KEY))
        await victim.until(lambda: len(victim.accepted) == 2)
        link = victim.accepted[1]
        for lane in (0, 1):
            body = b"x" * 60_000 if lane == 0 else b"x" * 250_000
            sent = 0
            async with asyncio.timeout(5):
                while victim.send(link, lane, [body]):
                    sent += len(body)
                    await asyncio.sleep(0)
            assert sent < 48 * MIB
            stats = victim.transport.stats()["links"][link]["lanes"]  # type: ignore[index]
            assert 0.7 * MIB < stats["cb"[lane]]["queued_bytes"] <= MIB
        for raw in lanes:
            await raw.close()
        await victim.until(lambda: victim.closed)

    attacked(attack, knobs=knobs)
