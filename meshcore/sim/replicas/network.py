"""Messages between the replicas, and a server that gives leases.

Messages are late, lost, doubled, out of order, and cut off in one direction or both.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from meshcore.protocol.replication.records import node_of

if TYPE_CHECKING:
    from meshcore.sim.replicas.host import Host
    from meshcore.sim.replicas.world import World

LEASE_TTL = 2.0  # seconds
LEASE_MARGIN = 0.2


class Network:
    """Between nodes; clients are nodes as well."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self.loss = 0.0
        self.slow = 0.0  # share of messages that are very late
        self.cut: dict[tuple[str, str], None] = {}  # (from, to)

    def delay(self) -> float | None:
        """Of one message; None: it is lost."""
        rng = self._rng
        if rng.random() < self.loss:
            return None
        if rng.random() < self.slow:
            return rng.uniform(0.05, 1.0)
        return rng.uniform(0.0005, 0.015)

    def passes(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) not in self.cut

    def send(self, sender: str, to: str, message: list[Any]) -> None:
        """From one replica to another."""
        if not self.passes(node_of(sender), node_of(to)):
            return
        for _ in range(2 if self._rng.random() < 0.02 else 1):
            delay = self.delay()
            if delay is not None:
                self._world.after(delay, self._arrive, sender, to, message)

    def _arrive(self, sender: str, to: str, message: list[Any]) -> None:
        host = self._world.hosts[node_of(to)]
        if host.own == to and host.up:
            host.receive(sender, message)


class LeaseServer:
    """Gives one lease at a time; its revision is the term."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.revision = 0
        self.holder: tuple[str, int] | None = None  # replica and its life
        self.expires_at = 0.0
        self._wanting: dict[str, int] = {}  # replica -> life

    def want(self, host: Host) -> None:
        self._wanting[host.own] = host.life
        host.later(self._world.rng.uniform(0.0, 0.1), self._try, host)

    def release(self, host: Host) -> None:
        self._wanting.pop(host.own, None)
        if self.holder == (host.own, host.life):
            self.holder = None

    def holds(self, host: Host) -> bool:
        """Whether the lease is this one's now, by the server's clock."""
        return self.holder == (host.own, host.life) and self._world.now < self.expires_at

    def _reaches(self, host: Host) -> bool:
        return self._world.network.passes(host.node, "lease")

    def _try(self, host: Host) -> None:
        world = self._world
        if self._wanting.get(host.own) != host.life:
            return
        free = self.holder is None or world.now >= self.expires_at
        if host.is_paused or not self._reaches(host) or not free:
            host.later(world.rng.uniform(0.1, 0.3), self._try, host)
            return
        del self._wanting[host.own]
        self.revision += 1
        self.holder, self.expires_at = (host.own, host.life), world.now + LEASE_TTL
        until = world.now + LEASE_TTL - LEASE_MARGIN
        revision = self.revision
        host.later(world.rng.uniform(0.001, 0.05), self._given, host, revision, until)

    def _given(self, host: Host, revision: int, until: float) -> None:
        host.feed(host.machine.on_lease, revision, until)
        host.later(LEASE_TTL / 3, self._renew, host, revision)

    def _renew(self, host: Host, revision: int) -> None:
        if self.holder != (host.own, host.life) or self.revision != revision:
            host.feed(host.machine.on_lease_lost)
            return
        if self._world.now >= self.expires_at:
            self.holder = None
            host.feed(host.machine.on_lease_lost)
            return
        if self._reaches(host) and not host.is_paused:
            self.expires_at = self._world.now + LEASE_TTL
            host.feed(host.machine.on_lease_renewed, self._world.now + LEASE_TTL - LEASE_MARGIN)
        host.later(LEASE_TTL / 3, self._renew, host, revision)
