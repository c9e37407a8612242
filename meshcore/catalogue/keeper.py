"""Keeps what the exchange holds in the store, with the times of this registry.

The exchange counts by monotonic clocks and by versions; people want dates, and a restart needs
something to go on with. So every change is written with the wall clock of this machine: `created`
and `modified` by the store when an item comes, `heartbeat` when an origin was last known to live.
Of those who live it moves every `HEARTBEAT_INTERVAL`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meshcore.protocol.catalogue.effects import (
    Effect,
    ItemsChanged,
    ItemsForgotten,
    OriginChanged,
    OriginDropped,
)
from meshcore.protocol.catalogue.exchange import CatalogueExchange
from meshcore.protocol.catalogue.holding import Head, Holding, Item
from meshcore.protocol.catalogue.records import Origin
from meshcore.storage.catalogue import (
    CatalogueStore,
    Change,
    DropFlow,
    DropOrigin,
    PutFlow,
    PutOrigin,
    Search,
)

_LOG = logging.getLogger("meshcore.catalogue")
HEARTBEAT_INTERVAL = 30.0
ONLINE, STALE, OFFLINE = "online", "stale", "offline"


class Keeper:
    """Writes one exchange into a store of its own, which begins with what the exchange holds.

    Args:
        path: the file; None: in memory.
        dated: with times, as a registry does.
    """

    def __init__(
        self,
        exchange: CatalogueExchange,
        path: Path | None,
        *,
        dated: bool,
    ) -> None:
        self._exchange = exchange
        self._holdings = exchange.shelf.holdings
        self.store = CatalogueStore(path, on_failure=self._on_failure)
        self._dated = dated
        self._heard: dict[Origin, float] = {}  # Unix seconds
        self._beats_at = time.monotonic() + HEARTBEAT_INTERVAL
        held = [ItemsChanged(each.origin, tuple(each.items.values())) for each in self._all()]
        self.perform([*(OriginChanged(each.origin) for each in self._all()), *held])

    def _on_failure(self, text: str) -> None:
        """The disk refuses (told in a thread of the store, which goes on trying)."""
        _LOG.error("%s: %s", self._exchange.own.node, text)

    def _all(self) -> list[Holding]:
        return list(self._holdings.values())

    async def search(self, *, q: str, by: str, p: int, pp: int) -> dict[str, Any]:
        return await self.store.search(Search(q=q, by=by, p=p, pp=pp))

    def close(self) -> None:
        self.store.close()

    def restore(self) -> None:
        """Give the exchange what the store has kept; before anything else."""
        wall, now = time.time(), time.monotonic()
        stale: list[Change] = []
        for put, flows in self.store.load():
            heard = wall if put.heartbeat is None else min(put.heartbeat, wall)
            holding = Holding(
                put.origin,
                put.organization,
                Head(put.incarnation, put.version, False),  # its origin says whether that is all
                alive=False,
                stale=put.status != OFFLINE,
                direct=put.direct,
            )
            for kept in sorted(flows, key=lambda each: (each.incarnation, each.version)):
                item = Item(kept.incarnation, kept.version, kept.deleted, kept.flow)
                holding.items[kept.flow.url] = item
            self._heard[put.origin] = heard
            self._exchange.shelf.restore(holding, max(0.0, wall - heard), now)
            if holding.stale:
                stale.append(self._origin(holding, wall))
        self.store.submit(stale)

    def perform(self, effects: Iterable[Effect]) -> None:
        """Write what has changed."""
        changes: list[Change] = []
        wall = time.time()
        for effect in effects:
            if isinstance(effect, OriginChanged):
                held = self._holdings.get(effect.origin)
                if held is not None:
                    changes.append(self._origin(held, wall))
            elif isinstance(effect, ItemsChanged):
                at = wall if self._dated else None
                changes += [self._flow(effect.origin, item, at) for item in effect.items]
            elif isinstance(effect, ItemsForgotten):
                changes += [DropFlow(effect.origin, url) for url in effect.urls]
            elif isinstance(effect, OriginDropped):
                self._heard.pop(effect.origin, None)
                changes.append(DropOrigin(effect.origin))
        if changes:
            self.store.submit(changes)

    def on_tick(self) -> None:
        """Move the heartbeats of those who live."""
        if time.monotonic() >= self._beats_at:
            self._beats_at = time.monotonic() + HEARTBEAT_INTERVAL
            wall = time.time()
            there = [held for held in self._holdings.values() if held.alive]
            self.store.submit([self._origin(held, wall) for held in there])

    @property
    def next_at(self) -> float | None:
        return self._beats_at if self._dated else None

    def touch(self, origin: Origin) -> None:
        """An origin has just been heard of."""
        self._heard[origin] = time.time()

    def heard(self, origin: Origin) -> float | None:
        """When an origin was last known to live, in Unix seconds."""
        return self._heard.get(origin)

    def _origin(self, held: Holding, wall: float) -> PutOrigin:
        if held.alive:
            self._heard[held.origin] = wall
        elif not held.stale:
            self._heard[held.origin] = wall - max(0.0, time.monotonic() - held.silent_since)
        return PutOrigin(
            origin=held.origin,
            organization=held.organization,
            registry=held.source or self._exchange.own.node,
            incarnation=held.head.incarnation,
            version=held.head.version,
            direct=held.direct,
            status=ONLINE if held.alive else STALE if held.stale else OFFLINE,
            heartbeat=self._heard[held.origin] if self._dated else None,
            at=wall,
            ttl=None,
        )

    @staticmethod
    def _flow(origin: Origin, item: Item, at: float | None) -> PutFlow:
        return PutFlow(
            origin=origin,
            flow=item.flow,
            incarnation=item.incarnation,
            version=item.version,
            deleted=item.deleted,
            at=at,
        )
