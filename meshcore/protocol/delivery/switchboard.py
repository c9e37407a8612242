"""What the two roles of delivery share: channels by key, outputs, clocks, the flushing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from meshcore.protocol.delivery.bodies import Outgoing, Stream
from meshcore.protocol.delivery.channel import CLOSED, OPEN, OPENING, Channel
from meshcore.protocol.delivery.lane import RTO_MAX
from meshcore.protocol.delivery.outputs import COUNT, Output
from meshcore.protocol.delivery.streams import STREAM_CREDIT
from meshcore.protocol.delivery.wheel import Wheel
from meshcore.protocol.machine import Timers
from meshcore.protocol.wire import packet

ACK_DELAY = 0.02  # seconds; acks ride on data that leaves within it


class Switchboard:
    """State and services for Initiator and Responder; `link_of(address)` is 0 without a route."""

    def __init__(
        self, *, address: str, life: int, rng: random.Random, link_of: Callable[[str], int]
    ) -> None:
        self.address, self.life, self.rng = address, life, rng
        self.link_of = link_of
        self.on_moved: Callable[[Outgoing], None] = _nobody  # set by Delivery
        self.on_room: Callable[[Channel], None] = _nobody
        self.out: list[Output] = []
        self.by_key: dict[bytes, Channel] = {}
        self._by_owner: dict[str, dict[Channel, None]] = {}
        self.wheel = Wheel()
        self.timers: Timers[tuple[str, Any, int]] = Timers()
        self.dirty: list[Channel] = []
        self.flush_due = False  # something leaves at the next flush
        self.ack_pending: list[Channel] = []
        self.ack_hurried: dict[Channel, None] = {}

    def count(self, reason: str) -> None:
        self.out.append((COUNT, reason))

    # Flushing --------------------------------------------------------------------------------

    def mark(self, channel: Channel) -> None:
        """Something waits in this channel; it is sent at the next `flush`."""
        if not channel.dirty:
            channel.dirty = self.flush_due = True
            self.dirty.append(channel)

    def flush(self, now: float) -> None:
        """Send what the turn gathered, and acks that cannot wait."""
        self.flush_due = False
        if self.dirty:
            dirty, self.dirty = self.dirty, []
            for channel in dirty:
                channel.dirty = False
                if channel.state is CLOSED:
                    continue
                channel.flush(now, self.out)
                self._arm(channel)
                if channel.moved:
                    moved, channel.moved = channel.moved, []
                    for outgoing in moved:
                        self.on_moved(outgoing)
                if channel.starving:
                    self.on_room(channel)
        if self.ack_hurried:
            hurried, self.ack_hurried = self.ack_hurried, {}
            for channel in hurried:
                if channel.lanes[0].ack_due or channel.lanes[1].ack_due:
                    channel.send_ack(self.out)

    def _arm(self, channel: Channel) -> None:
        armed = channel.armed
        for index in (0, 1):
            if not armed[index]:
                resend_at = channel.lanes[index].resend_at()
                if resend_at is not None:
                    armed[index] = True
                    self.timers.set(("resend", channel, index), resend_at)

    # Receiving -------------------------------------------------------------------------------

    def acks(self, channel: Channel, acks: Any, now: float) -> None:
        """Take the ack block of a packet; what is malformed is counted and ignored."""
        lanes = channel.lanes
        if type(acks) is int:
            self._ack(channel, 0, acks, 0, now)
        elif type(acks) is list and len(acks) == 4:
            for index in (0, 1):
                complete, beyond = acks[2 * index], acks[2 * index + 1]
                if type(complete) is not int or type(beyond) is not bytes or len(beyond) > 40:
                    self.count("bad ack")
                    return
                self._ack(channel, index, complete, int.from_bytes(beyond, "little"), now)
        else:
            self.count("bad ack")
        if (channel.rotation or channel.outboxes[0] or channel.outboxes[1] or channel.traced) and (
            lanes[0].has_room() or lanes[1].has_room()
        ):
            self.mark(channel)

    def _ack(self, channel: Channel, index: int, complete: int, beyond: int, now: float) -> None:
        for sent in channel.lanes[index].on_ack(complete, beyond, now):
            self.count("resent: lost")
            channel.resend(index, sent.frames, self.out)

    def hurry_ack(self, channel: Channel) -> None:
        """Acknowledge at the end of the turn: a quarter of a window came in, a hole is open, or the
        sender repeats itself. Waiting would stall it."""
        self.ack_hurried[channel] = None
        self.flush_due = True

    def owe_ack(self, channel: Channel, now: float) -> None:
        if not channel.ack_listed:
            channel.ack_listed = True
            self.ack_pending.append(channel)
            if len(self.ack_pending) == 1:
                self.timers.set(("ack", None, 0), now + ACK_DELAY)

    def credit(self, stream: Stream, size: int, now: float) -> None:
        """`size` more bytes of what came in on `stream` are taken: return credit by the quarter."""
        stream.consumed += size
        if stream.consumed - stream.returned >= STREAM_CREDIT // 4:
            stream.returned = stream.consumed
            fields = [packet.CREDIT, stream.number, stream.consumed + STREAM_CREDIT]
            stream.channel.post(packet.pack(fields), 0)
            self.mark(stream.channel)

    def on_credit(self, stream: Stream, limit: Any) -> None:
        """The other end takes up to `limit` bytes on this stream."""
        if type(limit) is not int:
            self.count("bad credit")
        elif limit > stream.credit:
            stream.credit = limit
            if stream.outgoing is not None:
                stream.channel.wake_body(stream.outgoing)
                self.mark(stream.channel)

    # Time and routes -------------------------------------------------------------------------

    def on_ack_timer(self) -> None:
        pending, self.ack_pending = self.ack_pending, []
        for channel in pending:
            channel.ack_listed = False
            if channel.state is OPEN and (channel.lanes[0].ack_due or channel.lanes[1].ack_due):
                channel.send_ack(self.out)

    def on_resend_timer(self, channel: Channel, index: int, now: float) -> None:
        channel.armed[index] = False
        if channel.state is CLOSED:
            return
        lane = channel.lanes[index]
        resend_at = lane.resend_at()
        if resend_at is not None and resend_at <= now:
            # Without a route nothing is lost by waiting, and the back-off must not grow.
            if channel.link:
                frames = lane.resend_oldest(now, timed_out=True)
                self.count("resent: timeout")
                channel.resend(index, frames or [], self.out)
            else:
                channel.armed[index] = True
                self.timers.set(("resend", channel, index), now + RTO_MAX)
                return
        self._arm(channel)

    def on_routes_changed(self, now: float) -> None:
        """Look up every channel's link again; on a changed path the oldest packet goes again."""
        for channel in list(self.by_key.values()):
            link = self.link_of(channel.address)
            if link == channel.link:
                continue
            channel.link = link
            channel.unroutable_since = None if link else now
            if link and channel.state is OPENING:
                self.timers.set(("init", channel, 0), now)
            elif link:
                for index in (0, 1):
                    frames = channel.lanes[index].resend_oldest(now, timed_out=False)
                    if frames is not None:
                        self.count("resent: new path")
                        channel.resend(index, frames, self.out)
                channel.probe(now, self.out)
                self.mark(channel)

    def probe(self, channel: Channel, now: float) -> None:
        channel.probe(now, self.out)
        self._arm(channel)

    def new_channel(self, role: int, address: str, now: float) -> Channel:
        """A channel that counts among those of the owner of `address` until it is forgotten."""
        channel = Channel(role, address, now)
        self._by_owner.setdefault(channel.owner, {})[channel] = None
        return channel

    def channels_of(self, node_id: str, role: int) -> list[Channel]:
        """The channels to a node and to its clients, with this role of our end."""
        return [each for each in self._by_owner.get(node_id, ()) if each.role == role]

    def register(self, channel: Channel, life: int, now: float) -> None:
        channel.bind(self.address, self.life, life)
        channel.link = self.link_of(channel.address)
        channel.unroutable_since = None if channel.link else now
        self.by_key[channel.key_in] = channel

    def forget(self, channel: Channel) -> None:
        """The channel is over. What stands for it goes too, or it would be kept for its timers."""
        channel.state = CLOSED
        self.forget_key(channel)
        siblings = self._by_owner.get(channel.owner, {})
        siblings.pop(channel, None)
        if not siblings:
            self._by_owner.pop(channel.owner, None)
        for kind in ("init", "unknown", "hold", "idle", "resend"):
            self.timers.cancel((kind, channel, 0))
        self.timers.cancel(("resend", channel, 1))

    def forget_key(self, channel: Channel) -> None:
        if self.by_key.get(channel.key_in) is channel:
            del self.by_key[channel.key_in]

    def check_invariants(self) -> None:
        for channel in self.by_key.values():
            assert channel in self._by_owner[channel.owner]
        assert all(self._by_owner.values())
        assert not any(
            channel.state is CLOSED for channels in self._by_owner.values() for channel in channels
        )


def _nobody(_: object) -> None:
    raise AssertionError("the roles are not connected")
