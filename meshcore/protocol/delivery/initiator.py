"""The calling end: channels that this node opened, the calls in them, and what becomes of them.

A new call is judged by what is known of its recipient, and so is what is in flight when that
changes; the table is in docs/protocol.md, "What becomes of a call". Every failure says whether the
work may have run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshcore.errors import BusyError, Code, UnknownNodeError, UnreachableError
from meshcore.identity import owner_of
from meshcore.protocol.delivery.bodies import Fed, Outgoing, body_of, is_large
from meshcore.protocol.delivery.channel import OPEN, OPENING, WAITING, Channel
from meshcore.protocol.delivery.outputs import (
    BODY,
    CHUNK,
    FAILED,
    ITEM,
    NO_PAYLOAD,
    VALUE,
    WRITABLE,
    Failure,
    Output,
)
from meshcore.protocol.delivery.streams import ClientStream
from meshcore.protocol.delivery.switchboard import Switchboard
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import LARGE_BYTES

UNKNOWN_WAIT = 2.0  # seconds after our first link in which a recipient may still become known
CALLS_MAX = 131_072  # calls under way at once in one node; more are refused as busy
INIT_AGAIN, INIT_AGAIN_MAX = 0.2, 1.0  # seconds
HELD_MAX = 1024  # early responses of one stream


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a node: `dead` is "" or why it is ("gone", "silent", "left", …)."""

    life: int
    reachable: bool
    dead: str = ""


