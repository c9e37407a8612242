"""Asking several members at once, and what to make of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from meshcore.errors import RPCConnectionError, RPCError, RPCNotFoundError, RPCTimeoutError
from meshcore.services.directory import Members

Ask = Callable[[str], Awaitable[Any]]
NAMED_MAX = 8  # members in the text of an error


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What the members of a group answered: values in `ok`, errors in `failed`, by node.

    It is true where nobody failed.
    """

    ok: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return not self.failed


async def ask_all(members: Members, ask: Ask) -> GroupResult:
    """Everybody's answer or error."""
    outcomes = await asyncio.gather(*(ask(node) for node in members), return_exceptions=True)
    result = GroupResult()
    for node, outcome in zip(members, outcomes, strict=True):
        if isinstance(outcome, Exception):
            result.failed[node] = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            result.ok[node] = outcome
    return result


async def ask_until(
    members: Members, ask: Ask, needed: int
) -> tuple[GroupResult, set[asyncio.Task[Any]]]:
    """Ask all at once, until so many have succeeded or cannot any more; and who still runs."""

    async def one(node: str) -> Any:
        return await ask(node)

    loop = asyncio.get_running_loop()
    asking = {loop.create_task(one(node)): node for node in members}
    result = GroupResult()
    pending = set(asking)
    try:
        while pending and len(result.ok) < needed <= len(result.ok) + len(pending):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for finished in done:
                error = finished.exception()
                if error is None:
                    result.ok[asking[finished]] = finished.result()
                elif isinstance(error, Exception):
                    result.failed[asking[finished]] = error
    except asyncio.CancelledError:
        for running in pending:
            running.cancel()
        raise
    return result, pending


def error_of(group: str, method: str, result: GroupResult, what: str) -> RPCError:
    """The error that says who failed with what."""
    named = sorted(result.failed.items())[:NAMED_MAX]
    why = "; ".join(f"{node}: {error}" for node, error in named)
    error = _kind_of(result)(
        f"{group}.{method} {what}" + (f": {why}" if why else ""),
        directive=f"{group}.{method}",
        may_have_run=bool(result.ok)
        or any(getattr(one, "may_have_run", True) for one in result.failed.values()),
    )
    error.ok, error.failed = dict(result.ok), dict(result.failed)
    return error


def _kind_of(result: GroupResult) -> type[RPCError]:
    """What all have failed with, where that is one thing; else the base of them."""
    if result.failed and not result.ok:
        for kind in (RPCConnectionError, RPCTimeoutError, RPCNotFoundError):
            if all(isinstance(error, kind) for error in result.failed.values()):
                return kind
    return RPCError
