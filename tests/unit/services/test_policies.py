"""Asking several members, and what becomes of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshcore import (
    GroupResult,
    RPCConnectionError,
    RPCConnectionTimeoutError,
    RPCError,
    RPCNotFoundError,
    RPCRemoteError,
    RPCTimeoutError,
)
from meshcore.services.policies import NAMED_MAX, ask_all, ask_until, error_of

MEMBERS = ("alpha", "beta", "gamma")


class Members:
    """Answers as told: a value, an error, or only once `release` is set."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.release = asyncio.Event()
        self.cancelled: list[str] = []

    async def ask(self, node: str) -> Any:
        answer = self.answers.get(node, node)
        if isinstance(answer, Exception):
            raise answer
        if answer is ...:
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.append(node)
                raise
        return node


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(bounded())


def test_all_has_everybodys_answer_or_error() -> None:
    async def scenario() -> None:
        boom = RPCRemoteError("boom")
        result = await ask_all(MEMBERS, Members(beta=boom).ask)
        assert result == GroupResult({"alpha": "alpha", "gamma": "gamma"}, {"beta": boom})
        assert not result
        assert await ask_all(MEMBERS, Members().ask)

    run(scenario)


@pytest.mark.parametrize(
    ("answers", "needed", "ok", "failed", "pending"),
    [
        ({"alpha": ..., "gamma": ...}, 1, 1, 0, 2),
        ({"alpha": ..., "beta": RPCError("no")}, 1, 1, 1, 1),
        ({"gamma": ...}, 2, 2, 0, 1),
        ({"alpha": RPCError("no"), "beta": RPCError("no"), "gamma": ...}, 2, 0, 2, 1),
        ({name: RPCError("no") for name in MEMBERS}, 1, 0, 3, 0),
    ],
)
def test_it_waits_until_enough_have_succeeded_or_cannot_any_more(
    answers: dict[str, Any], needed: int, ok: int, failed: int, pending: int
) -> None:
    async def scenario() -> None:
        members = Members(**answers)
        result, rest = await ask_until(MEMBERS, members.ask, needed)
        assert (len(result.ok), len(result.failed), len(rest)) == (ok, failed, pending)
        members.release.set()
        await asyncio.gather(*rest)

    run(scenario)


def test_who_gives_up_asks_nobody_any_more() -> None:
    async def scenario() -> None:
        members = Members(alpha=..., beta=..., gamma=...)
        for asking in (ask_all(MEMBERS, members.ask), ask_until(MEMBERS, members.ask, 1)):
            members.cancelled.clear()
            task = asyncio.ensure_future(asking)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert sorted(members.cancelled) == list(MEMBERS)

    run(scenario)


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        ([RPCConnectionTimeoutError("a"), RPCConnectionError("b")], RPCConnectionError),
        ([RPCTimeoutError("a"), RPCTimeoutError("b")], RPCTimeoutError),
        ([RPCNotFoundError("a")], RPCNotFoundError),
        ([RPCRemoteError("a"), RPCTimeoutError("b")], RPCError),
        ([RPCRemoteError("a")], RPCError),
    ],
)
def test_the_error_is_what_all_have_failed_with(
    failed: list[Exception], kind: type[RPCError]
) -> None:
    result = GroupResult({}, {f"node{n}": error for n, error in enumerate(failed)})
    error = error_of("lamps", "on", result, "failed at all members")
    assert type(error) is kind
    assert error.failed == result.failed
    assert "lamps.on failed at all members: node0: a" in str(error)


def test_a_success_makes_it_none_of_those_and_few_are_named() -> None:
    many = {f"node{n:02}": RPCTimeoutError("late", may_have_run=False) for n in range(20)}
    error = error_of("lamps", "on", GroupResult({"alpha": 1}, dict(many)), "too few")
    assert type(error) is RPCError
    assert error.ok == {"alpha": 1}
    assert len(error.failed) == 20
    assert str(error).count("late") == NAMED_MAX
    assert error.may_have_run
    assert not error_of("lamps", "on", GroupResult({}, dict(many)), "too few").may_have_run
