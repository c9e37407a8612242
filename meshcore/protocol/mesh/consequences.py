"""What follows from what: effects of one machine become inputs of the next, in order.

    links → LinkUp → detector → EdgeChanged → own link state → database → Changed → routing
          → Reach → roster → Added, StatusChanged … → application, delivery, clients, election
          → MasterChanged → clock

What no machine takes goes out to the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from meshcore.protocol.delivery.outputs import COUNT
from meshcore.protocol.election import election
from meshcore.protocol.election.election import Candidate
from meshcore.protocol.machine import Count, Notify, Publish, Send
from meshcore.protocol.membership import events, gathering, link_events
from meshcore.protocol.mesh.machines import Machines
from meshcore.protocol.routing import database as link_states
from meshcore.protocol.routing import latency
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire import control
from meshcore.protocol.wire.records import DETAILS, LINK_STATE, Details

CLIENT_UNKNOWN_WAIT = 0.5  # seconds
OUTDONE_MAX = 5  # times that we outbid another life of our id and wait for a common scale

OUTDONE_LIVES_MAX = 64  # other lives that are counted, the latest of them


@dataclass(frozen=True, slots=True)
class Rerouted:
    """The ways to these nodes have changed."""

    node_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DetailsChanged:
    """What a node says of itself (its actions, its machine, its roles) is known, or new."""

    node_id: str


class Consequences(Machines):
    """Performs what the machines want of each other."""

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

    @cached_property
    def _performers(self) -> dict[type, Callable[[Any, float], None]]:
        return {
            Count: lambda effect, now: self._emit((COUNT, effect.reason)),
            link_events.Handshaken: self._on_handshaken,
            link_events.LinkUp: self._on_link_up,
            link_events.LinkDown: self._on_link_down,
            events.EdgeChanged: self._on_edge,
            events.EdgeRemoved: self._on_edge,
            events.NeighbourStatus: self._on_neighbour,
            events.BeatDue: lambda due, now: self._emit(Publish(self.own.beat(due.lag, now))),
            events.Paused: self._on_pause,
            events.PeerState: self._on_peer_state,
            events.Added: self._on_added,
            events.Removed: self._on_removed,
            events.Lost: self._forget_node,
            events.StatusChanged: self._on_node_event,
            events.Restarted: self._on_node_event,
            link_states.Changed: self._on_record,
            link_states.Forgotten: lambda it, now: self.routing.on_changed(it.origin, None, now),
            link_states.OutdoneBy: self._on_outdone,
            gathering.Learn: self._on_learn,
            gathering.Unlearn: lambda effect, now: self.links.unlearn(effect.urls),
            latency.Ping: self._on_ping,
            latency.Recost: lambda effect, now: self._note_own_change(),
            election.MasterChanged: self._on_master,
            election.Contested: lambda effect, now: self._emit(Notify(effect)),
        }

    def _on_handshaken(self, effect: link_events.Handshaken, now: float) -> None:
        self._senders[effect.link] = effect.node_id
        self._emit(Send(effect.link, self.own.beat(self.detector.lag, now)))

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
        self.latency.on_link_up(effect.node_id, now)
        up = self.detector.on_link_up(
            effect.node_id,
            incarnation=effect.incarnation,
            life=effect.life,
            interval=effect.interval,
            urls=effect.endpoints or (() if effect.url is None else (effect.url,)),
            now=now,
        )
        self._perform(up, now)
        if self._edges_changed:  # its status may have said it already
            self._announce(now)
        self._perform(self.database.on_link_up(effect.link, effect.node_id, now), now)
        self.delivery.on_first_link(now)
        self._reroute(now)
        self._perform(self.gathering.on_link_up(effect.node_id, effect.url, now), now)

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
            self.latency.on_link_down(effect.node_id)
            down = self.detector.on_link_down(
                effect.node_id, orderly=effect.orderly, outbound_local=local, now=now
            )
            self._perform(down, now)
            self._announce(now)
            self._perform(self.gathering.on_link_down(effect.node_id, now), now)
        self._reroute(now)

    def _forget_link(self, link: int) -> None:
        self._senders.pop(link, None)
        self._up.pop(link, None)
        self._local.pop(link, None)

    def _on_edge(self, effect: events.EdgeChanged | events.EdgeRemoved, now: float) -> None:
        self._note_own_change()

    def _note_own_change(self) -> None:
        """Our link state has changed: it is told at the end of the turn."""
        self._edges_changed = True

    def _on_neighbour(self, effect: events.NeighbourStatus, now: float) -> None:
        if self._edges_changed:  # what follows for routing first
            self._announce(now)
        self._perform(self.roster.on_neighbour(effect, now), now)
        self.gathering.on_silence(effect.node_id, effect.new is NodeStatus.DEAD, now)
        self.clients.note((effect.node_id,))

    def _on_pause(self, effect: events.Paused, now: float) -> None:
        self.routing.on_pause(effect.duration, now)
        self.roster.on_pause(effect.duration, now)

    def _on_peer_state(self, effect: events.PeerState, now: float) -> None:
        reason = effect.dead_reason
        self.delivery.on_peer(
            effect.node_id,
            effect.life,
            reachable=effect.reachable,
            dead="" if reason is None else reason.value,
            now=now,
        )
        self._elect(effect.node_id, now)  # a quiet one is a candidate while there is a way to it

    def _on_added(self, effect: events.Added, now: float) -> None:
        self._on_node_event(effect, now)
        self._on_details(effect.node_id)

    def _on_removed(self, effect: events.Removed, now: float) -> None:
        self._emit(Notify(effect))
        if effect.reason is events.Reason.QUIET:  # it is a part of the mesh still, only not heard
            self.clients.note((effect.node_id,), removed=effect.reason.value)
        else:
            self._forget_node(effect, now)

    def _forget_node(self, effect: events.Removed | events.Lost, now: float) -> None:
        self.clients.note((effect.node_id,), removed=effect.reason.value)
        self.details_of.pop(effect.node_id, None)
        self.database.remove(effect.node_id, now)

    def _on_node_event(
        self, effect: events.Added | events.StatusChanged | events.Restarted, now: float
    ) -> None:
        self._emit(Notify(effect))
        self.clients.note((effect.node_id,))
        self._elect(effect.node_id, now)

    def _on_record(self, effect: link_states.Changed, now: float) -> None:
        """An origin said something new."""
        if effect.kind == DETAILS:
            self._on_details(effect.origin)
            return
        record = self.database.link_state(effect.origin)
        self.routing.on_changed(effect.origin, record, now)
        self._elect(effect.origin, now)
        if record is not None and record.left and effect.origin != self._node_id:
            self.gathering.forget_hint(effect.origin)
            link = self.links.link_to(effect.origin, record.life)
            if link is not None:
                self._emit(Send(link, control.LeaveAck(self._node_id)))
                self._perform(self.detector.on_left(effect.origin), now)

    def _on_details(self, origin: str) -> None:
        record = self.database.get(origin, DETAILS)
        if isinstance(record, Details):
            self.details_of[origin] = record
            self._emit(Notify(DetailsChanged(origin)))
        else:  # those of an older life
            self.details_of.pop(origin, None)

    def _on_outdone(self, effect: link_states.OutdoneBy, now: float) -> None:
        """Somebody holds a record of our id from another life: ours goes beyond it.

        Normally that life is over (a restored disk, a clock set back) and this is the end of it.
        One that outbids us in turn goes on: the older of both stays, and each can tell from the
        other's record which one it is, once both count on one scale. Where they never do, or the
        other does not give way, an end is put to it.
        """
        times = self._outdone[effect.life] = self._outdone.pop(effect.life, 0) + 1
        if len(self._outdone) > OUTDONE_LIVES_MAX:  # somebody invents lives
            del self._outdone[next(iter(self._outdone))]
        theirs = (effect.scale, effect.born, effect.life)
        ours = (self.scale.name, self.scale.born, self.identity.life)
        comparable = effect.scale == self.scale.name or times > OUTDONE_MAX
        stays = theirs < ours and effect.life != 0
        if (times > 1 and comparable and stays) or times > 2 * OUTDONE_MAX:
            reason = f"evicted: node id '{self._node_id}' is used by an older process in this mesh"
            self._emit(link_events.Evicted(reason, ""))
        else:
            self._emit(link_events.TakeIncarnation(effect.incarnation + 1))

    def _on_learn(self, effect: gathering.Learn, now: float) -> None:
        self._perform(self.links.learn(effect.node_id, effect.urls, now), now)

    # Master and time -------------------------------------------------------------------------

    def _on_scale(self, now: float) -> None:
        """Our age counts on another scale now: say so at once, for it spreads from node to node."""
        scale = self.scale
        self.links.set_local(replace(self.links.local, scale=scale.name, born=scale.born))
        self._announce(now)
        self._elect_self(now)
        self._emit(Publish(self.own.beat(self.detector.lag, now)))

    def _elect(self, node_id: str, now: float) -> None:
        """A node's candidacy may have changed: who it is, whether it lives, what it wants."""
        if node_id == self._node_id:
            return
        record, life = self.database.link_state(node_id), self.roster.candidate_life(node_id)
        candidate = None
        if record is not None and record.life == life and not record.left:
            candidate = Candidate(record.scale, record.born, record.forced)
        self._perform(self.election.update(node_id, candidate, now), now)

    def _elect_self(self, now: float, *, at_once: bool = False) -> None:
        candidate = Candidate(self.scale.name, self.scale.born, self.own.forced)
        changes = self.election.update(self._node_id, candidate, now, at_once=at_once)
        self._perform(changes, now)

    def _on_master(self, effect: election.MasterChanged, now: float) -> None:
        self._emit(Notify(effect))
        self.clients.set_master(effect.new)
        self.clock.follow(effect.new, leads=effect.new == self._node_id, now=now)
        self._seek_time(now)

    def _seek_time(self, now: float) -> None:
        """Ask sooner for the time while we have none."""
        upstream = self.next_hop_to_master()
        if upstream is not None and not self.clock.has_time_of_master:
            self.latency.hurry(upstream, now)
            self.control_touched = True

    def _on_ping(self, effect: latency.Ping, now: float) -> None:
        link = self.links.link_to(effect.node_id)
        if link is not None:
            self._emit(Send(link, control.Echo(effect.number)))

    def _on_echo(self, link: int, echo: control.Echo, now: float) -> None:
        """Answer at once; where we know the mesh's time, the answer carries it."""
        clock = self.clock
        time, error = clock.time(now), clock.error(now) or 0.0
        master = (self.election.master if clock.has_time_of_master else None) or ""
        reply = control.EchoReply(echo.number, master, time, time, error, clock.epoch)
        self._emit(Send(link, reply))

    def _on_echo_reply(self, node_id: str, reply: control.EchoReply, now: float) -> None:
        sent = self.latency.on_reply(node_id, reply.number, now)
        self.control_touched = self.control_touched or self.latency.is_due
        if sent is None or node_id != self.next_hop_to_master():
            return
        if reply.master == self.election.master:
            self.clock.on_reply(
                sent, reply.received, reply.replied, now, error=reply.error, epoch=reply.epoch
            )
            self.latency.rest(node_id)
        else:
            self._seek_time(now)

    def _reroute(self, now: float) -> None:
        self.forwarding.on_routes_changed()
        self.delivery.on_routes_changed(now)

    def _announce(self, now: float) -> None:
        self._edges_changed = False
        if self.identity.listed and not self._has_left:
            self._perform(self.database.set_own(LINK_STATE, self.own.link_state, now), now)
