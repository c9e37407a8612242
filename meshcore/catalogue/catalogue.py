"""The catalogue of a node: what can be done where.

Every node offers its actions, the flows of its setting `flows`, and what `add` has added. A node
that is a registry keeps what everybody offers, with when it saw each of them first and last, also
across restarts; any other node keeps its own alone, and asks a registry.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore.catalogue.carrier import Carry, Request
from meshcore.catalogue.engine import Engine
from meshcore.config import Config
from meshcore.errors import BadPayloadError, BusyError, MeshError
from meshcore.flows import flows_of_actions
from meshcore.protocol.catalogue.messages import BadMessageError, Exchange, decode, encode
from meshcore.protocol.catalogue.records import OUTSIDE, Flow, Origin

if TYPE_CHECKING:
    from meshcore.protocol.mesh import Mesh

_LOG = logging.getLogger("meshcore.catalogue")
FIND_TIMEOUT = 5.0  # seconds for a registry to answer a query
FIND_TRIES = 3  # registries that are asked, one after the other
GOODBYE_TIMEOUT = 1.0


class Registered(NamedTuple):
    """What came of a registration; `seen`: when this registry heard of it before, Unix seconds."""

    first_visit: bool
    seen: float | None


class Catalogue:
    """Made by the node, as `node.catalogue`.

    Args:
        mesh: the core of the node.
        request: one call in the mesh.
    """

    def __init__(self, mesh: Mesh, config: Config, *, request: Request) -> None:
        self._config = config
        self._request = request
        self._engine = Engine(mesh, config, request=request)
        self._exchange = self._engine.exchange
        self._perform = self._engine.perform
        self.dispatch = self._engine.dispatch
        self.take_incarnation = self._engine.take_incarnation
        self.stats = self._engine.stats
        self.registry = config.registry
        self.node_id = mesh.identity.node_id
        self._offers: dict[str, dict[str, Flow]] = {"actions": {}, "flows": {}, "added": {}}
        self._outside: dict[str, None] = {}  # urls of the setting `registries`
        self._started_at = 0.0

    # Life --------------------------------------------------------------------------------------

    def start(self, data_dir: Path | None) -> None:
        """Take what a registry has kept, and offer (called by the node, in its loop).

        Raises:
            ConfigError: the file of a registry cannot be used.
        """
        self._started_at = time.time()
        self._engine.start(data_dir)
        self.set_registries(self._config.registries)
        self._offer()

    async def close(self) -> None:
        """Say goodbye to the registries outside, and write everything (called by the node)."""
        if self._engine.running:
            await self._engine.close()
            await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        carry = self._engine.carrier.carry
        if carry is None or not self._outside:
            return
        message = encode(self._empty())
        byes = [carry(url, "disconnect", message) for url in self._outside]
        gathered = asyncio.gather(*byes, return_exceptions=True)
        try:
            outcomes = await asyncio.wait_for(gathered, GOODBYE_TIMEOUT)
        except TimeoutError:
            _LOG.info("a registry outside did not take our goodbye; it finds out by itself")
            return
        for url, outcome in zip(self._outside, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                _LOG.info("%s did not take our goodbye: %s", url, outcome)

    async def settle(self, seconds: float) -> None:
        """Have what has just changed told, for so long at most (called by the node)."""
        if not self._engine.running or self.idle:
            return
        try:
            await self._engine.quiesce(seconds)
        except MeshError as error:
            _LOG.info("%s: %s", self.node_id, error)

    # What this node offers ---------------------------------------------------------------------

    def set_actions(self, capabilities: Mapping[str, Mapping[str, Any]]) -> None:
        """These are the actions of this node (called by the node)."""
        flows, problems = flows_of_actions(self.node_id, capabilities)
        for problem in problems:
            _LOG.warning("%s", problem)
        self._set("actions", flows)

    def offer(self, flows: Iterable[Flow]) -> None:
        """Offer exactly these flows, besides the actions and what was added."""
        self._set("flows", flows)

    def add(self, flow: Flow) -> None:
        """Offer a flow from now on, instead of what was offered under its URL."""
        self._offers["added"][flow.url] = flow
        self._offer()

    def remove(self, url: str) -> bool:
        """Offer a flow no more, also one of the setting `flows`; False where it was not offered."""
        found = [self._offers[kind].pop(url, None) for kind in ("flows", "added")]
        self._offer()
        return any(found)

    def _set(self, kind: str, flows: Iterable[Flow]) -> None:
        self._offers[kind] = {flow.url: flow for flow in flows}
        self._offer()

    def _offer(self) -> None:
        if self._engine.running:
            offers = self._offers
            merged = {**offers["actions"], **offers["flows"], **offers["added"]}
            self._perform(self._exchange.offer(merged, time.monotonic()))

    # Queries -----------------------------------------------------------------------------------

    async def flows(self, q: str = "", *, by: str = "", p: int = 0, pp: int = 10) -> dict[str, Any]:
        """What is offered, as this node holds it: of the whole mesh and beyond on a registry.

        Args:
            q: a query, such as `organization == "acme" & @tag("gpu")`, or plain words.
            by: columns to sort by, such as `name,modified:d`.
            p: the page, from 0; pp: items on a page.

        Returns:
            `{total, filtered, p, pp, items, by, q}`, and `reason` where `q` did not parse and was
            taken as plain words. Times are Unix seconds; null on a node that is no registry.

        Raises:
            BadPayloadError: a column or a page that there cannot be.
        """
        return await self._engine.keeper().search(q=q, by=by, p=p, pp=pp)

    async def counts(self) -> dict[str, Any]:
        """How many flows there are: `{total, organization: {…}, node: {…}, tags: {…}}`."""
        return await self._engine.keeper().store.counts()

    async def records(self) -> list[dict[str, Any]]:
        """Every record, with its versions, also of what is deleted."""
        return await self._engine.keeper().store.dump()

    async def find(self, directive: str, payload: Any, own: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of the nearest registry of this mesh, else `own()`; with `registry` in it."""
        if self.registry:
            return {**await own(), "registry": self.node_id}
        failure: MeshError | None = None
        for node_id in self._engine.registries()[:FIND_TRIES]:
            try:
                return await self._request(node_id, directive, payload, timeout=FIND_TIMEOUT)
            except BadPayloadError:
                raise
            except MeshError as error:
                failure = error
        if failure is not None:
            raise failure
        return {**await own(), "registry": None}

    def about(self) -> dict[str, Any]:
        """Who this is; `connection`: when each registry that we tell was heard, Unix seconds."""
        from meshcore import __version__

        boot = time.time() - time.monotonic()
        return {
            "url": self._exchange.url or None,
            "node_id": self.node_id,
            "organization": self._config.organization,
            "registry": self.registry,
            "feed": self.registry and self._exchange.feed,
            "connection": {
                key: None if at is None else boot + at
                for key, at in sorted(self._exchange.peers().items())
            },
            "started_at": self._started_at,
            "idle": self.idle,
            "now": time.time(),
            "version": __version__,
        }

    def map(self) -> dict[str, Any]:
        """`about()`, with who tells us (`providers`) and whom we tell (`registers`)."""
        held = self._exchange.shelf.holdings.values()
        told = {each.source or each.origin.node for each in held if each.source or each.direct}
        return {
            **self.about(),
            "providers": sorted(told - {self.node_id}),
            "registers": sorted(self._exchange.peers()),
        }

    # Programs and registries outside -----------------------------------------------------------

    def register(
        self, url: str, organization: str, flows: Sequence[Flow], *, ttl: float
    ) -> Registered:
        """A program outside the mesh offers exactly these flows, for `ttl` seconds.

        Raises:
            BadPayloadError: this node is no registry.
            BusyError: it holds as many origins as it can.
        """
        keeper = self._engine.keeper()
        if not self.registry:
            raise BadPayloadError("this node is no registry")
        origin = Origin(OUTSIDE, url)
        if self._exchange.shelf.is_full_for(origin):
            raise BusyError("this registry holds as many nodes as it can", may_have_run=False)
        seen = keeper.heard(origin) if origin in self._exchange.shelf.holdings else None
        effects = self._exchange.register(
            origin,
            organization,
            {flow.url: flow for flow in flows},
            ttl=ttl,
            incarnation=time.time_ns() // 1_000_000,
            now=time.monotonic(),
        )
        keeper.touch(origin)
        self._perform(effects)
        return Registered(seen is None, seen)

    def exchange(self, kind: str, message: object) -> dict[str, Any]:
        """What a registry outside says (`connect`, `update` or `disconnect`), and our answer.

        Raises:
            BadPayloadError: naming the field that is wrong, or this node is no registry.
            BusyError: it exchanges with as many others as it can.
        """
        if not self.registry:
            raise BadPayloadError("this node is no registry")
        decoded = self._decoded(message)
        if not decoded.url.startswith(("http://", "https://")):
            raise BadPayloadError(f"url = {decoded.url!r} must be an http(s) URL")
        now = time.monotonic()
        if kind == "disconnect":
            self._perform(self._exchange.drop_peer(decoded.url, now))
            if decoded.url in self._outside:  # it may come back, and is asked
                self._engine.set_peer(decoded.url, now, outside=True)
            return encode(self._empty())
        # Also where it connected before our last start: it need not know of that.
        if not self._exchange.set_peer(decoded.url, now, outside=True):
            raise BusyError("this registry exchanges with too many others", may_have_run=False)
        self._engine.asked += 1
        answer, effects = self._exchange.on_request(
            decoded.url, decoded, now, outside=True, connect=kind == "connect"
        )
        self._perform(effects)
        return encode(answer)

    def set_registries(self, urls: Iterable[str]) -> None:
        """Exchange with these registries of other meshes, and no others that were set before."""
        now = time.monotonic()
        wanted = dict.fromkeys(urls)
        for url in [url for url in self._outside if url not in wanted]:
            del self._outside[url]
            self._engine.carrier.forget(url)
            self._perform(self._exchange.drop_peer(url, now))
        for url in wanted:
            self._outside[url] = None
            self._engine.set_peer(url, now, outside=True)
        self._perform(())

    def use_http(self, url: str, carry: Carry) -> None:
        """This node is reached at `url` over HTTP, and reaches others by `carry`."""
        self._exchange.url = url
        self._engine.carrier.carry = carry

    def on_message(self, sender: str, message: object) -> dict[str, Any]:
        """What a node of this mesh says to us as a registry, and our answer.

        Raises:
            BadPayloadError: naming the field that is wrong, or the sender is no node of this mesh.
        """
        if not self._engine.is_listed(sender):
            raise BadPayloadError(f"{sender} is no node of this mesh: only nodes offer something")
        decoded = self._decoded(message)
        if not self._exchange.trusts(sender, decoded):
            raise BadPayloadError(
                f"{sender} is no registry that is known here: it may tell its own"
            )
        self._engine.asked += 1
        answer, effects = self._exchange.on_request(sender, decoded, time.monotonic())
        self._perform(effects)
        return encode(answer)

    def _empty(self) -> Exchange:
        exchange, organization = self._exchange, self._config.organization or ""
        mesh, life = exchange.own.mesh, exchange.life
        return Exchange(exchange.url, mesh, life, organization, exchange.feed, ())

    @staticmethod
    def _decoded(message: object) -> Exchange:
        try:
            return decode(message)
        except BadMessageError as error:
            raise BadPayloadError(str(error)) from None

    # When all is said --------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: every registry that answers has what it should have."""
        return self._exchange.is_idle

    async def quiesce(self, timeout: float = 10.0) -> None:
        """Return when nothing is under way any more, and what this node keeps is on disk.

        Raises:
            DeadlineExceededError: that took longer than `timeout` seconds.
            MeshError: the disk refuses.
        """
        await self._engine.quiesce(timeout)
