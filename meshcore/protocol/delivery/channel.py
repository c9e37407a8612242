"""A channel: the calls of one life to another life, and the responses to them.

It is opened by the initiator with a random token; the responder answers with a *cookie*, a counter
of its own life that it never uses twice. From then on both ends put the cookie into every packet,
so that a packet of a forgotten channel, or of an earlier life, can neither be swallowed nor run.
Calls in the other direction have a channel of their own.

Each channel has two lanes (control and bulk), each with an outbox of packed messages. `flush` makes
packets of them: all messages that wait for one recipient share one header, number and ack.
Source: the packet of many messages was measured to double the calls per second.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from meshcore.identity import owner_of
from meshcore.protocol.delivery.bodies import Outgoing, Stream
from meshcore.protocol.delivery.lane import Lane
from meshcore.protocol.delivery.outputs import SEND, Output
from meshcore.protocol.delivery.streams import calls_prefix
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import PACKET_BYTES_MAX, PACKET_MESSAGES_MAX

WAITING, OPENING, OPEN, CLOSED = range(4)  # WAITING: the recipient's life is not known yet

WINDOW_BYTES = (4 * 1024 * 1024, 1024 * 1024)  # in flight on lane c, on lane b

_NIL = b"\xc0"
_WITHDRAWN = packet.pack([packet.CANCEL, 0, 0])  # of no stream: ignored, should it be sent
_ACKS_LIST = packet.list_head(4)


class Channel:
    """One end of a channel. `address` is the other end's, `link` the way to it (0: none now)."""

    __slots__ = (
        "_cookie_packed",
        "_heads",
        "ack_listed",
        "address",
        "armed",
        "backlog_bytes",
        "bodies",
        "calls_prefix",
        "cookie",
        "dirty",
        "held_since",
        "key_in",
        "key_out",
        "lanes",
        "life",
        "link",
        "moved",
        "outboxes",
        "owner",
        "owner_life",
        "popped",
        "refused",
        "role",
        "rotation",
        "starving",
        "state",
        "streams",
        "token",
        "traced",
        "tries",
        "unroutable_since",
        "used_at",
    )

    def __init__(self, role: int, address: str, now: float) -> None:
        self.role = role  # of this end
        self.address = address
        self.owner = owner_of(address)
        self.owner_life = 0  # of the owner of the address, as far as known when it was opened
        self.life = 0
        self.state = WAITING
        self.token = b""
        self.cookie: int | None = None
        self._cookie_packed = b"\x00"
        self.key_in = self.key_out = b""
        self.calls_prefix = ""  # of the message ids of the calls that come in
        self._heads = (b"", b"")
        self.lanes = (Lane(WINDOW_BYTES[0]), Lane(WINDOW_BYTES[1]))
        self.outboxes: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self.popped = [0, 0]  # messages that have left each outbox, to tell what was sent
        self.backlog_bytes = 0  # in the outboxes
        self.traced: deque[bytes] = deque()  # messages that get a packet of their own
        self.rotation: deque[Outgoing] = deque()  # bodies that have data and credit, in turn
        self.moved: list[Outgoing] = []  # bodies of which this flush sent something
        self.starving: dict[Any, None] = {}  # streams to be told when there is room
        self.streams: dict[int, Any] = {}
        self.bodies = 0  # payloads of calls that come in here
        self.link = 0
        self.unroutable_since: float | None = now  # without a link towards it
        self.held_since: float | None = None  # its node cannot be reached, whatever link there is
        self.used_at = now
        self.refused = False  # the recipient counts as dead: no new calls
        self.tries = 0  # INITs sent
        self.dirty = self.ack_listed = False
        self.armed = [False, False]  # a resend timer stands for this lane

    def bind(self, own_address: str, own_life: int, life: int) -> None:
        """Fix both ends' lives, and with them the keys of both directions."""
        self.life = life
        back = packet.FROM_RESPONDER - self.role
        self.key_out = packet.make_key(self.role, own_address, own_life, self.address, life)
        self.key_in = packet.make_key(back, self.address, life, own_address, own_life)
        if self.role == packet.FROM_RESPONDER:
            self.calls_prefix = calls_prefix(self.address, life)
        self._heads = (
            packet.make_head(packet.PACKET, 0, self.key_out),
            packet.make_head(packet.PACKET, packet.FLAG_BULK, self.key_out),
        )

    def open(self, cookie: int) -> None:
        self.state = OPEN
        self.cookie = cookie
        self._cookie_packed = packet.pack(cookie)

    def hold(self, held: bool, now: float) -> None:
        """Whether its node is not reachable (or only quiet): work waits, but not for ever."""
        if not held:
            self.held_since = None
        elif self.held_since is None:
            self.held_since = now

    def waits_since(self) -> float | None:
        """Since when there is no way, or no sign of its node; None while both are there."""
        since = [at for at in (self.unroutable_since, self.held_since) if at is not None]
        return min(since, default=None)

    def is_idle(self) -> bool:
        """Nothing is under way, so that it can be forgotten without a loss."""
        return (
            not self.streams
            and not any(self.outboxes)
            and not self.traced
            and not self.rotation
            and not any(lane.in_flight for lane in self.lanes)
        )

    # Sending ---------------------------------------------------------------------------------

    def post(self, message: bytes, lane: int) -> int:
        """Put a packed message into an outbox; returns its position for `replace`."""
        outbox = self.outboxes[lane]
        outbox.append(message)
        self.backlog_bytes += len(message)
        return self.popped[lane] + len(outbox)

    def has_left(self, stream: Any) -> bool:
        """Whether the call of a ClientStream is in a packet already."""
        if stream.position:
            return bool(stream.position <= self.popped[stream.lane])
        return not any(message is stream.message for message in self.traced)

    def withdraw(self, stream: Any) -> None:
        """Take the call of a ClientStream back, which has not left yet."""
        if not stream.position:
            self.traced.remove(stream.message)
            return
        # Nothing moves up, for positions count from the first message that was ever posted.
        outbox, popped = self.outboxes[stream.lane], self.popped
        outbox[stream.position - popped[stream.lane] - 1] = _WITHDRAWN
        self.backlog_bytes += len(_WITHDRAWN) - len(stream.message)
        while outbox and outbox[0] is _WITHDRAWN:
            outbox.popleft()
            popped[stream.lane] += 1
            self.backlog_bytes -= len(_WITHDRAWN)

    def flush(self, now: float, out: list[Output]) -> None:
        """Make packets of what waits, as far as the windows allow."""
        if self.state is not OPEN or not self.link:
            return
        if self.outboxes[0]:
            self._flush_messages(0, now, out)
        while self.traced and self.lanes[0].has_room():
            self._send_traced(self.traced.popleft(), now, out)
        if self.outboxes[1]:
            self._flush_messages(1, now, out)
        if self.rotation:
            self._flush_bodies(now, out)

    def _flush_messages(self, index: int, now: float, out: list[Output]) -> None:
        outbox, lane = self.outboxes[index], self.lanes[index]
        while outbox and lane.has_room():
            start = self.popped[index]
            if len(outbox) == 1:
                content, count = outbox.popleft(), 1
            else:
                parts: list[bytes] = []
                size = count = 0
                while outbox and count < PACKET_MESSAGES_MAX and size < PACKET_BYTES_MAX:
                    part = outbox.popleft()
                    parts.append(part)
                    size += len(part)
                    count += 1
                content = b"".join(parts)
            self.popped[index] = start + count
            self.backlog_bytes -= len(content)
            self._send(index, lane, start, count, content, None, now, out)

    def _flush_bodies(self, now: float, out: list[Output]) -> None:
        lane, rotation = self.lanes[1], self.rotation
        while rotation and lane.has_room():
            outgoing = rotation.popleft()
            taken = None if outgoing.dropped else outgoing.take()
            if taken is None:
                outgoing.parked = True
                continue
            chunk, offset, last = taken
            self.moved.append(outgoing)
            if not last:
                rotation.append(outgoing)
            fields = [packet.CHUNK, outgoing.stream.number, outgoing.serial, offset, last]
            self._send(1, lane, self.popped[1], 1, packet.pack(fields), chunk, now, out)

    def _send(
        self,
        index: int,
        lane: Lane,
        start: int,
        count: int,
        content: bytes,
        body: memoryview | None,
        now: float,
        out: list[Output],
    ) -> None:
        head = self._heads[index]
        if body is not None:
            head = b"%b%c%b" % (head[:3], head[3] | packet.FLAG_BODY, head[4:])
        frame = b"".join(
            (
                head,
                packet.list_head(3 + count),
                self._cookie_packed,
                packet.pack(lane.next_number),
                self._acks(),
                content,
            )
        )
        frames: list[Any] = [frame] if body is None else [frame, body]
        lane.sent(frames, len(frame) + (0 if body is None else len(body)), start, now)
        out.append((SEND, self.link, index, frames))

    def _send_traced(self, message: bytes, now: float, out: list[Output]) -> None:
        """One message in a packet of its own, which the relays write their names on."""
        head = self._heads[0]
        lane = self.lanes[0]
        frame = b"".join(
            (
                head[:3],
                bytes((packet.FLAG_TRACE,)),
                head[4:],
                packet.empty_trace(),
                packet.list_head(4),
                self._cookie_packed,
                packet.pack(lane.next_number),
                self._acks(),
                message,
            )
        )
        lane.sent([frame], len(frame), self.popped[0], now)
        out.append((SEND, self.link, 0, [frame]))

    def probe(self, now: float, out: list[Output]) -> None:
        """Ask whether the other end still holds the channel, while work goes on without a word.

        A packet without messages, that is acknowledged, or answered by RESET.
        """
        lane = self.lanes[0]
        if self.state is OPEN and self.link and self.streams and not lane.in_flight:
            self._send(0, lane, self.popped[0], 0, b"", None, now, out)

    def send_about(self, fields: list[Any], out: list[Output]) -> None:
        """An unnumbered message about the channel itself: INIT, OPEN or RESET."""
        if self.link:
            part = b"\x94\x00\x00\xc0" + packet.pack(fields)
            out.append((SEND, self.link, 0, [self._heads[0] + part]))

    def resend(self, index: int, frames: list[Any], out: list[Output]) -> None:
        """The identical bytes once more; a relay may have kept or lost the first ones."""
        if self.link:
            out.append((SEND, self.link, index, frames))

    def send_ack(self, out: list[Output]) -> None:
        if self.link and self.state is OPEN:
            frame = b"".join((self._heads[0], b"\x93", self._cookie_packed, b"\x00", self._acks()))
            out.append((SEND, self.link, 0, [frame]))

    def _acks(self) -> bytes:
        control, bulk = self.lanes
        if not bulk.ack_due and not control.held:
            if not control.ack_due:
                return _NIL
            control.ack_due = False
            control.received_bytes = 0
            packed: bytes = packet.pack(control.expected - 1)
            return packed
        parts = [_ACKS_LIST]
        for lane in self.lanes:
            parts.append(packet.pack(lane.expected - 1))
            beyond = lane.beyond()
            parts.append(packet.pack(beyond.to_bytes(33, "little") if beyond else b""))
            lane.ack_due = False
            lane.received_bytes = 0
        return b"".join(parts)

    # Bodies ----------------------------------------------------------------------------------

    def start_body(self, stream: Stream, serial: int, pieces: list[Any], *, last: bool) -> Outgoing:
        outgoing = Outgoing(stream, serial)
        for piece in pieces:
            outgoing.feed(piece, last=False)
        if last:
            outgoing.feed(b"", last=True)
        self.rotation.append(outgoing)
        return outgoing

    def wake_body(self, outgoing: Outgoing) -> None:
        """Data or credit came for it."""
        if outgoing.parked and not outgoing.finished and not outgoing.dropped:
            outgoing.parked = False
            self.rotation.append(outgoing)

    def check_invariants(self) -> None:
        for lane in self.lanes:
            lane.check_invariants()
        assert (self.state is OPEN) == (self.cookie is not None) or self.state is CLOSED
        assert self.backlog_bytes == sum(len(m) for outbox in self.outboxes for m in outbox)
        assert all(not outgoing.parked for outgoing in self.rotation)
