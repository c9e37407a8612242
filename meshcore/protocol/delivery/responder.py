"""The answering end: channels that others opened to this node, and the work in them.

Nothing runs without a cookie of this very life. A channel is forgotten only while nothing is under
way in it, which is why its initiator may safely call again whatever it finds unanswered.
"""

from __future__ import annotations

from typing import Any

from meshcore.errors import Code, ProtocolError
from meshcore.identity import is_directive
from meshcore.protocol.delivery.bodies import Fed, Outgoing, body_of, is_large
from meshcore.protocol.delivery.channel import CLOSED, Channel
from meshcore.protocol.delivery.outputs import (
    CALL,
    CALL_BODY,
    CALL_CHUNK,
    CANCELLED,
    NO_PAYLOAD,
    WRITABLE,
)
from meshcore.protocol.delivery.streams import ServerStream
from meshcore.protocol.delivery.switchboard import Switchboard
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import LARGE_BYTES

CHANNELS_MAX = 4096  # opened by others; beyond it the longest idle one makes room
IDLE_AFTER = 600.0  # seconds until an idle channel is forgotten (its initiator: 120)
ITEM_BYTES = 32  # what a small response costs of the stream's credit besides its payload
BACKLOG_MESSAGES_MAX = 512  # small responses of one channel that may wait for the window


