"""The control plane: who is linked, alive and reachable, and by which way.

Links, detector, database, routing and roster do not know each other (`machines`); the effects of
one become inputs of the next (`consequences`). Here is what drives them: control messages and time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from meshcore.errors import ProtocolError
from meshcore.protocol.delivery.outputs import COUNT
from meshcore.protocol.election.election import MasterChanged
from meshcore.protocol.machine import Notify
from meshcore.protocol.mesh.consequences import Consequences, Rerouted
from meshcore.protocol.wire import control


class ControlPlane(Consequences):
    """The machines of the control plane, composed; `Mesh` adds the data plane."""

    # Messages --------------------------------------------------------------------------------

    def _on_control(self, link: int, frame: bytes, now: float) -> None:
        try:
            message = self._decode(frame)
        except ProtocolError as error:
            self._emit((COUNT, f"bad control message: {error.message}"))
            self._perform(self.links.drop(link, f"protocol: {error.message}", now), now)
            return
        self._count_received(message)
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
                self._on_view_master(message.master or None)
                self._emit(Notify(Rerouted(tuple(entry[0] for entry in message.entries))))
        elif link in self.clients:
            self._emit((COUNT, "control message of a client"))
        else:
            self._on_linked(link, message, now)

    def _count_received(self, message: control.Control) -> None:
        kind = control.KIND_NAMES[type(message)]
        self.control_received[kind] = self.control_received.get(kind, 0) + 1

    def _on_view_master(self, master: str | None) -> None:
        if master != self.view_master:
            changed = MasterChanged(self.view_master, master)
            self.view_master = master
            self._emit(Notify(changed))

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
                self._on_echo(link, message, now)
            case control.EchoReply():
                self._on_echo_reply(self._senders[link], message, now)

    def on_news(self, link: int, data: bytes, now: float) -> None:
        """A message over PUB/SUB; what is no beat or news, or of a stranger, is counted."""
        try:
            message = self._decode(data)
        except ProtocolError as error:
            self._emit((COUNT, f"bad news: {error.message}"))
            return
        self._count_received(message)
        if not self.is_neighbour(link):
            self._emit((COUNT, "news before the handshake"))
        elif isinstance(message, control.Beat):
            self._on_beat(link, message, now)
        elif isinstance(message, control.News):
            self._on_published_records(link, message, now)
        else:
            self._emit((COUNT, "bad news: kind"))

    def _on_published_records(self, link: int, news: control.News, now: float) -> None:
        """Every neighbour tells the same news, so most of what comes is known already."""
        tells_at = self.database.tells_at
        if effects := self.database.on_news(link, news.records, now):
            self._perform(effects, now)
        elif self.database.tells_at != tells_at:
            self.control_touched = True

    def _on_beat(self, link: int, beat: control.Beat, now: float) -> None:
        """Mostly nothing follows of a beat, and then no deadline comes nearer either."""
        if effects := self.links.on_beat(link, beat, now):
            self._perform(effects, now)
        if self.links.link_to(beat.node_id) == link:
            if news := self.detector.on_beat(beat.node_id, beat.interval, beat.lag, now):
                self._perform(news, now)
            if self.database.on_beat_digest(link, beat.digest, now):
                self.control_touched = True
            if self.scale.meet(beat.scale, beat.position, now):
                self._on_scale(now)

    # Time ------------------------------------------------------------------------------------

    @cached_property
    def _ticking(self) -> tuple[tuple[Callable[[], float | None], Callable[[float], None]], ...]:
        """Who has deadlines, and what happens then, in the order in which it must."""

        def performed(on_tick: Callable[[float], Iterable[Any]]) -> Callable[[float], None]:
            return lambda now: self._perform(on_tick(now), now)

        links = (self.links.next_deadline, performed(self.links.on_tick))
        roster = (self.roster.next_deadline, performed(self.roster.on_tick))
        if not self.identity.listed:
            return (links, roster)
        return (
            (self.detector.next_deadline, performed(self.detector.on_tick)),
            links,
            roster,
            (self.latency.next_deadline, performed(self.latency.on_tick)),
            (self.database.next_deadline, performed(self.database.on_tick)),
            (self.routing.next_deadline, self._route),
            (self.election.next_deadline, performed(self.election.on_tick)),
            (self.gathering.next_deadline, performed(self.gathering.on_tick)),
        )

    def _control_deadline(self) -> float | None:
        deadlines = [next_deadline() for next_deadline, _ in self._ticking]
        return min([one for one in deadlines if one is not None], default=None)

    def _tick_control(self, now: float) -> None:
        """Only who is due: asking for a deadline costs less than a tick in vain."""
        for next_deadline, tick in self._ticking:
            due = next_deadline()
            if due is not None and due <= now:
                tick(now)

    def _route(self, now: float) -> None:
        changes = self.routing.on_tick(now)
        if not changes:
            return
        reachable = {node_id: reach.reachable for node_id, reach in changes.items()}
        self.database.set_reachable(reachable, now)
        self._reroute(now)
        self._perform(self.roster.on_reach(changes, now), now)
        self.gathering.on_routes(reachable.values(), now)
        self.clients.note(changes)
        self._emit(Notify(Rerouted(tuple(changes))))
        self._seek_time(now)

    def _flush_control(self, now: float) -> None:
        """The end of a turn: tell clients and neighbours what has changed in it."""
        self.clients.tell()
        if self._edges_changed:
            self._announce(now)
