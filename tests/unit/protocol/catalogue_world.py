"""Catalogues of several nodes and registries, with a network between them that delays and loses.

In the mesh everybody hears everybody, as far as `cut` allows; registries outside are reached by URL
as far as they were told to connect. Messages go through their plain form, as on the wire.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterable

from meshcore.protocol.catalogue.effects import Ask, Effect
from meshcore.protocol.catalogue.exchange import CatalogueExchange
from meshcore.protocol.catalogue.messages import decode, encode
from meshcore.protocol.catalogue.records import Flow, Origin

TIMEOUT = 2.0
EXPIRY = 3600.0


def flows(*names: str) -> dict[str, Flow]:
    """Flows by URL; `name=text` gives a description."""
    made = [Flow(f"http://{name.split('=')[0]}/", name.split("=")[0], name) for name in names]
    return {flow.url: flow for flow in made}


class Party:
    """One node: a member of a mesh, a registry where that is said."""

    def __init__(self, world: World, node: str, mesh: str, registry: bool, feed: bool) -> None:
        self.world = world
        self.node, self.mesh, self.registry, self.feed = node, mesh, registry, feed
        self.url = f"http://{node}.{mesh}:80"
        self.incarnation = 0
        self.outside: dict[str, None] = {}  # urls that it connects to
        self.up = False

    def start(self) -> None:
        self.incarnation += 1000
        self.machine = CatalogueExchange(
            Origin(self.mesh, self.node),
            organization=self.mesh.upper(),
            life=self.world.rng.getrandbits(60),
            registry=self.registry,
            feed=self.feed,
            expiry=EXPIRY,
            rng=self.world.rng,
        )
        self.machine.url = self.url if self.registry else ""
        self.machine.begin_life(self.incarnation, self.world.now)
        self.up = True
        for url in self.outside:
            self.machine.set_peer(url, self.world.now, outside=True)

    def offer(self, *names: str) -> None:
        self.world.perform(self, self.machine.offer(flows(*names), self.world.now))

    def register(self, url: str, *names: str, ttl: float = 600.0) -> None:
        effects = self.machine.register(
            Origin("", url), "", flows(*names),
            ttl=ttl, incarnation=int(self.world.now * 1000) + 1, now=self.world.now,
        )  # fmt: skip
        self.world.perform(self, effects)

    def connect(self, other: Party) -> None:
        self.outside[other.url] = None
        self.machine.set_peer(other.url, self.world.now, outside=True)

    def listing(self) -> dict[tuple[str, str, str], str]:
        """(mesh, node, url) -> description, of all that is offered."""
        return {
            (origin.mesh, origin.node, item.flow.url): item.flow.description
            for origin, held in self.machine.shelf.holdings.items()
            for item in held.live_items()
        }

    def status(self) -> dict[str, bool]:
        """Which origin is there, of those that offer something."""
        return {
            origin.node: held.alive
            for origin, held in self.machine.shelf.holdings.items()
            if any(held.live_items())
        }


class World:
    """Runs them in virtual time."""

    def __init__(self, seed: int = 1, *, delay: float = 0.05, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.delay, self.loss = delay, loss
        self.parties: dict[str, Party] = {}
        self.cut: set[frozenset[str]] = set()  # pairs of nodes that do not reach each other
        self.messages: list[tuple[str, str, int]] = []  # from, to, flows in it and in its answer
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def add(
        self, node: str, *, mesh: str = "m", registry: bool = False, feed: bool = True
    ) -> Party:
        party = self.parties[node] = Party(self, node, mesh, registry, feed)
        party.start()
        self.meet()
        return party

    def stop(self, party: Party) -> None:
        party.up = False
        self.meet()

    def restart(self, party: Party) -> None:
        party.start()
        self.meet()

    def cut_off(self, one: Party, other: Party, *, cut: bool = True) -> None:
        pair = frozenset((one.node, other.node))
        (self.cut.add if cut else self.cut.discard)(pair)
        self.meet()

    def reaches(self, one: Party, other: Party) -> bool:
        pair = frozenset((one.node, other.node))
        return one.up and other.up and pair not in self.cut

    def meet(self) -> None:
        """Everybody hears from its mesh who is there."""
        for one in self.parties.values():
            for other in self.parties.values():
                if one is other or not one.up or one.mesh != other.mesh:
                    continue
                there = self.reaches(one, other)
                self.perform(one, one.machine.on_member(other.node, there, self.now))
                if other.registry and there:
                    one.machine.set_peer(other.node, self.now, incarnation=other.incarnation)
                elif other.registry:
                    self.perform(one, one.machine.drop_peer(other.node, self.now))

    def perform(self, party: Party, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                self._ask(party, party.machine, effect)
        party.machine.check_invariants()

    def _ask(self, party: Party, machine: CatalogueExchange, ask: Ask) -> None:
        if ask.outside:
            found = [each for each in self.parties.values() if each.url == ask.key]
        else:
            found = [self.parties[ask.key]]
        sent = json.loads(json.dumps(encode(ask.message)))

        def fail() -> None:
            if party.machine is machine and party.up:
                self.perform(party, machine.on_failure(ask.key, ask.token, self.now))

        if not found or self.rng.random() < self.loss:
            self._later(TIMEOUT, fail)
            return
        other = found[0]

        def deliver() -> None:
            if not self.reaches(party, other):
                self._later(TIMEOUT, fail)
                return
            sender = party.url if ask.outside else party.node
            if not ask.outside and not other.machine.trusts(sender, decode(sent)):
                self._later(self._delay(), fail)
                return
            if ask.outside:
                other.machine.set_peer(sender, self.now, outside=True)
            answer, effects = other.machine.on_request(
                sender, decode(sent), self.now, outside=ask.outside, connect=ask.connect
            )
            self.perform(other, effects)
            back = json.loads(json.dumps(encode(answer)))
            told = [len(node["flows"] or ()) for node in (*sent["nodes"], *back["nodes"])]
            self.messages.append((party.node, other.node, sum(told)))
            if self.rng.random() < self.loss:
                self._later(TIMEOUT, fail)
                return

            def reply() -> None:
                if party.machine is machine and party.up:
                    self.perform(
                        party, machine.on_reply(ask.key, ask.token, decode(back), self.now)
                    )

            self._later(self._delay(), reply)

        self._later(self._delay(), deliver)

    def _delay(self) -> float:
        return self.rng.uniform(0.1, 1.0) * self.delay

    def _later(self, delay: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, act))

    def run(self, seconds: float) -> None:
        """Go on for so long, in virtual time."""
        end = self.now + seconds
        while True:
            due = [
                (at, party)
                for party in self.parties.values()
                if party.up and (at := party.machine.next_deadline()) is not None
            ]
            timer = min(due, key=lambda each: each[0], default=None)
            event = self._events[0] if self._events else None
            at = min(timer[0] if timer else end, event[0] if event else end)
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            if event is not None and event[0] <= at:
                heapq.heappop(self._events)
                event[2]()
            else:
                assert timer is not None
                before = timer[1].machine.next_deadline()
                self.perform(timer[1], timer[1].machine.on_tick(self.now))
                after = timer[1].machine.next_deadline()
                assert after is None or after > self.now or after != before, "a timer that stands"

    def settle(self, seconds: float = 2.0) -> int:
        """Go on, and then see that nothing is said any more; how many messages that took."""
        before = len(self.messages)
        self.run(seconds)
        took = len(self.messages) - before
        self.run(20.0)
        assert len(self.messages) == before + took, self.messages[before + took :]
        assert all(party.machine.is_idle for party in self.parties.values() if party.up)
        return took
