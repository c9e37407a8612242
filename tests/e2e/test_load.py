"""Large payloads at once, over one link and over two hops: all of them arrive as they were sent."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from meshcore import Config, Controller
from tests.e2e.mesh_processes import World

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]
SIZE_BYTES = 200_000


async def echo_all(controller: Controller, recipient: str, count: int) -> None:
    """`count` calls at once, each with bytes of its own."""

    async def one(number: int) -> None:
        body = random.Random(number).randbytes(SIZE_BYTES)
        wanted = hashlib.sha256(body).digest()
        answer = await controller.call(recipient, "demo:echo", body, timeout=90)
        assert hashlib.sha256(answer).digest() == wanted

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


def test_fifty_payloads_of_200_kb_at_once_cross_one_link() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha = await world.start("alpha")
            async with Controller(Config(peers=[alpha.url])) as controller:
                await controller.wait_for("alpha")
                await echo_all(controller, "alpha", 50)

    asyncio.run(scenario())


def test_a_thousand_payloads_of_200_kb_at_once_cross_two_hops_and_pings_go_on() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha, _ = await world.chain("alpha", "beta")
            async with Controller(Config(peers=[alpha.url])) as controller:
                await controller.wait_for("beta")
                work = asyncio.create_task(echo_all(controller, "beta", 1000))
                pings = []
                while not work.done():
                    pings.append((await controller.ping("beta", timeout=30)).round_trip)
                    await asyncio.wait([work], timeout=0.1)
                await work
                print(f"{len(pings)} pings meanwhile, the slowest {max(pings):.3f} s")
                # What relays and ends held for it is given back.
                for node_id in ("alpha", "beta"):
                    status = await controller.call(node_id, "mesh:status")
                    assert status["queues"]["backlog_bytes"] == 0
                    assert status["work"]["active"] == []
                assert alpha.rss_bytes < 300 * 2**20

    asyncio.run(scenario())
