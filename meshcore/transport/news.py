"""The news side of a bound address: an XPUB that all neighbours hear, a SUB that hears them.

What goes this way may be lost, and is repaired by the protocol. Both sockets are told whose
connection it is by the link's key: the neighbour's SUB subscribes to `z` + key, its XPUB begins
with a message `z` + key and puts the key behind the topic of each message.
"""

from __future__ import annotations

import zmq

from meshcore.transport.connection import Connection, source_fd
from meshcore.transport.hub import Hub, Socket
from meshcore.transport.link import (
    KEY_BYTES,
    SUBSCRIPTIONS_MAX,
    TOPIC_BEAT,
    TOPIC_KEY,
    TOPIC_NEWS,
    TOPICS,
    Link,
    NewsTraffic,
)
from meshcore.transport.listener import AcceptedLink
from meshcore.transport.port import NOBLOCK, Port


class NewsPort(Port):
    """What the bound XPUB and SUB share."""

    is_bound = True

    def _receive(self) -> bool:
        if self._skipping:
            return self._skip()
        try:
            frame = self._recv(NOBLOCK, False)
        except zmq.Again:
            return False
        if frame.more:
            self._skip()
            self._cut_source(frame, "too many frames")
            return True
        self._on_message(frame, frame.bytes)
        return True

    def _on_message(self, frame: zmq.Frame, data: bytes) -> None:
        raise NotImplementedError

    def _source(self, frame: zmq.Frame) -> Connection | None:
        self.monitor.drain()
        return self.connections.get(source_fd(frame))

    def _cut_source(self, frame: zmq.Frame, reason: str) -> None:
        connection = self._source(frame)
        if connection is None:
            self.hub.drop("message of a lost connection")
        else:
            self.cut(connection, reason)

    def judge(self, now: float) -> None:
        """Cut connections that never said to which link they belong."""
        until = now - self.hub.knobs.introduction_timeout
        for connection in list(self.connections.values()):
            if connection.owner is None and connection.opened_at < until:
                self.cut(connection, "no introduction")

    def _introduce(self, connection: Connection, link: Link | None) -> AcceptedLink | None:
        """Give the connection to its link; whoever names none is cut."""
        if not isinstance(link, AcceptedLink) or len(link.news_connections) >= 2:
            self.cut(connection, "news of no link")
            return None
        link.news_connections.append(connection)
        return link


class Subscription(NewsTraffic):
    """The owner of a connection to the XPUB."""

    __slots__ = ("link",)

    def __init__(self, link: AcceptedLink) -> None:
        super().__init__()
        self.link = link


class Publisher(NewsPort):
    """The XPUB: each message is given once, libzmq copies it to every subscriber."""

    def __init__(self, hub: Hub, socket: Socket) -> None:
        super().__init__(hub, socket)
        self._subscriptions: dict[Connection, int] = {}
        self._ready: dict[Connection, AcceptedLink] = {}

    def publish(self, data: bytes) -> None:
        if self._ready:
            self.send(data, NOBLOCK)
            self.touch()

    def _on_message(self, frame: zmq.Frame, data: bytes) -> None:
        if data[:1] == b"\x00":
            return  # an unsubscription; also libzmq's own when a connection ends
        connection = self._source(frame)
        if connection is None or connection.is_cut:
            return
        count = self._subscriptions[connection] = self._subscriptions.get(connection, 0) + 1
        topic = data[1:2]
        known = len(data) == (2 + KEY_BYTES if topic == TOPIC_KEY else 2) and topic in TOPICS
        if data[:1] != b"\x01" or not known or count > SUBSCRIPTIONS_MAX:
            self.cut(connection, "foreign subscription")
        elif topic == TOPIC_KEY and connection.owner is None:
            link = self._introduce(connection, self.hub.accepted.get(data[2:]))
            if link is not None:
                connection.owner = Subscription(link)
                self._ready[connection] = link
                link.is_news_ready = True

    def _on_lost(self, connection: Connection) -> None:
        self._subscriptions.pop(connection, None)
        link = self._ready.pop(connection, None)
        if link is not None:
            link.is_news_ready = False


class Subscriber(NewsPort):
    """The SUB: what the neighbours publish, told apart by the key behind the topic."""

    def _on_message(self, frame: zmq.Frame, data: bytes) -> None:
        link = self.hub.accepted.get(data[1 : 1 + KEY_BYTES])
        if not isinstance(link, AcceptedLink) or link.news_in.messages_in == 0:
            connection = self._source(frame)
            if connection is None:
                self.hub.drop("message of a lost connection")
                return
            if connection.owner is None:
                link = self._introduce(connection, link)
            if link is None:
                self.cut(connection, "news of no link")
                return
            connection.owner = link.news_in
        traffic = link.news_in
        traffic.messages_in += 1
        traffic.bytes_in += len(data)
        if data[:1] in (TOPIC_BEAT, TOPIC_NEWS):
            self.hub.sink.on_news(link.number, data[:1] + data[1 + KEY_BYTES :])
