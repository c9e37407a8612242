"""Runs the exchange of one node: its timer, its messages, who is there, and what is kept.

A registry keeps what it holds from its start on. A plain node does without a store until somebody
asks it: then it gets one in memory, with what it offers.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore.catalogue.carrier import Carrier, Request
from meshcore.errors import ClosedError, DeadlineExceededError, MeshError
from meshcore.paths import CATALOGUE
from meshcore.protocol.catalogue.effects import Ask, Effect
from meshcore.protocol.catalogue.exchange import PEERS_MAX, CatalogueExchange
from meshcore.protocol.catalogue.messages import Exchange
from meshcore.protocol.catalogue.records import Origin
from meshcore.protocol.membership import events
from meshcore.protocol.mesh import DetailsChanged
from meshcore.protocol.view import NodeStatus

if TYPE_CHECKING:
    from meshcore.catalogue.keeper import Keeper
    from meshcore.config import Config
    from meshcore.protocol.mesh import Mesh

_LOG = logging.getLogger("meshcore.catalogue")
_NODE_EVENTS = (
    events.Added, events.Removed, events.Lost, events.StatusChanged, events.Restarted,
    DetailsChanged,
)  # fmt: skip


class Engine:
    """The arguments are those of `Catalogue`."""

    def __init__(self, mesh: Mesh, config: Config, *, request: Request) -> None:
        self._mesh = mesh
        self._registry = config.registry
        self.node_id = mesh.identity.node_id
        self.exchange = CatalogueExchange(
            Origin(config.mesh, self.node_id),
            organization=config.organization or "",
            life=mesh.identity.life % 2**52,  # a number that any JSON library holds
            registry=config.registry,
            feed=config.feed is not False,
            expiry=config.flow_expiry,
            rng=random.Random(mesh.identity.life),
        )
        self.carrier = Carrier(request, answered=self._on_answer, failed=self._on_failure)
        self.running = False
        self._keeper: Keeper | None = None
        self._data_dir: Path | None = None
        self._seen: dict[str, tuple[bool, bool, int]] = {}  # alive, a registry, incarnation
        self._timer: asyncio.TimerHandle | None = None
        self._quiet: list[asyncio.Future[None]] = []
        self.asked = 0  # requests of others that were answered
        self.asking = 0  # requests of our own

    # Life --------------------------------------------------------------------------------------

    def start(self, data_dir: Path | None) -> None:
        """Take what a registry has kept; ConfigError where its file cannot be used."""
        self._data_dir = data_dir
        self.running = True
        if self._registry:
            self.keeper().restore()
        self.take_incarnation()

    def keeper(self) -> Keeper:
        """What keeps the records; made where there is none yet."""
        self.check_running()
        if self._keeper is None:
            from meshcore.catalogue.keeper import Keeper

            path = None
            if self._registry and self._data_dir is not None:
                path = self._data_dir / CATALOGUE
            self._keeper = Keeper(self.exchange, path, dated=self._registry)
        return self._keeper

    def check_running(self) -> None:
        if not self.running:
            raise ClosedError(f"{self.node_id} is not running")

    def take_incarnation(self) -> None:
        """The node has another incarnation."""
        if self.running:
            number = self._mesh.identity.incarnation
            self.perform(self.exchange.begin_life(number, time.monotonic()))

    async def close(self) -> None:
        """End what is under way, and write everything."""
        self.running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.carrier.close()
        for waiter in self._quiet:
            if not waiter.done():
                waiter.set_exception(ClosedError(f"{self.node_id} stops"))
        if self._keeper is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._keeper.close)
            self._keeper = None

    # The mesh ----------------------------------------------------------------------------------

    def dispatch(self, event: Any) -> None:
        """Follow who is there and who is a registry."""
        if self.running and isinstance(event, _NODE_EVENTS) and event.node_id != self.node_id:
            self._look(event.node_id)

    def _look(self, node_id: str) -> None:
        entry = self._mesh.roster.get(node_id)
        alive = entry is not None and entry.status is not NodeStatus.DEAD
        details = self._mesh.details_of.get(node_id)
        registry = alive and details is not None and details.content.get("registry") is True
        seen = alive, registry, 0 if entry is None else entry.incarnation
        before = self._seen.get(node_id, (False, False, 0))
        if seen == before:
            return
        if alive:
            self._seen[node_id] = seen
        else:
            self._seen.pop(node_id, None)
        now = time.monotonic()
        if alive != before[0]:
            self.perform(self.exchange.on_member(node_id, alive, now))
        if registry:
            self.set_peer(node_id, now, incarnation=seen[2])
        elif before[1]:
            self.carrier.forget(node_id)
            self.perform(self.exchange.drop_peer(node_id, now))
        self._arm()

    def set_peer(self, key: str, now: float, **more: Any) -> None:
        """A registry to tell; where there are too many, that is logged."""
        if not self.exchange.set_peer(key, now, **more):
            _LOG.warning("registry %s is told nothing: %d others are already", key, PEERS_MAX)

    def is_listed(self, node_id: str) -> bool:
        """Whether that is a node of this mesh, and no client."""
        return node_id in self._mesh.roster

    def registries(self) -> list[str]:
        """The registries of this mesh that are there, the nearest first."""
        graph = self._mesh.routing.graph

        def distance(node_id: str) -> tuple[float, str]:
            reach = graph.reach(node_id)
            return (float("inf") if reach is None else reach.cost, node_id)

        there = [name for name, (alive, registry, _) in self._seen.items() if alive and registry]
        return sorted(there, key=distance)

    # The turn ----------------------------------------------------------------------------------

    def perform(self, effects: Iterable[Effect]) -> None:
        """Do what the exchange wants done, and come back to it in time."""
        if not self.running:
            return
        done = list(effects)
        if self._keeper is not None:
            self._keeper.perform(done)
        for effect in done:
            if isinstance(effect, Ask):
                self.asking += 1
                self.carrier.deliver(effect)
        self._arm()
        if self.exchange.is_idle:
            for waiter in self._quiet:
                if not waiter.done():
                    waiter.set_result(None)
            self._quiet.clear()

    def _on_answer(self, key: str, token: int, message: Exchange) -> None:
        self.perform(self.exchange.on_reply(key, token, message, time.monotonic()))

    def _on_failure(self, key: str, token: int) -> None:
        self.perform(self.exchange.on_failure(key, token, time.monotonic()))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        beats_at = None if self._keeper is None else self._keeper.next_at
        times = [at for at in (self.exchange.next_deadline(), beats_at) if at is not None]
        if times and self.running:
            delay = max(0.0, min(times) - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._keeper is not None:
            self._keeper.on_tick()
        self.perform(self.exchange.on_tick(time.monotonic()))

    def stats(self) -> dict[str, Any]:
        """What the catalogue holds and says, for `status`."""
        holdings = self.exchange.shelf.holdings.values()
        silent = {key: self.carrier.why_silent(key) for key in self.exchange.peers()}
        return {
            "registry": self._registry,
            "idle": self.exchange.is_idle,
            "origins": len(holdings),
            "records": sum(len(held.items) for held in holdings),
            "requests_sent": self.asking,
            "requests_received": self.asked,
            "refused": self.exchange.shelf.refused,
            "silent_registries": {key: why for key, why in silent.items() if why},
        }

    async def quiesce(self, timeout: float) -> None:
        """See `Catalogue.quiesce`."""
        self.check_running()
        try:
            async with asyncio.timeout(timeout):
                while not self.exchange.is_idle:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._quiet.append(waiter)
                    await waiter
                if self._keeper is not None:
                    await self._keeper.store.flush()
        except TimeoutError:
            silent = [key for key in self.exchange.peers() if self.carrier.why_silent(key)]
            why = f": no answer of {', '.join(silent)}" if silent else ""
            text = f"the catalogue is not idle after {timeout} s{why}"
            raise DeadlineExceededError(text) from None
        except OSError as error:
            raise MeshError(f"the catalogue is not on disk: {error}") from error
