"""Whom to send work to where any of several nodes will do.

`selector("nearest")` stands where a node id would: `await controller.call(selector(…), "tools:x")`
goes to one of the live nodes that offer the directive, the own node included. Which one:

- `master`        the master of the mesh, and nobody else
- `first`         that of the smallest id: all who ask agree, as long as they see the same nodes
- `same-host`     one on this machine (own node first), and nobody else; see `Offer.machine`
- `least-loaded`  that with the least work, running and waiting, for each worker it has
- `nearest`       that with the least cost of the way to it; the own node costs nothing
- `round-robin`   each in turn, for every directive separately

Nodes in trouble (WARNING, or with a loop that is stuck) are taken only where no other is left. What
is known is what this node believes now: a pick is no promise. `Picker.pick` therefore gives several
in order, and the caller goes on to the next while it is certain that the work has not begun.

`least-loaded` asks the candidates (at most PROBED_MAX of them, drawn by chance where there are
more: of many, the best of some is nearly as good as the best) and takes what was said within FRESH
seconds as well. A node that does not answer within PROBE_WAIT comes last. What was sent there since
it answered counts until it ends, so that many picks in one moment do not all fall on one node.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from meshcore.connectivity import Connectivity
from meshcore.errors import ConfigError, MeshError, UnknownDirectiveError, UnreachableError
from meshcore.protocol.view import NodeStatus
from meshcore.router import Offer, Router

POLICIES = ("master", "first", "same-host", "least-loaded", "nearest", "round-robin")
TRIES_MAX = 3  # nodes that one piece of work is sent to, one after the other
PROBED_MAX = 16
PROBE_WAIT = 0.5  # seconds
FRESH = 0.1  # seconds
TURNS_MAX = 1024  # directives whose turn is remembered
TIMEOUT_MIN = 0.001  # seconds; of a try for which no time is left
_NAMED_MAX = 5  # nodes that an error names


@dataclass(frozen=True, slots=True)
class Selector:
    """Stands for a recipient; made by `selector`."""

    policy: str

    def __str__(self) -> str:
        return self.policy


def selector(policy: str) -> Selector:
    """The selector of this name; ConfigError where there is none."""
    if policy not in POLICIES:
        close = get_close_matches(str(policy)[:64], POLICIES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(POLICIES)}"
        raise ConfigError(f"no selector {str(policy)[:64]!r}; {hint}")
    return Selector(policy)


@dataclass(slots=True)
class _Load:
    """What a node said of itself, at what time; with what it was picked for and ended since."""

    at: float
    work: int = 0  # actions that run or wait
    is_known: bool = False  # it has answered


def may_go_on(error: MeshError) -> bool:
    """Whether work that failed so has certainly not begun, and another node may do it."""
    elsewhere = isinstance(error, UnreachableError | UnknownDirectiveError)
    return elsewhere and not error.may_have_run


def is_repeatable(payload: Any) -> bool:
    """Whether a payload can be sent once more: what is read while it is sent cannot."""
    return payload is None or isinstance(
        payload, bytes | bytearray | memoryview | str | bool | int | float | list | dict | Path
    )


class Picker:
    """Picks for one node, and remembers whose turn it is and how busy the others are.

    Args:
        request: calls a directive of a node, as `Node.request` does.
    """

    def __init__(
        self,
        node_id: str,
        router: Router,
        connectivity: Connectivity,
        request: Callable[..., Awaitable[Any]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node_id = node_id
        self._router = router
        self._connectivity = connectivity
        self._request = request
        self._clock = clock
        self._last: dict[str, str] = {}  # directive -> who had its turn; the latest used last
        self._loads: dict[str, _Load] = {}
        self._asking: dict[str, asyncio.Task[_Load]] = {}

    async def pick(self, chosen: Selector, directive: str) -> list[str]:
        """The nodes to send to, the best first, at most TRIES_MAX.

        Raises:
            UnknownDirectiveError: none of those that may be picked offers the directive.
            UnreachableError: some do, and none of them can be reached.
        """
        offers = self._router.offers(directive)
        if not offers:
            raise self._nobody(offers, directive)
        if chosen.policy == "master":
            offers = self._of_master(offers, directive)
        elif chosen.policy == "same-host":
            offers = self._of_this_machine(offers, directive)
        live = [offer for offer in offers if offer.is_live]
        if not live:
            raise self._nobody(offers, directive)
        well = [offer for offer in live if _is_well(offer)]
        ordered = await self._ordered(chosen.policy, well or live, directive)
        if well and len(ordered) < TRIES_MAX:
            ordered += _nearest([offer for offer in live if not _is_well(offer)])
        return ordered[:TRIES_MAX]

    async def call(
        self,
        chosen: Selector,
        directive: str,
        payload: Any,
        *,
        timeout: float,
        priority: str = "interactive",
    ) -> Any:
        """One call and its one value, by the first of those picked that can be reached.

        Args:
            timeout: seconds for all of it.

        Raises:
            What `pick` raises, and what the call raises at the last node that was tried.
        """
        until = self._clock() + timeout
        nodes = await self.pick(chosen, directive)
        first = nodes[0]
        if not is_repeatable(payload):
            del nodes[1:]
        try:
            while True:
                node_id = nodes.pop(0)
                left = max(TIMEOUT_MIN, until - self._clock())
                try:
                    return await self._request(
                        node_id, directive, payload, timeout=left, priority=priority
                    )
                except MeshError as error:
                    if not nodes or not may_go_on(error):
                        raise
        finally:
            self.ended(chosen, first)

    def ended(self, chosen: Selector, node_id: str) -> None:
        """What a node was picked for, as the first choice, is over."""
        load = self._loads.get(node_id)
        if load is not None and chosen.policy == "least-loaded":
            load.work = max(0, load.work - 1)

    async def _ordered(self, policy: str, offers: Sequence[Offer], directive: str) -> list[str]:
        if policy == "least-loaded":
            return await self._least_loaded(offers)
        if policy == "round-robin":
            return self._in_turn(offers, directive)
        if policy == "first":
            return [offer.node_id for offer in offers]
        return _nearest(offers)

    def _in_turn(self, offers: Sequence[Offer], directive: str) -> list[str]:
        ids = [offer.node_id for offer in offers]
        last = self._last.pop(directive, "")
        start = next((at for at, node_id in enumerate(ids) if node_id > last), 0)
        if len(self._last) >= TURNS_MAX:
            del self._last[next(iter(self._last))]
        self._last[directive] = ids[start]
        return ids[start:] + ids[:start]

    # Load ------------------------------------------------------------------------------------

    async def _least_loaded(self, offers: Sequence[Offer]) -> list[str]:
        if len(offers) == 1:
            return [offers[0].node_id]
        if len(offers) > PROBED_MAX:
            offers = random.sample(offers, PROBED_MAX)
        said = await asyncio.gather(*(self._load(offer.node_id) for offer in offers))
        loads = dict(zip((offer.node_id for offer in offers), said, strict=True))

        def weight(offer: Offer) -> tuple[bool, float, int, str]:
            load = loads[offer.node_id]
            share = load.work / (offer.max_workers or 1)
            return not load.is_known, share, offer.cost, offer.node_id

        ordered = [offer.node_id for offer in sorted(offers, key=weight)]
        loads[ordered[0]].work += 1
        return ordered

    async def _load(self, node_id: str) -> _Load:
        """How busy a node is; those who ask in one moment ask once."""
        known = self._loads.get(node_id)
        if known is not None and self._clock() - known.at < FRESH:
            return known
        task = self._asking.get(node_id)
        if task is None:
            task = asyncio.ensure_future(self._ask(node_id))
            self._asking[node_id] = task
            task.add_done_callback(lambda _: self._asking.pop(node_id, None))
        return await asyncio.shield(task)

    async def _ask(self, node_id: str) -> _Load:
        load = _Load(self._clock())
        try:
            pong = await self._request(node_id, "mesh:ping", None, timeout=PROBE_WAIT)
            load.work = len(pong.get("active_work") or ()) + int(pong.get("queued") or 0)
            load.is_known = True
        except (MeshError, AttributeError, TypeError, ValueError):
            pass  # it does not answer, or nonsense: either way it is not the one to pick
        load.at = self._clock()
        self._loads = {one: it for one, it in self._loads.items() if load.at - it.at < FRESH}
        self._loads[node_id] = load
        return load

    # Who may be picked at all ----------------------------------------------------------------

    def _of_master(self, offers: Sequence[Offer], directive: str) -> list[Offer]:
        master = self._connectivity.master
        if master is None:
            raise UnreachableError(
                f"the mesh of {self._node_id} has no master now",
                directive=directive,
                may_have_run=False,
            )
        found = [offer for offer in offers if offer.node_id == master.id]
        if not found:
            raise _unknown(f"{master.id}, the master, offers no '{directive}'", offers, directive)
        return found

    def _of_this_machine(self, offers: Sequence[Offer], directive: str) -> list[Offer]:
        here = self._router.machine
        found = [
            offer
            for offer in offers
            if offer.node_id == self._node_id or (here is not None and offer.machine == here)
        ]
        if not found:
            where = f"on the machine of {self._node_id}"
            raise _unknown(f"no node {where} offers '{directive}'", offers, directive)
        return found

    def _nobody(self, offers: Sequence[Offer], directive: str) -> MeshError:
        if offers:
            return UnreachableError(
                f"'{directive}' is offered by {_named(offers)}, and cannot be reached there now",
                directive=directive,
                may_have_run=False,
            )
        known = self._router.directives()
        close = get_close_matches(directive, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return UnknownDirectiveError(
            f"no node in the mesh of {self._node_id} offers '{directive}'{hint} (meshctl actions)",
            directive=directive,
            may_have_run=False,
        )


class AttachedPicker(Picker):
    """Of an ephemeral client: the node that it hangs on picks, which knows who offers what."""

    async def pick(self, chosen: Selector, directive: str) -> list[str]:
        attached = self._router.attached_to
        if attached is None:
            raise UnreachableError("not attached to a node yet", may_have_run=False)
        asked = {"selector": chosen.policy, "directive": directive}
        answer = await self._request(attached, "mesh:pick", asked, timeout=None)
        picked = [str(node_id) for node_id in answer or ()][:TRIES_MAX]
        if not picked:
            raise UnreachableError(f"{attached} picked nobody", may_have_run=False)
        return picked


def _is_well(offer: Offer) -> bool:
    return offer.status <= NodeStatus.SLOW and not offer.stalled


def _nearest(offers: Iterable[Offer]) -> list[str]:
    return [offer.node_id for offer in sorted(offers, key=lambda each: (each.cost, each.node_id))]


def _unknown(text: str, others: Sequence[Offer], directive: str) -> UnknownDirectiveError:
    if others:
        text += f"; {_named(others)} {'does' if len(others) == 1 else 'do'}"
    return UnknownDirectiveError(text, directive=directive, may_have_run=False)


def _named(offers: Sequence[Offer]) -> str:
    ids = [offer.node_id for offer in offers]
    shown = ", ".join(ids[:_NAMED_MAX])
    return shown if len(ids) <= _NAMED_MAX else f"{shown} and {len(ids) - _NAMED_MAX} more"
