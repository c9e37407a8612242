"""The answering end: channels that others opened to this node, and the work in them.

Nothing runs without a cookie of this very life. A channel is forgotten only while nothing is under
way in it, which is why its initiator may safely call again whatever it finds unanswered.
"""

from __future__ import annotations

from typing import Any

from meshcore.errors import Code, ProtocolError
from meshcore.identity import is_directive, owner_of
from meshcore.protocol.delivery.bodies import MAY_BE_LARGE, Fed, Outgoing, body_of, is_large
from meshcore.protocol.delivery.channel import CLOSED, Channel
from meshcore.protocol.delivery.outputs import (
    CALL,
    CALL_BODY,
    CALL_CHUNK,
    CANCELLED,
    NO_PAYLOAD,
    WRITABLE,
)
from meshcore.protocol.delivery.peers import Peers
from meshcore.protocol.delivery.streams import ITEM_BYTES, STREAM_CREDIT, ServerStream
from meshcore.protocol.delivery.switchboard import Switchboard
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import CHUNK_BYTES_MAX, LARGE_BYTES

DIRECTIVES_MAX = 1024  # remembered as well formed
CHANNELS_MAX = 4096  # opened by others; beyond it the longest idle one makes room
CHANNELS_EVICTED = 64  # idle ones at once, so that a flood of new ones costs little
PROBE_INTERVAL = 60.0  # seconds; also of looking whether a channel is idle
IDLE_AFTER = 600.0  # seconds until an idle channel is forgotten (its initiator: 120)
ABANDONED_MAX = 4096  # channels that are remembered because they were not idle at their end
STREAMS_MAX = 65_536  # of one channel
BODIES_MAX = 4096  # payloads of one channel that come in at a time
TTL_MS_MAX = 2**48
BACKLOG_MESSAGES_MAX = 512  # small responses of one channel that may wait for the window


