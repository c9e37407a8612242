"""A link that we dial: every connection is ours, so that nodes behind NAT are full members.

::

    resolve the name -> connect two DEALERs -> both handshakes done -> on_connected
                            |  refused, closed, silent: the next address, then on_dial_failed
                            v
    connect_news: a SUB to the peer's XPUB and an XPUB to the peer's SUB

An XPUB rather than a PUB, which is the same on the wire: it tells when the peer has subscribed.
The news go to the host that was dialled, whatever host the peer names: wildcards, NAT and peers
that point us at somebody else need no cases of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import zmq

from meshcore.errors import ConfigError
from meshcore.protocol.wire.limits import LARGE_BYTES
from meshcore.transport import monitor as events
from meshcore.transport.addresses import resolve
from meshcore.transport.connection import Connection
from meshcore.transport.hub import Hub, Socket
from meshcore.transport.lane import Lane
from meshcore.transport.link import (
    KEY_BYTES,
    SUBSCRIPTIONS_MAX,
    TOPIC_BEAT,
    TOPIC_KEY,
    TOPIC_NEWS,
    Link,
    preamble,
)
from meshcore.transport.options import new_socket
from meshcore.transport.port import NOBLOCK, Port
from meshcore.transport.probe import connect_errno, describe
from meshcore.urls import Url, parse_url


class DialledLink(Link):
    """Begins to dial with `start`; ends in one report to the sink."""

    def __init__(self, hub: Hub, number: int, url: Url) -> None:
        super().__init__(hub, number, os.urandom(KEY_BYTES))
        self._url = url
        self._address = url  # the numeric one in use
        self._untried: list[Url] = []
        self._ports: list[Port] = []
        self._news_out: NewsOut | None = None
        self._lanes_up = 0
        self._is_asking = False
        for lane in self.lanes:
            lane.send((preamble(lane.number, self.key),))
        self._timer = hub.loop.call_later(hub.knobs.dial_timeout, self._on_timeout)

    def start(self) -> None:
        self.hub.run(self._resolve())

    async def _resolve(self) -> None:
        try:
            self._untried = list(await resolve(self._url))
        except OSError as error:
            self.end(f"{self._url}: the name does not resolve ({error.strerror or error})")
            return
        if not self.is_over:
            self._try_next()

    def _try_next(self) -> None:
        self._address = self._untried.pop(0)
        self._lanes_up = 0
        for lane in self.lanes:
            socket = self._socket(zmq.DEALER, bulk=lane.number == 1)
            self._ports.append(LanePort(self.hub, socket, self, lane))
            try:
                socket.connect(str(self._address))
            except zmq.ZMQError as error:
                self.on_failed(zmq.strerror(error.errno or 0).lower())
                return

    def _socket(self, kind: int, *, bulk: bool = False) -> Socket:
        ipv6 = ":" in self._address.host
        socket = new_socket(self.hub.context, kind, ipv6=ipv6, bulk=bulk)
        if self.hub.secure is not None:
            self.hub.secure(socket, "client", self._url)
        return socket

    def on_lane_up(self) -> None:
        """A handshake is done."""
        self._lanes_up += 1
        if self._lanes_up < len(self.lanes) or self.is_up or self.is_over:
            return
        self.is_up = True
        self._timer.cancel()
        for port in self._ports:
            assert isinstance(port, LanePort)
            port.open_lane()
        self.hub.sink.on_connected(self.number)

    def on_failed(self, reason: str | None) -> None:
        """A lane does not come to stand; `reason` None: find out why."""
        if self.is_over or self.is_up or self._is_asking:
            return
        self._close_ports()
        if self._untried:
            self._try_next()
        elif reason is not None:
            self.end(f"{self._url}: {reason}")
        else:
            self._is_asking = True
            self.hub.run(self._ask_why())

    async def _ask_why(self) -> None:
        text = describe(await connect_errno(self._address))
        self.end(f"{self._url}: {text}")

    def _on_timeout(self) -> None:
        self.end(f"{self._url}: no answer in {self.hub.knobs.dial_timeout:g} s")

    def _report_end(self, reason: str) -> None:
        if self.is_up:
            super()._report_end(reason)
        elif not self.hub.is_closed:
            self.hub.sink.on_dial_failed(self.number, reason)

    # News.

    def connect_news(self, urls: Sequence[str]) -> None:
        if self._news_out is not None or not self.is_up or len(urls) != 2:
            return
        addresses = [self._news_address(url) for url in urls]
        if None in addresses:
            self.hub.drop("bad news url")
            return
        subscriber = self._socket(zmq.SUB)
        for topic in (TOPIC_BEAT, TOPIC_NEWS, TOPIC_KEY + self.key):
            subscriber.setsockopt(zmq.SUBSCRIBE, topic)
        publisher = self._socket(zmq.XPUB)
        self._news_out = NewsOut(self.hub, publisher, self)
        self._ports += [NewsIn(self.hub, subscriber, self), self._news_out]
        subscriber.connect(str(addresses[0]))
        publisher.connect(str(addresses[1]))

    def _news_address(self, text: str) -> Url | None:
        """Where to connect for what the peer said; None where it may not send us there."""
        try:
            told = parse_url(text)
        except ConfigError:
            return None
        dialled = self._address
        if told.scheme != dialled.scheme:
            return None
        if told.scheme == "ipc":
            return told if told.path.startswith(dialled.path + ".") else None
        return replace(dialled, port=told.port) if told.port else None

    def publish(self, data: bytes) -> None:
        if self._news_out is not None and self.is_news_ready:
            self._news_out.publish(data[:1] + self.key + data[1:])

    # The end.

    def _silence(self) -> None:
        for port in self._ports:
            port.is_silent = True

    def _finish(self) -> None:
        self._close_ports(linger=self.hub.knobs.close_timeout)
        self._release()

    def _release(self) -> None:
        super()._release()
        self._timer.cancel()
        self._untried.clear()
        self._close_ports()

    def _close_ports(self, linger: float = 0.0) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            port.is_silent = True
            # Not now: this may be called from within the port's own drain.
            port.retire(linger)


class LanePort(Port):
    """The DEALER of one lane."""

    def __init__(self, hub: Hub, socket: Socket, link: DialledLink, lane: Lane) -> None:
        super().__init__(hub, socket)
        self._link, self._lane = link, lane
        self._on_frames = hub.sink.on_frames

    def open_lane(self) -> None:
        self._lane.open(self, None, next(iter(self.connections.values()), None))

    def _receive(self) -> bool:
        if self._skipping:
            return self._skip()
        try:
            frame = self._recv(NOBLOCK, False)
        except zmq.Again:
            return False
        lane = self._lane
        size = len(frame)
        body = None
        lane.messages_in += 1
        if frame.more:
            second = self._recv(NOBLOCK, False)
            if second.more:
                self._skip()
                self.hub.drop("too many frames")
                self.hub.loop.call_soon(self._link.end, "too many frames")
                return True
            lane.bytes_in += len(second)
            body = second.bytes if len(second) < LARGE_BYTES else second.buffer
        lane.bytes_in += size
        if not self.is_silent:
            data = frame.bytes if size < LARGE_BYTES else frame.buffer
            self._on_frames(lane.link, lane.number, data, body)
        return True

    def _on_monitor(self, event: int, value: int) -> None:
        if event == events.HANDSHAKE_SUCCEEDED:
            self._link.on_lane_up()
        elif event in events.HANDSHAKE_FAILED:
            self._link.on_failed("the handshake failed; no node of this mesh answers there")
        elif event == events.CLOSED and not self.connections:
            self._link.on_failed(None)

    def _on_lost(self, connection: Connection) -> None:
        if self._link.is_up:
            self._link.on_lane_lost(self._lane)
        else:
            self._link.on_failed(None)


class NewsIn(Port):
    """The SUB that hears what the neighbour publishes."""

    def __init__(self, hub: Hub, socket: Socket, link: DialledLink) -> None:
        super().__init__(hub, socket)
        self._link = link

    def _receive(self) -> bool:
        if self._skipping:
            return self._skip()
        try:
            frame = self._recv(NOBLOCK, False)
        except zmq.Again:
            return False
        if frame.more:
            self._skip()
            self.hub.drop("too many frames")
            self.retire(0.0)
            return True
        data = frame.bytes
        traffic = self._link.news_in
        traffic.messages_in += 1
        traffic.bytes_in += len(data)
        if data[:1] in (TOPIC_BEAT, TOPIC_NEWS) and not self.is_silent:
            self.hub.sink.on_news(self._link.number, data)
        return True

    def _on_monitor(self, event: int, value: int) -> None:
        if event == events.CONNECTED:
            self.connections[value].owner = self._link.news_in


class NewsOut(Port):
    """The XPUB that the neighbour's SUB listens to; quiet until that has subscribed."""

    def __init__(self, hub: Hub, socket: Socket, link: DialledLink) -> None:
        super().__init__(hub, socket)
        self._link = link
        self._subscriptions = 0

    def publish(self, data: bytes) -> None:
        self.send(data, NOBLOCK)
        self.touch()

    def _receive(self) -> bool:
        if self._skipping:
            return self._skip()
        try:
            frame = self._recv(NOBLOCK, False)
        except zmq.Again:
            return False
        if frame.more:
            self._skip()
        data = frame.bytes
        self._subscriptions += 1
        if frame.more or self._subscriptions > SUBSCRIPTIONS_MAX:
            self.hub.drop("foreign subscription")
            self._link.is_news_ready = False
            self.retire(0.0)
        elif data == b"\x01" + TOPIC_KEY:  # the last of the three, in the order of the alphabet
            self.publish(TOPIC_KEY + self._link.key)
            self._link.is_news_ready = True
        return True

    def _on_lost(self, connection: Connection) -> None:
        self._link.is_news_ready = False
