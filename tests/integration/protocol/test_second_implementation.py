"""docs/protocol.md is enough to build a peer: this one was, and uses nothing of meshcore.

It attaches to a real node as a client and works, and links up with it as a node until both hold the
same records. What has to change here changes the wire, and so the document and its version.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

ROOT = Path(__file__).parents[3]
TIMEOUT_MS = 5000
HELLO, WELCOME, BYE, BEAT, NEWS, BUCKETS, CONTENTS, WANT, LEAVE_ACK, VIEW = (
    1, 2, 4, 5, 6, 7, 8, 9, 10, 13,
)  # fmt: skip
PACKET, CALL, RESULT, ITEM, ERROR, CHUNK, INIT, OPEN, RESET = 32, 1, 3, 4, 5, 6, 8, 9, 10
BULK, BODY = 1, 4
LINK_STATE, DETAILS = 1, 2


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    """A node called alpha that offers the demo actions."""
    command = "-m meshcore run --json --id alpha --plugin demo --listen tcp://127.0.0.1:0".split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
    ) as node:
        try:
            assert node.stdout is not None
            yield json.loads(node.stdout.readline())["listen"][0]
        finally:
            node.terminate()
            node.communicate(timeout=15)


SCALE = 7  # of ages: any settled one, as a node has that has had a neighbour


class Peer:
    """Two lanes to a node, by the letter of the document."""

    def __init__(self, url: str, *, flags: int) -> None:
        self.context = zmq.Context()
        self.key, self.flags = os.urandom(16), flags
        self.life = int.from_bytes(os.urandom(8), "big") | 1
        self.incarnation = int(time.time() * 1000)
        self.lanes = [self.socket(zmq.DEALER) for _ in range(2)]
        for number, lane in enumerate(self.lanes):
            lane.connect(url)
            lane.send(b"MC1" + bytes([number]) + self.key)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def socket(self, kind: int) -> Any:
        made = self.context.socket(kind)
        made.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
        made.setsockopt(zmq.RECONNECT_IVL, -1)
        return made

    def control(self, kind: int, *fields: Any) -> None:
        self.lanes[0].send(bytes([1, kind]) + msgpack.packb(list(fields)))

    def receive(self, kind: int, lane: int = 0) -> list[bytes]:
        """The frames of the next message of this kind; others are skipped."""
        while True:
            frames: list[bytes] = self.lanes[lane].recv_multipart()
            if frames[0][1] == kind:
                return frames

    def greet(self) -> list[Any]:
        """HELLO; the fields of WELCOME."""
        who = ["mesh", "second", self.incarnation, self.life]
        self.control(HELLO, 1, 1, *who, 1, [], self.flags, 0.5, SCALE, 0.0, 0.0)
        fields: list[Any] = msgpack.unpackb(self.receive(WELCOME)[0][2:])
        return fields


def channel_key(role: int, source: str, life: int, destination: str, their_life: int) -> bytes:
    head = struct.pack(">BQQB", role, life, their_life, len(source))
    return head + source.encode() + destination.encode()


def packet(key: bytes, flags: int, *part: Any) -> bytes:
    head = struct.pack(">BBBBIQIH", 1, PACKET, 32, flags, 2**32 - 1, 0, 0, len(key))
    return head + key + msgpack.packb(list(part))


def opened(frame: bytes) -> tuple[bytes, list[Any]]:
    """Key and end-to-end part of a packet."""
    end = 22 + int.from_bytes(frame[20:22], "big")
    return frame[22:end], msgpack.unpackb(frame[end:])


def test_a_client_built_from_the_document_works(url: str) -> None:
    with Peer(url, flags=1) as peer:
        _, _, node_id, _, life, nonce = peer.greet()[:6]
        address = f"{node_id}~{nonce:x}"
        view = msgpack.unpackb(peer.receive(VIEW)[0][2:])
        assert view[:2] == [True, [["alpha", life, 0, True, "", 0]]]
        assert view[2] in ("", "alpha")  # it is its own master, as soon as it is sure

        key = channel_key(0, address, peer.life, node_id, life)
        token = struct.pack(">Q", 1) + os.urandom(8)
        control, bulk = peer.lanes
        control.send(packet(key, 0, 0, 0, None, [INIT, token]))
        back, part = opened(peer.receive(PACKET)[0])
        assert back == channel_key(1, node_id, life, address, peer.life)
        cookie = part[3][2]
        assert part == [0, 0, None, [OPEN, token, cookie]]

        calls = [
            [CALL, 1, "demo:echo", 5000, 0, {"a": [1, b"x"]}],
            [CALL, 2, "demo:count", None, 0, 2],
            [CALL, 3, "demo:nope", None, 0, None],
        ]
        control.send(packet(key, 0, cookie, 1, None, *calls))
        said: dict[int, list[Any]] = {1: [], 2: [], 3: []}
        while sum(each[-1:] != [] and each[-1][0] != ITEM for each in said.values()) < 3:
            part = opened(peer.receive(PACKET)[0])[1]
            assert part[0] == cookie
            for message in part[3:]:
                said[message[1]].append(message)
        assert said[1] == [[RESULT, 1, 1, 0, {"a": [1, b"x"]}]]
        assert said[2] == [[ITEM, 2, 1, 0, b"\0"], [ITEM, 2, 2, 0, b"\1"], [RESULT, 2, 3, 2, None]]
        assert [message[:4] for message in said[3]] == [[ERROR, 3, 1, 2]]
        assert said[3][0][7] is False

        body = os.urandom(300_000)
        bulk.send(packet(key, BULK, cookie, 1, None, [CALL, 4, "demo:echo", None, 1, [0, 300_000]]))
        for number, start, last in ((2, 0, False), (3, 262_144, True)):
            chunk = [CHUNK, 4, 0, start, last]
            head = packet(key, BULK | BODY, cookie, number, None, chunk)
            bulk.send_multipart([head, body[start : start + 262_144]])
        assert _echoed(peer) == body

        control.send(packet(key, 0, cookie + 1, 9, None, [CALL, 9, "demo:echo", None, 0, 1]))
        while (part := opened(peer.receive(PACKET)[0])[1])[0]:
            continue
        assert part == [0, 0, None, [RESET, cookie + 1, life, True]]
        peer.control(BYE, 0, "done")


def _echoed(peer: Peer) -> bytes:
    received, last = b"", False
    while not last:
        frames = peer.receive(PACKET, lane=1)
        for message in opened(frames[0])[1][3:]:
            if message[0] == CHUNK:
                assert (message[1:4], frames[0][3]) == ([4, 1, len(received)], BULK | BODY)
                received, last = received + frames[1], message[4]
            else:
                assert message == [RESULT, 4, 1, 1, [0, 300_000]]
    return received


def hashed(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=8).digest()


class Records:
    """What is held: (origin, kind) -> (incarnation, sequence, content hash)."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, int], tuple[int, int, int]] = {}

    def put(self, raw: bytes) -> bytes:
        kind, origin, incarnation, sequence = msgpack.unpackb(msgpack.unpackb(raw)[0])[:4]
        version = (incarnation, sequence, int.from_bytes(hashed(raw), "big"))
        self.held[origin, kind] = max(version, self.held.get((origin, kind), version))
        return raw

    def sums(self) -> list[int]:
        sums = [0] * 256
        for (origin, kind), version in self.held.items():
            numbers = struct.pack(">BBQQQ", 0, kind, *version)
            bucket = hashed(origin.encode())[-1]
            sums[bucket] += int.from_bytes(hashed(origin.encode(), numbers), "big")
        return [each % 2**64 for each in sums]

    def digest(self) -> int:
        return sum(self.sums()) % 2**64

    def contents(self, sums: list[int]) -> list[Any]:
        ours = self.sums()
        differ = [number for number in range(256) if sums[number] != ours[number]]
        entries = [
            (key, v) for key, v in self.held.items() if hashed(key[0].encode())[-1] in differ
        ]
        return [differ, [[*key, *version] for key, version in entries]]


