"""Faulty and hostile peers on every socket of a node: counted, cut off, and nobody else suffers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil
import pytest
import zmq

from meshcore import Config, Controller
from meshcore.protocol.wire import control
from meshcore.transport.link import preamble
from tests.e2e.mesh_processes import MESHCTL, NodeProcess, World, eventually

pytestmark = pytest.mark.timeout(120)
MIB = 2**20
SIZES = (1, 2, 20, 64, 1000, 65_535, 524_289, 4 * MIB)
GROWTH_MAX = 64 * MIB  # of the node's memory, over a whole attack
KEY = bytes(range(16))


class Victim:
    """A node under attack, with an honest peer that never stops calling it."""

    def __init__(self, world: World, node: NodeProcess, honest: Controller) -> None:
        self.world, self.node, self.honest = world, node, honest
        self.answered, self.slowest = 0, 0.0
        self.rss_before = node.rss_bytes

    async def traffic(self) -> None:
        while True:
            start = time.monotonic()
            assert await self.honest.call("victim", "demo:echo", start, timeout=5) == start
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.answered += 1
            await asyncio.sleep(0.002)

    async def status(self) -> dict[str, Any]:
        return await self.honest.call("victim", "mesh:status")  # type: ignore[no-any-return]

    async def counted(self) -> dict[str, int]:
        """Everything that it counted, by reason."""
        status = await self.status()
        return {**status["counters"], **status["transport"]["drops"]}

    async def targets(self) -> dict[str, str]:
        """Every address that it listens at."""
        news = await self.news_urls()
        return {"router": self.node.url, "ipc": self.node.socket, "xpub": news[0], "sub": news[1]}

    async def news_urls(self) -> list[str]:
        """Where it listens beside its router: the other TCP ports of its process."""
        ports = {
            each.laddr.port
            for each in psutil.Process(self.node.pid).net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        }
        ports.discard(self.node.port)
        assert len(ports) >= 2, ports
        return [f"tcp://127.0.0.1:{port}" for port in sorted(ports)]


@asynccontextmanager
async def attacked() -> AsyncIterator[Victim]:
    """A victim; when the block ends, the honest peer must have been served all the time."""
    async with World() as world:
        node = await world.start("victim")
        async with Controller(Config(node_id="honest", peers=[node.url])) as honest:
            await honest.wait_for("victim")
            victim = Victim(world, node, honest)
            traffic = asyncio.create_task(victim.traffic())
            try:
                yield victim
                before = victim.answered
                await eventually(lambda: traffic.done() or victim.answered > before + 20, 5)
            finally:
                traffic.cancel()
                outcome = (await asyncio.gather(traffic, return_exceptions=True))[0]
            assert isinstance(outcome, asyncio.CancelledError), outcome
            assert [link.node_id for link in honest.links] == ["victim"]
            grown = node.rss_bytes - victim.rss_before
            assert grown < GROWTH_MAX, f"{grown / MIB:.0f} MiB more"
            assert victim.slowest < 1.5
            assert (await node.stop())[0] == 0


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if url.startswith("ipc://"):
        return await asyncio.open_unix_connection(url.removeprefix("ipc://"))
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def throw(url: str, data: bytes) -> None:
    """Raw bytes, then the end of the stream; the node may cut it short."""
    _, writer = await connect(url)
    with suppress(OSError):  # it is cut as soon as it is known for what it is
        writer.write(data)
        await asyncio.wait_for(writer.drain(), 10)
        writer.write_eof()
    writer.close()
    with suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), 10)


def test_bytes_of_any_size_on_every_socket_hurt_nobody() -> None:
    async def scenario() -> None:
        rng = random.Random(1)
        async with attacked() as victim:
            targets = await victim.targets()
            assert len(targets) == 4
            before = await victim.counted()
            for url in targets.values():
                for size in SIZES:
                    await throw(url, rng.randbytes(size))
                    await throw(url, b"\xff" * 9 + b"\x7f" + rng.randbytes(size))  # ZMTP's begin
                await throw(url, b"GET / HTTP/1.1\r\nHost: victim\r\n\r\n")

            async def all_counted() -> bool:
                counted = difference(await victim.counted(), before)
                return sum(counted.values()) >= len(targets) * (2 * len(SIZES) + 1)

            await eventually(all_counted, 5, "not everything was counted")

    asyncio.run(scenario())


@asynccontextmanager
async def zmq_client(url: str, kind: int = zmq.DEALER) -> AsyncIterator[zmq.Socket[bytes]]:
    """A plain ZeroMQ socket: it speaks ZMTP well, and nothing beyond that."""
    with zmq.Context() as context, context.socket(kind) as peer:
        peer.linger, peer.sndtimeo = 0, 500
        peer.connect(url)
        yield peer


def difference(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What was counted meanwhile, but for the honest peer's own calls."""
    return {
        key: now[key] - before.get(key, 0)
        for key in now
        if now[key] != before.get(key, 0) and key != "work_received"
    }


async def until_more(victim: Victim, before: dict[str, int]) -> dict[str, int]:
    """What was counted since `before`, once something was."""

    async def more() -> dict[str, int]:
        return difference(await victim.counted(), before)

    return await eventually(more, 5, "nothing was counted")


def hello(version_min: int, version: int) -> bytes:
    return control.encode(
        control.Hello(version_min, version, "mesh", "stranger", 1, 2, 3, (), 0, 0.5, 4, 0.0, 0.0)
    )


MESSAGES: dict[str, list[bytes]] = {
    "no preamble": [b"hello?"],
    "a preamble of another version": [b"MC9" + preamble(0, KEY)[3:]],
    "a long preamble": [preamble(0, KEY) * 10],
    "an empty message": [b""],
    "a frame above the limit": [b"x" * (600 * 1024)],
    "many frames": [b"x"] * 5000,
}


