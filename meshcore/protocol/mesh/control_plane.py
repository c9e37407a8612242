"""The control plane: who is linked, alive and reachable, and by which way.

Links, detector, database, routing and roster do not know each other; here the effects of one become
inputs of the next, in order, and what is left goes out to the shell:

    links → LinkUp → detector → EdgeChanged → own link state → database → Changed → routing
          → Reach → roster → Added, StatusChanged … → application, delivery, clients
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshcore.errors import ProtocolError
from meshcore.protocol.delivery.delivery import Delivery
from meshcore.protocol.delivery.outputs import COUNT
from meshcore.protocol.forwarding import Forwarding
from meshcore.protocol.machine import Count, Notify, Publish, Send
from meshcore.protocol.membership import events, link_events
from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.handshake import Local
from meshcore.protocol.membership.links import Links
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.membership.timings import TimingsLike
from meshcore.protocol.mesh.clients import Clients
from meshcore.protocol.mesh.own import Identity, OwnRecords
from meshcore.protocol.routing import database as link_states
from meshcore.protocol.routing.database import LinkStateDatabase
from meshcore.protocol.routing.routing import Routing
from meshcore.protocol.wire import control
from meshcore.protocol.wire.control import Flags
from meshcore.protocol.wire.records import DETAILS, LINK_STATE, Details

CLIENT_UNKNOWN_WAIT = 0.5  # seconds
OUTDONE_MAX = 5  # times that we outbid another life of our id


@dataclass(frozen=True, slots=True)
class Rerouted:
    """The ways to these nodes have changed."""

    node_ids: tuple[str, ...]


class ControlPlane:
    """The machines of the control plane, composed; `Mesh` adds the data plane."""

    def __init__(
        self,
        identity: Identity,
        *,
        timings: TimingsLike,
        rng: random.Random,
        now: float,
        costs: Mapping[str, int],
        delivery: Delivery,
        forwarding: Forwarding,
    ) -> None:
        self.identity = identity
        self.delivery, self.forwarding = delivery, forwarding
        self._node_id = identity.node_id
        self._emit = delivery.emit
        local = Local(
            mesh=identity.mesh,
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            life=identity.life,
            flags=Flags.OUTBOUND_ONLY if identity.listed else Flags.EPHEMERAL,
            interval=timings.send_alive_interval,
            scale=rng.getrandbits(64) or 1,
            description=identity.description,
        )
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
        self.own = OwnRecords(
            self.links, self.detector, costs=costs, digest=lambda: self.database.digest
        )
        self.clients = Clients(self.roster, self._emit)
        self.details_of: dict[str, Details] = {}
        self.attached_to: str | None = None  # a client's node
        self.leave_acked = False
        self.control_touched = True  # its deadlines may have changed
        self._attached_link = 0
        self._senders: dict[int, str] = {}  # link -> node id, or address of a client of ours
        self._local: dict[int, None] = {}  # accepted links from this very machine
        self._up: dict[int, None] = {}  # links to nodes that are up
        self._edges_changed = False
        self._outdone = 0
        self._performers = self._make_performers()

    # Reads -----------------------------------------------------------------------------------

    def has_link(self) -> bool:
        """Whether a link to another node is up."""
        return bool(self._attached_link or self._up)

    def is_neighbour(self, link: int) -> bool:
        """Whether a node, and not a client, is at the other end: it gets what is published."""
        return link in self._senders and link not in self.clients

    def _holder_of(self, node_id: str) -> int | None:
        entry = self.roster.get(node_id)
        return entry.life if entry is not None and entry.reachable else None

    def _known_of(self, node_id: str) -> tuple[int, int] | None:
        incarnation = self.database.incarnation_of(node_id)
        record = self.database.link_state(node_id)
        known = None if incarnation is None else (incarnation, 0 if record is None else record.life)
        entry = self.roster.get(node_id)  # a link tells of a life before its record comes
        if entry is not None and (known is None or entry.incarnation > known[0]):
            known = entry.incarnation, entry.life
        return known

    # Messages --------------------------------------------------------------------------------

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
        elif link not in self._senders:
            self._perform(self.links.on_other(link, now), now)
        elif not self.identity.listed:
            if isinstance(message, control.View) and link == self._attached_link:
                told = self.roster.on_view(message.entries, reset=message.reset, now=now)
                self._perform(told, now)
                self._emit(Notify(Rerouted(tuple(entry[0] for entry in message.entries))))
        elif link in self.clients:
            self._emit((COUNT, "control message of a client"))
        else:
            self._on_linked(link, message, now)

    def _on_linked(self, link: int, message: Any, now: float) -> None:
        """From a neighbour whose handshake has passed."""
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
        try:
            message = control.decode(data)
        except ProtocolError as error:
            self._emit((COUNT, f"bad news: {error.message}"))
            return
        if not self.is_neighbour(link):
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
            self._perform(self.detector.on_beat(beat.node_id, beat.interval, beat.lag, now), now)
            self.database.on_beat_digest(link, beat.digest, now)

    # Time ------------------------------------------------------------------------------------

    def _control_deadline(self) -> float | None:
        deadlines = [self.links.next_deadline(), self.roster.next_deadline()]
        if self.identity.listed:
            machines = (self.detector, self.database, self.routing)
            deadlines += [machine.next_deadline() for machine in machines]
        return min((one for one in deadlines if one is not None), default=None)

    def _tick_control(self, now: float) -> None:
        if self.identity.listed:
            self._perform(self.detector.on_tick(now), now)
        self._perform(self.links.on_tick(now), now)
        self._perform(self.roster.on_tick(now), now)
        if self.identity.listed:
            self._perform(self.database.on_tick(now), now)
            self._route(now)

    def _route(self, now: float) -> None:
        changes = self.routing.on_tick(now)
        if not changes:
            return
        reachable = {node_id: reach.reachable for node_id, reach in changes.items()}
        self.database.set_reachable(reachable, now)
        self._reroute(now)
        self._perform(self.roster.on_reach(changes, now), now)
        self.clients.note(changes)
        self._emit(Notify(Rerouted(tuple(changes))))

    def _reroute(self, now: float) -> None:
        self.forwarding.on_routes_changed()
        self.delivery.on_routes_changed(now)

    def _flush_control(self, now: float) -> None:
        """The end of a turn: tell clients and neighbours what has changed in it."""
        self.clients.tell()
        if self._edges_changed:
            self._announce(now)

    def _announce(self, now: float) -> None:
        self._edges_changed = False
        if self.identity.listed:
            self._perform(self.database.set_own(LINK_STATE, self.own.link_state, now), now)

    # Effects ---------------------------------------------------------------------------------

    def _perform(self, effects: Iterable[Any], now: float) -> None:
        self.control_touched = True
        performers = self._performers
        for effect in effects:
            performer = performers.get(type(effect))
            if performer is None:
                self._emit(effect)  # the shell's
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
            events.BeatDue: lambda due, now: self._emit(Publish(self.own.beat(due.lag))),
            events.Paused: lambda pause, now: self.roster.on_pause(pause.duration, now),
            events.PeerState: self._on_peer_state,
            events.Added: self._on_added,
            events.Removed: self._on_removed,
            events.StatusChanged: self._on_node_event,
            events.Restarted: self._on_node_event,
            link_states.Changed: self._on_record,
            link_states.Forgotten: lambda it, now: self.routing.on_changed(it.origin, None, now),
            link_states.OutdoneBy: self._on_outdone,
        }

    def _on_handshaken(self, effect: link_events.Handshaken, now: float) -> None:
        self._senders[effect.link] = effect.node_id
        self._emit(Send(effect.link, self.own.beat(self.detector.lag)))

    def _on_link_up(self, effect: link_events.LinkUp, now: float) -> None:
        self._emit(Notify(effect))
        if effect.client_address is None:
            self._on_node_link_up(effect, now)
        elif self.identity.listed:
            self._senders[effect.link] = effect.client_address
            self.clients.attach(effect.link, effect.client_address)
        else:
            self._senders[effect.link] = effect.node_id
            self.attached_to, self._attached_link = effect.node_id, effect.link
            self.delivery.set_address(effect.client_address)
            # Our node tells at once whom it knows.
            self.delivery.on_first_link(now, wait=CLIENT_UNKNOWN_WAIT)
            self.delivery.on_routes_changed(now)

    def _on_node_link_up(self, effect: link_events.LinkUp, now: float) -> None:
        self._up[effect.link] = None
        up = self.detector.on_link_up(
            effect.node_id,
            incarnation=effect.incarnation,
            life=effect.life,
            interval=effect.interval,
            urls=effect.endpoints or (() if effect.url is None else (effect.url,)),
            now=now,
        )
        self._perform(up, now)
        self._announce(now)
        self._perform(self.database.on_link_up(effect.link, effect.node_id, now), now)
        self.delivery.on_first_link(now)
        self._reroute(now)

    def _on_link_down(self, effect: link_events.LinkDown, now: float) -> None:
        self._emit(Notify(effect))
        # Nothing can be probed where it listens nowhere, but nobody else closes such a link.
        record = self.database.link_state(effect.node_id)
        local = effect.link in self._local and (record is None or not record.endpoints)
        client = self.clients.detach(effect.link)
        self._forget_link(effect.link)
        if client is not None:
            self.delivery.on_client_gone(client)
            self.forwarding.on_client_gone(client)
        elif not self.identity.listed:
            if effect.link == self._attached_link:
                self.attached_to, self._attached_link = None, 0
                self._perform(self.roster.on_view((), reset=True, now=now), now)
        else:
            self._on_node_link_down(effect, local, now)

    def _on_node_link_down(self, effect: link_events.LinkDown, local: bool, now: float) -> None:
        self.database.on_link_down(effect.link)
        if effect.last:
            down = self.detector.on_link_down(
                effect.node_id, orderly=effect.orderly, outbound_local=local, now=now
            )
            self._perform(down, now)
            self._announce(now)
        self._reroute(now)

    def _forget_link(self, link: int) -> None:
        self._senders.pop(link, None)
        self._up.pop(link, None)
        self._local.pop(link, None)

    def _on_edge(self, effect: events.EdgeChanged | events.EdgeRemoved, now: float) -> None:
        self._edges_changed = True

    def _on_neighbour(self, effect: events.NeighbourStatus, now: float) -> None:
        if self._edges_changed:  # what follows for routing first
            self._announce(now)
        self._perform(self.roster.on_neighbour(effect, now), now)
        self.clients.note((effect.node_id,))

    def _on_peer_state(self, effect: events.PeerState, now: float) -> None:
        reason = effect.dead_reason
        self.delivery.on_peer(
            effect.node_id,
            effect.life,
            reachable=effect.reachable,
            dead="" if reason is None else reason.value,
            now=now,
        )

    def _on_added(self, effect: events.Added, now: float) -> None:
        self._on_node_event(effect, now)
        self._on_details(effect.node_id)

    def _on_removed(self, effect: events.Removed, now: float) -> None:
        self._emit(Notify(effect))
        self.clients.note((effect.node_id,), removed=effect.reason.value)
        self.details_of.pop(effect.node_id, None)
        self.database.remove(effect.node_id, now)

    def _on_node_event(
        self, effect: events.Added | events.StatusChanged | events.Restarted, now: float
    ) -> None:
        self._emit(Notify(effect))
        self.clients.note((effect.node_id,))

    def _on_record(self, effect: link_states.Changed, now: float) -> None:
        """An origin said something new."""
        if effect.kind == DETAILS:
            self._on_details(effect.origin)
            return
        record = self.database.link_state(effect.origin)
        self.routing.on_changed(effect.origin, record, now)
        if record is not None and record.left and effect.origin != self._node_id:
            link = self.links.link_to(effect.origin, record.life)
            if link is not None:
                self._emit(Send(link, control.LeaveAck(self._node_id)))
                self._perform(self.detector.on_left(effect.origin), now)

    def _on_details(self, origin: str) -> None:
        record = self.database.get(origin, DETAILS)
        if isinstance(record, Details):
            self.details_of[origin] = record
        else:  # those of an older life
            self.details_of.pop(origin, None)

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
