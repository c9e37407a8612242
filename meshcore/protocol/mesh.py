"""One node's core: the machines, composed.

The machines do not know each other; here their inputs are routed and their effects merged. The
shell feeds what happens (frames, news, links, the time, calls of the application) and takes one
ordered list with `take`: tuples of delivery (see delivery/outputs.py) between effect objects.

    bytes → on_frames → the machine that owns it → effects → take → the shell

Two paces: packets of work go straight to delivery by plain method calls; everything else is the
control plane, whose machines return effect objects that `_perform` hands on.

The same class serves an ephemeral client, which is no node of the mesh: it has one link to its
node, is told by it whom there is (View), and sends everything over it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from meshcore.errors import ProtocolError
from meshcore.identity import CLIENT_MARK, owner_of
from meshcore.protocol.delivery.delivery import Delivery
from meshcore.protocol.delivery.outputs import COUNT
from meshcore.protocol.forwarding import Forwarding
from meshcore.protocol.machine import CloseLink, Count, Dial, Notify, Probe, Publish, Send, Timers
from meshcore.protocol.membership import events, link_events
from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.handshake import Local
from meshcore.protocol.membership.known import view_entry_of
from meshcore.protocol.membership.links import Links
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.membership.timings import TimingsLike
from meshcore.protocol.routing import database as link_states
from meshcore.protocol.routing.database import LinkStateDatabase
from meshcore.protocol.routing.routing import Routing
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire import control, packet
from meshcore.protocol.wire.control import Flags
from meshcore.protocol.wire.records import DETAILS, LINK_STATE, Details, Edge, LinkState

LOOPBACK = -1  # the link to oneself: the shell feeds it back in the next turn
COST_DEFAULT = 1000  # microseconds: what an edge costs unless configured
OUTDONE_MAX = 5  # times that we outbid another life of our id
VIEW_ENTRIES_MAX = 2000  # in one View message


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this core is. `listed` False: an ephemeral client."""

    mesh: str
    node_id: str
    incarnation: int
    life: int
    listed: bool = True
    description: str = "another process"


@dataclass(frozen=True, slots=True)
class Rerouted:
    """The ways to these nodes have changed."""

    node_ids: tuple[str, ...]


