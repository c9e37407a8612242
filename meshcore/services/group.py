"""A group of services, as its callers see it.

::

    group = controller.group("counter", timeout=3.0)
    await group.add(3)                                     # or group.call("add", 3)
    counter = group.proxy(Counter); await counter.add(3)   # the same, typed
    result = await controller.group("fleet", policy="all").status()   # GroupResult

Policies, for groups that are not replicated, in which every member is asked: `first` gives the
value of the first that succeeds; `quorum` a GroupResult once more than half of the members have
succeeded; `all` a GroupResult when all have answered, failed, or run out of time. A replicated
group is called as one: the call has one effect and one value (`first`); only `heartbeat` asks each
member.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Literal, TypeVar, cast

from meshcore.errors import ConfigError, RPCNotFoundError
from meshcore.services.calling import Call, call_member
from meshcore.services.directory import Members, Offer, added, close_to
from meshcore.services.policies import ask_all, ask_until, error_of
from meshcore.services.registry import Registry
from meshcore.services.replicated.client import ReplicatedClient
from meshcore.services.service import Request, Response

Policy = Literal["first", "all", "quorum"]
POLICIES = ("first", "all", "quorum")
S = TypeVar("S")
Hook = Callable[[Any], Any]
TIMEOUT = 3.0  # seconds: of one member's call, and for reaching it
RETRY_TIMEOUT = 10.0  # seconds for a call of a replicated group: it may have to elect a primary
BACKGROUND_MAX = 1024  # calls of `first` whose answer nobody waits for any more
WATCHED_MAX = 64


class Group:
    """Made by `Controller.group`.

    Args:
        name: the group.
        policy: what to make of several answers; left out, `first` where the group is replicated,
            else `all`.
        timeout: seconds for a whole call; left out, 10 where the group is replicated, else that of
            the members (3) alone.
    """

    def __init__(
        self, name: str, registry: Registry, *, policy: Policy | None, timeout: float | None
    ) -> None:
        if policy is not None and policy not in POLICIES:
            raise ConfigError(f"policy = {policy!r} must be one of {', '.join(POLICIES)}")
        if timeout is not None and not timeout > 0:
            raise ConfigError(f"timeout = {timeout!r} must be greater than 0 (seconds)")
        self.name = name
        self.policy = policy
        self._timeout = timeout
        self._registry = registry
        self._rpc_timeout = self._network_timeout = TIMEOUT
        self._added: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._listeners: dict[object, Callable[[Members], None]] = {}
        self._number = 0
        self._called: list[Hook] = []
        self._returned: list[Hook] = []
        self._background: set[asyncio.Task[Any]] = set()
        self._replicated: ReplicatedClient | None = None
        self._has_hooks = False
        self._known: tuple[Offer, ...] | None = None  # what these two were found out of
        self._is_replicated = False
        self._readonly: frozenset[str] = frozenset()

    # Members -------------------------------------------------------------------------------------

    @property
    def members(self) -> Members:
        """The nodes that are called: those that serve the group, and those that were added."""
        found = dict.fromkeys(self._registry.members(self.name)) | self._added
        return tuple(sorted(node for node in found if node not in self._removed))

    def add_node(self, node: str, *, verify: bool = False) -> Awaitable[None]:
        """Call this node as well, whatever the mesh says.

        Without `verify` it is a member at once. With it the result must be awaited: it becomes one
        if its service answers now, else that raises what a call of it raises.
        """
        if verify:
            return self._verify(node)
        self._add(node)
        return _Done()

    async def _verify(self, node: str) -> None:
        await self._call_one(node, ("heartbeat", [], {}))
        self._add(node)

    def _add(self, node: str) -> None:
        self._removed.pop(node, None)
        self._added[node] = None
        self._tell()

    def _tell(self) -> None:
        for callback in list(self._listeners.values()):
            callback(self.members)

    def get_node(self, node: str) -> Offer:
        """What that member announces, or that it was added; KeyError for no member."""
        if node not in self.members:
            raise KeyError(node)
        offers = self._registry.offers(self.name)
        return next((offer for offer in offers if offer.node == node), added(node, self.name))

    def remove_node(self, node: str) -> None:
        """Call this node no more, until it is added; KeyError for no member."""
        if node not in self.members:
            raise KeyError(node)
        self._added.pop(node, None)
        self._removed[node] = None
        self._tell()

    def on_change(self, callback: Callable[[Members], None]) -> Callable[[], None]:
        """Tell the present members at once, then each change; returns what ends that.

        A program that is attached to a node asks it for them, and then once a second.
        """
        token = object()
        end = self._registry.subscribe(self.name, lambda _: callback(self.members))
        self._listeners[token] = callback

        def stop() -> None:
            end()
            self._listeners.pop(token, None)

        return stop

    async def watch(self) -> AsyncIterator[Members]:
        """The present members, then each change; who reads slowly gets the latest."""
        queue: asyncio.Queue[Members] = asyncio.Queue(WATCHED_MAX)

        def put(members: Members) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(members)

        with contextlib.ExitStack() as stack:
            stack.callback(self.on_change(put))
            while True:
                yield await queue.get()

    # Settings ------------------------------------------------------------------------------------

    def set_rpc_timeout(self, seconds: float) -> None:
        """How long one member may take for a call."""
        self._rpc_timeout = _positive("rpc_timeout", seconds)

    def set_network_timeout(self, seconds: float) -> None:
        """How long to try to reach a member."""
        self._network_timeout = _positive("network_timeout", seconds)

    def on_rpc_call(self, hook: Hook) -> None:
        """Call `hook(request)` before each call; it may change the arguments, and may raise."""
        self._called.append(hook)
        self._has_hooks = True

    def on_rpc_returned(self, hook: Hook) -> None:
        """Call `hook(response)` after each call."""
        self._returned.append(hook)
        self._has_hooks = True

    async def set_primary(self, node: str) -> None:
        """Have the replica on that node lead; returns when it does. RPCError where it cannot."""
        await self._registry.set_primary(self.name, node)

    async def set_checkpoint_interval(self, seconds: float) -> None:
        """Seconds between two checkpoints, at all members."""
        await self._set(checkpoint_interval=_positive("checkpoint_interval", seconds))

    async def set_checkpoint_log_bytes(self, count: int) -> None:
        """Size of the log that causes a checkpoint, at all members."""
        await self._set(checkpoint_log_bytes=int(_positive("checkpoint_log_bytes", count)))

    async def set_heartbeat_interval(self, seconds: float) -> None:
        """Seconds between two local heartbeats of the service, at all members."""
        await self._set(heartbeat_interval=_positive("heartbeat_interval", seconds))

    async def set_beats_per_minute(self, count: float) -> None:
        """The same as a rate."""
        await self._set(heartbeat_interval=60.0 / _positive("beats_per_minute", count))

    async def _set(self, **settings: Any) -> None:
        members = await self._present()
        result = await ask_all(members, lambda node: self._registry.set(self.name, node, settings))
        if result.failed:
            raise error_of(self.name, "its settings", result, "could not be set at all members")

    # Calls ---------------------------------------------------------------------------------------

    def proxy(self, service: type[S]) -> S:
        """The group as if it were that class: its methods are calls."""
        return cast("S", _Proxy(self))

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._call(method, args, kwargs)

        return call

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method; every further argument goes to it.

        Raises:
            RPCNotFoundError: nobody serves the group, or it has no such method.
            RPCRemoteError: the service raised.
            RPCTimeoutError: no answer in time; it may have had its effect.
            RPCConnectionError: nobody could be reached; it had no effect.
            RPCError: with `quorum` and `first`, no member or too few of several succeeded; `ok` and
                `failed` name them.
        """
        return await self._call(method, args, kwargs)

    async def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        offers = self._registry.offers(self.name)
        if self._known is not offers:
            self._known = offers if offers else None
            self._is_replicated = any(offer.replication != "none" for offer in offers)
            self._readonly = frozenset(name for offer in offers for name in offer.readonly)
        if self._is_replicated and self._known and method != "heartbeat" and not self._has_hooks:
            return await self._call_replicated((method, args, kwargs))
        members = await self._present()
        offers = self._registry.offers(self.name)
        self._number += 1
        call = method, list(args), kwargs
        request = Request(
            self.name, self._registry.node_id, "", self._number, call[1], kwargs, method
        )
        for hook in self._called:
            await _maybe(hook(request))
        call = method, request.args, request.kwargs
        response = Response(self.name, self._registry.node_id, "", self._number, method=method)
        try:
            response.result = await self._timed(call, members, offers)
        except Exception as error:
            response.exception = error
        for hook in self._returned:
            await _maybe(hook(response))
        if response.exception is not None:
            raise response.exception
        return response.result

    async def _timed(self, call: Call, members: Members, offers: tuple[Offer, ...]) -> Any:
        replicated = any(offer.replication != "none" for offer in offers)
        if replicated and call[0] != "heartbeat":
            self._readonly = frozenset(name for offer in offers for name in offer.readonly)
            return await self._call_replicated(call)
        return await self._by_policy(self.policy or "all", members, call)

    def _call_replicated(self, call: Call) -> Awaitable[Any]:
        if self.policy not in (None, "first"):
            raise ConfigError(
                f"{self.name} is replicated: its members do the same calls, so that there is one"
                f" answer; policy = {self.policy!r} is for heartbeat"
            )
        if self._replicated is None:
            self._replicated = self._registry.client(self.name)
        method, args, kwargs = call
        return self._replicated.call(
            method,
            args,
            kwargs,
            timeout=RETRY_TIMEOUT if self._timeout is None else self._timeout,
            read_only=method in self._readonly,
        )

    async def _present(self) -> Members:
        """The members now; RPCNotFoundError where there are none."""
        await self._registry.refresh(self.name)
        members = self.members
        if not members and not self._registry.offers(self.name):
            groups = self._registry.groups()
            known = f" ({', '.join(groups[:8])})" if groups else ""
            raise RPCNotFoundError(
                f"nobody serves the group {self.name!r}{known}{close_to(self.name, groups)}",
                may_have_run=False,
            )
        return members

    # Policies ------------------------------------------------------------------------------------

    async def _by_policy(self, policy: Policy, members: Members, call: Call) -> Any:
        method = call[0]
        if not members:
            raise RPCNotFoundError(f"no member of {self.name} answers now", may_have_run=False)
        if policy == "all":
            return await ask_all(members, lambda node: self._call_one(node, call))
        needed = 1 if policy == "first" else len(members) // 2 + 1
        result, rest = await ask_until(members, lambda node: self._call_one(node, call), needed)
        self._leave(rest)
        if policy == "first":
            if result.ok:
                return next(iter(result.ok.values()))
            if len(result.failed) == 1:
                raise next(iter(result.failed.values()))
            raise error_of(self.name, method, result, "failed at all members")
        if len(result.ok) < needed:
            wanted = f"succeeded at {len(result.ok)} of {len(members)} members, {needed} are needed"
            raise error_of(self.name, method, result, wanted)
        return result

    def _leave(self, pending: set[asyncio.Task[Any]]) -> None:
        """Let calls end whose answer nobody needs; not too many."""
        for running in pending:
            if len(self._background) >= BACKGROUND_MAX:
                running.cancel()
            self._background.add(running)
            running.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the call succeeded elsewhere

    async def _call_one(self, node: str, call: Call) -> Any:
        # All members are asked at once: the time for the whole is one for each of them, and those
        # who have answered by then are not lost.
        whole = math.inf if self._timeout is None else self._timeout
        return await call_member(
            self._registry.request,
            node,
            self.name,
            call,
            number=self._number,
            client=self._registry.node_id,
            rpc_timeout=min(self._rpc_timeout, whole),
            network_timeout=min(self._network_timeout, whole),
            is_reachable=self._registry.is_reachable,
        )

    async def close(self) -> None:
        """End the calls whose answer nobody waits for."""
        for running in list(self._background):
            running.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)


class _Proxy:
    def __init__(self, group: Group) -> None:
        self._group = group

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        return self._group.__getattr__(method)


class _Done:
    """What may be awaited, and need not."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def _positive(name: str, value: float) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ConfigError(f"{name} = {value!r} must be a number greater than 0")
    return value


async def _maybe(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
