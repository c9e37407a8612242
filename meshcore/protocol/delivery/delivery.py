"""The delivery machine: calls to other nodes and their responses, exactly as far as can be known.

A call ends in exactly one way: its responses up to the last, or one failure that says whether the
work may have run. Nothing is executed twice within a life, nothing waits for ever, responses of one
call come in order; a lost link or relay only delays. What is known of the recipients (alive, dead
and why) comes in through `on_peer`, the ways to them through `link_of` and `on_routes_changed`.

Inputs are plain method calls with the time, outputs are tuples in `out` (see outputs.py), which the
owner takes after each turn with `take`. The owner calls `flush` at the end of each turn of its
loop, or at once where nothing else is in flight (`is_quiet`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from meshcore.errors import ProtocolError
from meshcore.identity import CLIENT_MARK, owner_of
from meshcore.protocol.delivery.bodies import Outgoing
from meshcore.protocol.delivery.channel import OPEN, Channel
from meshcore.protocol.delivery.initiator import UNKNOWN_WAIT, Initiator
from meshcore.protocol.delivery.outputs import SEND, Output
from meshcore.protocol.delivery.peers import Peer, Peers, ended_life
from meshcore.protocol.delivery.responder import Responder
from meshcore.protocol.delivery.streams import ClientStream, ServerStream
from meshcore.protocol.delivery.switchboard import Switchboard
from meshcore.protocol.wire import packet
from meshcore.protocol.wire.limits import PACKET_MESSAGES_MAX

BACKLOG_BYTES_MAX = 16 * 1024 * 1024  # responses of one channel that its initiator does not take

FULL_PACKET = 3 + PACKET_MESSAGES_MAX // 4  # fields of an end-to-end part with many messages

_MALFORMED = (ProtocolError, ValueError, TypeError, IndexError, KeyError, OverflowError)


class Delivery:
    """One node's delivery. `address` is the node's id, or `node~nonce` for an ephemeral client."""

    def __init__(
        self,
        *,
        address: str,
        life: int,
        rng: random.Random,
        link_of: Callable[[str], int],
        request_timeout: float = 30.0,
    ) -> None:
        board = Switchboard(address=address, life=life, rng=rng, link_of=link_of)
        board.on_moved, board.on_room = self._on_moved, self._on_room
        self._board = board
        self._peers = Peers()
        self._initiator = Initiator(board, self._peers, request_timeout=request_timeout)
        self._responder = Responder(board, self._peers)
        # A packet of many messages came in: what follows from it should leave before more is taken.
        self.turn_is_full = False
        # The application's side, bound once: these are the hot path.
        self.call = self._initiator.call
        self.respond = self._responder.respond
        self.fail = self._responder.fail
        self.has_room = self._responder.has_room

    @property
    def is_flush_due(self) -> bool:
        """Something waits for the end of the turn."""
        return self._board.flush_due

    @property
    def address(self) -> str:
        return self._board.address

    def set_address(self, address: str) -> None:
        """An ephemeral client learns its address from its node, before its first call."""
        self._board.address = address

    # The application's side ------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """No call of this node is in flight, so there is nothing to wait for and batch with."""
        return not self._initiator.streams

    def cancel(self, stream: ClientStream, code: int, text: str, now: float) -> bool:
        return self._initiator.cancel(stream, code, text, now)

    def feed(self, stream: ClientStream | ServerStream, data: bytes, *, last: bool) -> bool:
        """More of a payload or response that was begun as `Fed`; False: wait for WRITABLE."""
        if isinstance(stream, ClientStream):
            return self._initiator.feed(stream, data, last=last)
        return self._responder.feed(stream, data, last=last)

    def consumed(self, stream: ClientStream | ServerStream, size: int, now: float) -> None:
        """The application took `size` bytes of what came in on this stream."""
        if stream.channel.streams.get(stream.number) is stream:
            self._board.credit(stream, size, now)

    # The network's side ----------------------------------------------------------------------

    def on_packet(self, frame: bytes, key: bytes, body: Any, now: float) -> None:
        """A packet for this node; `key` is its key, `body` its second frame or None."""
        board = self._board
        channel = board.by_key.get(key)
        try:
            part, trace = packet.end_to_end(frame, key)
        except ProtocolError as error:
            board.count(f"bad packet: {error.message}")
            return
        number = part[1]
        if channel is None or part[0] != channel.cookie or number == 0:
            self._on_unnumbered(channel, key, part, now)
            return
        if part[2] is not None:
            board.acks(channel, part[2], now)
        if channel.backlog_bytes > BACKLOG_BYTES_MAX and channel.role == packet.FROM_RESPONDER:
            board.count("dropped: responses are not acknowledged")
            return
        size = len(frame) if body is None else len(frame) + len(body)
        lane = channel.lanes[frame[3] & 1]
        due = lane.receive(number, (frame, body), size)
        if due is None or lane.held or lane.received_bytes >= lane.window_max // 4:
            board.hurry_ack(channel)
        elif not channel.ack_listed:
            board.owe_ack(channel, now)
        if due is None:
            board.count("duplicate packet" if number < lane.expected else "packet beyond a hole")
            return
        self._on_messages(channel, part, body, trace, now)
        if len(part) >= FULL_PACKET:
            self.turn_is_full = True
        for held_frame, held_body in due:
            # Held as bytes, which take less memory than what they decode to.
            part, trace = packet.end_to_end(held_frame, key)
            self._on_messages(channel, part, held_body, trace, now)

    def _on_messages(
        self, channel: Channel, part: list[Any], body: Any, trace: Any, now: float
    ) -> None:
        is_call = channel.role == packet.FROM_RESPONDER
        # A malformed message must not take those behind it along: the packet is acknowledged.
        for message in part[3:]:
            try:
                if is_call:
                    self._responder.on_message(channel, message, body, trace, now)
                else:
                    self._initiator.on_message(channel, message, body)
            except _MALFORMED:
                self._board.count("malformed message")
                self._on_malformed(channel, message, now)

    def _on_malformed(self, channel: Channel, message: Any, now: float) -> None:
        """Nothing follows from it, but that the call which waits for it must not wait for ever."""
        fields = message.fields if type(message) is packet.Undecodable else message
        if type(fields) is not list or len(fields) < 2 or type(fields[1]) is not int:
            return
        if channel.role == packet.FROM_RESPONDER:
            self._responder.on_malformed(channel, fields[0], fields[1], now)
        else:
            self._initiator.on_malformed(channel, fields[0], fields[1])

    def _on_unnumbered(
        self, channel: Channel | None, key: bytes, part: list[Any], now: float
    ) -> None:
        """About a channel itself, or of one that is not (or no longer) known here."""
        board = self._board
        message = part[3] if len(part) > 3 else None
        if part[1] == 0 and part[0] == 0 and type(message) is list and message:
            if message[0] == packet.INIT:
                self._on_init(key, message, now)
            elif channel is None:
                if message[0] == packet.OPEN:
                    self._on_open_from_any_life(key, message, now)
            elif channel.role == packet.FROM_INITIATOR:
                self._initiator.on_about(channel, message, now)
            elif message[0] == packet.RESET and len(message) >= 2:
                self._responder.on_reset(channel, message[1])
        elif channel is not None and part[0] == channel.cookie and part[2] is not None:
            board.acks(channel, part[2], now)
        elif part[0]:
            self._reset(key, part[0])

    def _on_init(self, key: bytes, message: list[Any], now: float) -> None:
        try:
            role, source, source_life, destination, life = packet.read_key(key)
        except ProtocolError:
            self._board.count("bad packet: key")
            return
        board = self._board
        if role != packet.FROM_INITIATOR or destination != board.address or len(message) < 2:
            board.count("bad init")
        elif life not in (0, board.life):
            self._reset(key, 0)
        else:
            self._responder.on_init(source, source_life, message[1], now)

    def _on_open_from_any_life(self, key: bytes, message: list[Any], now: float) -> None:
        """The answer to an INIT to whatever life the recipient has names that life."""
        channel = self._channel_to_any_life(key)
        if channel is not None and len(message) >= 3 and message[1] == channel.token:
            self._board.forget_key(channel)
            self._board.register(channel, packet.read_key(key)[2], now)
            self._initiator.on_about(channel, message, now)

    def _channel_to_any_life(self, key: bytes) -> Channel | None:
        try:
            role, source, _, destination, life = packet.read_key(key)
        except ProtocolError:
            return None
        if role != packet.FROM_RESPONDER:
            return None
        return self._board.by_key.get(packet.make_key(role, source, 0, destination, life))

    def _reset(self, key: bytes, cookie: int) -> None:
        """Tell the other end that there is no such channel here (any more)."""
        board = self._board
        try:
            _, source, _, destination, _ = packet.read_key(key)
        except ProtocolError:
            board.count("bad packet: key")
            return
        link = board.link_of(source)
        if destination != board.address or not link:
            board.count("stray packet")
            return
        fields = [packet.RESET, cookie, board.life, self._responder.received(cookie)]
        head = packet.make_head(packet.PACKET, 0, packet.turned(key))
        board.out.append((SEND, link, 0, [head + packet.pack([0, 0, None, fields])]))
        board.count("reset sent")

    def on_hint(self, frame: bytes, key: bytes, now: float) -> None:
        """A relay could not pass a packet of ours on."""
        try:
            reason, about = packet.read_hint(frame, key)
            relay = packet.read_key(key)[1]
            _, source, life, destination, _ = packet.read_key(about)
        except ProtocolError as error:
            self._board.count(f"bad hint: {error.message}")
            return
        self._board.count(f"hint: {packet.HINT_TEXTS.get(reason, 'unknown')}")
        if reason == packet.HINT_CLIENT_GONE:
            if CLIENT_MARK in destination and owner_of(destination) == relay:
                self._responder.on_client_gone(destination)
        elif reason == packet.HINT_FULL and (source, life) == (
            self._board.address,
            self._board.life,
        ):
            self._on_full(packet.turned(about))

    def on_link_full(self, key: bytes) -> None:
        """A packet of our own, with this key, was dropped because its link takes no more."""
        self._on_full(packet.turned(key))

    def _on_full(self, key_in: bytes) -> None:
        channel = self._board.by_key.get(key_in)
        if channel is not None:
            for lane in channel.lanes:
                lane.on_loss()

    def on_client_gone(self, address: str) -> None:
        """An ephemeral client has ended: its work here is not wanted any more."""
        self._responder.on_client_gone(address)

    # Peers, routes, time ---------------------------------------------------------------------

    def on_first_link(self, now: float, *, wait: float = UNKNOWN_WAIT) -> None:
        """From now on a recipient that does not become known within `wait` seconds is unknown."""
        self._initiator.on_first_link(now, wait)

    def on_peer(self, node_id: str, life: int, *, reachable: bool, dead: str, now: float) -> None:
        """What is known of a node; `dead`: "" or gone, silent, left, removed, unreachable."""
        peer = Peer(life, reachable, dead)
        ended = ended_life(self._peers.learn(node_id, peer), peer)
        if dead and dead != "unreachable":
            self._responder.on_peer_gone(node_id)
        elif ended:
            self._responder.on_life_over(node_id, ended)
        self._initiator.on_peer(node_id, peer, ended, now)

    def forget_peer(self, node_id: str) -> None:
        self._peers.forget(node_id)

    def on_routes_changed(self, now: float) -> None:
        self._board.on_routes_changed(now)

    def flush(self, now: float) -> None:
        """The end of a turn: everything that waits leaves, as far as the windows allow."""
        self._responder.settle()
        self._board.flush(now)

    def next_deadline(self) -> float | None:
        wheel, timers = self._board.wheel.next_deadline(), self._board.timers.next_deadline()
        if wheel is None or timers is None:
            return timers if wheel is None else wheel
        return min(wheel, timers)

    def on_tick(self, now: float) -> None:
        board = self._board
        for stream in board.wheel.pop_due(now):
            if isinstance(stream, ClientStream):
                self._initiator.on_deadline(stream, now)
            else:
                self._responder.on_deadline(stream)
        for kind, channel, index in board.timers.pop_due(now):
            if kind == "resend":
                board.on_resend_timer(channel, index, now)
            elif kind == "ack":
                board.on_ack_timer()
            elif kind == "init":
                self._initiator.on_init_timer(channel, now)
            elif kind == "unknown":
                self._initiator.on_unknown_timer(channel)
            elif kind == "hold":
                self._initiator.on_hold_timer(channel, now)
            elif kind == "idle":
                self._responder.on_idle_timer(channel, now)

    def emit(self, output: Any) -> None:
        """Put something of another machine on the same ordered list."""
        self._board.out.append(output)

    def knows(self, key: bytes) -> bool:
        """Whether a packet of this key belongs to a channel that ends here."""
        return key in self._board.by_key

    @property
    def has_output(self) -> bool:
        """Whether there is something to take."""
        return bool(self._board.out)

    def take(self) -> list[Output]:
        """The outputs since the last call, in order."""
        out = self._board.out
        self._board.out = []
        return out

    def close_calls(self, text: str, now: float) -> None:
        """This node stops: its own calls end, and those who work for them are told."""
        self._initiator.close_calls(text, now)

    def is_settled(self) -> bool:
        """Everything that was sent has been acknowledged, as far as there are ways."""
        return not any(
            channel.link and not channel.is_idle() for channel in self._board.by_key.values()
        )

    def stats(self) -> dict[str, int]:
        """Channels and streams, for status."""
        channels = list(self._board.by_key.values())
        return {
            "channels": len(channels),
            "channels_open": sum(channel.state is OPEN for channel in channels),
            "calls_out": self._initiator.streams,
            "calls_in": self._responder.streams,
            "in_flight_bytes": sum(
                lane.in_flight_bytes for channel in channels for lane in channel.lanes
            ),
            "backlog_bytes": sum(channel.backlog_bytes for channel in channels),
        }

    def check_invariants(self) -> None:
        self._board.check_invariants()
        self._initiator.check_invariants()
        self._responder.check_invariants()

    def _on_moved(self, outgoing: Outgoing) -> None:
        if isinstance(outgoing.stream, ClientStream):
            self._initiator.on_moved(outgoing)
        else:
            self._responder.on_moved(outgoing)

    def _on_room(self, channel: Channel) -> None:
        self._responder.on_room(channel)
