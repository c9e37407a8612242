"""One node's core: what the shell feeds and takes.

The shell feeds what happens (frames, news, links, the time, calls of the application) and takes one
ordered list with `take`: tuples of delivery (see delivery/outputs.py) between effect objects.

    bytes → on_frames → the machine that owns it → effects → take → the shell

Two paces: packets of work go straight to delivery or forwarding by plain method calls; everything
else is the control plane, whose machines return effect objects.

The same class serves an ephemeral client, which is no node of the mesh: it has one link to its
node, is told by it whom there is, and sends everything over it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from meshcore.errors import ProtocolError
from meshcore.identity import CLIENT_MARK, owner_of
from meshcore.protocol.delivery.delivery import Delivery
from meshcore.protocol.delivery.outputs import COUNT
from meshcore.protocol.forwarding import Forwarding
from meshcore.protocol.membership.timings import TimingsLike
from meshcore.protocol.mesh.control_plane import ControlPlane
from meshcore.protocol.mesh.own import Identity
from meshcore.protocol.routing.graph import Graph
from meshcore.protocol.routing.store import Held
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.control import Flags, Refusal
from meshcore.protocol.wire.records import DETAILS, LINK_STATE

LOOPBACK = -1  # the link to oneself: the shell feeds it back in the next turn


class Mesh(ControlPlane):
    """The whole core of one node, or of an ephemeral client.

    Args:
        identity: who this is.
        timings: seconds, see membership/timings.py.
        rng: all randomness of the core.
        now: the time of its start.
        unix_now: what the machine's own clock shows then, in Unix seconds.
        request_timeout: seconds that work without a deadline waits for a route.
        costs: configured cost of the edge to a neighbour, in microseconds.
        auto_connect: links that this node is meant to have, by learnt addresses; 0 = off.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        timings: TimingsLike,
        rng: random.Random,
        now: float,
        unix_now: float = 0.0,
        request_timeout: float = 30.0,
        costs: Mapping[str, int] | None = None,
        auto_connect: int = 0,
    ) -> None:
        delivery = Delivery(
            address=identity.node_id,
            life=identity.life,
            rng=rng,
            link_of=self.link_of,
            request_timeout=request_timeout,
        )
        forwarding = Forwarding(
            node_id=identity.node_id, life=identity.life, link_of=self.link_of, emit=delivery.emit
        )
        super().__init__(
            identity,
            timings=timings,
            rng=rng,
            now=now,
            unix_now=unix_now,
            costs=costs or {},
            auto_connect=auto_connect,
            delivery=delivery,
            forwarding=forwarding,
        )
        self._control_due: float | None = None
        self.take: Callable[[], list[Any]] = delivery.take
        if identity.listed:  # work for oneself takes the same way as any other
            delivery.on_peer(identity.node_id, identity.life, reachable=True, dead="", now=now)

    def link_of(self, address: str) -> int:
        """The link towards an address: 0 where there is no way now."""
        if not self.identity.listed:
            return LOOPBACK if address == self.delivery.address else self._attached_link
        owner = owner_of(address)
        if owner == self._node_id:
            if CLIENT_MARK not in address:
                return LOOPBACK
            return self.links.link_of_client(address) or 0
        next_hop = self.routing.graph.next_hop(owner)
        link = None if next_hop is None else self.links.link_to(next_hop)
        # A neighbour can be reached before the first tables are computed.
        return link or self.links.link_to(owner) or 0

    # The data plane --------------------------------------------------------------------------

    def on_frames(self, link: int, lane: int, frame: bytes, body: Any, now: float) -> None:
        """One ZeroMQ message of a link: a packet, a hint, or a control message."""
        kind = frame[1] if len(frame) > 1 else 0
        if kind != packet.PACKET and kind != packet.HINT:
            self._on_control(link, frame, now)
            return
        sender = self._senders.get(link)
        if sender is None and link != LOOPBACK:
            self._perform(self.links.on_other(link, now), now)
            return
        try:
            key = packet.key_of(frame)
        except ProtocolError as error:
            self._emit((COUNT, f"bad packet: {error.message}"))
            return
        if kind == packet.PACKET and self.delivery.knows(key):
            self.delivery.on_packet(frame, key, body, now)
        else:
            self._on_other_packet(link, lane, frame, key, body, now)
        if sender is not None and link in self._up:
            effects = self.detector.on_heard(sender, now)
            if effects:
                self._perform(effects, now)

    def _on_other_packet(
        self, link: int, lane: int, frame: bytes, key: bytes, body: Any, now: float
    ) -> None:
        """For somebody else, or about a channel that is not open here."""
        try:
            destination = packet.read_key(key)[3]
        except ProtocolError:
            self._emit((COUNT, "bad packet: key"))
            return
        if link in self.clients:
            self.forwarding.note_client(self.clients.address_of(link), key)
        if destination != self.delivery.address:
            if self.identity.listed:
                self.forwarding.forward(frame, key, body, now, index=lane)
        elif frame[1] == packet.HINT:
            self.delivery.on_hint(frame, key, now)
        else:
            self.delivery.on_packet(frame, key, body, now)

    def on_send_failed(self, frame: bytes, now: float) -> None:
        """The shell could not hand a packet over: the link's queue is full, or it is gone."""
        if len(frame) > 1 and frame[1] == packet.PACKET:
            self.forwarding.on_full(frame, now)
            self.delivery.on_link_full(packet.key_of(frame))
        else:
            self._emit((COUNT, "link full"))

    def flush(self, now: float) -> None:
        """The end of a turn of the loop: what gathered in it leaves."""
        self.delivery.flush(now)
        if self._edges_changed or self.clients.is_due:
            self._flush_control(now)

    def is_touched(self) -> bool:
        """Whether the last message, which was none of work, had consequences."""
        return self.control_touched or self.delivery.has_output or self.is_flush_due()

    def is_flush_due(self) -> bool:
        """Something waits for the end of the turn."""
        return bool(self.delivery.is_flush_due or self._edges_changed or self.clients.is_due)

    # Links, as the shell reports them ----------------------------------------------------------

    def on_accepted(self, link: int, *, local: bool = False, now: float) -> None:
        """A peer has dialled; `local`: over loopback or a socket of this machine."""
        if local:
            self._local[link] = None
        self._perform(self.links.on_accepted(link, now), now)

    def on_connected(self, link: int, now: float) -> None:
        self._perform(self.links.on_connected(link, now), now)

    def on_dial_failed(self, link: int, reason: str, now: float) -> None:
        self._perform(self.links.on_dial_failed(link, reason, now), now)

    def on_closed(self, link: int, reason: str, now: float) -> None:
        self._perform(self.links.on_closed(link, reason, now), now)
        self._forget_link(link)

    def on_probe(self, node_id: str, *, gone: bool, now: float) -> None:
        self._perform(self.detector.on_probe(node_id, gone, now), now)

    def on_holder(
        self, node_id: str, life: int, *, answered: bool, description: str, now: float
    ) -> None:
        self._perform(self.links.on_holder(node_id, life, answered, description, now), now)

    # Commands of the node ----------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The node starts: it is as old as this, however long ago it was made."""
        self.scale.begin(now)
        self.links.set_local(replace(self.links.local, started_at=now))

    def add_peer(self, url: str, now: float) -> None:
        self._perform(self.links.add_peer(url, now), now)

    def remove_peer(self, url: str, now: float) -> None:
        self._perform(self.links.remove_peer(url, now), now)

    def set_auto_connect(self, degree: int, now: float) -> None:
        """Dial learnt addresses until this node has so many links; 0 = no more."""
        if self.identity.listed:
            self._perform(self.gathering.set_degree(degree, now), now)

    def set_dial_allow(self, allowed: Callable[[str], bool]) -> None:
        """Which learnt addresses may be dialled; a function without side effects."""
        self.gathering.allowed = allowed

    def on_hint(self, node_id: str, urls: tuple[str, ...], now: float) -> None:
        """A node is said to be there, by other ways than the mesh."""
        self.gathering.hint(node_id, urls, now)
        self.control_touched = True

    def set_endpoints(
        self, endpoints: tuple[str, ...], news_urls: tuple[str, ...], now: float
    ) -> None:
        """What this node listens on and advertises, with real ports."""
        if self.identity.listed:
            flags = Flags.NONE if endpoints else Flags.OUTBOUND_ONLY
            local = self.links.local
            self.links.set_local(
                replace(local, endpoints=endpoints, news_urls=news_urls, flags=flags)
            )
            self._edges_changed = True

    def set_details(self, content: dict[str, Any], now: float) -> None:
        """Capabilities, host, version and the like, told to everybody."""
        self.own.details = content
        self._perform(self.database.set_own(DETAILS, self.own.write_details, now), now)

    def adopt_round_trips(self, seconds: Mapping[str, float], now: float) -> None:
        """Take our links as measured for long, and write what they cost; by neighbour."""
        for node_id, round_trip in seconds.items():
            self.latency.adopt(node_id, round_trip)
        self._announce(now)

    def adopt(self, records: Iterable[Held], graph: Graph, now: float) -> None:
        """Take the records of all nodes, and the graph of them, as known for long; conclude."""
        self.database.adopt(records)
        self.routing.adopt(graph, now)
        self._route(now)

    def set_incarnation(self, number: int, now: float) -> None:
        """Adopt a greater incarnation; the shell has stored it."""
        self.identity = replace(self.identity, incarnation=number)
        self.links.set_local(replace(self.links.local, incarnation=number))
        self.roster.set_own(number, self.identity.life)
        self._perform(self.database.set_incarnation(number, now), now)

    def set_timings(self, timings: TimingsLike, now: float) -> None:
        self.links.set_local(replace(self.links.local, interval=timings.send_alive_interval))
        self._perform(self.detector.set_timings(timings, now), now)
        self._perform(self.roster.set_timings(timings, now), now)

    def set_forced(self, forced: bool | None, now: float) -> None:
        """Be master (True), or never (False), or leave it to age (None); at once for ourselves."""
        if forced is not self.own.forced:
            self.own.forced = forced
            self._elect_self(now, at_once=True)
            self._announce(now)

    def sync_time(self, timestamp: float, delay: float, now: float) -> None:
        """A reference said that it was `timestamp`, in Unix seconds, `delay` seconds ago."""
        self.clock.set(timestamp, delay, now)

    def leave(self, now: float) -> None:
        """Say goodbye: the last link state, to every neighbour, acknowledged by one."""
        self.gathering.stop()
        self._has_left = True
        self._perform(self.links.leave(now), now)
        if self.identity.listed and self._up:
            self._perform(self.database.set_own(LINK_STATE, self.own.left, now), now)
            self._perform(self.database.announce(now), now)

    def close_links(self, now: float) -> None:
        """Close every link, orderly."""
        for info in self.links.links():
            dropped = self.links.drop(info.link, "leaving", now, code=Refusal.LEAVING)
            self._perform(dropped, now)

    # Time ------------------------------------------------------------------------------------

    def is_control_due(self, now: float) -> bool:
        """Whether a tick would concern more than work: then the sockets are drained before."""
        return self.control_touched or (self._control_due is not None and now >= self._control_due)

    def next_deadline(self) -> float | None:
        if self.control_touched:
            self.control_touched = False
            self._control_due = self._control_deadline()
        work, other = self.delivery.next_deadline(), self._control_due
        if work is None or other is None:
            return other if work is None else work
        return min(work, other)

    def on_tick(self, now: float) -> None:
        """Let everything that is due happen. Drain the sockets before."""
        if self.is_control_due(now):
            self.control_touched = True
            self._tick_control(now)
        self.delivery.on_tick(now)
        self.flush(now)

    def check_invariants(self) -> None:
        self.links.check_invariants()
        self.detector.check_invariants()
        self.database.check_invariants()
        self.routing.check_invariants()
        self.roster.check_invariants()
        self.gathering.check_invariants()
        self.latency.check_invariants()
        self.election.check_invariants()
        self.delivery.check_invariants()
