"""Work for any of several nodes: `call`, `send` and `stream` with a selector, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest

from meshcore import (
    ActionError,
    BadPayloadError,
    ClosedError,
    Config,
    Controller,
    Message,
    Node,
    UnknownDirectiveError,
    UnknownNodeError,
    UnreachableError,
    WorkCancelledError,
    selector,
)
from meshcore.selectors import POLICIES
from tests.integration.nodes import eventually, is_busy, node, run


def offering(node_id: str, **settings: Any) -> Node:
    """A node that says who it is, and waits until it is told otherwise."""
    made = node(node_id, **settings)

    @made.action("who:am_i")
    async def am_i(payload: Any) -> Any:
        return node_id

    @made.action("who:times")
    async def times(payload: Any) -> Any:
        for _ in range(payload):
            yield node_id

    @made.action("who:reads", payload="bytes")
    async def reads(payload: Any) -> Any:
        return [node_id, len(payload)]

    return made


@asynccontextmanager
async def star(**settings: Any) -> AsyncIterator[tuple[Controller, Node, Node]]:
    """oscar, who offers nothing, with alpha and beta, who offer the same; all of it known."""
    async with (
        offering("alpha", **settings) as alpha,
        offering("beta", **settings) as beta,
        Controller(Config(node_id="oscar", peers=[alpha.endpoints[0], beta.endpoints[0]])) as oscar,
    ):
        await eventually(
            lambda: len([o for o in oscar.router.offers("who:am_i") if o.is_live]) == 2
        )
        yield oscar, alpha, beta


def master_of(node: Node) -> str | None:
    info = node.connectivity.master
    return None if info is None else info.id


async def who(oscar: Controller, policy: str, times: int = 1) -> list[str]:
    return [await oscar.call(selector(policy), "who:am_i") for _ in range(times)]


def test_each_selector_finds_a_node_that_offers_the_directive() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            assert await who(oscar, "first", 3) == ["alpha"] * 3
            assert await who(oscar, "round-robin", 4) == ["alpha", "beta", "alpha", "beta"]
            for policy in ("same-host", "nearest", "least-loaded"):
                assert (await who(oscar, policy))[0] in ("alpha", "beta")
            for master in ("beta", "alpha"):
                await oscar.set_master(master)
                await eventually(lambda name=master: master_of(oscar) == name)  # type: ignore[misc]
                assert await who(oscar, "master") == [master]

    run(scenario)


def test_the_own_node_is_one_of_them() -> None:
    async def scenario() -> None:
        async with star() as (oscar, _, _):

            @oscar.action("who:am_i")
            async def am_i(payload: Any) -> Any:
                return "oscar"

            assert await who(oscar, "nearest") == ["oscar"]
            assert await who(oscar, "same-host") == ["oscar"]
            assert sorted(await who(oscar, "round-robin", 3)) == ["alpha", "beta", "oscar"]

    run(scenario)


def test_the_nearest_is_that_with_the_least_cost_of_the_way() -> None:
    async def scenario() -> None:
        async with (
            star(costs={"oscar": 70_000}) as (oscar, alpha, _),
            offering("aardvark", peers=alpha.endpoints, costs={"alpha": 10}),
        ):
            await eventually(lambda: len(oscar.router.offers("who:am_i")) == 3)
            await oscar.wait_for("aardvark")
            costs = {offer.node_id: offer.cost for offer in oscar.router.offers("who:am_i")}
            assert costs["aardvark"] > costs["alpha"] >= 70_000
            assert await who(oscar, "nearest") == ["alpha"]
            assert await who(oscar, "first") == ["aardvark"]

    run(scenario)


def test_the_least_loaded_is_that_with_the_least_work() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            await oscar.send(recipient="alpha", directive="demo:sleep", payload=30)
            await eventually(lambda: is_busy(oscar, "alpha"))
            assert await who(oscar, "least-loaded", 9) == ["beta"] * 9
            more = [oscar.stream(selector("least-loaded"), "demo:sleep", 30) for _ in range(9)]
            await asyncio.gather(*(stream.open() for stream in more))
            picked = [stream.recipient for stream in more]
            for stream in more:
                stream.close()
            assert (picked.count("alpha"), picked.count("beta")) == (4, 5)

    run(scenario)


def test_a_node_that_is_gone_is_not_picked() -> None:
    async def scenario() -> None:
        async with star() as (oscar, alpha, _):
            await alpha.stop()
            await eventually(
                lambda: (
                    [o.node_id for o in oscar.router.offers("who:am_i") if o.is_live] == ["beta"]
                )
            )
            for policy in ("first", "nearest", "round-robin", "least-loaded", "same-host"):
                assert await who(oscar, policy, 2) == ["beta", "beta"]

    run(scenario)


def test_what_nobody_offers_is_an_error_that_says_what_is_close() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            for policy in POLICIES:
                with pytest.raises(UnknownDirectiveError) as raised:
                    await oscar.call(selector(policy), "who:am_y")
                assert "'who:am_y'" in str(raised.value)
                assert raised.value.may_have_run is False
            assert "did you mean who:am_i?" in str(raised.value)
            with pytest.raises(BadPayloadError, match="no directive"):
                await oscar.call(selector("first"), "nonsense")
            with pytest.raises(UnknownDirectiveError):
                async with oscar.stream(selector("first"), "who:am_y"):
                    pass
            with pytest.raises(UnknownDirectiveError):
                await oscar.send(recipient=selector("first"), directive="who:am_y")

    run(scenario)


def test_what_every_node_answers_can_be_asked_of_any() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            assert "life" in await oscar.call(selector("nearest"), "mesh:identify")

    run(scenario)


def test_a_stream_names_who_answers_and_its_id_stands() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            stream = oscar.stream(selector("first"), "who:times", 2)
            assert stream.recipient == ""
            async with stream:
                assert stream.recipient == "alpha"
                messages = [message async for message in stream]
            assert [m.payload.value for m in messages if m.payload] == ["alpha", "alpha"]
            assert {m.header.sender for m in messages} == {"alpha"}
            assert {m.header.in_response_to for m in messages} == {stream.message_id}
            values = oscar.stream(selector("round-robin"), "who:times", 1).values()
            assert [value async for value in values] == ["alpha"]

    run(scenario)


def test_send_gives_the_responses_to_its_handler_and_can_be_cancelled() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            heard: list[Message] = []
            ended = asyncio.Event()

            def handle(message: Message) -> None:
                heard.append(message)
                if message.header.eof:
                    ended.set()

            message_id = await oscar.send(
                recipient=selector("first"),
                directive="demo:sleep",
                payload=30,
                response_handler=handle,
            )
            await eventually(lambda: is_busy(oscar, "alpha"))
            assert await oscar.cancel(message_id)
            await ended.wait()
            [last] = heard
            assert isinstance(last.error, WorkCancelledError)
            assert (last.header.sender, last.header.in_response_to) == ("alpha", message_id)

    run(scenario)


def chosen(oscar: Controller, *node_ids: str) -> None:
    """Have every selector pick these nodes, in this order."""

    async def pick(*_: Any) -> list[str]:
        return list(node_ids)

    oscar._picker.pick = pick  # type: ignore[method-assign]


def test_who_cannot_be_reached_after_all_is_passed_over() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            chosen(oscar, "nobody", "neither", "beta")
            assert await who(oscar, "first") == ["beta"]
            async with oscar.stream(selector("first"), "who:times", 1) as stream:
                assert [value async for value in stream.values()] == ["beta"]
                assert stream.recipient == "beta"
            chosen(oscar, "nobody", "neither")
            with pytest.raises(UnknownNodeError, match="neither"):
                await oscar.call(selector("first"), "who:am_i")
            with pytest.raises(UnknownNodeError, match="neither"):
                async with oscar.stream(selector("first"), "who:times", 1):
                    pass

    run(scenario)


def test_who_does_not_offer_it_any_more_is_passed_over() -> None:
    async def scenario() -> None:
        async with star() as (oscar, alpha, _):
            alpha._registry.specs.pop("who:am_i")
            alpha._registry.specs.pop("who:times")
            assert await who(oscar, "first") == ["beta"]
            async with oscar.stream(selector("first"), "who:times", 1) as stream:
                first_id = stream.message_id
                messages = [message async for message in stream]
            assert messages[0].payload.value == "beta"
            assert {m.header.in_response_to for m in messages} == {first_id}

    run(scenario)


def test_work_that_fails_is_not_done_twice() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            with pytest.raises(ActionError) as raised:
                await oscar.call(selector("first"), "demo:fail", "boom")
            assert raised.value.node_id == "alpha"
            async with oscar.stream(selector("first"), "demo:fail", "boom") as stream:
                [message] = [message async for message in stream]
            assert isinstance(message.error, ActionError)

    run(scenario)


def test_a_payload_that_is_read_while_it_is_sent_goes_to_one_node_only() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            sent = BytesIO(b"x" * 100_000)
            assert await oscar.call(selector("first"), "who:reads", sent) == ["alpha", 100_000]
            chosen(oscar, "nobody", "beta")
            with pytest.raises(UnknownNodeError):
                await oscar.call(selector("first"), "who:reads", BytesIO(b"x"))
            with pytest.raises(UnknownNodeError):
                async with oscar.stream(selector("first"), "who:reads", BytesIO(b"x")):
                    pass

    run(scenario)


def test_a_stream_that_is_closed_before_it_is_opened_does_nothing() -> None:
    async def scenario() -> None:
        async with star() as (oscar, *_):
            stream = oscar.stream(selector("first"), "who:times", 2)
            with pytest.raises(ClosedError):
                stream.start()
            stream.close()
            assert [message async for message in stream] == []
            assert stream.recipient == ""

    run(scenario)


def test_a_client_has_its_node_pick() -> None:
    async def scenario() -> None:
        async with (
            star() as (*_, beta),
            Controller(Config(ephemeral=True, peers=[beta.endpoints[0]])) as client,
        ):
            with pytest.raises(UnreachableError, match="not attached"):
                await client.call(selector("first"), "who:am_i")
            await client.wait_attached()
            await eventually(lambda: len(beta.router.offers("who:am_i")) == 2)
            assert await who(client, "nearest") == ["beta"]
            assert await who(client, "first") == ["alpha"]
            assert await who(client, "round-robin", 2) == ["alpha", "beta"]
            async with client.stream(selector("first"), "who:times", 1) as stream:
                assert [value async for value in stream.values()] == ["alpha"]
            with pytest.raises(UnknownDirectiveError, match=r"did you mean who:am_i\?"):
                await client.call(selector("first"), "who:am_j")
            for wrong in (None, {}, {"selector": "first"}, {"selector": "x", "directive": "a:b"}):
                with pytest.raises(BadPayloadError):
                    await client.call("beta", "mesh:pick", wrong)

    run(scenario)
