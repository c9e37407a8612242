"""A bound address: one ROUTER for the lanes of all who dial it, and the links that they make.

A ROUTER tells connections apart by random routing ids. A dialler's first message on each of its
two connections is the preamble: which lane, and the link's random key, which finds the two. From
then on a routing id leads to its lane by one look-up per message.

Whoever begins with anything else is no node of ours: its connection is cut and counted, and what
it sent besides is thrown away. The others notice nothing.

Two orders are possible when a descriptor is used again at once. Messages of the first connection
that are read after it ended find either no connection, and are dropped, or the second one; then
the second's own preamble shows that the first is over, for one descriptor has one owner.
"""

from __future__ import annotations

from collections.abc import Iterator

import zmq

from meshcore.protocol.wire.limits import LARGE_BYTES
from meshcore.transport.connection import Connection, has_chosen_identity, source_fd
from meshcore.transport.hub import Hub, Socket
from meshcore.transport.lane import Lane
from meshcore.transport.link import CONNECTION_LOST, PREAMBLE, PREAMBLE_BYTES, Link
from meshcore.transport.options import BULK_BUFFER_BYTES
from meshcore.transport.port import NOBLOCK, Port

FLIGHT_TIME = 0.1  # seconds for libzmq to put on the wire what was just given to it,
FLIGHT_TIME_MAX = 1.0  # and for how long it is waited for where the kernel says that it has not
KEYS_REMEMBERED = 256  # of links that are over: a late second preamble must not begin a new one


class AcceptedLink(Link):
    """A link that a peer dialled; it may be used as soon as the first of its lanes is known."""

    def __init__(self, hub: Hub, number: int, key: bytes, listener: Listener) -> None:
        super().__init__(hub, number, key)
        self.listener = listener
        self.opened_at = hub.loop.time()
        self.news_connections: list[Connection] = []
        self.is_up = True  # the sink knows of it

    @property
    def is_whole(self) -> bool:
        return all(lane.is_open for lane in self.lanes)

    def _silence(self) -> None:
        self.listener.forget(self)

    def _finish(self) -> None:
        until = self.hub.loop.time() + FLIGHT_TIME_MAX
        self.hub.loop.call_later(FLIGHT_TIME, self._release_when_arrived, until)

    def _release_when_arrived(self, until: float) -> None:
        """On a busy machine libzmq's thread may not have run yet: see what has arrived."""
        if self in self.hub.closing and self.hub.loop.time() < until and self._is_in_flight():
            self.hub.loop.call_later(FLIGHT_TIME, self._release_when_arrived, until)
        else:
            self._release()

    def _is_in_flight(self) -> bool:
        for lane in self.lanes:
            acked = None if lane.connection is None else lane.connection.acked_bytes()
            if acked is not None and acked < lane.bytes_out:  # without the frames' own heads
                return True
        return False

    def _release(self) -> None:
        super()._release()
        self.listener.forget(self)
        if self.hub.is_closed:
            return  # the sockets go with all that they hold; cutting would lose their last words
        for connection in [lane.connection for lane in self.lanes] + self.news_connections:
            if connection is not None and not connection.is_cut:
                connection.cut()