@pytest.mark.parametrize("name", list(MESSAGES))
def test_strange_messages_are_counted_with_a_reason(name: str) -> None:
    async def scenario() -> None:
        async with attacked() as victim:
            for target in ("router", "ipc"):
                before = await victim.counted()
                url = (await victim.targets())[target]
                async with zmq_client(url) as peer:
                    with suppress(zmq.Again):
                        peer.send_multipart(MESSAGES[name])
                    await until_more(victim, before)

    asyncio.run(scenario())


AFTER_PREAMBLE: dict[str, bytes] = {
    "an old version": hello(0, 0),
    "a version to come": hello(200, 250),
    "no message": b"",
    "an unknown kind": b"\x01\xee" + b"x" * 100,
    "garbage as a greeting": b"\x01\x01" + random.Random(2).randbytes(300),
    "a packet of a stranger": b"\x01\x20" + random.Random(3).randbytes(3000),
    "a beat of a stranger": control.encode(control.Beat("honest", 1, 2, 3, 0.5, 4, 0.0, 4, 0.0)),
}


@pytest.mark.parametrize("name", list(AFTER_PREAMBLE))
def test_a_bad_beginning_of_a_link_is_refused_and_counted(name: str) -> None:
    async def scenario() -> None:
        async with attacked() as victim:
            before = await victim.counted()
            async with zmq_client(victim.node.url) as c, zmq_client(victim.node.url) as b:
                key = os.urandom(16)
                c.send(preamble(0, key))
                b.send(preamble(1, key))
                c.send(AFTER_PREAMBLE[name])
                counted = await until_more(victim, before)
                assert counted, counted

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.SUB], ids=["news", "subscriptions"])
def test_garbage_on_the_news_sockets_is_counted(kind: int) -> None:
    async def scenario() -> None:
        rng = random.Random(4)
        async with attacked() as victim:
            before = await victim.counted()
            one, other = await victim.news_urls()
            async with zmq_client(one, kind) as first, zmq_client(other, kind) as second:
                for peer in (first, second):  # one of them fits
                    if kind == zmq.SUB:
                        peer.subscribe(b"everything, please")

                async def counted() -> bool:
                    for peer in (first, second) if kind == zmq.PUB else ():
                        with suppress(zmq.Again):
                            peer.send(b"h" + rng.randbytes(200), zmq.DONTWAIT)
                    return bool(difference(await victim.counted(), before))

                await eventually(counted, 5, "nothing was counted")

    asyncio.run(scenario())


@asynccontextmanager
async def frozen_peer(world: World, victim: Victim) -> AsyncIterator[NodeProcess]:
    """Another peer of the victim, which stands still until the block ends."""
    node = await world.start("frozen", peers=[victim.node])
    await victim.honest.wait_for("frozen")
    try:
        yield node
    finally:
        node.thaw()


def test_a_peer_that_stops_reading_costs_bounded_memory_and_nobody_else() -> None:
    async def scenario() -> None:
        async with World() as world, attacked() as victim:
            async with frozen_peer(world, victim) as frozen:
                body = os.urandom(200_000)
                frozen.freeze()
                calls = [
                    asyncio.create_task(victim.honest.call("frozen", "demo:echo", body, timeout=4))
                    for _ in range(500)
                ]
                peak = 0
                while not all(call.done() for call in calls):
                    peak = max(peak, victim.node.rss_bytes)
                    await asyncio.wait(calls, timeout=0.1)
                errors = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(error, Exception) for error in errors)
                assert peak - victim.rss_before < 2 * GROWTH_MAX, f"{peak / MIB:.0f} MiB"
            await victim.honest.wait_for("frozen", timeout=10)
            assert await victim.honest.call("frozen", "demo:echo", 1) == 1
            # Measured at its peak above; the allocator need not have given it back.
            victim.rss_before = max(victim.rss_before, victim.node.rss_bytes)

    asyncio.run(scenario())


def test_a_client_that_stops_reading_its_stream_holds_up_its_own_work_only() -> None:
    async def scenario() -> None:
        async with attacked() as victim:
            client = await asyncio.create_subprocess_exec(
                *MESHCTL,
                *("send", "victim", "demo:count", "100000000", "--via", "victim"),
                stdout=asyncio.subprocess.PIPE,
                env=victim.world.environment,
                start_new_session=True,
            )
            victim.world.groups.append(client.pid)
            assert client.stdout is not None
            assert await client.stdout.readline() == b"0\n"
            client.send_signal(signal.SIGSTOP)
            # It is cut off when it has not answered for seconds; then its work ends.
            await eventually(lambda: _works(victim, 0), 10, "its work goes on")
            client.kill()
            client.stdout._transport.close()  # type: ignore[attr-defined]
            await client.wait()

    asyncio.run(scenario())


async def _works(victim: Victim, count: int) -> bool:
    return len((await victim.status())["work"]["active"]) == count


def test_many_connections_that_say_nothing_are_bounded() -> None:
    async def scenario() -> None:
        async with attacked() as victim:
            idle = []
            for url in (await victim.targets()).values():
                for _ in range(60):
                    family = socket.AF_UNIX if url.startswith("ipc") else socket.AF_INET
                    one = socket.socket(family, socket.SOCK_STREAM)
                    idle.append(one)
                    if family == socket.AF_UNIX:
                        one.connect(url.removeprefix("ipc://"))
                    else:
                        one.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            before = victim.answered
            await eventually(lambda: victim.answered > before + 50, 5)
            for one in idle:
                one.close()

    asyncio.run(scenario())
