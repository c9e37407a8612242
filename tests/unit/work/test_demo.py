"""The actions that ship with meshcore."""

from __future__ import annotations

import asyncio

import pytest

from meshcore.errors import Code
from meshcore.work.job import NO_VALUE
from tests.unit.work.fakes import Bench, bench


def run(check):
    async def scenario():
        async with bench() as b:
            b.registry.add_plugin("meshcore.plugins.demo")
            return await check(b)

    return asyncio.run(scenario())


def test_all_six_are_offered_with_a_description():
    async def check(b: Bench):
        return b.registry.capabilities()

    capabilities = run(check)
    assert list(capabilities) == [
        "demo:block",
        "demo:burn",
        "demo:count",
        "demo:echo",
        "demo:fail",
        "demo:sleep",
    ]
    assert all(item["description"].endswith(".") for item in capabilities.values())
    assert all(item["tags"] == ["demo"] for item in capabilities.values())


@pytest.mark.parametrize(
    ("directive", "payload", "values"),
    [
        ("demo:echo", {"a": [b"x"]}, [{"a": [b"x"]}]),
        ("demo:sleep", 0.001, [0.001]),
        ("demo:count", 3, [0, 1, 2, NO_VALUE]),
        ("demo:count", 0, [NO_VALUE]),
        ("demo:burn", 0.001, [0.001]),
        ("demo:block", 0, [0.0]),
    ],
)
def test_they_do_what_they_say(directive, payload, values):
    assert run(lambda b: b.values(directive, payload)) == values


def test_fail_raises_a_value_error_with_the_payload_as_text():
    failure = run(lambda b: b.failure("demo:fail", "boom"))
    assert failure[:3] == (Code.ACTION_FAILED, "ValueError", "boom")


@pytest.mark.parametrize(
    ("directive", "payload", "text"),
    [
        ("demo:count", "x", "demo:count expects a whole number from 0, not 'x'"),
        ("demo:count", -1, "not -1"),
        ("demo:count", True, "not True"),
        ("demo:sleep", None, "demo:sleep expects a number of seconds from 0 to 86400, not None"),
        ("demo:sleep", float("nan"), "not nan"),
        ("demo:burn", -1, "demo:burn expects"),
        ("demo:block", "x" * 1000, "demo:block expects"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_with_what_was_expected(directive, payload, text):
    code, name, message, *_ = run(lambda b: b.failure(directive, payload))
    assert (code, name) == (Code.BAD_PAYLOAD, "BadPayloadError")
    assert text in message
    assert len(message) < 200


def test_burn_and_count_stop_when_they_are_cancelled():
    async def check(b: Bench):
        refs = [b.start("demo:burn", 1000), b.start("demo:count", 10**12)]
        await b.outlet.until(lambda: len(b.outlet.values[refs[1]]) > 10)
        for ref in refs:
            b.executor.cancel(ref)
        await b.quiet()

    run(check)
