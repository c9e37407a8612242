"""A peer that lies about who lives: forged beats, stale news, absurd numbers, on real sockets.

Whatever it says costs at most its own link, is counted, and changes nobody's status. What a mesh
without security must believe (docs/security.md) is undone by whom it is about.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import msgpack
import pytest
import zmq

from meshcore import Config, Controller, NodeStatus
from meshcore.protocol.wire import control
from meshcore.protocol.wire.records import Edge, EdgeState, LinkState, encode_record
from tests.e2e.mesh_processes import NodeProcess, World, eventually

pytestmark = pytest.mark.timeout(60)
LIFE, INCARNATION = 0xBAD, 1_700_000_000_000
BEAT = control.Beat("mallory", INCARNATION, LIFE, 1, 0.5, 0, 0.0, 1, 0.0)


class Mallory:
    """A link to a node by hand: two lanes, a handshake that is in order, then anything."""

    def __init__(self, url: str) -> None:
        self._context = zmq.Context()
        key = os.urandom(16)
        self._lanes = []
        for number in range(2):
            lane = self._context.socket(zmq.DEALER)
            lane.setsockopt(zmq.LINGER, 0)
            lane.setsockopt(zmq.RECONNECT_IVL, -1)
            lane.connect(url)
            lane.send(b"MC1" + bytes([number]) + key)
            self._lanes.append(lane)

    def close(self) -> None:
        self._context.destroy(linger=0)

    def say(self, message: control.Control | bytes) -> None:
        data = message if isinstance(message, bytes) else control.encode(message)
        self._lanes[0].send(data)

    async def greet(self) -> None:
        """Until the other end has sent its first beat."""
        flags = int(control.Flags.OUTBOUND_ONLY)
        self.say(
            control.Hello(
                1, 1, "mesh", "mallory", INCARNATION, LIFE, 1, (), flags, 0.5, 1, 0.0, 0.0
            )
        )
        await eventually(lambda: self._heard(control.Welcome), 5.0, "no WELCOME")
        self.say(BEAT)
        await eventually(lambda: self._heard(control.Beat), 5.0, "no beat")

    def _heard(self, kind: type) -> bool:
        while self._lanes[0].poll(0):
            if isinstance(control.decode(self._lanes[0].recv()), kind):
                return True
        return False


@dataclass
class Scene:
    """alpha and beta are honest; mallory is linked to alpha; oscar, in this process, watches."""

    alpha: NodeProcess
    beta: NodeProcess
    oscar: Controller
    mallory: Mallory
    told: list[str]

    async def counters(self) -> dict[str, int]:
        return dict((await self.alpha.status())["counters"])

    async def neighbours(self) -> list[str]:
        status = await self.alpha.status()
        return sorted(link["node_id"] for link in status["links"] if link["state"] == "up")

    def about(self, node_id: str) -> list[str]:
        """What was concluded about an honest node, by alpha and by who is two hops away."""
        kinds = ("status", "removed")
        lines = [
            f"{line['event']} {line.get('new', '')}"
            for line in self.alpha.lines
            if line["event"] in kinds and line["node_id"] == node_id
        ]
        return lines + [text for text in self.told if node_id in text]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with World() as world:
        alpha, beta = await world.chain("alpha", "beta")
        async with Controller(Config(node_id="oscar", peers=[alpha.url])) as oscar:
            await oscar.wait_for("beta")
            mallory = Mallory(alpha.url)
            try:
                await mallory.greet()
                told: list[str] = []
                oscar.connectivity.on_status(
                    lambda event: told.append(f"{event.node_id} {event.new.name}")
                )
                oscar.connectivity.on_change(lambda change: told.append(str(change.removed)))
                made = Scene(alpha, beta, oscar, mallory, told)
                await eventually(lambda: linked(made), 5.0, "mallory is not linked")
                told.clear()
                yield made
            finally:
                mallory.close()
            assert oscar.connectivity.get_status("beta") is NodeStatus.ALIVE
            assert await oscar.call("beta", "demo:echo", 1) == 1


async def linked(made: Scene) -> bool:
    return await made.neighbours() == ["beta", "mallory", "oscar"]


async def unlinked(made: Scene) -> bool:
    return await made.neighbours() == ["beta", "oscar"]


def broken(message: control.Control, **bad: Any) -> bytes:
    """A message whose fields are not what they may be, so that `encode` cannot make it."""
    names = [field.name for field in fields(message)]
    data = control.encode(message)
    values = msgpack.unpackb(data[2:])
    for name, value in bad.items():
        values[names.index(name)] = value
    return data[:2] + bytes(msgpack.packb(values))


def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def staged() -> None:
        async with scene() as made:
            await scenario(made)

    asyncio.run(staged())


@pytest.mark.parametrize(
    "forged",
    [
        replace(BEAT, node_id="beta"),
        replace(BEAT, life=LIFE + 1),
        broken(BEAT, interval=float("nan")),
        broken(BEAT, interval=-1.0),
        broken(BEAT, lag=float("inf")),
        broken(BEAT, incarnation=2**63),
        broken(BEAT, number="one"),
        broken(control.News("mallory", ()), records=7),
    ],
    ids=["another node's", "a stale life's", "interval nan", "interval negative", "lag infinite",
         "incarnation beyond", "number a text", "news a number"],
)  # fmt: skip
def test_a_forged_or_absurd_beat_costs_its_link_and_nobody_elses_status(forged: Any) -> None:
    async def scenario(made: Scene) -> None:
        made.mallory.say(forged)
        await eventually(lambda: unlinked(made), 5.0, "mallory is still linked")
        down = [line for line in made.alpha.lines if line.get("up") is False]
        assert [line["node_id"] for line in down] == ["mallory"]
        assert down[0]["reason"], "the reason is told"
        assert made.about("beta") == []

    run(scenario)


def record(origin: str, *, incarnation: int, life: int, **more: Any) -> bytes:
    return encode_record(LinkState(origin, incarnation, 1, life, **more))


def test_stale_and_absurd_news_are_dropped_and_counted() -> None:
    async def scenario(made: Scene) -> None:
        before = await made.counters()
        stale = record("beta", incarnation=5, life=9, left=True)
        absurd = [
            bytes(msgpack.packb([msgpack.packb(body), b""]))
            for body in (
                [1, "beta", -1, 1, 9, [], [], 1, 0.0, None, True, {}],
                [1, "beta", 5, 1, 9, [["alpha", 0, 2, 1, 1e308, 0]], [], 1, 0.0, None, False, {}],
                [1, "x" * 100, 5, 1, 9, [], [], 1, 0.0, None, False, {}],
                [9, "beta", 5, 1],
            )
        ]
        made.mallory.say(control.News("mallory", (stale, *absurd)))

        async def counted() -> bool:
            after = await made.counters()
            return after.get("bad record", 0) - before.get("bad record", 0) == len(absurd)

        await eventually(counted, 5.0, "not counted")
        await asyncio.sleep(0.5)
        assert made.about("beta") == []
        assert await linked(made), "bad records cost themselves alone"

    run(scenario)


def test_whom_forged_news_declare_gone_is_back_by_its_own_word() -> None:
    async def scenario(made: Scene) -> None:
        later = int(time.time() * 1000) + 60_000
        made.mallory.say(
            control.News("mallory", (record("beta", incarnation=later, life=9, left=True),))
        )
        beta = "beta"

        async def outbid() -> bool:
            info = made.oscar.connectivity.nodes.get(beta)
            return info is not None and info.incarnation > later and info.reachable

        await eventually(outbid, 10.0, "beta did not outbid it")
        made.told.clear()
        await asyncio.sleep(1.0)
        assert made.told == [], "and that is the end of it"

    run(scenario)


def test_a_neighbour_that_says_others_are_down_is_not_believed_while_they_are_linked() -> None:
    async def scenario(made: Scene) -> None:
        edges = (Edge("alpha", 1000), Edge("beta", 1000, EdgeState.DOWN, age=0.0))
        state = record("mallory", incarnation=INCARNATION, life=LIFE, edges=edges)
        made.mallory.say(control.News("mallory", (state,)))
        await asyncio.sleep(1.0)
        assert made.about("beta") == []

    run(scenario)