class Mesh:
    """The whole core of one node, or of an ephemeral client.

    Args:
        identity: who this is.
        timings: seconds, see membership/timings.py.
        rng: all randomness of the core.
        now: the time of its start.
        request_timeout: seconds that work without a deadline waits for a route.
        costs: configured cost of the edge to a neighbour, in microseconds.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        timings: TimingsLike,
        rng: random.Random,
        now: float,
        request_timeout: float = 30.0,
        costs: dict[str, int] | None = None,
    ) -> None:
        self.identity = identity
        self._node_id = identity.node_id
        self._costs = dict(costs or {})
        self._timings = timings
        flags = Flags.OUTBOUND_ONLY if identity.listed else Flags.EPHEMERAL
        local = Local(
            mesh=identity.mesh,
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            life=identity.life,
            flags=flags,
            interval=timings.send_alive_interval,
            scale=rng.getrandbits(64) or 1,
            description=identity.description,
        )
        self.delivery = Delivery(
            address=identity.node_id,
            life=identity.life,
            rng=rng,
            link_of=self.link_of,
            request_timeout=request_timeout,
        )
        self._emit = self.delivery.emit
        self.links = Links(local, rng, holder_of=self._holder_of, known_of=self._known_of)
        self.detector = Detector(timings, rng=rng, now=now)
        self.database = LinkStateDatabase(identity.node_id, identity.incarnation, rng=rng)
        self.routing = Routing(identity.node_id)
        self.roster = Roster(
            identity.node_id,
            incarnation=identity.incarnation,
            life=identity.life,
            timings=timings,
            listed=identity.listed,
        )
        self.forwarding = Forwarding(
            node_id=identity.node_id, life=identity.life, link_of=self.link_of, emit=self._emit
        )
        self.attached_to: str | None = None  # a client's node
        self._attached_link = 0
        self._senders: dict[int, str] = {}  # link -> node id, or address of a client of ours
        self._local: dict[int, None] = {}  # accepted links from this very machine
        self._node_links: dict[int, str] = {}  # links to nodes that are up
        self._clients: dict[int, str] = {}  # attached clients, by link
        self._changed_nodes: dict[str, str] = {}  # to be told to clients; why, if removed
        self._edges_changed = False
        self._details: dict[str, Any] = {}
        self._beats = 0
        self._linked = False
        self._timers: Timers[str] = Timers()
        self._performers = self._make_performers()
        if identity.listed:  # work for oneself takes the same way as any other
            self.delivery.on_peer(
                identity.node_id, identity.life, reachable=True, dead="", now=now
            )
        self.details_of: dict[str, Details] = {}
        self.leave_acked = False
        self._outdone = 0
        self.control_touched = True  # deadlines of the control plane may have changed

    # Reads -----------------------------------------------------------------------------------

    def link_of(self, address: str) -> int:
        """The link towards an address: 0 where there is no way now."""
        owner = owner_of(address)
        if not self.identity.listed:
            return LOOPBACK if address == self.delivery.address else self._attached_link
        if owner == self._node_id:
            if CLIENT_MARK not in address:
                return LOOPBACK
            return self.links.link_of_client(address) or 0
        next_hop = self.routing.graph.next_hop(owner)
        if next_hop is not None:
            link = self.links.link_to(next_hop)
            if link is not None:
                return link
        return self.links.link_to(owner) or 0

    def has_link(self) -> bool:
        """Whether a link to another node is up."""
        return bool(self._attached_link or self._node_links)

    def is_neighbour(self, link: int) -> bool:
        """Whether a node, and not a client, is at the other end: it gets what is published."""
        return link in self._senders and link not in self._clients

    def client_count(self) -> int:
        """Ephemeral clients attached here."""
        return len(self._clients)

    def _holder_of(self, node_id: str) -> int | None:
        entry = self.roster.get(node_id)
        return entry.life if entry is not None and entry.reachable else None

    def _known_of(self, node_id: str) -> tuple[int, int] | None:
        incarnation = self.database.incarnation_of(node_id)
        if incarnation is None:
            return None
        record = self.database.link_state(node_id)
        return incarnation, 0 if record is None else record.life

    def next_deadline(self) -> float | None:
        deadlines = [
            self.delivery.next_deadline(),
            self.links.next_deadline(),
            self._timers.next_deadline(),
            self.roster.next_deadline(),
        ]
        if self.identity.listed:
            deadlines.append(self.detector.next_deadline())
            deadlines.append(self.database.next_deadline())
            deadlines.append(self.routing.next_deadline())
        return min((one for one in deadlines if one is not None), default=None)

    # The data plane --------------------------------------------------------------------------

    def on_frames(self, link: int, lane: int, frame: bytes, body: Any, now: float) -> None:
        """One ZeroMQ message of a link: a packet, a hint, or a control message."""
        sender = self._senders.get(link)
        kind = frame[1] if len(frame) > 1 else 0
        if kind != packet.PACKET and kind != packet.HINT:
            self._on_control(link, frame, now)
            return
        if sender is None and link != LOOPBACK:
            self._perform(self.links.on_other(link, now), now)
            return
        try:
            key = packet.key_of(frame)
        except ProtocolError as error:
            self._emit((COUNT, f"bad packet: {error.message}"))
            return
        delivery = self.delivery
        if kind == packet.PACKET and delivery.knows(key):
            delivery.on_packet(frame, key, body, now)
        else:
            self._on_other_packet(link, lane, frame, key, body, now)
        if sender is not None and link not in self._clients:
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
        if link in self._clients:
            self.forwarding.note_client(self._clients[link], key)
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
        else:
            self._emit((COUNT, "link full"))

    def flush(self, now: float) -> None:
        """The end of a turn of the loop."""
        self.delivery.flush(now)
        if self._changed_nodes:
            self._tell_clients()
        if self._edges_changed:
            self._announce(now)

    def take(self) -> list[Any]:
        return self.delivery.take()

    # Control messages ------------------------------------------------------------------------

    def _on_control(self, link: int, frame: bytes, now: float) -> None:
        try:
            message = control.decode(frame)
        except ProtocolError as error:
            self._emit((COUNT, f"bad control message: {error.message}"))
            self._perform(self.links.drop(link, f"protocol: {error.message}", now), now)
            return
        if isinstance(message, (control.Hello, control.Welcome, control.Refuse, control.Bye)):
            self._perform(self.links.on_message(link, message, now), now)
        elif isinstance(message, control.Beat):
            self._on_beat(link, message, now)
        elif self._senders.get(link) is None:
            self._perform(self.links.on_other(link, now), now)
        else:
            self._on_linked(link, self._senders[link], message, now)

    def _on_linked(self, link: int, sender: str, message: Any, now: float) -> None:
        if not self.identity.listed:
            if isinstance(message, control.View) and link == self._attached_link:
                told = self.roster.on_view(message.entries, reset=message.reset, now=now)
                self._perform(told, now)
            return
        if link in self._clients:
            self._emit((COUNT, "control message of a client"))
            return
        database = self.database
        match message:
            case control.News():
                self._perform(database.on_news(link, message.records, now), now)
            case control.Buckets():
                self._perform(database.on_buckets(link, message.sums, now), now)
            case control.BucketContents():
                self._perform(database.on_contents(link, message, now), now)
            case control.Want():
                self._perform(database.on_want(link, message.keys, now), now)
            case control.LeaveAck():
                self.leave_acked = True
            case control.Echo():
                self._emit(Send(link, control.EchoReply(message.number)))

    def on_news(self, link: int, data: bytes, now: float) -> None:
        """A message over PUB/SUB; what is no beat or news, or of a stranger, is counted."""
        sender = self._senders.get(link)
        try:
            message = control.decode(data)
        except ProtocolError as error:
            self._emit((COUNT, f"bad news: {error.message}"))
            return
        if sender is None:
            self._emit((COUNT, "news before the handshake"))
        elif isinstance(message, control.Beat):
            self._on_beat(link, message, now)
        elif isinstance(message, control.News):
            self._perform(self.database.on_news(link, message.records, now), now)
        else:
            self._emit((COUNT, "bad news: kind"))

    def _on_beat(self, link: int, beat: control.Beat, now: float) -> None:
        self._perform(self.links.on_beat(link, beat, now), now)
        if self.links.link_to(beat.node_id) == link:
            self._perform(
                self.detector.on_beat(beat.node_id, beat.interval, beat.lag, now), now
            )
            self.database.on_beat_digest(link, beat.digest, now)

    # Links -----------------------------------------------------------------------------------

    def on_accepted(self, link: int, *, local: bool, now: float) -> None:
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

    def add_peer(self, url: str, now: float) -> None:
        self._perform(self.links.add_peer(url, now), now)

    def remove_peer(self, url: str, now: float) -> None:
        self._perform(self.links.remove_peer(url, now), now)

    def set_endpoints(
        self, endpoints: tuple[str, ...], news_urls: tuple[str, ...], now: float
    ) -> None:
        """What this node listens on and advertises, with real ports."""
        if not self.identity.listed:
            return
        flags = Flags.NONE if endpoints else Flags.OUTBOUND_ONLY
        local = replace(
            self.links.local, endpoints=endpoints, news_urls=news_urls, flags=flags
        )
        self.links.set_local(local)
        self._edges_changed = True

    def set_details(self, content: dict[str, Any], now: float) -> None:
        """Capabilities, host, version and the like, told to everybody."""
        self._details = content
        self._perform(self.database.set_own(DETAILS, self._own_details, now), now)

    def set_incarnation(self, number: int, now: float) -> None:
        self.identity = replace(self.identity, incarnation=number)
        self.links.set_local(replace(self.links.local, incarnation=number))
        self.roster.set_own(number, self.identity.life)
        self._perform(self.database.set_incarnation(number, now), now)

    def set_timings(self, timings: TimingsLike, now: float) -> None:
        self._timings = timings
        self.links.set_local(replace(self.links.local, interval=timings.send_alive_interval))
        self._perform(self.detector.set_timings(timings, now), now)
        self._perform(self.roster.set_timings(timings, now), now)

    def leave(self, now: float) -> None:
        """Say goodbye: the last link state, to every neighbour, acknowledged by one."""
        self._perform(self.links.leave(now), now)
        if self.identity.listed and self._linked:
            self._perform(self.database.set_own(LINK_STATE, self._own_left, now), now)
            self._perform(self.database.announce(now), now)

    def close_links(self, now: float) -> None:
        """Close every link, orderly."""
        for info in self.links.links():
            code = control.Refusal.LEAVING
            self._perform(self.links.drop(info.link, "leaving", now, code=code), now)

    # Time ------------------------------------------------------------------------------------

    def on_tick(self, now: float) -> None:
        """Let everything that is due happen. Drain the sockets before."""
        if self.identity.listed:
            self._perform(self.detector.on_tick(now), now)
        self._perform(self.links.on_tick(now), now)
        self._perform(self.roster.on_tick(now), now)
        if self.identity.listed:
            self._perform(self.database.on_tick(now), now)
            self._route(now)
        self._timers.pop_due(now)
        self.delivery.on_tick(now)
        self.flush(now)

    def _route(self, now: float) -> None:
        changes = self.routing.on_tick(now)
        if not changes:
            return
        reachable = {node_id: reach.reachable for node_id, reach in changes.items()}
        self.database.set_reachable(reachable, now)
        self.forwarding.on_routes_changed()
        self.delivery.on_routes_changed(now)
        self._perform(self.roster.on_reach(changes, now), now)
        self._changed_nodes.update(dict.fromkeys(changes, ""))
        self._emit(Notify(Rerouted(tuple(changes))))

    # Own records -----------------------------------------------------------------------------

    def _announce(self, now: float) -> None:
        self._edges_changed = False
        if self.identity.listed and self._linked:
            self._perform(self.database.set_own(LINK_STATE, self._own_link_state, now), now)

    def _own_link_state(self, sequence: int) -> LinkState:
        local = self.links.local
        edges = [
            Edge(
                edge.node_id,
                self._costs.get(edge.node_id, COST_DEFAULT),
                edge.state,
                edge.reason,
                edge.age,
            )
            for edge in self.detector.edges()
        ]
        return LinkState(
            origin=self._node_id,
            incarnation=self.identity.incarnation,
            sequence=sequence,
            life=self.identity.life,
            edges=tuple(edges),
            endpoints=local.endpoints,
            scale=local.scale,
            born=local.born,
        )

    def _own_left(self, sequence: int) -> LinkState:
        return replace(self._own_link_state(sequence), edges=(), left=True)

    def _own_details(self, sequence: int) -> Details:
        return Details(self._node_id, self.identity.incarnation, sequence, self._details)

    def _beat(self, lag: float) -> control.Beat:
        self._beats += 1
        return control.Beat(
            node_id=self._node_id,
            incarnation=self.identity.incarnation,
            life=self.identity.life,
            number=self._beats,
            interval=self._timings.send_alive_interval,
            digest=self.database.digest,
            lag=lag,
        )

    # Effects ---------------------------------------------------------------------------------

    def _perform(self, effects: Iterable[Any], now: float) -> None:
        self.control_touched = True
        performers = self._performers
        for effect in effects:
            performer = performers.get(type(effect))
            if performer is None:
                self._emit(effect)
            else:
                performer(effect, now)

    def _make_performers(self) -> dict[type, Callable[[Any, float], None]]:
        return {
            Count: lambda effect, now: self._emit((COUNT, effect.reason)),
            link_events.Handshaken: self._on_handshaken,
            link_events.LinkUp: self._on_link_up,
            link_events.LinkDown: self._on_link_down,
            events.EdgeChanged: self._on_edge,
            events.EdgeRemoved: self._on_edge,
            events.NeighbourStatus: self._on_neighbour,
            events.BeatDue: self._on_beat_due,
            events.Paused: lambda effect, now: self.roster.on_pause(effect.duration, now),
            events.PeerState: self._on_peer_state,
            events.Added: self._on_node_event,
            events.Removed: self._on_node_event,
            events.StatusChanged: self._on_node_event,
            events.Restarted: self._on_node_event,
            link_states.Changed: self._on_record,
            link_states.Forgotten: lambda effect, now: self.routing.on_changed(
                effect.origin, None, now
            ),
            link_states.OutdoneBy: self._on_outdone,
        }

    def _on_handshaken(self, effect: link_events.Handshaken, now: float) -> None:
        self._senders[effect.link] = effect.node_id
        self._emit(Send(effect.link, self._beat(self.detector.lag)))

    def _on_link_up(self, effect: link_events.LinkUp, now: float) -> None:
        self._emit(Notify(effect))
        if effect.client_address is None:
            self._on_node_link_up(effect, now)
        elif self.identity.listed:
            self._senders[effect.link] = effect.client_address
            self._clients[effect.link] = effect.client_address
            self._send_view(effect.link)
        else:
            self._senders[effect.link] = effect.node_id
            self.attached_to, self._attached_link = effect.node_id, effect.link
            self.delivery.set_address(effect.client_address)
            self.delivery.on_first_link(now)
            self.delivery.on_routes_changed(now)

    def _on_node_link_up(self, effect: link_events.LinkUp, now: float) -> None:
        urls = effect.endpoints or (() if effect.url is None else (effect.url,))
        up = self.detector.on_link_up(
            effect.node_id,
            incarnation=effect.incarnation,
            life=effect.life,
            interval=effect.interval,
            urls=urls,
            now=now,
        )
        self._perform(up, now)
        self._linked = True
        self._node_links[effect.link] = effect.node_id
        self._edges_changed = True
        self._announce(now)
        self._perform(self.database.on_link_up(effect.link, effect.node_id, now), now)
        self.delivery.on_first_link(now)
        self.forwarding.on_routes_changed()
        self.delivery.on_routes_changed(now)

    def _on_link_down(self, effect: link_events.LinkDown, now: float) -> None:
        self._emit(Notify(effect))
        client = self._clients.get(effect.link)
        # Nothing can be probed where it listens nowhere, but nobody else closes such a link.
        local = effect.link in self._local and not self._endpoints_of(effect.node_id)
        self._forget_link(effect.link)
        if not self.identity.listed:
            if effect.link == self._attached_link:
                self.attached_to, self._attached_link = None, 0
                self._perform(self.roster.on_view((), reset=True, now=now), now)
            return
        if client is not None:
            self.delivery.on_client_gone(client)
            self.forwarding.on_client_gone(client)
            return
        self.database.on_link_down(effect.link)
        if effect.last:
            down = self.detector.on_link_down(
                effect.node_id, orderly=effect.orderly, outbound_local=local, now=now
            )
            self._perform(down, now)
            self._announce(now)
        self.forwarding.on_routes_changed()
        self.delivery.on_routes_changed(now)

    def _endpoints_of(self, node_id: str) -> tuple[str, ...]:
        record = self.database.link_state(node_id)
        return () if record is None else record.endpoints

    def _forget_link(self, link: int) -> None:
        self._senders.pop(link, None)
        self._node_links.pop(link, None)
        self._clients.pop(link, None)
        self._local.pop(link, None)

    def _on_edge(self, effect: events.EdgeChanged | events.EdgeRemoved, now: float) -> None:
        self._edges_changed = True

    def _on_neighbour(self, effect: events.NeighbourStatus, now: float) -> None:
        self._announce(now)
        self._perform(self.roster.on_neighbour(effect, now), now)
        self._changed_nodes[effect.node_id] = ""

    def _on_beat_due(self, effect: events.BeatDue, now: float) -> None:
        self._emit(Publish(self._beat(effect.lag)))

    def _on_peer_state(self, effect: events.PeerState, now: float) -> None:
        reason = effect.dead_reason
        self.delivery.on_peer(
            effect.node_id,
            effect.life,
            reachable=effect.reachable,
            dead="" if reason is None else reason.value,
            now=now,
        )

    def _on_node_event(self, effect: Any, now: float) -> None:
        self._emit(Notify(effect))
        self._changed_nodes[effect.node_id] = ""
        if isinstance(effect, events.Removed):
            self._changed_nodes[effect.node_id] = effect.reason.value
            self.details_of.pop(effect.node_id, None)
            self.database.remove(effect.node_id, now)
        elif isinstance(effect, events.Added):
            self._on_details(effect.node_id)

    def _on_record(self, effect: Any, now: float) -> None:
        """An origin said something new."""
        if effect.kind == DETAILS:
            self._on_details(effect.origin)
            return
        record = self.database.link_state(effect.origin)
        self.routing.on_changed(effect.origin, record, now)
        if record is not None and record.left and effect.origin != self._node_id:
            link = self.links.link_to(effect.origin)
            if link is not None:
                self._emit(Send(link, control.LeaveAck(self._node_id)))
                self._perform(self.detector.on_left(effect.origin), now)

    def _on_outdone(self, effect: link_states.OutdoneBy, now: float) -> None:
        """Somebody holds a record of our id from a later life: ours goes beyond it.

        Normally that life is over (a restored disk, a clock set back). If it goes on, both would
        outbid each other for ever: then this process gives way.
        """
        self._outdone += 1
        if self._outdone > OUTDONE_MAX:
            reason = f"node id '{self._node_id}' is used by another process in this mesh"
            self._emit(link_events.Evicted(reason, ""))
        else:
            self._emit(link_events.TakeIncarnation(effect.incarnation + 1))

    def _on_details(self, origin: str) -> None:
        record = self.database.get(origin, DETAILS)
        if isinstance(record, Details):
            self.details_of[origin] = record

    # Clients ---------------------------------------------------------------------------------

    def _tell_clients(self) -> None:
        changed, self._changed_nodes = self._changed_nodes, {}
        if not self._clients:
            return
        entries = []
        for node_id, reason in changed.items():
            entry = self.roster.get(node_id)
            if entry is None:
                entries.append((node_id, 0, 4, False, reason, 0))
            else:
                entries.append(view_entry_of(entry))
        for link in self._clients:
            for start in range(0, len(entries), VIEW_ENTRIES_MAX):
                part = tuple(entries[start : start + VIEW_ENTRIES_MAX])
                self._emit(Send(link, control.View(False, part)))

    def _send_view(self, link: int) -> None:
        entries = [view_entry_of(entry) for entry in self.roster.nodes()]
        for start in range(0, max(1, len(entries)), VIEW_ENTRIES_MAX):
            part = tuple(entries[start : start + VIEW_ENTRIES_MAX])
            self._emit(Send(link, control.View(start == 0, part)))

    def check_invariants(self) -> None:
        self.links.check_invariants()
        self.detector.check_invariants()
        self.database.check_invariants()
        self.routing.check_invariants()
        self.roster.check_invariants()
        self.delivery.check_invariants()


__all__ = ["LOOPBACK", "CloseLink", "Dial", "Identity", "Mesh", "NodeStatus", "Notify", "Probe"]