class Responder:
    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._channels: dict[tuple[str, int], Channel] = {}  # by the initiator's address and life
        self._last_cookie = 0
        self._fresh: list[ServerStream] = []  # calls of this turn that have a ttl
        self._fresh_ttls: list[float] = []
        self.streams = 0

    # Opening ---------------------------------------------------------------------------------

    def on_init(self, source: str, life: int, token: Any, now: float) -> None:
        """An initiator asks for a cookie; the same token gets the same cookie."""
        if type(token) is not bytes or len(token) != 16:
            self._board.count("bad init")
            return
        channel = self._channels.get((source, life))
        if channel is None or channel.token != token:
            if channel is not None:
                self._close(channel, Code.PEER_LOST)
            elif len(self._channels) >= CHANNELS_MAX and not self._make_room():
                self._board.count("too many channels")
                return
            channel = Channel(packet.FROM_RESPONDER, source, now)
            channel.token = token
            self._board.register(channel, life, now)
            self._last_cookie += 1
            channel.open(self._last_cookie)
            self._channels[(source, life)] = channel
            self._board.timers.set(("idle", channel, 0), now + IDLE_AFTER)
        channel.send_about([packet.OPEN, token, channel.cookie], self._board.out)

    def _make_room(self) -> bool:
        idle = next((c for c in self._channels.values() if c.is_idle()), None)
        if idle is None:
            return False
        self._close(idle, Code.PEER_LOST)
        return True

    def on_idle_timer(self, channel: Channel, now: float) -> None:
        if channel.state is CLOSED:
            return
        if channel.is_idle() and now >= channel.used_at + IDLE_AFTER:
            self._close(channel, Code.PEER_LOST)
        else:
            self._board.timers.set(("idle", channel, 0), now + IDLE_AFTER)

    def on_peer_gone(self, node_id: str, life: int | None) -> None:
        """A node is dead, gone, or lives anew as `life`: the work of its other lives is not wanted."""
        for channel in list(self._channels.values()):
            if channel.owner == node_id and (life is None or channel.life != life):
                if life is not None and channel.address != node_id:
                    continue  # a client of the restarted node has a life of its own
                self._close(channel, Code.PEER_LOST)

    def on_client_gone(self, address: str) -> None:
        for channel in list(self._channels.values()):
            if channel.address == address:
                self._close(channel, Code.PEER_LOST)

    def _close(self, channel: Channel, code: int) -> None:
        for stream in list(channel.streams.values()):
            self._end(stream)
            self._board.out.append((CANCELLED, stream, code))
        self._board.forget(channel)
        if self._channels.get((channel.address, channel.life)) is channel:
            del self._channels[(channel.address, channel.life)]

    # Messages of the initiator ---------------------------------------------------------------

    def on_message(self, channel: Channel, message: Any, body: Any, trace: Any, now: float) -> None:
        kind, number = message[0], message[1]
        if kind == packet.CALL:
            self._on_call(channel, message, trace, now)
            return
        stream = channel.streams.get(number)
        if stream is None:
            return  # it has been answered
        if kind == packet.CANCEL:
            self._end(stream)
            code = message[2] if message[2] in (Code.CANCELLED, Code.DEADLINE) else Code.CANCELLED
            self._board.out.append((CANCELLED, stream, code))
        elif kind == packet.CHUNK:
            _, _, _, offset, last = message
            if stream.offset != offset or body is None:
                self._board.count("chunk out of place")
                return
            stream.offset += len(body)
            self._board.out.append((CALL_CHUNK, stream, body, bool(last)))
        elif kind == packet.CREDIT:
            self._board.on_credit(stream, message[2])
            self.on_room(channel)
        else:
            self._board.count("unknown message")

    def _on_call(self, channel: Channel, message: list[Any], trace: Any, now: float) -> None:
        _, number, directive, ttl_ms, mode, payload = message
        if type(number) is not int or number in channel.streams or type(directive) is not str:
            raise ProtocolError("call")
        ttl = None
        stream = ServerStream(number, channel, directive)
        channel.streams[number] = stream
        channel.used_at = now
        self.streams += 1
        if ttl_ms is not None:
            ttl = float(ttl_ms) / 1000
            self._fresh.append(stream)
            self._fresh_ttls.append(now + ttl)
        if not is_directive(directive):
            text = f"{directive[:130]!r} is no directive; expected namespace:action"
            self.fail(stream, code=Code.UNKNOWN_DIRECTIVE, message=text, may_have_run=False)
        elif mode == packet.BODY:
            content, size = payload
            self._board.out.append((CALL_BODY, stream, directive, (content, size), ttl, trace))
        else:
            self._board.out.append((CALL, stream, directive, payload, ttl, trace))

    def settle(self) -> None:
        """End of the turn: calls that were not answered in it get their deadlines."""
        if self._fresh:
            for stream, deadline in zip(self._fresh, self._fresh_ttls, strict=True):
                if not stream.done:
                    stream.bucket = self._board.wheel.add(stream, deadline)
            self._fresh.clear()
            self._fresh_ttls.clear()

    def on_deadline(self, stream: ServerStream) -> None:
        """The caller no longer waits: the work is told, and nobody is answered."""
        if not stream.done:
            self._end(stream)
            self._board.out.append((CANCELLED, stream, Code.DEADLINE))

    # Responses -------------------------------------------------------------------------------

    def respond(self, stream: ServerStream, value: Any, *, eof: bool) -> bool:
        """The next response; False: wait for WRITABLE before another. BadPayloadError unsent."""
        if stream.done:
            return True
        channel = stream.channel
        serial = stream.serial + 1
        if not eof:
            return self._item(stream, serial, value)
        if value is NO_PAYLOAD:
            message = packet.pack([packet.RESULT, stream.number, serial, packet.NOTHING, None])
        elif type(value) is Fed or is_large(value):
            return self._body(stream, serial, value, packet.RESULT)
        else:
            fields = [packet.RESULT, stream.number, serial, packet.INLINE, value]
            message = packet.pack_message(fields)
            if len(message) >= LARGE_BYTES:
                return self._body(stream, serial, value, packet.RESULT)
        stream.serial = serial
        self._end(stream)
        channel.outboxes[0].append(message)
        if not channel.dirty:
            self._board.mark(channel)
        return True

    def _item(self, stream: ServerStream, serial: int, value: Any) -> bool:
        if type(value) is Fed or is_large(value):
            return self._body(stream, serial, value, packet.ITEM)
        data = packet.pack_value(value)
        if len(data) >= LARGE_BYTES:
            return self._body(stream, serial, value, packet.ITEM)
        fields = [packet.ITEM, stream.number, serial, packet.INLINE, data]
        stream.serial = serial
        stream.sent_bytes += len(data) + ITEM_BYTES
        stream.channel.outboxes[0].append(packet.pack(fields))
        self._board.mark(stream.channel)
        return self._room(stream)

    def _body(self, stream: ServerStream, serial: int, value: Any, kind: int) -> bool:
        content, size, pieces = body_of(value)
        channel = stream.channel
        fields = [kind, stream.number, serial, packet.BODY, [content, size]]
        stream.serial = serial
        channel.outboxes[1].append(packet.pack(fields))
        stream.outgoing = channel.start_body(
            stream, serial, pieces, last=type(value) is not Fed
        )
        self._board.mark(channel)
        stream.final = kind == packet.RESULT
        return self._room(stream)

    def feed(self, stream: ServerStream, data: bytes, *, last: bool) -> bool:
        """More of a response that was begun as `Fed`; False: wait for WRITABLE."""
        outgoing = stream.outgoing
        if stream.done or outgoing is None:
            return True
        outgoing.feed(data, last=last)
        stream.channel.wake_body(outgoing)
        self._board.mark(stream.channel)
        return self._room(stream)

    def fail(
        self,
        stream: ServerStream,
        *,
        code: int,
        message: str,
        name: str = "",
        traceback: str = "",
        may_have_run: bool = True,
    ) -> None:
        """The last response, a failure."""
        if stream.done:
            return
        channel = stream.channel
        stream.serial += 1
        fields = [packet.ERROR, stream.number, stream.serial, int(code), name[:256]]
        fields += [message[:8192], traceback[:16384], may_have_run]
        self._end(stream)
        channel.outboxes[0].append(packet.pack(fields))
        self._board.mark(channel)

    def on_moved(self, outgoing: Outgoing) -> None:
        """Chunks of a body were sent: a last response is through, or the next may follow."""
        stream = outgoing.stream
        if outgoing.finished and isinstance(stream, ServerStream):
            stream.outgoing = None
            if stream.final and not stream.done:
                self._end(stream)

    def on_room(self, channel: Channel) -> None:
        """The channel's windows have moved: tell the streams that waited for it."""
        for stream in [s for s in channel.starving if s.done or self.has_room(s)]:
            del channel.starving[stream]
            if not stream.done:
                self._board.out.append((WRITABLE, stream))

    def _room(self, stream: ServerStream) -> bool:
        if self.has_room(stream):
            return True
        stream.channel.starving[stream] = None
        return False

    def has_room(self, stream: ServerStream) -> bool:
        """Whether the next response may be given now."""
        outgoing = stream.outgoing
        if outgoing is not None:  # one body of a stream at a time
            return not outgoing.ended and not outgoing.full
        return (
            stream.sent_bytes < stream.credit
            and len(stream.channel.outboxes[0]) < BACKLOG_MESSAGES_MAX
        )

    def _end(self, stream: ServerStream) -> None:
        stream.done = True
        stream.channel.streams.pop(stream.number, None)
        self.streams -= 1
        if stream.bucket is not None:
            stream.bucket.pop(stream, None)
        if stream.outgoing is not None:
            stream.outgoing.dropped = True

    def check_invariants(self) -> None:
        assert self.streams == sum(len(channel.streams) for channel in self._channels.values())
        for channel in self._channels.values():
            channel.check_invariants()