class Listener(Port):
    """The ROUTER; each link that it makes takes the next of `numbers`."""

    is_bound = True

    def __init__(self, hub: Hub, socket: Socket, *, url: str, numbers: Iterator[int]) -> None:
        super().__init__(hub, socket)
        self.url = url
        self.news_urls: tuple[str, ...] = ()
        self._numbers = numbers
        self._on_frames = hub.sink.on_frames
        self._lanes: dict[bytes, Lane] = {}
        self._ignored: dict[bytes, None] = {}
        self._old_keys: dict[bytes, None] = {}

    def _receive(self) -> bool:
        if self._skipping:
            return self._skip()
        try:
            identity = self._recv(NOBLOCK)
        except zmq.Again:
            return False
        frame = self._recv(NOBLOCK, False)
        lane = self._lanes.get(identity)
        if lane is None:
            self._on_stranger(identity, frame)
            return True
        size = len(frame)
        body = None
        lane.messages_in += 1
        if frame.more:
            second = self._recv(NOBLOCK, False)
            if second.more:
                self._skip()
                self._refuse_lane(lane, "too many frames")
                return True
            lane.bytes_in += len(second)
            body = second.bytes if len(second) < LARGE_BYTES else second.buffer
        lane.bytes_in += size
        data = frame.bytes if size < LARGE_BYTES else frame.buffer
        self._on_frames(lane.link, lane.number, data, body)
        return True

    # Who is it?

    def _on_stranger(self, identity: bytes, frame: zmq.Frame) -> None:
        if frame.more:
            self._skip()
        if identity in self._ignored:
            return
        self.monitor.drain()
        connection = self.connections.get(source_fd(frame))
        if connection is None or connection.is_cut:
            self.hub.drop("message of a lost connection")
            return
        data = frame.bytes if len(frame) == PREAMBLE_BYTES else b""
        if frame.more or not data.startswith(PREAMBLE) or data[len(PREAMBLE)] > 1:
            self._refuse(connection, identity, "no preamble")
        elif has_chosen_identity(frame):
            self._refuse(connection, identity, "chosen routing id")
        else:
            number, key = data[len(PREAMBLE)], data[len(PREAMBLE) + 1 :]
            self._introduce(connection, identity, number=number, key=key)

    def _introduce(
        self, connection: Connection, identity: bytes, *, number: int, key: bytes
    ) -> None:
        link = self.hub.accepted.get(key)
        if link is None:
            if key in self._old_keys:
                self._refuse(connection, identity, "link is over")
                return
            if len(self.hub.accepted) >= self.hub.knobs.links_max:
                self._refuse(connection, identity, "too many links")
                return
            link = AcceptedLink(self.hub, next(self._numbers), key, self)
        elif link.lanes[number].is_open or not self._is_mine(link):
            self._refuse(connection, identity, "lane is taken")
            return
        before = connection.owner
        if isinstance(before, Lane):  # see above: its connection was an earlier one
            connection.owner = None
            self._end_link_of(before, CONNECTION_LOST)
        connection.identity = identity
        lane = link.lanes[number]
        self._lanes[identity] = lane
        if number == 1:
            connection.limit_send_buffer(BULK_BUFFER_BYTES)
        if link.number not in self.hub.links:
            self.hub.accepted[key] = self.hub.links[link.number] = link
            lane.open(self, identity, connection)
            self.hub.sink.on_accepted(link.number)
        else:
            lane.open(self, identity, connection)

    def _is_mine(self, link: Link) -> bool:
        return isinstance(link, AcceptedLink) and link.listener is self

    # Who goes, and who is sent away.

    def _refuse(self, connection: Connection, identity: bytes, reason: str) -> None:
        if connection.owner is None:
            connection.identity = identity
            self._ignored[identity] = None
            self.cut(connection, reason)
        else:  # not known by its descriptor: it is gone, or was never one of ours
            self.hub.drop(reason)

    def _refuse_lane(self, lane: Lane, reason: str) -> None:
        self.hub.drop(reason)
        self._end_link_of(lane, reason)

    def _end_link_of(self, lane: Lane, reason: str) -> None:
        link = self.hub.links.get(lane.link)
        if link is not None:
            link.end(reason)

    def _on_lost(self, connection: Connection) -> None:
        self._ignored.pop(connection.identity, None)
        lane = self._lanes.pop(connection.identity, None)
        if lane is not None:
            connection.is_cut = True  # it needs no cutting any more
            link = self.hub.links.get(lane.link)
            if link is not None:
                link.on_lane_lost(lane)

    def forget(self, link: AcceptedLink) -> None:
        """Its messages are not handed over any more; `_on_lost` ends the ignoring."""
        if self.hub.accepted.pop(link.key, None) is not None:
            self._old_keys[link.key] = None
            if len(self._old_keys) > KEYS_REMEMBERED:
                del self._old_keys[next(iter(self._old_keys))]
        for lane in link.lanes:
            connection = lane.connection
            if connection is None or self._lanes.pop(connection.identity, None) is None:
                continue
            if self.connections.get(connection.fd) is connection:
                self._ignored[connection.identity] = None

    def judge(self, now: float) -> None:
        """Cut connections without a preamble, and links without their second lane."""
        until = now - self.hub.knobs.introduction_timeout
        for connection in list(self.connections.values()):
            if connection.owner is None and connection.opened_at < until:
                self.cut(connection, "no introduction")
        for link in list(self.hub.accepted.values()):
            if not isinstance(link, AcceptedLink) or link.listener is not self:
                continue
            if not link.is_whole and link.opened_at < until:
                self.hub.drop("no second lane")
                link.end("the second lane never came")