class Initiator:
    def __init__(self, board: Switchboard, *, request_timeout: float) -> None:
        self._board = board
        self._request_timeout = request_timeout
        self._peers: dict[str, Peer] = {}
        self._channels: dict[str, Channel] = {}  # by the recipient's address
        self._next_number = 1
        self._unknown_until: float | None = None  # None: no link yet
        self.streams = 0  # calls under way

    # Calls -----------------------------------------------------------------------------------

    def call(
        self,
        recipient: str,
        directive: str,
        payload: Any,
        *,
        token: object,
        ttl: float | None,
        lane: int,
        trace: bool,
        now: float,
    ) -> ClientStream:
        """Start a call; raises UnreachableError, BadPayloadError or BusyError if it cannot.

        A payload `Fed` is handed over bit by bit with `feed`.
        """
        channel = self._channels.get(recipient)
        if channel is None:
            channel = self._open(recipient, now)
        if self.streams >= CALLS_MAX:
            raise BusyError(f"{CALLS_MAX} calls are under way in this node", may_have_run=False)
        number = self._next_number
        body: list[Any] | None = None
        head = [packet.CALL, number, directive, None if ttl is None else max(1, int(ttl * 1000))]
        if type(payload) is Fed or is_large(payload):
            body = []
        else:
            message = packet.pack_message([*head, packet.INLINE, payload])
            if len(message) >= LARGE_BYTES:
                body = []
        if body is not None:
            content, size, body = body_of(payload)
            message = packet.pack_message([*head, packet.BODY, [content, size]])
            lane = 1
        self._next_number = number + 1
        stream = ClientStream(number, channel, directive, token, lane)
        stream.message = message
        channel.streams[number] = stream
        channel.used_at = now
        self.streams += 1
        if ttl is not None:
            stream.bucket = self._board.wheel.add(stream, now + ttl)
        if trace and channel.state is OPEN and channel.link:
            self._board.send_traced(channel, message, now)
            return stream
        channel.outboxes[lane].append(message)
        if body is not None:
            stream.outgoing = channel.start_body(stream, 0, body, last=type(payload) is not Fed)
        if not channel.dirty:
            self._board.mark(channel)
        return stream

    def feed(self, stream: ClientStream, data: bytes, *, last: bool) -> bool:
        """More of the payload; False: wait for WRITABLE (with the token) before the next."""
        outgoing = stream.outgoing
        if outgoing is None or outgoing.dropped:
            return True
        outgoing.feed(data, last=last)
        stream.channel.wake_body(outgoing)
        self._board.mark(stream.channel)
        outgoing.starved = outgoing.full
        return not outgoing.full

    def on_moved(self, outgoing: Outgoing) -> None:
        """Chunks of a payload were sent."""
        stream = outgoing.stream
        if isinstance(stream, ClientStream):
            if outgoing.finished:
                stream.outgoing = None
            if outgoing.starved and not outgoing.full:
                outgoing.starved = False
                self._board.out.append((WRITABLE, stream))

    def cancel(self, stream: ClientStream, code: int, text: str, now: float) -> bool:
        """End a call from this side; False if it had ended. Its token gets FAILED with `code`."""
        channel = stream.channel
        if channel.streams.get(stream.number) is not stream:
            return False
        unsent = self._unsent(stream)
        self._end(stream)
        if unsent:
            channel.outboxes[stream.lane].remove(stream.message)
        else:
            fields = [packet.CANCEL, stream.number, int(code)]
            channel.outboxes[stream.lane].append(packet.pack(fields))
            self._board.mark(channel)
        failure = Failure(int(code), text, not unsent)
        self._board.out.append((FAILED, stream, stream.expected, failure))
        return True

    def close_calls(self, text: str, now: float) -> None:
        for channel in self._channels.values():
            for stream in list(channel.streams.values()):
                self.cancel(stream, Code.CANCELLED, text, now)

    def on_deadline(self, stream: ClientStream, now: float) -> None:
        self.cancel(stream, Code.DEADLINE, "no answer in time", now)

    # Peers -----------------------------------------------------------------------------------

    def on_first_link(self, now: float) -> None:
        if self._unknown_until is None:
            self._unknown_until = now + UNKNOWN_WAIT
            for channel in self._channels.values():
                if channel.state is WAITING and channel.owner not in self._peers:
                    self._board.timers.set(("unknown", channel, 0), self._unknown_until)

    def on_peer(self, node_id: str, peer: Peer, now: float) -> None:
        """What is known of a node has changed."""
        before = self._peers.get(node_id)
        self._peers[node_id] = peer
        for channel in [c for c in self._channels.values() if c.owner == node_id]:
            if peer.dead and (peer.dead != "unreachable" or channel.state is not OPEN):
                self._lose(channel, peer.dead)
            elif before is not None and before.life != peer.life and channel.state is OPEN:
                self._lose(channel, "restarted")
            elif peer.life != channel.life and channel.address == node_id:
                self._start_opening(channel, peer.life, now)

    def forget_peer(self, node_id: str) -> None:
        """Nobody has heard of it for long: from now on it is unknown."""
        self._peers.pop(node_id, None)

    def _open(self, recipient: str, now: float) -> Channel:
        owner = owner_of(recipient)
        peer = self._peers.get(owner)
        unknown_until = self._unknown_until
        if peer is None and unknown_until is not None and now >= unknown_until:
            raise UnknownNodeError(
                f"no node {recipient!r}", node_id=recipient, may_have_run=False
            )
        if peer is not None and peer.dead:
            raise UnreachableError(
                f"{recipient} cannot be reached: {peer.dead}", node_id=recipient, may_have_run=False
            )
        channel = Channel(packet.FROM_INITIATOR, recipient, now)
        self._channels[recipient] = channel
        if peer is not None:
            self._start_opening(channel, peer.life if owner == recipient else 0, now)
        elif unknown_until is not None:
            self._board.timers.set(("unknown", channel, 0), unknown_until)
        self._board.timers.set(("hold", channel, 0), now + self._request_timeout)
        return channel

    def _start_opening(self, channel: Channel, life: int, now: float) -> None:
        self._board.forget(channel)
        channel.state = OPENING
        channel.token = self._board.rng.randbytes(16)
        self._board.register(channel, life, now)
        self.on_init_timer(channel, now)

    def on_init_timer(self, channel: Channel, now: float) -> None:
        """Ask for a cookie, again and again while there is a route."""
        if channel.state is OPENING:
            if channel.link:
                channel.tries += 1
            channel.send_about([packet.INIT, channel.token], self._board.out)
            again = min(INIT_AGAIN_MAX, INIT_AGAIN * 2 ** min(channel.tries, 4))
            self._board.timers.set(("init", channel, 0), now + again)

    def on_unknown_timer(self, channel: Channel) -> None:
        if channel.state is WAITING and channel.owner not in self._peers:
            text = f"no node {channel.address!r}"
            self._close(channel, Code.UNREACHABLE, text, unknown_node=True)

    def on_hold_timer(self, channel: Channel, now: float) -> None:
        """Work without a total time ends after `request_timeout` without a route."""
        if self._channels.get(channel.address) is not channel:
            return
        since = channel.unroutable_since
        if since is not None and now >= since + self._request_timeout:
            for stream in [s for s in channel.streams.values() if s.bucket is None]:
                text = f"no route to {channel.address} for {self._request_timeout:g} s"
                self._fail(stream, Code.UNREACHABLE, text)
        elif since is None and channel.is_idle() and now >= channel.used_at + 120.0:
            self._drop(channel)
            return
        self._board.timers.set(("hold", channel, 0), now + self._request_timeout)

    # Endings ---------------------------------------------------------------------------------

    def _lose(self, channel: Channel, why: str) -> None:
        texts = {
            "gone": "its process has ended",
            "silent": "it fell silent",
            "left": "it left the mesh",
            "removed": "it was silent for too long",
            "restarted": "it was started again",
            "unreachable": "every way to it is lost",
        }
        text = f"{channel.address} was lost: {texts.get(why, why)}"
        # What was never sent has not been in flight: for it the recipient is unreachable.
        self._close(channel, Code.PEER_LOST, text)

    def _close(self, channel: Channel, code: int, text: str, *, unknown_node: bool = False) -> None:
        for stream in list(channel.streams.values()):
            self._fail(stream, code, text, unknown_node=unknown_node)
        self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        self._board.forget(channel)
        if self._channels.get(channel.address) is channel:
            del self._channels[channel.address]

    def _fail(
        self, stream: ClientStream, code: int, text: str, *, unknown_node: bool = False
    ) -> None:
        may_have_run = not self._unsent(stream)
        if code == Code.PEER_LOST and not may_have_run:
            code = Code.UNREACHABLE
        self._end(stream)
        failure = Failure(int(code), text, may_have_run, unknown_node=unknown_node)
        self._board.out.append((FAILED, stream, stream.expected, failure))

    def _unsent(self, stream: ClientStream) -> bool:
        return stream.channel.state is not OPEN or any(
            message is stream.message for message in stream.channel.outboxes[stream.lane]
        )

    def _end(self, stream: ClientStream) -> None:
        stream.channel.streams.pop(stream.number, None)
        self.streams -= 1
        if stream.bucket is not None:
            stream.bucket.pop(stream, None)
        if stream.outgoing is not None:
            stream.outgoing.dropped = True

    # Messages from the responder -------------------------------------------------------------

    def on_about(self, channel: Channel, message: list[Any], now: float) -> None:
        """OPEN or RESET."""
        kind = message[0]
        if kind == packet.OPEN and len(message) >= 3:
            fits = channel.state is OPENING and message[1] == channel.token
            if fits and type(message[2]) is int and 0 < message[2] < 2**63:
                channel.open(message[2])
                self._board.mark(channel)
        elif kind == packet.RESET and len(message) >= 3:
            self._on_reset(channel, message[1], message[2], now)

    def on_other_life(self, address: str, message: list[Any], now: float) -> None:
        """A RESET that comes from another life of `address` than the one our channel is to."""
        channel = self._channels.get(address)
        if channel is not None and len(message) >= 3 and channel.state is not WAITING:
            self._on_reset(channel, channel.cookie, message[2], now)

    def _on_reset(self, channel: Channel, cookie: Any, life: Any, now: float) -> None:
        if channel.state is OPEN and cookie != channel.cookie:
            return
        if life != channel.life and channel.life:
            self._lose(channel, "restarted")
        elif channel.state is OPEN:
            self._reopen(channel, now)

    def _reopen(self, channel: Channel, now: float) -> None:
        """The responder has forgotten the channel, which it does only while nothing is under way.

        So what is open here never ran there: it is called again, in a new channel.
        """
        streams = list(channel.streams.values())
        self._drop(channel)
        fresh = Channel(packet.FROM_INITIATOR, channel.address, now)
        self._channels[channel.address] = fresh
        self._board.timers.set(("hold", fresh, 0), now + self._request_timeout)
        for stream in streams:
            stream.channel = fresh
            fresh.streams[stream.number] = stream
            fresh.outboxes[stream.lane].append(stream.message)
            if stream.outgoing is not None:
                self._fail(stream, Code.PEER_LOST, f"{channel.address} forgot the transfer")
        self._start_opening(fresh, channel.life, now)

    def on_message(self, channel: Channel, message: Any, body: Any) -> None:
        """A numbered message of the responder; what does not fit is counted and ignored."""
        kind, number = message[0], message[1]
        stream = channel.streams.get(number)
        if stream is None:
            return  # cancelled, or its deadline has passed
        if kind == packet.RESULT:
            _, _, serial, mode, payload = message
            if mode == packet.BODY:
                self._on_body(stream, serial, payload, final=True)
            elif serial == stream.expected:
                self._end(stream)
                value = NO_PAYLOAD if mode == packet.NOTHING else payload
                self._board.out.append((VALUE, stream, serial, value))
            else:
                value = NO_PAYLOAD if mode == packet.NOTHING else payload
                self._emit(stream, serial, (VALUE, stream, serial, value), completes=True)
        elif kind == packet.ITEM:
            _, _, serial, mode, payload = message
            if mode == packet.BODY:
                self._on_body(stream, serial, payload, final=False)
            else:
                item = (ITEM, stream, serial, packet.unpack_value(payload), len(payload))
                self._emit(stream, serial, item, completes=True)
        elif kind == packet.CHUNK:
            self._on_chunk(stream, message, body)
        elif kind == packet.ERROR:
            _, _, serial, code, name, text, traceback, may_have_run = message[:8]
            failure = Failure(int(code), str(text), bool(may_have_run), str(name), str(traceback))
            self._emit(stream, serial, (FAILED, stream, serial, failure), completes=True)
        elif kind == packet.CREDIT:
            self._board.on_credit(stream, message[2])
        else:
            self._board.count("unknown message")

    def _on_body(self, stream: ClientStream, serial: int, payload: Any, *, final: bool) -> None:
        content, size = payload
        if stream.incoming is None:
            stream.incoming = {}
        stream.incoming[serial] = 0
        if final:
            stream.final_serial = serial
        self._emit(stream, serial, (BODY, stream, serial, content, size, final))

    def _on_chunk(self, stream: ClientStream, message: list[Any], body: Any) -> None:
        _, _, serial, offset, last = message
        incoming = stream.incoming
        if incoming is None or incoming.get(serial) != offset or body is None:
            self._board.count("chunk out of place")
            return
        incoming[serial] += len(body)
        if last:
            del incoming[serial]
        self._emit(stream, serial, (CHUNK, stream, serial, body, last), completes=bool(last))

    def _emit(
        self, stream: ClientStream, serial: int, output: Output, *, completes: bool = False
    ) -> None:
        """Hand a response on in the order of serials; a large one may arrive after a later small."""
        if serial != stream.expected:
            held = stream.held if stream.held is not None else {}
            stream.held = held
            if serial > stream.expected and len(held) < HELD_MAX:
                held.setdefault(serial, []).append((output, completes))
            else:
                self._board.count("response out of place")
            return
        self._board.out.append(output)
        if not completes:
            return
        if output[0] in (VALUE, FAILED) or serial == stream.final_serial:
            self._end(stream)
            return
        stream.expected = serial + 1
        if stream.held:
            for following, ends in stream.held.pop(stream.expected, []):
                self._emit(stream, stream.expected, following, completes=ends)

    def check_invariants(self) -> None:
        assert self.streams == sum(len(channel.streams) for channel in self._channels.values())
        for channel in self._channels.values():
            channel.check_invariants()
