"""ping, wait_for, ephemeral clients, and every kind of action over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC
from typing import Any

import pytest

from meshcore import (
    ActionError,
    Config,
    ConfigError,
    Context,
    Controller,
    Node,
    NodeStatus,
    UnreachableError,
)
from tests.integration.nodes import eventually, is_busy, is_idle, node, pair, run

MIB = 2**20


def test_a_pong_tells_what_runs_there_and_the_older_shape_too() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            message_id = await oscar.send(recipient="alpha", directive="demo:sleep", payload=60)
            await eventually(lambda: is_busy(oscar, "alpha"))
            texts: list[str] = []
            pong = await oscar.ping("alpha", response_handler=texts.append)
            assert (pong.node_id, pong.status) == ("alpha", NodeStatus.ALIVE)
            assert 0 < pong.round_trip < 1
            assert pong.initial_time <= pong.response_time
            assert pong.response_time.tzinfo is UTC
            (work,) = pong.active_work
            assert (work["id"], work["directive"]) == (message_id, "demo:sleep")
            assert work["sender"] == "oscar"
            assert work["started"].tzinfo is UTC
            older = json.loads(texts[0])
            assert older["initial_time"]["_type"] == "datetime.datetime"
            assert older["response_time"]["value"] == pytest.approx(pong.response_time.timestamp())
            assert older["active_work"] == [
                {"id": message_id, "directive": "demo:sleep", "sender": "oscar"}
            ]
            await oscar.cancel(message_id)

    run(scenario)


def test_a_traced_ping_names_every_node_on_the_way() -> None:
    async def scenario() -> None:
        async with (
            pair() as (oscar, alpha),
            node("beta", peers=alpha.endpoints) as beta,
            node("gamma", peers=beta.endpoints),
        ):
            await oscar.wait_for("gamma")
            pong = await oscar.ping("gamma", trace=True)
            assert [node_id for node_id, _ in pong.hops] == ["alpha", "beta", "gamma"]
            assert all(0 < seconds < 1 for _, seconds in pong.hops)
            assert oscar.router.route("gamma") == ["oscar", "alpha", "beta", "gamma"]
            assert oscar.router.next_hop("gamma") == "alpha"
            edges = [edge[:2] for edge in oscar.router.get_edges()]
            assert edges == [("alpha", "beta"), ("alpha", "oscar"), ("beta", "gamma")]

    run(scenario)


def test_wait_for_returns_when_the_node_comes_and_raises_when_it_does_not() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            with pytest.raises(TimeoutError):
                await oscar.wait_for("beta", timeout=0.1)
            waiting = asyncio.create_task(oscar.wait_for("beta"))
            async with node("beta", peers=alpha.endpoints):
                await waiting
                assert await oscar.call("beta", "demo:echo", 1) == 1
            await eventually(lambda: "beta" not in oscar.router.get_nodes())
            with pytest.raises(UnreachableError):
                await oscar.call("beta", "demo:echo", 1)

    run(scenario)


def add_every_kind(worker: Node) -> None:
    @worker.action("kinds:coroutine")
    async def coroutine(payload: int) -> int:
        await asyncio.sleep(0)
        return payload + 1

    @worker.action("kinds:eager", eager=True)
    async def eager(payload: int) -> int:
        return payload + 1

    @worker.action("kinds:thread")
    def thread(payload: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return payload + 1

    @worker.action("kinds:inline", executor="loop")
    def inline(payload: int) -> int:
        return payload + 1

    @worker.action("kinds:agen")
    async def agen(payload: int) -> AsyncIterator[int]:
        for number in range(payload):
            yield number

    @worker.action("kinds:gen")
    def gen(payload: int) -> Iterator[int]:
        yield from range(payload)


def test_every_kind_of_action_answers_over_the_wire() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            add_every_kind(alpha)
            for kind in ("coroutine", "eager", "thread", "inline"):
                assert await oscar.call("alpha", f"kinds:{kind}", 1) == 2
            for kind in ("agen", "gen"):
                async with oscar.stream("alpha", f"kinds:{kind}", 300) as responses:
                    assert [value async for value in responses.values()] == list(range(300))

    run(scenario)


def test_a_process_action_runs_in_another_process() -> None:
    async def scenario() -> None:
        async with pair(plugins=["tests.integration.programs.process_plugin"]) as (oscar, _):
            answer = await oscar.call("alpha", "process_plugin:pid", 20)
            assert answer != os.getpid()
            async with oscar.stream("alpha", "process_plugin:count", 50) as responses:
                assert [value async for value in responses.values()] == list(range(50))
            with pytest.raises(ActionError, match="boom") as raised:
                await oscar.call("alpha", "process_plugin:fail", "boom")
            assert raised.value.remote_type == "ValueError"

    run(scenario)


def test_the_context_knows_the_work_and_calls_other_nodes_with_the_time_left() -> None:
    async def scenario() -> None:
        async with (
            pair(plugin={"test": {"quality": "high"}}) as (oscar, alpha),
            node("beta", peers=alpha.endpoints) as beta,
        ):
            seen: dict[str, Any] = {}

            @beta.action("test:leaf")
            async def leaf(payload: int, context: Context) -> float | None:
                seen["leaf sender"] = context.sender
                return context.remaining()

            @alpha.action("test:relay")
            async def relay(payload: int, context: Context) -> Any:
                seen.update(sender=context.sender, directive=context.directive,
                            attempt=context.attempt, config=dict(context.config),
                            id=context.message_id)  # fmt: skip
                return await context.call("beta", "test:leaf", payload)

            @alpha.action("test:relay-thread")
            def relay_thread(payload: int, context: Context) -> Any:
                return context.call_blocking("beta", "test:leaf", payload)

            await oscar.wait_for("beta")
            left = await oscar.call("alpha", "test:relay", 1, timeout=7)
            assert 5 < left <= 7
            assert seen["leaf sender"] == "alpha"
            assert (seen["sender"], seen["directive"]) == ("oscar", "test:relay")
            assert (seen["attempt"], seen["config"]) == (1, {"quality": "high"})
            assert seen["id"]
            assert 5 < await oscar.call("alpha", "test:relay-thread", 1, timeout=7) <= 7

    run(scenario)


def test_cancelling_the_first_of_a_chain_of_calls_cancels_the_last() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha), node("beta", peers=alpha.endpoints) as beta:

            @alpha.action("test:relay")
            async def relay(payload: int, context: Context) -> Any:
                return await context.call("beta", "demo:sleep", payload)

            await oscar.wait_for("beta")
            work = asyncio.create_task(oscar.call("alpha", "test:relay", 60))
            await eventually(lambda: beta._executor.active())
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            await eventually(lambda: not beta._executor.active())
            await eventually(lambda: not alpha._executor.active())

    run(scenario)


def test_an_ephemeral_controller_works_and_is_never_listed() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha), node("beta", peers=alpha.endpoints):
            config = Config(ephemeral=True, peers=alpha.endpoints)
            async with Controller(config) as client, Controller(config) as other:
                await client.wait_for("beta")
                await other.wait_for("beta")
                await oscar.wait_for("beta")
                assert await client.call("beta", "demo:echo", b"x" * 200_000) == b"x" * 200_000
                assert client.router.get_nodes() == ["alpha", "beta", "oscar"]
                assert oscar.router.get_nodes() == ["alpha", "beta", "oscar"]
                work = await client.send(recipient="beta", directive="demo:sleep", payload=60)
                assert work
                await eventually(lambda: is_busy(oscar, "beta"))
                await client.stop()
                await eventually(lambda: is_idle(oscar, "beta"))
                assert await other.call("beta", "demo:echo", 1) == 1

    run(scenario)


def test_an_ephemeral_controller_attaches_to_one_node_only() -> None:
    with pytest.raises(ConfigError, match="one node"):
        Controller(Config(ephemeral=True, peers=["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]))
