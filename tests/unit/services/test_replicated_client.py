"""Calls of a replicated group against nodes that answer as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from meshcore import BusyError, RPCConnectionError, RPCError, RPCTimeoutError
from meshcore.errors import (
    BadPayloadError,
    ClosedError,
    DeadlineExceededError,
    MeshError,
    PeerLostError,
)  # fmt: skip
from meshcore.services.directory import Offer
from meshcore.services.outcome import encode_outcome
from meshcore.services.replicated.client import (
    SESSION,
    SUBMIT,
    SUSPECT,
    TRY,
    ReplicatedClient,
)  # fmt: skip
from meshcore.services.replicated.hedging import ATTEND, HEDGE

Answer = list[Any] | Exception


def offer(node: str, role: str = "replica") -> Offer:
    return Offer(node, "bank", "Counter", "active", 3, True, "ready", role, 1, f"{node}/1", "g", ())


class Nodes:
    """`answers` are what the submits get, one after the other; the last of them again and again."""

    def __init__(self, answers: list[Answer], sessions: list[Answer] | None = None) -> None:
        self.answers = answers
        self.sessions: list[Answer] = [[0, 7]] if sessions is None else sessions
        self.asked: list[tuple[str, Any]] = []

    async def request(
        self, node: str, directive: str, payload: Any, *, timeout: float | None
    ) -> Any:
        self.asked.append((node, payload))
        left = {SUBMIT: self.answers, SESSION: self.sessions}[directive]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, DeadlineExceededError):
            await asyncio.sleep(timeout or 0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def post(
        self, node: str, directive: str, payload: Any, *, timeout: float
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self.request(node, directive, payload, timeout=timeout))

        def take(done: asyncio.Future[Any]) -> None:
            error = done.exception()
            if future.done():
                return
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(error)

        task.add_done_callback(take)
        return future

    def client(self) -> ReplicatedClient:
        async def refresh() -> None:
            await asyncio.sleep(0)

        return ReplicatedClient(
            "bank", client="me", post=self.post,
            offers=lambda: [offer("a", "primary"), offer("b"), offer("c")], refresh=refresh,
        )  # fmt: skip

    def numbers(self) -> list[int]:
        return [payload[2] for _, payload in self.asked if len(payload) == 6]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def call(client: ReplicatedClient, timeout: float = 5.0) -> Coroutine[Any, Any, Any]:
    return client.call("add", [1], {}, timeout=timeout, read_only=False)


GOOD: list[Any] = [0, encode_outcome(42)]
LOST = PeerLostError("it died", may_have_run=True)
UNREACHED = PeerLostError("no way", may_have_run=False)


@pytest.mark.parametrize(
    "before",
    [LOST, UNREACHED, DeadlineExceededError("late"), ["not_primary", "b/1"], ["not_ready", None],
     ["demoted", None], ["stopped", None], BadPayloadError("bank is not served here")],
    ids=str,
)  # fmt: skip
def test_it_goes_on_with_the_same_number_until_there_is_an_answer(before: Answer) -> None:
    async def scenario() -> None:
        nodes = Nodes([before, GOOD])
        assert await call(nodes.client()) == 42
        assert nodes.numbers() == [1, 1]

    run(scenario)


@pytest.mark.parametrize("before", [LOST, ["demoted", None], ClosedError("it stops")], ids=str)
@pytest.mark.parametrize("word", ["evicted", "window"])
def test_a_last_word_after_an_attempt_in_doubt_says_that_it_may_have_run(
    before: Answer, word: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(RPCError if word == "evicted" else BusyError) as told:
            await call(Nodes([before, [word, None]]).client())
        assert told.value.may_have_run

    run(scenario)


@pytest.mark.parametrize("before", [UNREACHED, ["not_primary", "b/1"]], ids=str)
@pytest.mark.parametrize("word", ["evicted", "window", "busy"])
def test_a_last_word_where_nobody_took_the_call_says_that_it_did_not_run(
    before: Answer, word: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(MeshError) as told:
            await call(Nodes([before, [word, None]]).client())
        assert not told.value.may_have_run

    run(scenario)


def test_a_full_queue_is_no_last_word_for_a_call_in_doubt() -> None:
    async def scenario() -> None:
        nodes = Nodes([LOST, ["busy", None], GOOD])
        assert await call(nodes.client()) == 42
        assert nodes.numbers() == [1, 1, 1]

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (LOST, RPCTimeoutError),
        (DeadlineExceededError("late"), RPCTimeoutError),
        (["demoted", None], RPCTimeoutError),
        (UNREACHED, RPCConnectionError),
        (["not_ready", None], RPCConnectionError),
    ],
    ids=str,
)
def test_the_end_of_time_says_whether_it_may_have_run(answer: Answer, kind: type[RPCError]) -> None:
    async def scenario() -> None:
        with pytest.raises(kind) as told:
            await call(Nodes([answer]).client(), timeout=0.3)
        assert told.value.may_have_run == (kind is RPCTimeoutError)

    run(scenario)


def test_after_an_eviction_the_next_call_has_a_new_session() -> None:
    async def scenario() -> None:
        nodes = Nodes([["evicted", None], GOOD], [[0, 7], [0, 8]])
        client = nodes.client()
        with pytest.raises(RPCError, match="has forgotten this client's session"):
            await call(client)
        assert await call(client) == 42
        assert [payload[1] for _, payload in nodes.asked if len(payload) == 6] == [7, 8]

    run(scenario)


def test_a_call_with_little_time_does_not_end_those_that_have_more() -> None:
    async def scenario() -> None:
        nodes = Nodes([GOOD], [["not_ready", None]])
        client = nodes.client()
        short = asyncio.ensure_future(call(client, timeout=0.2))
        long = asyncio.ensure_future(call(client, timeout=10.0))
        with pytest.raises(RPCConnectionError, match="no session could be opened"):
            await short
        nodes.sessions[:] = [[0, 7]]
        assert await long == 42

    run(scenario)


def test_low_follows_the_oldest_call_that_waits() -> None:
    async def scenario() -> None:
        nodes = Nodes([GOOD])
        client = nodes.client()
        for _ in range(200):  # more than the window has room for at once
            assert await call(client) == 42
        assert [payload[2:4] for _, payload in nodes.asked if len(payload) == 6] == [
            [number, number] for number in range(1, 201)
        ]

    run(scenario)


def test_another_replica_is_asked_for_the_answer_where_the_first_is_slow() -> None:
    async def scenario() -> None:
        nodes = Nodes([DeadlineExceededError("late"), GOOD])
        assert await call(nodes.client()) == 42
        asked = [(node, payload[5]) for node, payload in nodes.asked if len(payload) == 6]
        assert asked == [("a", 0), ("b", ATTEND)]

    run(scenario)


def test_what_another_replica_says_counts_only_if_it_is_an_answer() -> None:
    async def scenario() -> None:
        late = DeadlineExceededError("late")
        nodes = Nodes([late, ["not_primary", "a/1"], GOOD])
        assert await call(nodes.client()) == 42
        asked = [(node, payload[5]) for node, payload in nodes.asked if len(payload) == 6]
        assert asked[:2] == [("a", 0), ("b", ATTEND)]
        assert asked[2][1] == 0  # once the first attempt is over

    run(scenario)


def test_nobody_else_is_asked_for_what_is_answered_soon() -> None:
    async def scenario() -> None:
        nodes = Nodes([GOOD])
        client = nodes.client()
        for _ in range(50):
            await call(client)
            await asyncio.sleep(HEDGE / 20)
        assert {payload[5] for _, payload in nodes.asked if len(payload) == 6} == {0}

    run(scenario)


def test_a_primary_that_stood_still_for_a_moment_is_asked_again_before_it_is_no_suspect() -> None:
    """Everybody names it, and all calls waited until it was none (2.7 s for a disk of 0.6 s)."""

    class Still(Nodes):
        async def request(
            self, node: str, directive: str, payload: Any, *, timeout: float | None
        ) -> Any:
            if directive == SESSION:
                return [0, 7]
            self.asked.append((node, payload))
            if node != "a":
                return ["not_primary", "a/1"]
            async with asyncio.timeout(timeout):
                await goes_on.wait()
            return GOOD

        def post(
            self, node: str, directive: str, payload: Any, *, timeout: float
        ) -> asyncio.Future[Any]:
            return translated(super().post(node, directive, payload, timeout=timeout))

    def translated(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(done: asyncio.Future[Any]) -> None:
            if done.exception() is not None:
                told.set_exception(DeadlineExceededError("late", may_have_run=True))
            elif not told.done():
                told.set_result(done.result())

        future.add_done_callback(take)
        return told

    async def scenario() -> None:
        client = Still([]).client()
        calls = [asyncio.ensure_future(call(client)) for _ in range(3)]
        await asyncio.sleep(TRY + 0.1)
        later = asyncio.ensure_future(call(client))
        goes_on.set()
        began = time.monotonic()
        assert await asyncio.gather(*calls, later) == [42] * 4
        assert time.monotonic() - began < SUSPECT / 2

    goes_on = asyncio.Event()
    run(scenario)