def own_record(peer: Peer, sequence: int, *, left: bool) -> bytes:
    edges = [] if left else [["alpha", 700, 0, 0, 0.0, 0, 0]]
    fields = [LINK_STATE, "second", peer.incarnation, sequence, peer.life, edges, []]
    packed: bytes = msgpack.packb([msgpack.packb([*fields, SCALE, 0.0, None, left, {}]), b""])
    return packed


def test_a_node_built_from_the_document_comes_to_the_same_digest_and_leaves(url: str) -> None:
    with Peer(url, flags=2) as peer:
        news_urls = peer.greet()[13]
        subscriber, publisher = peer.socket(zmq.SUB), peer.socket(zmq.XPUB)
        for topic in (b"h", b"n", b"z" + peer.key):
            subscriber.setsockopt(zmq.SUBSCRIBE, topic)
        subscriber.connect(news_urls[0])
        publisher.connect(news_urls[1])
        assert sorted(publisher.recv() for _ in range(3)) == [b"\1h", b"\1n", b"\1z"]
        publisher.send(b"z" + peer.key)

        records = Records()
        who = ["second", peer.incarnation, peer.life]
        peer.control(BEAT, *who, 1, 0.5, records.digest(), 0.0, SCALE, 0.0)
        peer.receive(BEAT)
        peer.control(NEWS, "second", [records.put(own_record(peer, 1, left=False))])
        number, theirs, by_news = 1, -1, 0
        deadline = time.monotonic() + 20
        while theirs != records.digest() or ("alpha", DETAILS) not in records.held or not by_news:
            assert time.monotonic() < deadline, (records.held, by_news)
            number += 1
            beat = msgpack.packb([*who, number, 0.5, records.digest(), 0.0, SCALE, 0.0])
            publisher.send(b"h" + peer.key + bytes([1, BEAT]) + beat)
            # Whatever comes first, by lane or as news; at the latest their next beat does.
            for socket in zmq.select([peer.lanes[0], subscriber], [], [], 0.5)[0]:
                message = socket.recv()
                by_news += socket is subscriber
                theirs = _answer(peer, records, message[socket is subscriber :], theirs)

        peer.control(NEWS, "second", [own_record(peer, 2, left=True)])
        assert msgpack.unpackb(peer.receive(LEAVE_ACK)[0][2:]) == ["alpha"]
        peer.control(BYE, 7, "leaving")


def _answer(peer: Peer, records: Records, message: bytes, theirs: int) -> int:
    """Do what a message asks for; the digest of the newest beat."""
    kind, fields = message[1], msgpack.unpackb(message[2:])
    if kind == BEAT:
        return int(fields[5])
    if kind == NEWS:
        for raw in fields[1]:
            records.put(raw)
    elif kind == BUCKETS:
        peer.control(CONTENTS, *records.contents(fields[0]))
    elif kind == CONTENTS:
        missing = [entry[:2] for entry in fields[1] if tuple(entry[:2]) not in records.held]
        if missing:
            peer.control(WANT, missing)
    return theirs
