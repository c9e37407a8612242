"""One call of one member of a group, and its errors as those of group calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from meshcore.errors import (
    BusyError,
    DeadlineExceededError,
    RPCConnectionError,
    RPCConnectionTimeoutError,
    RPCError,
    RPCNotFoundError,
    RPCTimeoutError,
    UnknownDirectiveError,
    UnreachableError,
)  # fmt: skip
from meshcore.services.outcome import outcome_of

CALL = "mesh:call"
Call = tuple[str, Sequence[Any], dict[str, Any]]  # method, args, kwargs


class Request(Protocol):
    """`Node.request`."""

    def __call__(
        self, recipient: str, directive: str, payload: Any, *, timeout: float | None
    ) -> Awaitable[Any]: ...


async def call_member(
    request: Request,
    node: str,
    group: str,
    call: Call,
    *,
    number: int,
    client: str,
    rpc_timeout: float,
    network_timeout: float,
    is_reachable: Callable[[str], bool],
) -> Any:
    """The value that this member gives.

    Raises:
        RPCRemoteError: the service raised.
        RPCNotFoundError: it does not serve the group, or has no such method.
        RPCTimeoutError: it has the call, and did not answer within `rpc_timeout`.
        RPCConnectionTimeoutError: it could not be reached within `network_timeout`.
        RPCConnectionError: it cannot be reached.
    """
    method, args, kwargs = call
    about = {"node_id": node, "directive": f"{group}.{method}"}
    payload = [group, method, args, kwargs, client, number]
    try:
        asking = request(node, CALL, payload, timeout=rpc_timeout)
        if network_timeout < rpc_timeout:
            asking = _while_reachable(asking, node, network_timeout, is_reachable)
        outcome = await asking
    except (RPCError, BusyError):
        raise
    except DeadlineExceededError as error:
        if error.may_have_run:
            text = f"{node} did not answer {group}.{method} within {rpc_timeout:g} s"
            raise RPCTimeoutError(text, **about) from error
        text = f"{node} could not be reached within {min(rpc_timeout, network_timeout):g} s"
        raise RPCConnectionTimeoutError(text, may_have_run=False, **about) from error
    except UnreachableError as error:
        raise RPCConnectionError(str(error), may_have_run=error.may_have_run, **about) from error
    except UnknownDirectiveError as error:
        text = f"{node} serves no groups: {error}"
        raise RPCNotFoundError(text, may_have_run=False, **about) from error
    return outcome_of(outcome, **about)


async def _while_reachable(
    asking: Awaitable[Any], node: str, seconds: float, is_reachable: Callable[[str], bool]
) -> Any:
    """Give up after so many seconds, but only where there is no way to that node then."""
    task = asyncio.ensure_future(asking)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if not done and not is_reachable(node):
            text = f"{node} could not be reached within {seconds:g} s"
            raise RPCConnectionTimeoutError(text, node_id=node)
        return await task
    finally:
        task.cancel()
