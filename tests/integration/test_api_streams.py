"""`stream`, `send` with handlers, and `cancel`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from meshcore import (
    ActionError,
    Config,
    ConfigError,
    Controller,
    Message,
    WorkCancelledError,
)
from tests.integration.nodes import eventually, is_busy, is_idle, node, pair, run

MIB = 2**20


def test_streamed_messages_carry_a_full_header_and_end_with_eof() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            async with oscar.stream("alpha", "demo:count", 3) as responses:
                messages = [message async for message in responses]
            assert [message.header.serial for message in messages] == [1, 2, 3, 4]
            assert [message.payload.value for message in messages[:3]] == [0, 1, 2]
            for message in messages:
                header = message.header
                assert header.in_response_to == responses.message_id
                assert header.directive == "demo:count"
                assert (header.sender, header.recipient) == ("alpha", "oscar")
                assert header.code == 0
                assert abs((datetime.now(UTC) - header.timestamp).total_seconds()) < 60
                assert message.error is None
            assert [message.header.eof for message in messages] == [False, False, False, True]
            assert not messages[3].payload

    run(scenario)


def test_a_stream_that_is_left_early_cancels_its_work() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            async with oscar.stream("alpha", "demo:count", 10_000_000) as responses:
                async for value in responses.values():
                    if value == 5:
                        break
            await eventually(lambda: is_idle(oscar, "alpha"))
            assert await oscar.cancel(responses.message_id) is False

    run(scenario)


def test_a_failure_in_the_middle_comes_after_what_was_before_it() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):

            @alpha.action("test:stumble")
            def stumble(payload: int) -> Iterator[int]:
                yield from range(payload)
                raise LookupError("stumbled")

            seen = []

            async def read() -> None:
                async with oscar.stream("alpha", "test:stumble", 3) as responses:
                    async for value in responses.values():
                        seen.append(value)

            with pytest.raises(ActionError, match="stumbled"):
                await read()
            assert seen == [0, 1, 2]
            async with oscar.stream("alpha", "test:stumble", 1) as responses:
                messages = [message async for message in responses]
            assert messages[-1].header.eof
            assert messages[-1].header.code != 0
            assert messages[-1].error is not None
            assert messages[-1].error.remote_type == "LookupError"

    run(scenario)


def test_a_slow_reader_slows_its_action_and_nobody_else() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            given = 0

            @alpha.action("test:flood")
            async def flood(payload: int) -> AsyncIterator[bytes]:
                nonlocal given
                for _ in range(payload):
                    given += 1
                    yield bytes(10_000)

            async with oscar.stream("alpha", "test:flood", 2000) as responses:
                count = 0
                async for _ in responses.values():
                    count += 1
                    if count == 1:
                        before = -1
                        while before != given:  # until it stands still
                            before = given
                            for _ in range(20):
                                assert await oscar.call("alpha", "demo:echo", 1) == 1
                        assert given < 500, "5 MB wait for a reader that reads nothing"
            assert count == 2000

    run(scenario)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_handler_is_called_once_per_response_in_order(kind: str) -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            seen: list[Message] = []
            ended = asyncio.Event()

            def plain(message: Message) -> None:
                seen.append(message)
                if message.header.eof:
                    ended.set()

            async def asynchronous(message: Message) -> None:
                await asyncio.sleep(0)
                plain(message)

            message_id = await oscar.send(
                payload=200,
                recipient="alpha",
                directive="demo:count",
                response_handler=plain if kind == "plain" else asynchronous,
            )
            assert isinstance(message_id, str)
            await ended.wait()
            assert [message.header.serial for message in seen] == list(range(1, 202))
            assert {message.header.in_response_to for message in seen} == {message_id}
            assert [json.loads(message.payload.readall()) for message in seen[:-1]] == list(
                range(200)
            )

    run(scenario)


def test_payloads_read_like_those_of_the_older_receptor() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            for value, raw in (
                (b"bytes", b"bytes"),
                ("ünï", "ünï".encode()),
                ({"a": 1}, b'{"a": 1}'),
            ):
                got: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
                await oscar.send(recipient="alpha", directive="demo:echo", payload=value,
                                 response_handler=got.set_result)  # fmt: skip
                message = await got
                assert message.header.eof
                if isinstance(value, dict):
                    assert json.loads(message.payload.readall()) == value
                else:
                    assert message.payload.readall() == raw
                    assert message.payload.read(2) == raw[:2]
                    assert message.payload.read() == raw[2:]

    run(scenario)


def test_a_handler_that_raises_cancels_its_work_and_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []

    def handler(message: Message) -> None:
        calls.append(message)
        raise LookupError("handler")

    async def scenario() -> None:
        async with pair() as (oscar, _):
            await oscar.send(
                recipient="alpha", directive="demo:count", payload=10**7, response_handler=handler
            )
            await eventually(lambda: calls)
            await eventually(lambda: is_idle(oscar, "alpha"))
            assert len(calls) == 1

    with caplog.at_level(logging.ERROR), pytest.raises(LookupError, match="handler"):
        run(scenario)
    assert "LookupError: handler" in caplog.text


def test_run_raises_what_a_handler_raised() -> None:
    async def scenario(url: str) -> None:
        def handler(message: Message) -> None:
            raise LookupError("handler")

        controller = Controller(Config(peers=[url]))

        async def app() -> None:
            await controller.wait_for("alpha")
            await controller.send(
                recipient="alpha", directive="demo:echo", response_handler=handler
            )
            await asyncio.Event().wait()

        with pytest.raises(LookupError, match="handler"):
            await asyncio.to_thread(controller.run, app)

    async def with_alpha() -> None:
        async with node("alpha") as alpha:
            await scenario(alpha.endpoints[0])

    run(with_alpha)


def test_send_without_a_handler_lets_the_work_end() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            ended = asyncio.Event()

            @alpha.action("test:many")
            async def many(payload: int) -> AsyncIterator[bytes]:
                for _ in range(payload):
                    yield bytes(1000)
                ended.set()

            await oscar.send(recipient="alpha", directive="test:many", payload=2000)
            await ended.wait()

    run(scenario)


def test_a_failure_reaches_the_handler_as_the_last_response() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            got: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            message_id = await oscar.send(recipient="alpha", directive="demo:fail", payload="boom",
                                          response_handler=got.set_result)  # fmt: skip
            message = await got
            assert message.header.eof
            assert message.header.code != 0
            assert not message.payload
            assert str(message.error) == "boom"
            assert isinstance(message.error, ActionError)
            assert message.error.message_id == message_id

    run(scenario)


def test_cancel_tells_whether_it_came_in_time() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            got: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            message_id = await oscar.send(recipient="alpha", directive="demo:sleep", payload=60,
                                          response_handler=got.set_result)  # fmt: skip
            await eventually(lambda: is_busy(oscar, "alpha"))
            assert await oscar.cancel(message_id) is True
            assert isinstance((await got).error, WorkCancelledError)
            assert await oscar.cancel(message_id) is False
            assert await oscar.cancel("no such id") is False
            await eventually(lambda: is_idle(oscar, "alpha"))

    run(scenario)


def test_durable_work_is_refused_in_this_version() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            with pytest.raises(ConfigError, match="durable"):
                await oscar.send(recipient="alpha", directive="demo:echo", durable=True)

    run(scenario)
