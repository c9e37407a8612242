"""The calling end: channels that this node opened, the calls in them, and what becomes of them.

A new call is judged by what is known of its recipient, and so is what is in flight when that
changes; the table is in docs/protocol.md, "What becomes of a call". Every failure says whether the
work may have run.
"""

from __future__ import annotations

from typing import Any

from meshcore.errors import BusyError, Code, UnknownNodeError, UnreachableError
from meshcore.identity import owner_of
from meshcore.protocol.delivery.bodies import MAY_BE_LARGE, Fed, Outgoing, body_of, is_large
from meshcore.protocol.delivery.channel import OPEN, OPENING, WAITING, Channel
from meshcore.protocol.delivery.incoming import Incoming
from meshcore.protocol.delivery.outputs import FAILED, VALUE, WRITABLE, Failure
from meshcore.protocol.delivery.peers import Peer, Peers, lost_text
from meshcore.protocol.delivery.streams import STREAM_CREDIT, ClientStream
from meshcore.protocol.delivery.switchboard import Switchboard
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import LARGE_BYTES

UNKNOWN_WAIT = 2.0  # seconds after our first link in which a recipient may still become known
CALLS_MAX = 131_072  # calls under way at once in one node; more are refused as busy
INIT_AGAIN, INIT_AGAIN_MAX = 0.05, 1.0  # seconds
INIT_TRIES_FAST = 4  # INITs in a row that are sent at once when the recipient has another life
IDLE_AFTER = 120.0  # seconds until an idle channel is forgotten (its responder: 600)


