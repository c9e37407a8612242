"""Messages to other replicas: bounded, in few requests, whatever happens to those."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshcore.errors import BadPayloadError, MeshError, UnreachableError
from meshcore.protocol.replication.effects import Send
from meshcore.protocol.replication.messages import Append, Voted
from meshcore.protocol.replication.plain import BadMessage, encode
from meshcore.services.replicated import carrier as module
from meshcore.services.replicated.carrier import FORM, REPLICA, Carrier


class Posts:
    """`refuse`: nodes that cannot be asked at all."""

    def __init__(self) -> None:
        self.refuse: dict[str, MeshError] = {}
        self.posted: list[tuple[str, str, Any]] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.heard: list[tuple[str, list[Any]]] = []

    def __call__(
        self, recipient: str, directive: str, payload: Any, *, timeout: float
    ) -> asyncio.Future[Any]:
        if recipient in self.refuse:
            raise self.refuse[recipient]
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.posted.append((recipient, directive, payload))
        self.futures.append(future)
        return future

    def said(self, sender: str, messages: list[Any]) -> None:
        if not isinstance(messages, list):
            raise BadMessage(f"{messages} is no list")
        self.heard.append((sender, messages))

    def to(self, node: str) -> list[list[Any]]:
        """What was said to that node, message by message."""
        return [
            message
            for recipient, directive, payload in self.posted
            if recipient == node and directive == REPLICA
            for message in payload[4]
        ]


def beat(number: int) -> Append:
    return Append(term=1, prev_index=0, prev_term=0, entries=(), commit=0, round=number)


async def _carrier() -> tuple[Carrier, Posts]:
    posts = Posts()
    carrier = Carrier(posts, posts.said, group="bank", own="a/1")
    carrier.gid = "g"
    return carrier, posts


def test_what_a_turn_says_to_one_replica_is_one_request() -> None:
    async def scenario() -> None:
        carrier, posts = await _carrier()
        for number in range(3):
            carrier.send(Send("b/2", beat(number)))
        carrier.send(Send("c/3", beat(9)))
        assert posts.posted == []
        carrier.flush()
        assert posts.posted == [
            ("b", REPLICA, ["bank", "g", "a/1", "b/2", [encode(beat(n)) for n in range(3)]]),
            ("c", REPLICA, ["bank", "g", "a/1", "c/3", [encode(beat(9))]]),
        ]

    asyncio.run(scenario())


def test_a_node_that_is_gone_costs_the_others_nothing_and_is_told_when_it_is_back() -> None:
    async def scenario() -> None:
        carrier, posts = await _carrier()
        posts.refuse["b"] = UnreachableError("b is dead", may_have_run=False)
        for number in range(20):
            carrier.send(Send("b/2", beat(number)))
            carrier.send(Send("c/3", beat(number)))
            carrier.flush()
            for future in posts.futures:
                if not future.done():
                    future.set_result(None)
            await asyncio.sleep(0)
        assert len(posts.to("c")) == 20
        carrier.tell("b/2", ["offer"])  # no more than that: nothing is raised
        posts.refuse.clear()
        carrier.send(Send("b/2", beat(21)))
        carrier.flush()
        assert posts.to("b") == [encode(beat(21))]
        carrier.tell("b/2", ["offer"])
        assert posts.posted[-1] == ("b", FORM, ["bank", "a/1", ["offer"]])

    asyncio.run(scenario())


def test_few_requests_are_under_way_and_the_oldest_of_many_messages_are_dropped() -> None:
    async def scenario() -> None:
        carrier, posts = await _carrier()
        for number in range(module.IN_FLIGHT_MAX + 3):
            carrier.send(Send("b/2", beat(number)))
            carrier.flush()
        assert len(posts.posted) == module.IN_FLIGHT_MAX
        for number in range(1000, 1000 + 2 * module.WAITING_MAX):
            carrier.send(Send("b/2", beat(number)))
        carrier.flush()
        posts.futures[0].set_exception(UnreachableError("it died"))
        await asyncio.sleep(0)
        told = [beat(n) for n in range(1000 + module.WAITING_MAX, 1000 + 2 * module.WAITING_MAX)]
        assert posts.to("b")[module.IN_FLIGHT_MAX :] == [encode(message) for message in told]

    asyncio.run(scenario())


class Responses:
    """What somebody who asked gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []


def test_a_request_that_asks_for_something_gets_what_its_sender_is_told_next() -> None:
    async def scenario() -> None:
        carrier, posts = await _carrier()
        got = Responses()
        carrier.owe("b/2", got.got.append, [beat(1)])
        carrier.flush()
        assert got.got == []
        carrier.send(Send("c/3", Voted(1, True)))
        carrier.send(Send("b/2", Voted(2, True)))
        carrier.flush()
        assert got.got == [[encode(Voted(2, True))]]
        assert posts.to("b") == []
        assert posts.to("c") == [encode(Voted(1, True))]
        carrier.send(Send("b/2", Voted(3, True)))  # nobody asked for it
        carrier.flush()
        assert posts.to("b") == [encode(Voted(3, True))]

    asyncio.run(scenario())


def test_what_asks_for_nothing_is_answered_at_once_and_few_wait_long() -> None:
    async def scenario() -> None:
        carrier, _ = await _carrier()
        got = Responses()
        carrier.owe("b/2", got.got.append, [Voted(1, True)])
        assert got.got == [None]
        for _ in range(module.OWED_MAX):
            carrier.owe("b/2", got.got.append, [beat(1)])
        assert got.got == [None]
        carrier.owe("b/2", got.got.append, [beat(1)])
        assert got.got == [None] * 2
        carrier.close()
        assert got.got == [None] * (2 + module.OWED_MAX)

    asyncio.run(scenario())


def test_nothing_is_told_to_a_request_whose_sender_may_have_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        carrier, posts = await _carrier()
        got = Responses()
        monkeypatch.setattr(module, "OWED_WAIT", 0.0)
        carrier.owe("b/2", got.got.append, [beat(1)])
        carrier.send(Send("b/2", Voted(2, True)))
        carrier.flush()
        assert got.got == [None]
        assert posts.to("b") == [encode(Voted(2, True))]

    asyncio.run(scenario())


def test_what_is_said_in_response_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        carrier, posts = await _carrier()
        for response in (None, [encode(Voted(1, True))], 7):
            carrier.send(Send("b/2", beat(1)))
            carrier.flush()
            posts.futures[-1].set_result(response)
            await asyncio.sleep(0)
        assert posts.heard == [("b/2", [encode(Voted(1, True))])]

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "group bank: b responds with what is no message: 7 is no list"
    ]


def test_a_refusal_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        carrier, posts = await _carrier()
        for number in range(3):
            carrier.send(Send("b/2", beat(number)))
            carrier.flush()
            posts.futures[-1].set_exception(BadPayloadError("a/1 is of the group g, this of h"))
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "group bank: b refuses a message: a/1 is of the group g, this of h"
    ]


def test_senders_to_whom_nothing_is_owed_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        carrier, _ = await _carrier()
        got = Responses()
        for number in range(3 * module.SENDERS_MAX):
            carrier.owe(f"b/{number}", got.got.append, [beat(1)])
            assert len(carrier._owed) <= module.SENDERS_MAX
        assert got.got == [None] * (2 * module.SENDERS_MAX)  # too many at once
        monkeypatch.setattr(module, "OWED_WAIT", 0.0)
        carrier.owe("c/3", got.got.append, [beat(1)])
        assert list(carrier._owed) == ["c/3"]
        carrier.close()
        assert got.got == [None] * (3 * module.SENDERS_MAX + 1)

    asyncio.run(scenario())
