"""The guard's arithmetic, on connections that only pretend."""

from __future__ import annotations

from typing import Any

import pytest

from meshcore.transport import guard
from meshcore.transport.guard import Guard
from meshcore.transport.hub import Hub, Knobs
from meshcore.transport.link import NewsTraffic

LIMIT = 1_000_000
INTERVAL = 0.25


class FakeLoop:
    now = 0.0

    def time(self) -> float:
        return self.now


class FakeConnection:
    def __init__(self) -> None:
        self.owner: NewsTraffic | None = NewsTraffic()
        self.forgiven_bytes = 0.0
        self.delivered_bytes = self.stalled_looks = 0
        self.received: int | None = 0

    def received_bytes(self) -> int | None:
        return self.received


class FakePort:
    """A port whose socket is empty unless told otherwise."""

    closed = False
    is_empty = True

    def __init__(self, connection: FakeConnection) -> None:
        self.connections = {1: connection}
        self.monitor = self
        self.cuts: list[str] = []

    def drain(self, budget: int = 0) -> None: ...

    def drain_if_readable(self, budget: int) -> None: ...

    def judge(self, now: float) -> None: ...

    def cut(self, connection: FakeConnection, reason: str) -> None:
        self.cuts.append(reason)


class World:
    def __init__(self) -> None:
        self.connection = FakeConnection()
        self.port = FakePort(self.connection)
        self._loop = FakeLoop()
        loop: Any = self._loop
        nothing: Any = None
        hub = Hub(loop, nothing, nothing, Knobs(undelivered_bytes_max=LIMIT))
        ports: Any = {self.port: None}
        hub.ports = ports
        self._guard = Guard(hub)

    def look(self) -> None:
        self._loop.now += INTERVAL
        self._guard.look()


@pytest.fixture
def world() -> World:
    return World()


def test_more_than_the_limit_received_and_not_delivered_is_cut(world: World) -> None:
    world.connection.received = LIMIT
    world.look()
    assert world.port.cuts == []
    world.connection.received = LIMIT + 1000
    world.look()
    assert world.port.cuts == ["endless message"]


def test_what_was_delivered_does_not_count(world: World) -> None:
    assert world.connection.owner is not None
    for _ in range(100):
        world.connection.received += LIMIT  # type: ignore[operator]
        world.connection.owner.bytes_in += LIMIT - 18
        world.connection.owner.messages_in += 1
        world.look()
    assert world.port.cuts == []
    world.connection.received += LIMIT + 1000  # type: ignore[operator]
    world.look()
    assert world.port.cuts == ["endless message"]


def test_the_heartbeats_of_a_year_are_forgiven(world: World) -> None:
    for _ in range(100_000):
        world.connection.received += int(30 * INTERVAL)  # type: ignore[operator]
        world.look()
    assert world.port.cuts == []


def test_nothing_is_forgiven_in_advance(world: World) -> None:
    for _ in range(100_000):  # silent for hours
        world.look()
    world.connection.received = LIMIT + 1000
    world.look()
    assert world.port.cuts == ["endless message"]


def test_a_stranger_has_delivered_nothing(world: World) -> None:
    world.connection.owner = None
    world.connection.received = LIMIT + 1000
    world.look()
    assert world.port.cuts == ["endless message"]


def test_behind_the_messages_of_others_only_a_connection_that_stands_still_is_cut(
    world: World,
) -> None:
    assert world.connection.owner is not None
    world.port.is_empty = False
    world.connection.received = 100 * LIMIT
    for _ in range(50):
        world.connection.owner.bytes_in += 100
        world.look()
    assert world.port.cuts == []
    for _ in range(guard.STALLED_LOOKS):
        world.look()
    assert world.port.cuts == ["endless message"]


def test_where_the_kernel_does_not_tell_nobody_is_cut(world: World) -> None:
    world.connection.received = None
    world.look()
    assert world.port.cuts == []
