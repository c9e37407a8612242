"""Exchange: how registries come to hold what every origin offers, and go quiet.

Every node tells the registries of its mesh what it offers itself. Registries tell each other the
rest: what is held of nodes that are not there any more, of programs and of other meshes; over HTTP
a registry tells registries outside what it holds. Whoever has changed something asks the other to
take it, one request at a time, until it has::

    a registry appears, or its life is another     compare: heads of all that we hold
    answer, or its own comparison                  how far it is; what it lacks is told
    something changes                              told to every peer that is not its source
    no answer                                      again later (0.5 s doubling to 30 s), compared

Nothing else is ever sent: when all heads are equal, there is no message. As (incarnation, version)
order everything, rings, repetition and reordering do no harm (`holding.py`).

Contract: `offer` and `register` change what we answer for; `set_peer` and `drop_peer` follow the
registries, `on_member` the life of the nodes of our mesh; `on_request` answers a message,
`on_reply` and `on_failure` end our own. All return effects: Ask (deliver a message and come back
with its answer), and what has changed on the `shelf`, for whoever keeps and shows it.

Who may tell what: a node of our mesh that is there tells its own flows, and nobody else does. Of
those who are not, the newer version counts, whoever brings it. Without `feed` a registry passes on
only what it was told by the origins themselves.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from meshcore.protocol.catalogue.effects import Ask, Change, Effect, OriginChanged, OriginDropped
from meshcore.protocol.catalogue.holding import NOTHING, Head, Holding
from meshcore.protocol.catalogue.messages import Entry, Exchange
from meshcore.protocol.catalogue.peers import Peer
from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.protocol.catalogue.shelf import DISTANCE_MAX, Shelf

BYTES_PER_MESSAGE = 48 * 1024  # it then travels whole, without a body of its own
CONNECT_BYTES = 4 * 1024 * 1024  # of flows in the answer to a registry that connects
CONNECT_WAIT = 1.0  # seconds for that answer to be taken, before it is told the same
SETTLE = 0.02  # seconds that a change waits for the next one
PEERS_MAX = 256


class CatalogueExchange:
    """The catalogue of one node.

    Args:
        own: who we are; `organization` is shown beside what we offer.
        life: drawn at random at the start of the process.
        registry: whether the flows of others are kept; `feed` whether they are passed on.
        expiry: seconds after which an origin that is silent is forgotten.
    """

    def __init__(
        self,
        own: Origin,
        *,
        organization: str,
        life: int,
        registry: bool,
        feed: bool,
        expiry: float,
        rng: random.Random,
    ) -> None:
        self.own = own
        self.life = life
        self.feed = feed
        self.url = ""  # where this registry is reached over HTTP
        self.shelf = Shelf(own, organization, keeps=registry, expiry=expiry)
        self._organization = organization
        self._rng = rng
        self._peers: dict[str, Peer] = {}

    # ---- what we answer for, and who is there

    def begin_life(self, incarnation: int, now: float) -> list[Effect]:
        """We have another incarnation: all that we offer is told anew."""
        return self._spread(self.shelf.begin_life(incarnation), now)

    def offer(self, flows: Mapping[str, Flow], now: float) -> list[Effect]:
        """Offer exactly these flows, by url."""
        return self._spread(self.shelf.offer(flows), now)

    def register(
        self, origin: Origin, organization: str, flows: Mapping[str, Flow], *, now: float,
        **more: Any,
    ) -> list[Effect]:  # fmt: skip
        """A program outside offers exactly these; see `Shelf.register`."""
        return self._spread(self.shelf.register(origin, organization, flows, now=now, **more), now)

    def on_member(self, node_id: str, alive: bool, now: float) -> list[Effect]:
        """A node of our mesh has come, or has gone."""
        effects = self._spread(self.shelf.on_member(node_id, alive, now), now)
        held = self.shelf.get(Origin(self.own.mesh, node_id))
        if held is not None and not alive:
            for peer in self._peers.values():
                if not peer.outside:  # it told them itself: do they know the same?
                    peer.forget(held.origin)
                    peer.uncompared[held.origin] = None
                    peer.wait_until(now + SETTLE)
        return effects

    def set_peer(
        self, key: str, now: float, *, outside: bool = False, incarnation: int = 0
    ) -> bool:
        """A registry can be reached; another incarnation than before has to be told anew.

        False: there are `PEERS_MAX` of them already, and this one is told nothing.
        """
        peer = self._peers.get(key)
        if peer is None and len(self._peers) >= PEERS_MAX:
            return False
        if peer is None or peer.incarnation != incarnation:
            known = self.shelf.holdings
            peer = Peer(key, known, outside=outside, incarnation=incarnation, now=now + SETTLE)
            self._peers[key] = peer
        return True

    def drop_peer(self, key: str, now: float) -> list[Effect]:
        """A registry is gone; what only it vouched for is offline."""
        if self._peers.pop(key, None) is None:
            return []
        return self._spread(self.shelf.on_source_lost(key, now), now)

    # ---- messages

    def trusts(self, sender: str, message: Exchange) -> bool:
        """Whether a node of our mesh may say that: of others only registries tell.

        It may be one, and we have yet to hear that: it is to ask again.
        """
        own = Origin(self.own.mesh, sender)
        return sender in self._peers or all(entry.origin == own for entry in message.entries)

    def on_request(
        self, sender: str, message: Exchange, now: float, *, outside: bool = False,
        connect: bool = False,
    ) -> tuple[Exchange, list[Effect]]:  # fmt: skip
        """A message of another node, or of a registry outside; the answer."""
        peer = self._peers.get(sender)
        if peer is not None:
            peer.begin_life(message.life, self.shelf.holdings)
            peer.contact_at = now
        effects: list[Effect] = []
        answer: list[Entry] = []
        for entry in message.entries:
            effects += self._on_entry(entry, sender, peer, answer, outside, now)
        if connect and peer is not None:
            peer.welcomed = True
            peer.wait_until(now + CONNECT_WAIT)
            answer = self._all_for(peer, answer, now)
        return self._message(answer), effects

    def on_reply(self, key: str, token: int, message: Exchange, now: float) -> list[Effect]:
        """The answer to what we asked."""
        peer = self._peers.get(key)
        if peer is None or peer.asked is None or peer.token != token:
            return []
        told = peer.answered(now)
        if peer.begin_life(message.life, self.shelf.holdings):
            return []  # it began anew while we spoke: compared again
        peer.welcomed = True
        for origin, (_, head) in told.items():
            peer.learn(origin, head)
        effects: list[Effect] = []
        for entry in message.entries:
            if entry.delta is not None:  # it answers a connect with what we lack
                effects += self._on_entry(entry, key, peer, [], peer.outside, now)
                peer.forget(entry.origin)
                peer.uncompared[entry.origin] = None  # it hears how far we are now
                continue
            before = told.get(entry.origin, (None, NOTHING))[0]
            held = self.shelf.get(entry.origin)
            peer.learn(entry.origin, held.head if entry.refused and held else entry.head)
            if before is not None and not entry.refused and entry.head <= before:
                peer.hold_off(now, self._rng)  # it has not taken what it was told
        for origin in told:
            held = self.shelf.get(origin)
            if held is not None and _lacks(held, peer.heads.get(origin, NOTHING)):
                peer.mark(origin)
        return effects

    def on_failure(self, key: str, token: int, now: float) -> list[Effect]:
        """What we asked was not answered."""
        peer = self._peers.get(key)
        if peer is None or peer.asked is None or peer.token != token:
            return []
        peer.failed(now, self._rng)
        if not peer.is_lost(now):
            return []
        return self._spread(self.shelf.on_source_lost(key, now), now)

    def _on_entry(
        self, entry: Entry, sender: str, peer: Peer | None, answer: list[Entry],
        outside: bool, now: float,
    ) -> list[Effect]:  # fmt: skip
        origin = entry.origin
        if peer is not None:
            peer.learn(origin, entry.head)
        own_word = not outside and origin == Origin(self.own.mesh, sender)
        effects: list[Effect] = []
        refused = self.shelf.refuses(entry, own_word=own_word)
        if refused:
            self.shelf.refused += 1
        elif origin != self.own:
            taken = self.shelf.take(entry, sender, now, own_word=own_word, outside=outside)
            effects = self._spread(taken, now)
        held = self.shelf.get(origin)
        head = NOTHING if held is None else held.head
        if refused or head != entry.head:
            ours = held or Holding(origin, alive=False, silent_since=now)
            answer.append(self._entry(ours, now, refused=refused))
        if peer is not None and held is not None and _lacks(held, entry.head):
            peer.mark(origin)
        return effects

    # ---- what to tell whom

    def _spread(self, changes: Iterable[Change], now: float) -> list[Effect]:
        """Whatever has changed is to be told to those whom it concerns."""
        effects: list[Effect] = []
        for change in changes:
            effects.append(change)
            if isinstance(change, OriginDropped):
                for peer in self._peers.values():
                    peer.forget(change.origin)
            elif isinstance(change, OriginChanged):
                held = self.shelf.holdings[change.origin]
                for peer in self._peers.values():
                    back = change.resourced and peer.key == held.source
                    if back or self._passes(held, peer):
                        if not peer.has_something and peer.asked is None:
                            peer.wait_until(now + SETTLE)
                        peer.mark(change.origin, life=change.life)
        return effects

    def _passes(self, held: Holding, peer: Peer) -> bool:
        """Whether it is ours to tell this peer of this origin."""
        if held.origin == self.own:
            return True
        if not self.shelf.keeps or peer.key == held.source or held.head == NOTHING:
            return False
        return self._concerns(held.origin, peer) and (self.feed or held.direct)

    def _concerns(self, origin: Origin, peer: Peer) -> bool:
        """Whether a peer is to hear of this origin from us at all."""
        if peer.outside or origin == self.own:
            return True
        return not self.shelf.is_member(origin) and origin != Origin(self.own.mesh, peer.key)

    # ---- time

    def on_tick(self, now: float) -> list[Effect]:
        effects = self._spread(self.shelf.on_tick(now), now)
        for peer in self._peers.values():
            if (at := peer.next_at()) is not None and at <= now:
                if not peer.has_something:
                    peer.compare_all(self.shelf.holdings)  # it has been silent for long
                effects += self._pump(peer, now)
        return effects

    def next_deadline(self) -> float | None:
        times = [self.shelf.next_deadline(), *(peer.next_at() for peer in self._peers.values())]
        return min((at for at in times if at is not None), default=None)

    def _pump(self, peer: Peer, now: float) -> list[Effect]:
        """The next request to a peer: heads to compare, and what it lacks."""
        told: dict[Origin, tuple[Head | None, Head]] = {}
        entries: list[Entry] = []
        room = BYTES_PER_MESSAGE
        while peer.uncompared and room > 0:
            origin = next(iter(peer.uncompared))
            peer.forget(origin)
            held = self.shelf.get(origin)
            if held is not None and held.head > NOTHING and self._concerns(origin, peer):
                entries.append(self._entry(held, now))
                room -= entries[-1].size
                told[origin] = None, held.head
        for origin, life in list(peer.dirty.items()):
            if room <= 0:
                break
            del peer.dirty[origin]
            held, known = self.shelf.get(origin), peer.heads.get(origin)
            if held is not None and life and peer.key == held.source:
                # Were it to believe us, and we it, nobody would ever say that this one is gone.
                entry = replace(self._entry(held, now), alive=False, distance=DISTANCE_MAX)
            elif held is None or not self._passes(held, peer):
                continue
            elif known is None:  # the first that it hears of this one: how far is it?
                entry = self._entry(held, now)
            elif _lacks(held, known) or life:
                entry = self._entry(held, now, known=known, room=room)
            else:
                continue
            room -= entry.size
            entries.append(entry)
            told[origin] = known if entry.delta is not None else None, entry.head
        if not entries and (peer.welcomed or not peer.outside):
            return []
        token = peer.ask(told)
        connect = peer.outside and not peer.welcomed
        return [Ask(peer.key, token, self._message(entries), peer.outside, connect)]

    def _all_for(self, peer: Peer, answer: list[Entry], now: float) -> list[Entry]:
        """What a registry outside that connects is answered: what it lacks, as far as it fits."""
        entries = {entry.origin: entry for entry in answer}
        room = CONNECT_BYTES
        for origin, held in self.shelf.holdings.items():
            known = peer.heads.get(origin, NOTHING)
            if _lacks(held, known) and self._passes(held, peer) and room > 0:
                entries[origin] = self._entry(held, now, known=known, room=room)
                room -= entries[origin].size
        return list(entries.values())

    def _entry(
        self, held: Holding, now: float, *, known: Head | None = None, room: int = 0,
        refused: bool = False,
    ) -> Entry:  # fmt: skip
        age = 0.0 if held.alive else max(0.0, now - held.silent_since)
        head, delta = held.head, None
        if known is not None and _lacks(held, known):
            delta = held.delta_after(known, room)
            head = delta.head
        return Entry(
            held.origin, held.organization, head, held.alive, age, held.distance, delta, refused
        )

    def _message(self, entries: Iterable[Entry]) -> Exchange:
        return Exchange(
            self.url, self.own.mesh, self.life, self._organization, self.feed, tuple(entries)
        )

    # ---- queries

    @property
    def is_idle(self) -> bool:
        """Nothing is under way."""
        return all(peer.is_idle for peer in self._peers.values())

    def peers(self) -> dict[str, float | None]:
        """The registries that we tell, and when each was heard last (monotonic seconds)."""
        return {key: peer.contact_at for key, peer in self._peers.items()}

    def check_invariants(self) -> None:
        """Assert that what is stored twice agrees."""
        self.shelf.check_invariants()
        for peer in self._peers.values():
            assert not peer.uncompared.keys() & peer.dirty.keys(), peer.key


def _lacks(held: Holding, known: Head) -> bool:
    """Whether somebody who knows of an origin so far lacks something that matters."""
    return held.head > known and (bool(held.items) or known != NOTHING)
