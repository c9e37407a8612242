"""Forwarding: packets for others go on by one hop, unread but for their header.

A relay keeps nothing of what passes but a cache from a packet's key to the link that leads on, and
for its own ephemeral clients whom they sent to, so that those can be told when a client ends. What
cannot go on is dropped, and its source told by a hint, at most `HINTS_PER_SECOND` for each origin
and reason; hints themselves are never answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshcore.errors import ProtocolError
from meshcore.identity import CLIENT_MARK, owner_of
from meshcore.protocol.delivery.outputs import COUNT, SEND, Output
from meshcore.protocol.wire import packet

HINTS_PER_SECOND = 10
CACHE_MAX = 8192  # keys; beyond it the cache starts anew
CLIENT_RECIPIENTS_MAX = 256  # that one client's end is told to
RATES_MAX = 4096


class Forwarding:
    """`link_of(address)` gives the link towards an address, 0 where there is none."""

    def __init__(
        self, *, node_id: str, life: int, link_of: Callable[[str], int], emit: Callable[[Any], None]
    ) -> None:
        self._node_id, self._life = node_id, life
        self._link_of, self._emit = link_of, emit
        self._links: dict[bytes, int] = {}
        self._client_keys: dict[str, dict[bytes, None]] = {}
        self._hints: dict[tuple[str, int], list[float]] = {}  # (origin, reason) -> [second, count]
        self.forwarded = 0

    def on_routes_changed(self) -> None:
        self._links.clear()

    def forward(self, frame: bytes, key: bytes, body: Any, now: float, *, index: int) -> None:
        """Send a packet or hint for another node on its way, or drop it with a hint."""
        if frame[2] <= 1:
            self._refuse(frame, key, packet.HINT_HOP_LIMIT, now)
            return
        link = self._links.get(key)
        if link is None:
            try:
                link = self._resolve(key)
            except ProtocolError:
                self._count("bad packet: key")
                return
        if not link:
            self._refuse(frame, key, self._why_not(key), now)
            return
        try:
            onward = packet.forwarded(frame, key, self._node_id)
        except ProtocolError as error:
            self._count(f"bad packet: {error.message}")
            return
        self.forwarded += 1
        frames = [onward] if body is None else [onward, body]
        output: Output = (SEND, link, index, frames)
        self._emit(output)

    def on_full(self, frame: bytes, now: float) -> None:
        """The link took no more: a packet in transit was dropped."""
        key = packet.key_of(frame)
        source = packet.read_key(key)[1]
        self._count("relay full" if source != self._node_id else "link full")
        if source != self._node_id:
            self._refuse(frame, key, packet.HINT_FULL, now)

    def note_client(self, address: str, key: bytes) -> None:
        """A client of ours sends to somebody, who must hear of its end."""
        try:
            role, source, life, destination, other = packet.read_key(key)
        except ProtocolError:
            return
        keys = self._client_keys.setdefault(address, {})
        if (
            role == packet.FROM_INITIATOR
            and source == address
            and len(keys) < CLIENT_RECIPIENTS_MAX
        ):
            keys[packet.make_key(packet.FROM_RESPONDER, destination, other, source, life)] = None

    def on_client_gone(self, address: str) -> None:
        """Tell those whom a client used that it is gone, so that its work is cancelled."""
        self._links.clear()  # those that led to it
        for about in self._client_keys.pop(address, {}):
            self._send_hint(about, packet.HINT_CLIENT_GONE)

    def _resolve(self, key: bytes) -> int:
        destination = packet.read_key(key)[3]
        link = self._link_of(destination)
        if link:
            if len(self._links) >= CACHE_MAX:
                self._links.clear()
            self._links[key] = link
        return link

    def _why_not(self, key: bytes) -> int:
        destination = packet.read_key(key)[3]
        ours = owner_of(destination) == self._node_id and CLIENT_MARK in destination
        return packet.HINT_CLIENT_GONE if ours else packet.HINT_NO_ROUTE

    def _refuse(self, frame: bytes, key: bytes, reason: int, now: float) -> None:
        self._count(f"not forwarded: {packet.HINT_TEXTS[reason]}")
        if frame[1] != packet.PACKET:
            return
        try:
            source = packet.read_key(key)[1]
        except ProtocolError:
            return
        second = self._hints.setdefault((source, reason), [now, 0])
        if now - second[0] >= 1.0:
            second[:] = [now, 0]
        if second[1] < HINTS_PER_SECOND:
            second[1] += 1
            self._send_hint(key, reason)
        if len(self._hints) > RATES_MAX:
            self._hints.clear()

    def _send_hint(self, about: bytes, reason: int) -> None:
        hint = packet.make_hint(self._node_id, self._life, about, reason)
        link = self._link_of(packet.read_key(about)[1])
        if link:
            output: Output = (SEND, link, 0, [hint])
            self._emit(output)

    def _count(self, reason: str) -> None:
        self._emit((COUNT, reason))
