"""Forwarding: one hop on, unread; what cannot go on is dropped, and its source is told."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from meshcore.protocol import forwarding as module
from meshcore.protocol.delivery.outputs import COUNT, SEND
from meshcore.protocol.forwarding import HINTS_PER_SECOND, Forwarding
from meshcore.protocol.wire import packet

ROUTES = {"alpha": 1, "beta": 2, "gamma": 3, "relay": -1}


class Relay:
    def __init__(self) -> None:
        self.routes = dict(ROUTES)
        self.asked: list[str] = []
        self.out: list[Any] = []
        self.machine = Forwarding(
            node_id="relay", life=5, link_of=self.link_of, emit=self.out.append
        )

    def link_of(self, address: str) -> int:
        self.asked.append(address)
        return self.routes.get(address.partition("~")[0], 0)

    def forward(self, frame: bytes, body: Any = None, *, now: float = 0.0, index: int = 0) -> None:
        self.machine.forward(frame, packet.key_of(frame), body, now, index=index)

    def take(self) -> tuple[list[tuple[int, int, list[Any]]], Counter[str]]:
        sent = [(each[1], each[2], each[3]) for each in self.out if each[0] == SEND]
        counts = Counter(each[1] for each in self.out if each[0] == COUNT)
        self.out.clear()
        return sent, counts


def frame_of(source: str = "alpha", to: str = "beta", *, hops: int = 32, flags: int = 0) -> bytes:
    key = packet.make_key(packet.FROM_INITIATOR, source, 11, to, 22)
    head = bytearray(packet.make_head(packet.PACKET, flags, key))
    head[2] = hops
    return bytes(head) + packet.pack([1, 1, None])


def hint_in(sent: list[tuple[int, int, list[Any]]]) -> tuple[int, int, str]:
    ((link, _, (frame,)),) = sent
    key = packet.key_of(frame)
    reason, about = packet.read_hint(frame, key)
    return link, reason, packet.read_key(about)[3]


def test_a_packet_goes_on_with_its_body_on_the_lane_that_it_came_on() -> None:
    relay = Relay()
    body = memoryview(b"x" * 1000)
    frame = frame_of(flags=packet.FLAG_BODY | packet.FLAG_BULK)
    relay.forward(frame, body, index=1)
    ((link, lane, frames),), _ = relay.take()
    assert (link, lane) == (2, 1)
    assert frames[0][2] == 31
    assert frames[1] is body
    assert relay.machine.forwarded == 1


def test_the_way_is_looked_up_once_until_the_routes_change() -> None:
    relay = Relay()
    for _ in range(5):
        relay.forward(frame_of())
    assert relay.asked == ["beta"]
    relay.routes["beta"] = 9
    relay.machine.on_routes_changed()
    relay.forward(frame_of())
    assert relay.take()[0][-1][0] == 9


def test_a_way_that_is_not_there_is_looked_up_each_time() -> None:
    relay = Relay()
    relay.routes["beta"] = 0
    relay.forward(frame_of())
    relay.routes["beta"] = 2
    relay.take()
    relay.forward(frame_of())
    assert relay.take()[0][0][0] == 2


def test_the_memory_of_ways_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_MAX", 10)
    relay = Relay()
    for n in range(100):
        relay.forward(frame_of(source=f"node{n}"))
        assert len(relay.machine._links) <= 10
    assert len(relay.take()[0]) == 100


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (frame_of(to="nowhere"), packet.HINT_NO_ROUTE),
        (frame_of(hops=1), packet.HINT_HOP_LIMIT),
        (frame_of(hops=0), packet.HINT_HOP_LIMIT),
        (frame_of(to="relay~gone"), packet.HINT_CLIENT_GONE),
    ],
)
def test_what_cannot_go_on_is_dropped_and_its_source_is_told(frame: bytes, reason: int) -> None:
    relay = Relay()
    relay.routes.pop("relay")
    relay.forward(frame)
    sent, counts = relay.take()
    assert hint_in(sent) == (1, reason, packet.read_key(packet.key_of(frame))[3])
    assert counts == {f"not forwarded: {packet.HINT_TEXTS[reason]}": 1}
    assert relay.machine.forwarded == 0


def test_a_full_link_is_told_to_the_source_of_transit_and_counted_for_ones_own() -> None:
    relay = Relay()
    relay.machine.on_full(frame_of(), 0.0)
    sent, counts = relay.take()
    assert hint_in(sent) == (1, packet.HINT_FULL, "beta")
    assert counts["relay full"] == 1
    relay.machine.on_full(frame_of(source="relay"), 0.0)
    sent, counts = relay.take()
    assert not sent
    assert counts == {"link full": 1}


def test_hints_are_limited_for_each_origin_and_reason() -> None:
    relay = Relay()
    for _ in range(50):
        relay.forward(frame_of(to="nowhere"), now=1.0)
        relay.forward(frame_of(hops=1), now=1.0)
        relay.forward(frame_of(source="gamma", to="nowhere"), now=1.9)
    sent, counts = relay.take()
    assert len(sent) == 3 * HINTS_PER_SECOND
    assert sum(counts.values()) == 150
    relay.forward(frame_of(to="nowhere"), now=2.0)
    assert len(relay.take()[0]) == 1


def test_hints_are_passed_on_but_never_answered() -> None:
    relay = Relay()
    about = packet.make_key(packet.FROM_INITIATOR, "alpha", 1, "beta", 2)
    hint = packet.make_hint("gamma", 7, about, packet.HINT_FULL)
    relay.forward(hint)
    assert [link for link, _, _ in relay.take()[0]] == [1]
    relay.routes.pop("alpha")  # while there is a way to gamma, who made the hint
    relay.machine.on_routes_changed()
    relay.forward(hint)
    sent, counts = relay.take()
    assert not sent
    assert counts == {"not forwarded: no route": 1}


def test_nobody_is_told_where_no_way_leads_back() -> None:
    relay = Relay()
    relay.forward(frame_of(source="stranger", to="nowhere"))
    assert not relay.take()[0]


@pytest.mark.parametrize("hops", [0, 32])
@pytest.mark.parametrize("key", [b"", b"x", b"\x05" * 40, b"\x00" * 18 + b"abc", b"\xff" * 299])
def test_a_malformed_key_is_counted(key: bytes, hops: int) -> None:
    relay = Relay()
    head = bytearray(packet.make_head(packet.PACKET, 0, key))
    head[2] = hops
    relay.machine.forward(bytes(head), key, None, 0.0, index=0)
    relay.machine.note_client("relay~c", key)
    sent, counts = relay.take()
    assert not sent
    assert sum(counts.values()) == 1


def test_a_malformed_trace_is_counted() -> None:
    relay = Relay()
    relay.forward(frame_of(flags=packet.FLAG_TRACE))
    sent, counts = relay.take()
    assert not sent
    assert any(name.startswith("bad packet") for name in counts)


# -- clients --------------------------------------------------------------------------------------


def test_those_whom_a_client_used_are_told_of_its_end_once() -> None:
    relay = Relay()
    for to in ("beta", "gamma", "beta"):
        key = packet.make_key(packet.FROM_INITIATOR, "relay~c", 3, to, 22)
        relay.machine.note_client("relay~c", key)
    relay.machine.on_client_gone("relay~c")
    sent, _ = relay.take()
    assert [link for link, _, _ in sent] == [2, 3]
    for _, _, (frame,) in sent:
        key = packet.key_of(frame)
        reason, about = packet.read_hint(frame, key)
        assert reason == packet.HINT_CLIENT_GONE
        assert packet.read_key(about)[3] == "relay~c"
    relay.machine.on_client_gone("relay~c")
    assert not relay.take()[0]


def test_a_client_cannot_speak_for_others_nor_use_up_memory() -> None:
    relay = Relay()
    for n in range(1000):
        key = packet.make_key(packet.FROM_INITIATOR, "relay~c", 3, f"n{n}", 22)
        relay.machine.note_client("relay~c", key)
    relay.machine.note_client(
        "relay~d", packet.make_key(packet.FROM_INITIATOR, "relay~other", 3, "beta", 22)
    )
    relay.machine.note_client(
        "relay~d", packet.make_key(packet.FROM_RESPONDER, "relay~d", 3, "beta", 22)
    )
    assert len(relay.machine._client_keys["relay~c"]) == module.CLIENT_RECIPIENTS_MAX
    relay.machine.on_client_gone("relay~d")
    assert not relay.take()[0]


def test_the_way_to_a_client_ends_with_it() -> None:
    relay = Relay()
    relay.forward(frame_of(to="relay~c"))
    assert relay.take()[0][0][0] == -1
    relay.routes["relay"] = 0
    relay.machine.on_client_gone("relay~c")
    relay.forward(frame_of(to="relay~c"))
    sent, _ = relay.take()
    assert hint_in(sent) == (1, packet.HINT_CLIENT_GONE, "relay~c")
