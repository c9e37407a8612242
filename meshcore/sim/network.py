"""Connections between processes, and what becomes of the frames on them.

A wire stands for the bundle of connections that a link consists of. It behaves like TCP under
ZeroMQ: the two lanes keep their order each and lose nothing while the wire stands; what cannot pass
waits in the sender's queue; and the ZMTP heartbeats end a wire on which nothing passes, or whose
other end is frozen, after 2.4 to 3.5 s at each end. News is what may be lost, doubled and passed.

Cuts are between two hosts, in one direction or both. A host that is silent (its power is off)
refuses nobody: dials to it hang, and its wires die by heartbeats. The process that has ended on a
host that lives closes its wires and refuses at once. Two hosts may have conditions of their own.

`packet_loss` and `duplication` concern packets of work alone: that is what a relay may drop or a
changed path may double. Control messages are lost by the end of a wire only.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from meshcore.protocol.wire.packet import PACKET
from meshcore.sim.clock import Clock
from meshcore.sim.wires import Conditions as Conditions
from meshcore.sim.wires import End, Wire

if TYPE_CHECKING:
    from meshcore.sim.process import Process

HEARTBEAT_MIN, HEARTBEAT_MAX = 2.4, 3.5  # seconds until a silent connection is given up
DIAL_AGAIN = 0.25  # seconds between attempts to get through to a host that does not answer
QUEUE_BYTES_MAX = 4 * 1024 * 1024  # that wait for one lane


class Network:
    """All wires. `listening` maps a URL to the process that listens there."""

    def __init__(self, clock: Clock, rng: random.Random, conditions: Conditions) -> None:
        self.conditions = conditions
        self.listening: dict[str, Process] = {}
        self.hosts: dict[str, str] = {}  # of each URL, also while nobody listens
        self.silent_hosts: dict[str, None] = {}
        self.sent: dict[str, int] = {
            "frames": 0,
            "packets": 0,
            "bytes": 0,
            "news": 0,
            "lost": 0,
            "doubled": 0,
        }
        self._clock, self._rng = clock, rng
        self._cuts: dict[tuple[str, str], None] = {}
        self._special: dict[tuple[str, str], Conditions] = {}
        self._wires: dict[Wire, None] = {}

    # Wires -----------------------------------------------------------------------------------

    def dial(self, process: Process, link: int, url: str) -> None:
        self._clock.after(self._delay(), self._connect, process, link, url)

    def _connect(self, process: Process, link: int, url: str) -> None:
        if link not in process.dialling or not process.is_alive:
            return
        host = self.hosts.get(url)
        listener = self.listening.get(url)
        if host is not None and not self._can_talk(process.host, host):
            self._clock.after(DIAL_AGAIN, self._connect, process, link, url)
        elif listener is None:
            del process.dialling[link]
            self._clock.after(self._delay(), process.on_dial_failed, link, "connection refused")
        elif listener.is_paused:  # the kernel connects, but nobody shakes hands
            self._clock.after(DIAL_AGAIN, self._connect, process, link, url)
        else:
            del process.dialling[link]
            accepted = listener.new_link()
            ends = (End(process, link, self._share()), End(listener, accepted, self._share()))
            wire = Wire(*ends, self._clock.now)
            self._specialize(wire)
            self._wires[wire] = None
            process.wires[link] = wire
            listener.wires[accepted] = wire
            listener.on_accepted(accepted, local=self.conditions.same_machine)
            self._clock.after(self._delay_of(ends[1]), process.on_connected, link)

    def subscribe(self, process: Process, link: int) -> None:
        """Connect the news connections of a dialled link."""
        wire = process.wires.get(link)
        if wire is not None and self.conditions.has_news:
            self._clock.after(2 * self._delay(), self._subscribed, wire)

    def _subscribed(self, wire: Wire) -> None:
        if wire in self._wires and self._can_talk(*(end.process.host for end in wire.ends)):
            wire.is_subscribed = True

    def close(self, process: Process, link: int, *, hard: bool = False) -> None:
        """A process closes its end; what it has sent still arrives, and then the end of it."""
        wire = process.wires.pop(link, None)
        if wire is None:
            return
        end = wire.end_of(process)
        end.is_open = False
        other = wire.other(end)
        if other.is_open and self._passes(end, other):
            last = (
                self._clock.now + self._delay_of(end)
                if hard
                else max(*end.arrives_at, self._clock.now)
            )
            self._clock.at(last, self._lose, wire, other, "closed by the other side")
        self._forget_if_over(wire)

    def _lose(self, wire: Wire, end: End, reason: str) -> None:
        """An end learns that the wire is over."""
        if not end.is_open:
            return
        end.is_open = False
        end.waiting.clear()
        end.process.wires.pop(end.link, None)
        self._forget_if_over(wire)
        end.process.on_closed(end.link, reason)

    def _forget_if_over(self, wire: Wire) -> None:
        if not any(end.is_open for end in wire.ends):
            self._wires.pop(wire, None)

    def set_conditions(self, one: str, other: str, conditions: Conditions | None) -> None:
        """The link between two hosts behaves like this; None: as the whole network does."""
        key = (min(one, other), max(one, other))
        self._special.pop(key, None)
        if conditions is not None:
            self._special[key] = conditions
        for wire in self._wires:
            self._specialize(wire)

    def _specialize(self, wire: Wire) -> None:
        if not self._special:
            one, other = wire.ends
            one.special = other.special = None
            return
        hosts = sorted(end.process.host for end in wire.ends)
        for end in wire.ends:
            end.special = self._special.get((hosts[0], hosts[-1]))

    # Frames ----------------------------------------------------------------------------------

    def send(self, process: Process, link: int, lane: int, frames: list[Any]) -> bool:
        """Carry one message of one or two frames; False where its queue is full or it is over."""
        wire = process.wires.get(link)
        if wire is None:
            return False
        end = wire.end_of(process)
        other = wire.other(end)
        size = sum(map(len, frames))
        self.sent["frames"] += 1
        self.sent["packets"] += frames[0][1] == PACKET
        self.sent["bytes"] += size
        self._clock.note(frames[0])
        if end.queued + other.process.waiting_bytes + size > QUEUE_BYTES_MAX:
            return False
        process.traffic.on_sent(frames[0], size)
        if not self._passes(end, other):
            end.queued += size
            end.waiting.append((lane, frames))
            return True
        self._carry(end, other, lane, frames, size)
        return True

    def _carry(self, end: End, other: End, lane: int, frames: list[Any], size: int) -> None:
        conditions, rng, now = end.special or self.conditions, self._rng, self._clock.now
        if frames[0][1] == PACKET:
            if conditions.packet_loss and rng.random() < conditions.packet_loss:
                self.sent["lost"] += 1
                return
            if conditions.duplication and rng.random() < conditions.duplication:
                self.sent["doubled"] += 1
                late = end.share * conditions.delay + rng.random() * conditions.duplicate_after
                self._clock.after(late, self._arrive, end, other, lane, frames)
        leaves_at = now
        if conditions.bytes_per_second:
            leaves_at = max(now, end.free_at[lane]) + size / conditions.bytes_per_second
            end.free_at[lane] = leaves_at
        at = max(
            end.arrives_at[lane],
            leaves_at + end.share * conditions.delay + rng.random() * conditions.jitter,
        )
        end.arrives_at[lane] = at
        self._clock.at(at, self._arrive, end, other, lane, frames)

    def _arrive(self, end: End, other: End, lane: int, frames: list[Any]) -> None:
        if not other.is_open:
            return
        if self._passes(end, other):
            other.process.traffic.on_received(frames[0], sum(map(len, frames)))
            other.process.on_frames(other.link, lane, frames)
        elif end.is_open:  # it was cut on the way: the sender's kernel sends it again
            end.waiting.append((lane, frames))
            end.queued += sum(map(len, frames))

    def publish(self, process: Process, data: bytes) -> None:
        """News to every neighbour that listens, on lane 0 to those that cannot (yet)."""
        rng, now, at = self._rng, self._clock.now, self._clock.at
        self._clock.note(data)
        copies = 0
        for link, wire in list(process.wires.items()):
            if not wire.is_subscribed:
                if process.mesh.is_neighbour(link):
                    self.send(process, link, 0, [data])
                continue
            end, other = wire.ends
            if end.process is not process:
                end, other = other, end
            copies += 1
            if not self._passes(end, other):
                continue
            conditions = end.special or self.conditions
            if conditions.news_loss and rng.random() < conditions.news_loss:
                self.sent["lost"] += 1
                continue
            delay = end.share * conditions.delay + rng.random() * conditions.jitter
            if conditions.news_reorder and rng.random() < conditions.news_reorder:
                delay += rng.random() * 0.2
            at(now + delay, self._arrive_news, end, other, data)
        self.sent["news"] += copies
        process.traffic.on_published(data, copies)

    def _arrive_news(self, end: End, other: End, data: bytes) -> None:
        if other.is_open and self._passes(end, other):
            process = other.process
            process.traffic.on_heard(data)
            process.on_news(other.link, data)

    # Faults ----------------------------------------------------------------------------------

    def cut(self, source: str, destination: str) -> None:
        """Nothing passes from one host to another any more; the way back is another cut."""
        if (source, destination) not in self._cuts:
            self._cuts[source, destination] = None
            self.suspect(source, destination)

    def heal(self, source: str, destination: str) -> None:
        self._cuts.pop((source, destination), None)
        for wire in list(self._wires):
            if {source, destination} == {end.process.host for end in wire.ends}:
                wire.sound_since = self._clock.now
                for end in wire.ends:
                    self._resume(wire, end)

    def cuts(self) -> list[tuple[str, str]]:
        return list(self._cuts)

    def suspect(self, source: str, destination: str | None = None) -> None:
        """Heartbeats stop on the wires of a host (to another): each end finds out for itself."""
        for wire in self._wires:
            hosts = (wire.ends[0].process.host, wire.ends[1].process.host)
            if source in hosts and (destination is None or destination in hosts):
                for end in wire.ends:
                    wait = self._rng.uniform(HEARTBEAT_MIN, HEARTBEAT_MAX)
                    self._clock.after(wait, self._on_heartbeats_missed, wire, end, self._clock.now)

    def _on_heartbeats_missed(self, wire: Wire, end: End, since: float) -> None:
        if not end.is_open or not end.process.is_alive or end.process.is_paused:
            return
        other = wire.other(end)
        both = self._passes(end, other) and self._passes(other, end)
        if not both or (other.process.is_paused and other.process.paused_at <= since):
            self._lose(wire, end, "heartbeats missed")
            if other.is_open and other.process.is_alive and self._passes(end, other):
                self._clock.after(
                    self._delay_of(end), self._lose, wire, other, "closed by the other side"
                )

    def host_down(self, host: str, *, silent: bool) -> None:
        """The process of a host has ended; `silent`: the whole host is off."""
        for url in [url for url, at in self.hosts.items() if at == host]:
            self.listening.pop(url, None)
        if silent:
            self.silent_hosts[host] = None
            self.suspect(host)
        for wire in list(self._wires):
            for end in wire.ends:
                if end.process.host == host and end.is_open:
                    if silent:
                        end.is_open = False
                        end.waiting.clear()
                    else:
                        self.close(end.process, end.link, hard=True)
            self._forget_if_over(wire)

    def host_up(self, host: str) -> None:
        """The host is there again: who still talks to its old life hears that it is over."""
        if host not in self.silent_hosts:
            return
        del self.silent_hosts[host]
        for wire in list(self._wires):
            if any(end.process.host == host for end in wire.ends):
                for end in wire.ends:
                    self._resume(wire, end)

    def refuses(self, source: str, url: str) -> bool | None:
        """Whether a connection to a URL is refused; None: no answer comes at all."""
        host = self.hosts.get(url)
        if host is not None and not self._can_talk(source, host):
            return None
        return url not in self.listening

    def _resume(self, wire: Wire, end: End) -> None:
        """What waited behind a cut goes on; if the other end is gone, this one hears of it."""
        other = wire.other(end)
        if not end.is_open or not self._can_talk(end.process.host, other.process.host):
            return
        if not other.is_open:
            wait = self._rng.uniform(0.01, 0.5)  # when its kernel next sends something
            self._clock.after(wait, self._lose, wire, end, "reset by the other side")
            return
        waiting, end.waiting, end.queued = end.waiting, [], 0
        for lane, frames in waiting:
            self._carry(end, other, lane, frames, sum(map(len, frames)))

    def _can_talk(self, one: str, other: str) -> bool:
        return (
            other not in self.silent_hosts
            and one not in self.silent_hosts
            and (one, other) not in self._cuts
            and (other, one) not in self._cuts
        )

    def is_sound(self, wire: Wire) -> bool:
        """Both ends hold the wire, and everything passes, both ways."""
        one, other = wire.ends
        return (
            one.is_open and other.is_open and self._passes(one, other) and self._passes(other, one)
        )

    def _passes(self, end: End, other: End) -> bool:
        if not self._cuts and not self.silent_hosts:
            return True
        one, two = end.process.host, other.process.host
        return (one, two) not in self._cuts and two not in self.silent_hosts

    def _share(self) -> float:
        return self._rng.uniform(0.5, 1.0)

    def _delay(self) -> float:
        return self.conditions.delay * self._share()

    def _delay_of(self, end: End) -> float:
        return self.conditions.delay * end.share
