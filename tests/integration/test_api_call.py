"""`Controller.call` between two nodes: values, failures, deadlines, cancellation, limits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from meshcore import (
    ActionError,
    BadPayloadError,
    BusyError,
    ClosedError,
    Config,
    ConfigError,
    Controller,
    DeadlineExceededError,
    WorkCancelledError,
)
from tests.integration.nodes import eventually, is_busy, is_idle, node, pair, run

MIB = 2**20


VALUES = [None, True, 0, -(2**63), 2**64 - 1, 1.5, "", "text", "ünï", b"", b"\0\xff",
          [], [1, [2, None]], {}, {"a": {"b": [b"x"]}}, {"1": 1}]  # fmt: skip


def test_values_arrive_as_they_were_sent() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            for value in VALUES:
                echoed = await oscar.call("alpha", "demo:echo", value)
                assert (type(echoed), echoed) == (type(value), value)

    run(scenario)


def test_a_failing_action_raises_its_type_text_and_traceback_here() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            with pytest.raises(ActionError, match="boom") as raised:
                await oscar.call("alpha", "demo:fail", "boom")
            error = raised.value
            assert (error.remote_type, error.node_id) == ("ValueError", "alpha")
            assert error.directive == "demo:fail"
            assert "raise ValueError" in error.remote_traceback
            assert error.may_have_run is True

    run(scenario)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1.0}, {"timeout": float("nan")},
                                   {"priority": "urgent"}])  # fmt: skip
def test_a_timeout_or_priority_that_cannot_be_is_refused_by_name(wrong: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            with pytest.raises(ConfigError, match=next(iter(wrong))):
                await oscar.call("alpha", "demo:echo", 1, **wrong)

    run(scenario)


def test_a_bug_in_the_core_costs_one_message_and_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            driver: Any = alpha._driver
            on_frames = driver.mesh.on_frames
            broken = iter([True])

            def sometimes(*arguments: Any) -> None:
                if next(broken, False):
                    raise ZeroDivisionError("planted")
                on_frames(*arguments)

            monkeypatch.setattr(driver.mesh, "on_frames", sometimes)
            assert await oscar.call("alpha", "demo:echo", 1, timeout=10) == 1
            assert await alpha.request("oscar", "mesh:identify", None, timeout=10)
            assert driver.counters["internal error"] == 1

    run(scenario)
    assert "planted" in caplog.text


def test_call_takes_one_value_and_says_what_to_use_for_more() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            with pytest.raises(BadPayloadError, match="use stream"):
                await oscar.call("alpha", "demo:count", 1_000_000)
            await eventually(lambda: is_idle(oscar, "alpha"))
            assert await oscar.call("alpha", "demo:count", 1) == 0
            assert await oscar.call("alpha", "demo:count", 0) is None

    run(scenario)


def test_a_call_that_takes_too_long_is_cancelled_at_both_ends() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            start = time.monotonic()
            with pytest.raises(DeadlineExceededError) as raised:
                await oscar.call("alpha", "demo:sleep", 60, timeout=0.3)
            assert 0.25 < time.monotonic() - start < 1.5
            assert isinstance(raised.value, TimeoutError)
            assert raised.value.may_have_run is True
            await eventually(lambda: is_idle(oscar, "alpha"))

    run(scenario)


def test_the_request_timeout_of_the_configuration_holds_for_calls() -> None:
    async def scenario() -> None:
        async with node("alpha") as alpha:
            config = Config(peers=alpha.endpoints, request_timeout=0.3)
            async with Controller(config) as oscar:
                await oscar.wait_for("alpha")
                with pytest.raises(DeadlineExceededError):
                    await oscar.call("alpha", "demo:sleep", 60)

    run(scenario)


def test_a_task_that_is_cancelled_cancels_its_call() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            work = asyncio.create_task(oscar.call("alpha", "demo:sleep", 60))
            await eventually(lambda: is_busy(oscar, "alpha"))
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            await eventually(lambda: is_idle(oscar, "alpha"))

    run(scenario)


def test_calls_end_when_their_own_node_stops() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, alpha):
            work = asyncio.create_task(oscar.call("alpha", "demo:sleep", 60))
            await eventually(lambda: is_busy(oscar, "alpha"))
            await oscar.stop()
            with pytest.raises((WorkCancelledError, ClosedError)):
                await work
            with pytest.raises(ClosedError):
                await oscar.call("alpha", "demo:echo")
            await eventually(lambda: not alpha._executor.active())

    run(scenario)


def test_more_work_than_workers_and_queue_is_refused_as_busy() -> None:
    async def scenario() -> None:
        async with pair(max_workers=1, queue_max=1) as (oscar, _):
            first = asyncio.create_task(oscar.call("alpha", "demo:sleep", 0.5))
            await eventually(lambda: is_busy(oscar, "alpha"))
            second = asyncio.create_task(oscar.call("alpha", "demo:sleep", 0))
            await asyncio.sleep(0)
            with pytest.raises(BusyError) as raised:
                await oscar.call("alpha", "demo:sleep", 0)
            assert raised.value.may_have_run is False
            assert await asyncio.gather(first, second) == [0.5, 0]

    run(scenario)


def test_many_calls_at_once_get_each_its_own_answer() -> None:
    async def scenario() -> None:
        async with pair() as (oscar, _):
            numbers = range(2000)
            answers = await asyncio.gather(*[oscar.call("alpha", "demo:echo", n) for n in numbers])
            assert answers == list(numbers)

    run(scenario)