class Responder:
    def __init__(self, board: Switchboard, peers: Peers) -> None:
        self._board = board
        self._peers = peers
        self._channels: dict[tuple[str, int], Channel] = {}  # by the initiator's address and life
        self._last_cookie = 0
        self._abandoned: dict[int, list[int]] = {}  # by cookie: packets received on each lane
        self._forgotten_to = 0  # of cookies up to this one it is not known how they ended
        self._directives: dict[str, None] = {}  # known to be well formed
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
        if channel is not None and token[:8] < channel.token[:8]:
            self._board.count("late init")  # of a channel that its initiator has given up
            return
        if channel is None or channel.token != token:
            if channel is not None:
                self._close(channel, Code.PEER_LOST)
            elif len(self._channels) >= CHANNELS_MAX and not self._make_room():
                self._board.count("too many channels")
                return
            channel = self._board.new_channel(packet.FROM_RESPONDER, source, now)
            channel.token = token
            owner = self._peers.get(channel.owner)
            channel.owner_life = 0 if owner is None else owner.life
            self._board.register(channel, life, now)
            self._last_cookie += 1
            channel.open(self._last_cookie)
            self._channels[(source, life)] = channel
            self._board.timers.set(("idle", channel, 0), now + PROBE_INTERVAL)
        channel.send_about([packet.OPEN, token, channel.cookie], self._board.out)

    def _make_room(self) -> bool:
        idle = [channel for channel in self._channels.values() if channel.is_idle()]
        idle.sort(key=lambda channel: channel.used_at)
        for channel in idle[:CHANNELS_EVICTED]:
            self._close(channel, Code.PEER_LOST)
        return bool(idle)

    def on_idle_timer(self, channel: Channel, now: float) -> None:
        if channel.state is CLOSED:
            return
        if channel.is_idle() and now >= channel.used_at + IDLE_AFTER:
            self._close(channel, Code.PEER_LOST)
        else:
            self._board.probe(channel, now)
            self._board.timers.set(("idle", channel, 0), now + PROBE_INTERVAL)

    def on_peer_gone(self, node_id: str) -> None:
        """A node is dead: its work is not wanted, nor that of its clients."""
        for channel in self._board.channels_of(node_id, packet.FROM_RESPONDER):
            self._close(channel, Code.PEER_LOST)

    def on_life_over(self, node_id: str, life: int) -> None:
        """A node has a new life: the work of the old one, and of its clients, is not wanted."""
        for channel in self._board.channels_of(node_id, packet.FROM_RESPONDER):
            if life == (channel.life if channel.address == node_id else channel.owner_life):
                self._close(channel, Code.PEER_LOST)

    def on_client_gone(self, address: str) -> None:
        for channel in self._board.channels_of(owner_of(address), packet.FROM_RESPONDER):
            if channel.address == address:
                self._close(channel, Code.PEER_LOST)

    def on_reset(self, channel: Channel, cookie: Any) -> None:
        """The initiator does not hold the channel any more: nobody waits for the responses."""
        if type(cookie) is int and cookie == channel.cookie:
            self._close(channel, Code.PEER_LOST)

    def received(self, cookie: int) -> list[int] | bool:
        """How far the packets of a channel that is not held any more were received on each lane.

        True: it was idle when it was forgotten, so that whatever its initiator finds unanswered
        never ran, and may be called again. False: that is not known any more.
        """
        told = self._abandoned.get(cookie)
        return told if told is not None else cookie > self._forgotten_to

    def _close(self, channel: Channel, code: int) -> None:
        if not channel.is_idle() and channel.cookie is not None:
            self._abandoned[channel.cookie] = [lane.expected - 1 for lane in channel.lanes]
            if len(self._abandoned) > ABANDONED_MAX:
                oldest = next(iter(self._abandoned))
                del self._abandoned[oldest]
                self._forgotten_to = max(self._forgotten_to, oldest)
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
            self._on_chunk(channel, stream, message, body)
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
        if ttl_ms is not None:
            if type(ttl_ms) is not int or not 0 < ttl_ms < TTL_MS_MAX:
                raise ProtocolError("ttl")
            ttl = ttl_ms / 1000
        if mode != packet.INLINE:
            if mode != packet.BODY:
                raise ProtocolError("mode")
            content, size = payload
        # `_begin`, but for the cost of a call.
        stream = channel.streams[number] = ServerStream(number, channel, directive)
        channel.used_at = now
        self.streams += 1
        if ttl is not None:
            self._fresh.append(stream)
            self._fresh_ttls.append(now + ttl)
            self._board.flush_due = True
        if len(channel.streams) > STREAMS_MAX:
            self.fail(stream, code=Code.BUSY, message="too many calls at once", may_have_run=False)
        elif directive not in self._directives and not self._is_directive(directive):
            text = f"{directive[:130]!r} is no directive; expected namespace:action"
            self.fail(stream, code=Code.UNKNOWN_DIRECTIVE, message=text, may_have_run=False)
        elif mode == packet.INLINE:
            self._board.out.append((CALL, stream, directive, payload, ttl, trace))
        elif channel.bodies >= BODIES_MAX:
            text = "too many payloads at once"
            self.fail(stream, code=Code.BUSY, message=text, may_have_run=False)
        else:
            stream.offset = 0
            channel.bodies += 1
            self._board.out.append((CALL_BODY, stream, directive, (content, size), ttl, trace))

    def _is_directive(self, text: str) -> bool:
        """Whether it has the form of one; those that have are remembered."""
        good = is_directive(text)
        if good:
            if len(self._directives) >= DIRECTIVES_MAX:
                self._directives.clear()
            self._directives[text] = None
        return good

    def _begin(self, channel: Channel, number: int, directive: str, now: float) -> ServerStream:
        stream = ServerStream(number, channel, directive)
        channel.streams[number] = stream
        channel.used_at = now
        self.streams += 1
        return stream

    def _on_chunk(
        self, channel: Channel, stream: ServerStream, message: list[Any], body: Any
    ) -> None:
        _, _, _, offset, last = message
        if offset != stream.offset or body is None or len(body) > CHUNK_BYTES_MAX:
            raise ProtocolError("chunk out of place")
        stream.offset += len(body)
        if stream.offset > stream.returned + STREAM_CREDIT:
            raise ProtocolError("more than the credit")
        self._board.out.append((CALL_CHUNK, stream, body, bool(last)))
        if last:
            stream.offset = -1
            channel.bodies -= 1

    def on_malformed(self, channel: Channel, kind: Any, number: int, now: float) -> None:
        """A call that cannot be read, or whose payload cannot: it has no other answer."""
        stream = channel.streams.get(number)
        if kind == packet.CALL and stream is None:
            stream = self._begin(channel, number, "", now)
        elif kind != packet.CHUNK or stream is None:
            return
        else:
            self._board.out.append((CANCELLED, stream, Code.BAD_PAYLOAD))
        text = "the payload cannot be decoded"
        self.fail(stream, code=Code.BAD_PAYLOAD, message=text, may_have_run=kind == packet.CHUNK)

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

    def respond(self, stream: ServerStream, value: Any, eof: bool) -> bool:
        """The next response; False: wait for WRITABLE before another. BadPayloadError unsent."""
        if stream.done:
            return True
        assert stream.outgoing is None, "a body is under way: wait for WRITABLE"
        channel = stream.channel
        serial = stream.serial + 1
        if not eof:
            return self._item(stream, serial, value)
        if value is NO_PAYLOAD:
            message = packet.pack([packet.RESULT, stream.number, serial, packet.NOTHING, None])
        elif type(value) in MAY_BE_LARGE and (type(value) is Fed or is_large(value)):
            return self._body(stream, serial, value, packet.RESULT)
        else:
            fields = [packet.RESULT, stream.number, serial, packet.INLINE, value]
            message = packet.pack_message(fields)
            if len(message) >= LARGE_BYTES:
                return self._body(stream, serial, value, packet.RESULT)
        stream.serial = serial
        self._end(stream)
        channel.outboxes[0].append(message)  # `post`, but for the cost of a call
        channel.backlog_bytes += len(message)
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
        stream.channel.post(packet.pack(fields), 0)
        self._board.mark(stream.channel)
        return self._room(stream)

    def _body(self, stream: ServerStream, serial: int, value: Any, kind: int) -> bool:
        content, size, pieces = body_of(value)
        channel = stream.channel
        fields = [kind, stream.number, serial, packet.BODY, [content, size]]
        stream.serial = serial
        channel.post(packet.pack(fields), 1)
        stream.outgoing = channel.start_body(stream, serial, pieces, last=type(value) is not Fed)
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
        """The last response, a failure; a body that is under way is broken off by it."""
        if stream.done:
            return
        channel = stream.channel
        if stream.outgoing is None:
            stream.serial += 1
        fields = [packet.ERROR, stream.number, stream.serial, int(code), _sendable(name, 256)]
        fields += [_sendable(message, 8192), _sendable(traceback, 16384), may_have_run]
        self._end(stream)
        channel.post(packet.pack(fields), 0)
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
        if stream.offset >= 0:
            stream.channel.bodies -= 1
        if stream.bucket is not None:
            stream.bucket.pop(stream, None)
        if stream.outgoing is not None:
            stream.outgoing.dropped = True

    def check_invariants(self) -> None:
        assert self.streams == sum(len(channel.streams) for channel in self._channels.values())
        for channel in self._channels.values():
            channel.check_invariants()


def _sendable(text: str, chars_max: int) -> str:
    """Errors quote whatever they are about; a lone surrogate, as in file names, has no UTF-8."""
    return text[:chars_max].encode(errors="backslashreplace").decode()
