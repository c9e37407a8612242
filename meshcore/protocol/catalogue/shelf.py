"""Shelf: everything that one node holds of the catalogue, and who of the origins is there.

A plain node holds what it offers itself. A registry holds what every origin offers, and for how
long it has been silent: an origin that is not there is kept, and forgotten `expiry` after it was
heard last. What was restored from disk is *stale* until it is heard of, or `STALE_WAIT` is over.

Who says whether an origin is there: of the nodes of our mesh, the mesh (`on_member`); of a program
that has registered here, its time to live; of all others, the registry that told us of them. Such
words pass from registry to registry, and could go round in a ring when the one that knew is gone:
so each carries how many it has passed, the shortest way is believed, and `DISTANCE_MAX` ends it.

Contract: every method that changes something returns OriginChanged, ItemsChanged and OriginDropped
in order. It never asks what time it is elsewhere: all times are ours, and monotonic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshcore.protocol.catalogue import offering
from meshcore.protocol.catalogue.effects import (
    Change,
    ItemsChanged,
    ItemsForgotten,
    OriginChanged,
    OriginDropped,
)
from meshcore.protocol.catalogue.holding import NOTHING, Head, Holding, Item
from meshcore.protocol.catalogue.messages import Entry
from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.protocol.machine import Timers

STALE_WAIT = 30.0  # seconds until what was restored and not heard of counts as offline
ORIGINS_MAX = 100_000
DISTANCE_MAX = 16  # registries that a word of life may pass


class Shelf:
    """What `own` holds; `keeps`: also of others, as a registry does."""

    def __init__(self, own: Origin, organization: str, *, keeps: bool, expiry: float) -> None:
        self.own = own
        self.keeps = keeps
        self.refused = 0
        self._expiry = expiry
        self._members: dict[str, None] = {}  # the nodes of our mesh that are there
        self._programs: dict[Origin, float] = {}  # registered here: until when
        self._timers: Timers[Origin] = Timers()
        self.holdings: dict[Origin, Holding] = {
            own: Holding(own, organization, Head(0, 0, True), direct=True)
        }

    def get(self, origin: Origin) -> Holding | None:
        return self.holdings.get(origin)

    # ---- what we answer for

    def begin_life(self, incarnation: int) -> list[Change]:
        """We have another incarnation: all that we offer is new."""
        holding = self.holdings[self.own]
        if incarnation <= holding.head.incarnation:
            return []
        return _changed(holding, offering.begin_life(holding, incarnation))

    def offer(self, flows: Mapping[str, Flow]) -> list[Change]:
        """Offer exactly these flows, by url."""
        holding = self.holdings[self.own]
        items = offering.replace(holding, flows)
        return _changed(holding, items) if items else []

    def register(
        self, origin: Origin, organization: str, flows: Mapping[str, Flow], *,
        ttl: float, incarnation: int, now: float,
    ) -> list[Change]:  # fmt: skip
        """A program outside offers exactly these, for `ttl` seconds unless it says so again.

        `incarnation` is taken, or a greater one, where a new life of it is begun: that is so where
        it is new, or was registered elsewhere and says something else now.
        """
        held = self.holdings.get(origin)
        if held is None:
            held = self.holdings[origin] = Holding(origin, alive=False, silent_since=now)
        items: list[Item] = []
        unlike = flows != {item.flow.url: item.flow for item in held.live_items()}
        known = held.head.complete and held.organization == organization
        if not known or (unlike and not held.direct):
            gone = [item for item in held.live_items() if item.flow.url not in flows]
            held.items = {url: Item(0, 0, False, flow) for url, flow in flows.items()}
            items = [item._replace(deleted=True) for item in gone]
            items += offering.begin_life(held, max(incarnation, held.head.incarnation + 1))
        elif unlike:
            items = offering.replace(held, flows)
        held.organization, held.direct, held.source = organization, True, None
        held.distance = 0
        effects = _changed(held, items) if items else []
        effects += self._judge(held, True, 0.0, now)
        self._programs[origin] = now + ttl
        self._timers.set(origin, now + ttl)
        return effects

    # ---- what others tell

    def is_full_for(self, origin: Origin) -> bool:
        """Whether there are so many origins that another one cannot be held."""
        return origin not in self.holdings and len(self.holdings) >= ORIGINS_MAX

    def refuses(self, entry: Entry, *, own_word: bool) -> bool:
        """Whether its sender may not tell that of this origin, or we can hold no more."""
        if entry.origin == self.own:
            return entry.delta is not None
        if not self.keeps:
            return True
        if self.is_member(entry.origin) and not own_word:
            return entry.delta is not None
        if entry.origin in self.holdings:
            return False
        return self.is_full_for(entry.origin) or (not entry.alive and entry.age >= self._expiry)

    def take(
        self, entry: Entry, sender: str, now: float, *, own_word: bool, outside: bool
    ) -> list[Change]:
        """Take what a sender says of an origin; `own_word`: it is that node itself."""
        held = self.holdings.get(entry.origin)
        if held is None:
            if entry.delta is None or entry.delta.since or entry.head <= NOTHING:
                return []
            held = Holding(entry.origin, alive=False, silent_since=now - entry.age)
            self.holdings[entry.origin] = held
            self._arm(held, now)
        before = held.head
        items = [] if entry.delta is None else held.take(entry.delta)
        if items is None:
            return []  # it does not go on from what we hold: our answer says from where it would
        effects: list[Change] = []
        if held.head > before:
            held.organization = entry.organization
            effects = _changed(held, items)
        if own_word:
            held.direct, held.source, held.distance = True, None, 0
            # Its word may come before the mesh has told of it, and again after it is gone.
            return effects + self._judge(held, self.is_member(held.origin), 0.0, now)
        if self.is_member(held.origin) or (held.alive and held.direct):
            return effects  # we know better
        return effects + self._hear_of(held, entry, sender, now, outside=outside)

    def _hear_of(
        self, held: Holding, entry: Entry, sender: str, now: float, *, outside: bool
    ) -> list[Change]:
        """A registry says whether an origin lives of which we do not know by ourselves."""
        alive = entry.alive and entry.distance < DISTANCE_MAX - 1
        alive = alive and entry.head.incarnation >= held.head.incarnation
        if held.origin.mesh == self.own.mesh and not outside:
            alive = False  # of our own mesh, the mesh says it to everybody
        distance = entry.distance + 1
        resourced = False
        if alive and (not held.alive or distance < held.distance):
            resourced = held.source != sender and held.head != NOTHING
            held.direct, held.source = False, sender
        if held.source != sender:
            return self._judge(held, False, entry.age, now) if held.stale and not alive else []
        moved = resourced or (alive and held.alive and distance != held.distance)
        held.distance = distance
        told = self._judge(held, alive, entry.age, now)
        return [OriginChanged(held.origin, life=True, resourced=resourced)] if moved else told

    def restore(self, holding: Holding, age: float, now: float) -> None:
        """Take what was kept on disk, `age` seconds after its origin was heard of last."""
        if not self.keeps:
            return
        self.holdings[holding.origin] = holding
        if holding.origin == self.own:  # what we offered in our last life; `offer` ends the rest
            holding.alive, holding.stale, holding.direct = True, False, True
            holding.head = holding.head._replace(complete=True)
            return
        holding.alive, holding.silent_since = False, now - age
        self._arm(holding, now)

    # ---- who is there

    def is_member(self, origin: Origin) -> bool:
        """Whether it is a node of our mesh that is there, and so speaks for itself."""
        return origin.mesh == self.own.mesh and origin.node in self._members

    def on_member(self, node_id: str, alive: bool, now: float) -> list[Change]:
        """A node of our mesh has come, or has gone."""
        if alive:
            self._members[node_id] = None
        else:
            self._members.pop(node_id, None)
        held = self.holdings.get(Origin(self.own.mesh, node_id))
        if held is None or held.origin == self.own:
            return []
        return self._judge(held, alive, 0.0, now)

    def on_source_lost(self, key: str, now: float) -> list[Change]:
        """A registry is gone: nobody vouches any more for whom we know of by it alone."""
        effects: list[Change] = []
        for held in self.holdings.values():
            if held.source == key:
                held.source = None
                if not self.is_member(held.origin):
                    effects += self._judge(held, False, 0.0, now)
        return effects

    def _judge(self, held: Holding, alive: bool, age: float, now: float) -> list[Change]:
        if held.alive == alive and not held.stale:
            return []
        if held.alive and not alive:
            held.silent_since = now - age
        held.alive, held.stale = alive, False
        self._arm(held, now)
        return [OriginChanged(held.origin, life=True)]

    def _arm(self, held: Holding, now: float) -> None:
        if held.alive:
            if held.origin not in self._programs:
                self._timers.cancel(held.origin)
        elif held.stale:
            self._timers.set(held.origin, now + STALE_WAIT)
        else:
            self._timers.set(held.origin, max(held.silent_since + self._expiry, now))

    # ---- time

    def on_tick(self, now: float) -> list[Change]:
        effects: list[Change] = []
        for origin in self._timers.pop_due(now):
            effects += self._on_timer(self.holdings[origin], now)
        return effects

    def _on_timer(self, held: Holding, now: float) -> list[Change]:
        if self._programs.pop(held.origin, None) is not None:
            return self._judge(held, False, 0.0, now)
        if held.stale:
            return self._judge(held, False, 0.0, now)
        del self.holdings[held.origin]
        return [OriginDropped(held.origin)]

    def next_deadline(self) -> float | None:
        return self._timers.next_deadline()

    def check_invariants(self) -> None:
        """Assert that what is stored twice agrees, and that whoever is silent has a timer."""
        assert self.own in self.holdings
        for origin, held in self.holdings.items():
            assert held.origin == origin
            assert held.alive or origin in self._timers, origin
            assert not (held.direct and held.source), origin
            assert held.head > NOTHING or held.origin == self.own, origin
            held.check_invariants()
        assert self._programs.keys() <= self.holdings.keys()


def _changed(held: Holding, items: Iterable[Item]) -> list[Change]:
    told = tuple(items)
    effects: list[Change] = [OriginChanged(held.origin)]
    if held.forgotten:
        back = {item.flow.url for item in told}
        gone = tuple(url for url in held.forgotten if url not in back)
        held.forgotten.clear()
        effects.append(ItemsForgotten(held.origin, gone))
    return [*effects, ItemsChanged(held.origin, told)] if told else effects
