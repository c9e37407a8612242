"""Actions to try a mesh with: an echo, a wait, a count, a failure, load, and a stuck node.

They are what the documentation, `meshctl demo` and the tests call; each is also an example of one
way to write an action.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from meshcore import BadPayloadError, action

SECONDS_MAX = 86_400.0
_BURN_STEP = 20_000  # iterations between two looks at the clock, below a millisecond


@action(tags=["demo"], eager=True)
async def echo(payload: Any) -> Any:
    """Answer with the payload."""
    return payload


@action(tags=["demo"])
async def sleep(payload: Any) -> float:
    """Wait that many seconds, without keeping anybody from work."""
    seconds = _seconds(payload, "demo:sleep")
    await asyncio.sleep(seconds)
    return seconds


@action(tags=["demo"])
def count(payload: Any, context: Any) -> Iterator[int]:
    """Count from 0 to one below the payload, a response for each number."""
    if type(payload) is not int or payload < 0:
        raise BadPayloadError(f"demo:count expects a whole number from 0, not {_shown(payload)}")
    for number in range(payload):
        context.check_cancelled()
        yield number


@action(tags=["demo"])
async def fail(payload: Any) -> None:
    """Raise a ValueError with the payload as its text."""
    raise ValueError("" if payload is None else str(payload))


@action(tags=["demo"])
def burn(payload: Any, context: Any) -> float:
    """Use a processor for that many seconds, in a thread."""
    seconds = _seconds(payload, "demo:burn")
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        context.check_cancelled()
        sum(range(_BURN_STEP))
    return seconds


@action(tags=["demo"])
async def block(payload: Any) -> float:
    """Block the node's loop for that many seconds, as a badly written action would."""
    seconds = _seconds(payload, "demo:block")
    time.sleep(seconds)  # noqa: ASYNC251 (that is its purpose)
    return seconds


def _seconds(payload: Any, directive: str) -> float:
    """The payload as a number of seconds; BadPayloadError says what was expected."""
    if type(payload) not in (int, float) or not 0 <= payload <= SECONDS_MAX:
        raise BadPayloadError(
            f"{directive} expects a number of seconds from 0 to {SECONDS_MAX:.0f}, "
            f"not {_shown(payload)}"
        )
    return float(payload)


def _shown(payload: Any) -> str:
    text = repr(payload)
    return text if len(text) <= 60 else text[:57] + "..."