class Initiator:
    def __init__(self, board: Switchboard, peers: Peers, *, request_timeout: float) -> None:
        self._board = board
        self._request_timeout = request_timeout
        self._peers = peers
        self._channels: dict[str, Channel] = {}  # by the recipient's address
        self._next_number = 1
        self._unknown_until: float | None = None  # None: no link yet
        self._tokens = 0  # drawn so far: a later one supersedes an earlier one
        self.streams = 0  # calls under way
        self._incoming = Incoming(board, end=self._end, break_off=self._break_off)

    # Calls -----------------------------------------------------------------------------------

    def call(
        self,
        recipient: str,
        directive: str,
        payload: Any,
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
        if channel is None or channel.refused:
            channel = self._open(recipient, now)
        if self.streams >= CALLS_MAX:
            raise BusyError(f"{CALLS_MAX} calls are under way in this node", may_have_run=False)
        number = self._next_number
        body: list[Any] | None = None
        head = (packet.CALL, number, directive, None if ttl is None else int(ttl * 1000) or 1)
        if type(payload) in MAY_BE_LARGE and (type(payload) is Fed or is_large(payload)):
            body = []
        else:
            message = packet.pack_message((*head, packet.INLINE, payload))
            if len(message) >= LARGE_BYTES:
                body = []
        if body is not None:
            content, size, body = body_of(payload)
            message = packet.pack_message((*head, packet.BODY, [content, size]))
            lane = 1
        self._next_number = number + 1
        stream = ClientStream(number, channel, directive, token, lane, ttl, message)
        channel.streams[number] = stream
        channel.used_at = now
        self.streams += 1
        if ttl is not None:
            stream.bucket = self._board.wheel.add(stream, now + ttl)
        if trace and body is None:
            channel.traced.append(message)
        else:
            outbox = channel.outboxes[lane]  # `post`, but for the cost of a call
            outbox.append(message)
            channel.backlog_bytes += len(message)
            stream.position = channel.popped[lane] + len(outbox)
        if body is not None:
            stream.body = body
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
        self._fail(stream, code, text)
        return True

    def close_calls(self, text: str, now: float) -> None:
        for channel in self._channels.values():
            for stream in list(channel.streams.values()):
                self.cancel(stream, Code.CANCELLED, text, now)

    def on_deadline(self, stream: ClientStream, now: float) -> None:
        self.cancel(stream, Code.DEADLINE, f"no answer in {stream.ttl:g} s", now)

    # Peers -----------------------------------------------------------------------------------

    def on_first_link(self, now: float, wait: float) -> None:
        if self._unknown_until is None:
            self._unknown_until = now + wait
            for channel in self._channels.values():
                if channel.state is WAITING and channel.owner not in self._peers:
                    self._board.timers.set(("unknown", channel, 0), self._unknown_until)

    def on_peer(self, node_id: str, peer: Peer, ended: int, now: float) -> None:
        """What is known of a node has changed; its life `ended` is over (0: none)."""
        for channel in self._board.channels_of(node_id, packet.FROM_INITIATOR):
            self._judge(channel, peer, ended, now)

    def _judge(self, channel: Channel, peer: Peer, ended: int, now: float) -> None:
        """What becomes of a channel, now that this is known of the node that it leads to."""
        own_life = channel.address == channel.owner  # a client has a life of its own
        over = bool(ended)
        if own_life and channel.state is not WAITING:
            over = channel.life != peer.life
            if over and not ended:
                return  # the recipient itself told of a later life, whose news is under way
        if peer.dead and (peer.dead != "unreachable" or channel.state is not OPEN):
            self._lose(channel, peer.dead)
        elif over and channel.state is OPEN:
            self._lose(channel, "restarted")
        elif peer.dead:
            channel.refused = True
            for stream in list(channel.streams.values()):
                if not channel.has_left(stream):
                    self._fail(stream, Code.UNREACHABLE, lost_text(channel, peer.dead))
        else:
            channel.refused = False
            channel.hold(not peer.reachable, now)
            life = peer.life if own_life else 0
            if channel.state is WAITING or (channel.state is OPENING and over):
                self._start_opening(channel, life, now)

    def _open(self, recipient: str, now: float) -> Channel:
        owner = owner_of(recipient)
        peer = self._peers.get(owner)
        unknown_until = self._unknown_until
        if peer is None and unknown_until is not None and now >= unknown_until:
            raise UnknownNodeError(f"no node {recipient!r}", node_id=recipient, may_have_run=False)
        if peer is not None and peer.dead:
            raise UnreachableError(
                f"{recipient} cannot be reached: {peer.dead}", node_id=recipient, may_have_run=False
            )
        channel = self._board.new_channel(packet.FROM_INITIATOR, recipient, now)
        self._channels[recipient] = channel
        if peer is not None:
            channel.hold(not peer.reachable, now)
            self._start_opening(channel, peer.life if owner == recipient else 0, now)
        elif unknown_until is not None:
            self._board.timers.set(("unknown", channel, 0), unknown_until)
        self._board.timers.set(("hold", channel, 0), now + self._request_timeout)
        return channel

    def _start_opening(self, channel: Channel, life: int, now: float) -> None:
        self._board.forget_key(channel)
        channel.state = OPENING
        self._tokens += 1
        channel.token = self._tokens.to_bytes(8, "big") + self._board.rng.randbytes(8)
        self._board.register(channel, life, now)
        if channel.tries < INIT_TRIES_FAST:
            self.on_init_timer(channel, now)

    def on_init_timer(self, channel: Channel, now: float) -> None:
        """Ask for a cookie, again and again while there is a route."""
        if channel.state is OPENING:
            again = INIT_AGAIN_MAX  # without a route; a new one comes back here at once
            if channel.link:
                again = min(INIT_AGAIN_MAX, INIT_AGAIN * 2 ** min(channel.tries, 5))
                channel.tries += 1
                channel.send_about([packet.INIT, channel.token], self._board.out)
            self._board.timers.set(("init", channel, 0), now + again)

    def on_unknown_timer(self, channel: Channel) -> None:
        if channel.state is WAITING and channel.owner not in self._peers:
            text = f"no node {channel.address!r}"
            self._close(channel, Code.UNREACHABLE, text, unknown_node=True)

    def on_hold_timer(self, channel: Channel, now: float) -> None:
        """Work without a total time ends after `request_timeout` without a route."""
        if self._channels.get(channel.address) is not channel:
            return
        since, timeout = channel.waits_since(), self._request_timeout
        again = now + timeout
        if since is not None and now < since + timeout:
            again = since + timeout
        elif since is not None:
            for stream in [s for s in channel.streams.values() if s.bucket is None]:
                text = f"no route to {channel.address} for {timeout:g} s"
                self._fail(stream, Code.UNREACHABLE, text)
        if channel.is_idle():
            if now >= channel.used_at + IDLE_AFTER:
                self._drop(channel)
                return
            again = max(again, channel.used_at + IDLE_AFTER)
        self._board.probe(channel, now)
        self._board.timers.set(("hold", channel, 0), again)

    # Endings ---------------------------------------------------------------------------------

    def _lose(self, channel: Channel, why: str) -> None:
        self._close(channel, Code.PEER_LOST, lost_text(channel, why))

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
        """End a call from this side: it is taken back, or the responder is told."""
        channel = stream.channel
        may_have_run = channel.state is OPEN and channel.has_left(stream)
        if code == Code.PEER_LOST and not may_have_run:
            code = Code.UNREACHABLE  # it was never in flight
        self._end(stream)
        if channel.has_left(stream):
            channel.post(packet.pack([packet.CANCEL, stream.number, int(code)]), stream.lane)
            self._board.mark(channel)
        else:
            channel.withdraw(stream)
        failure = Failure(int(code), text, may_have_run, unknown_node=unknown_node)
        self._board.out.append((FAILED, stream, stream.expected, failure))

    def _break_off(self, stream: ClientStream, text: str) -> None:
        """The responder does not keep to the rules."""
        if stream.channel.streams.get(stream.number) is stream:
            self._fail(stream, Code.BAD_PAYLOAD, f"{stream.channel.address}: {text}")

    def _end(self, stream: ClientStream) -> None:
        del stream.channel.streams[stream.number]
        self.streams -= 1
        if stream.bucket is not None:
            stream.bucket.pop(stream, None)
        outgoing = stream.outgoing
        if outgoing is not None:
            outgoing.dropped = True
            if outgoing.starved:  # whoever feeds it must not wait for ever
                outgoing.starved = False
                self._board.out.append((WRITABLE, stream))

    # Messages from the responder -------------------------------------------------------------

    def on_about(self, channel: Channel, message: list[Any], now: float) -> None:
        """OPEN or RESET."""
        kind = message[0]
        if kind == packet.OPEN and len(message) >= 3:
            fits = channel.state is OPENING and message[1] == channel.token
            if fits and type(message[2]) is int and 0 < message[2] < 2**63:
                channel.open(message[2])
                self._board.mark(channel)
        elif kind == packet.RESET and len(message) >= 4:
            _, cookie, life, received = message[:4]
            if type(cookie) is type(life) is int and 0 < life < 2**64:
                self._on_reset(channel, cookie, life, received, now)

    def _on_reset(
        self, channel: Channel, cookie: Any, life: int, received: Any, now: float
    ) -> None:
        """The recipient does not hold the channel (any more), or has another life by now."""
        if channel.state is OPEN:
            if channel.life not in (0, life):
                self._lose(channel, "restarted")
            elif cookie == channel.cookie:
                self._reopen(channel, _received(channel, received), now)
        elif channel.state is OPENING and channel.life not in (0, life):
            self._start_opening(channel, life, now)

    def _reopen(self, channel: Channel, received: tuple[int, int], now: float) -> None:
        """The responder holds the channel no more: what it never received goes to a new one.

        `received`: how many messages of each lane may have been received and not been answered.
        """
        fresh = self._board.new_channel(packet.FROM_INITIATOR, channel.address, now)
        for stream in list(channel.streams.values()):
            left = channel.has_left(stream)
            fed = stream.body is not None and not stream.body
            if left and (stream.position <= received[stream.lane] or stream.received):
                self._fail(stream, Code.PEER_LOST, f"{channel.address} has given the work up")
            elif left and fed:
                self._fail(stream, Code.PEER_LOST, f"{channel.address} has forgotten the call")
            else:
                self._move(stream, fresh)
        self._drop(channel)
        self._channels[channel.address] = fresh
        self._board.timers.set(("hold", fresh, 0), now + self._request_timeout)
        self._start_opening(fresh, channel.life, now)

    def _move(self, stream: ClientStream, channel: Channel) -> None:
        """Call again in another channel, from the beginning."""
        del stream.channel.streams[stream.number]
        stream.channel = channel
        channel.streams[stream.number] = stream
        stream.position = channel.post(stream.message, stream.lane)
        stream.credit, stream.sent_bytes = STREAM_CREDIT, 0
        if stream.body:
            if stream.outgoing is not None:
                stream.outgoing.dropped = True
            stream.outgoing = channel.start_body(stream, 0, stream.body, last=True)
        elif stream.outgoing is not None:  # `Fed`, and nothing of it has left
            channel.rotation.append(stream.outgoing)
            stream.outgoing.parked = False

    def on_message(self, channel: Channel, message: Any, body: Any) -> None:
        """A numbered message of the responder; raises where it is malformed."""
        stream = channel.streams.get(message[1])
        if stream is None:
            return  # cancelled, or its deadline has passed
        if (
            message[0] == packet.RESULT
            and message[2] == stream.expected
            and message[3] == packet.INLINE
            and stream.outgoing is None
        ):  # nearly every response; the same as `_end` and what `Incoming` does
            output = (VALUE, stream, message[2], message[4])
            del channel.streams[stream.number]
            self.streams -= 1
            if stream.bucket is not None:
                stream.bucket.pop(stream, None)
            self._board.out.append(output)
            return
        self._incoming.on_message(stream, message, body)

    def on_malformed(self, channel: Channel, kind: Any, number: int) -> None:
        """A response that cannot be read will not come again."""
        stream = channel.streams.get(number)
        if stream is not None and kind != packet.CREDIT:
            self._break_off(stream, "a response cannot be decoded")

    def check_invariants(self) -> None:
        for address, channel in self._channels.items():
            assert channel.address == address
            assert channel.state in (WAITING, OPENING, OPEN)
            assert all(stream.channel is channel for stream in channel.streams.values())
        assert self.streams == sum(len(channel.streams) for channel in self._channels.values())
        for channel in self._channels.values():
            channel.check_invariants()


def _received(channel: Channel, told: Any) -> tuple[int, int]:
    """What the `received` of a RESET says, in messages of each lane (-1: none)."""
    if told is True:  # it was idle: what is open here has not run
        return -1, -1
    everything = channel.popped[0], channel.popped[1]
    if type(told) is not list or len(told) != 2 or not all(type(each) is int for each in told):
        return everything
    starts = [lane.start_after(number) for lane, number in zip(channel.lanes, told, strict=True)]
    return (
        everything[0] if starts[0] is None else starts[0],
        everything[1] if starts[1] is None else starts[1],
    )
