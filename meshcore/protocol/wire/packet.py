"""Packets: work between two ends, over any number of hops.

A packet is one ZeroMQ message of one or two frames. The first frame is the *hop header*, all that a
relay reads and may change, followed by the *end-to-end part*, which only the two ends read (and
which will be sealed). A second frame, where the BODY flag is set, is a chunk of a large body.

Hop header::

    0   version      u8
    1   kind         u8     PACKET, or HINT (a relay or a neighbour tells the source of a problem)
    2   hop limit    u8
    3   flags        u8     BULK lane, TRACE, BODY
    4   remaining    u32    milliseconds that the work in it still has; 2^32-1 = no limit
    8   number       u64    reserved for sealing
    16  epochs       2 u16  reserved for sealing
    20  key length   u16
    22  key          role u8 (0 from the initiator, 1 from the responder), source life u64,
                     destination life u64 (0 = any), source length u8, source, destination
        trace        only with TRACE: length u16, MessagePack list of the ids of the relays so far

The key is constant for one direction of a channel: both ends and the relays look it up as it is.

End-to-end part: a MessagePack list `[cookie, number, acks, message, …]`. `number` counts the
packets of one lane of a channel from 1 (0: not counted, never resent). `acks` is nil, or the number
up to which lane c is complete, or `[c, c beyond, b, b beyond]`, where "beyond" is a bit field of
the packets held beyond a hole (lowest bit = two after the complete ones).
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from meshcore.errors import BadPayloadError, ProtocolError
from meshcore.protocol.wire.limits import (
    HOP_LIMIT,
    LARGE_BYTES,
    PACKET_MESSAGES_MAX,
    TRACE_HOPS_MAX,
    VERSION,
)
from meshcore.protocol.wire.schema import refuse_extension, unpack

PACKET = 32
HINT = 33

FLAG_BULK, FLAG_TRACE, FLAG_BODY = 1, 2, 4
NO_LIMIT_MS = 2**32 - 1

FROM_INITIATOR, FROM_RESPONDER = 0, 1

# Kinds of messages. From the initiator of a channel:
CALL = 1  # stream, directive, ttl in ms or nil, mode, payload
CANCEL = 2  # stream, code
# From the responder:
RESULT = 3  # stream, serial, mode, payload: the last response, a success
ITEM = 4  # stream, serial, mode, packed payload: a response with more to come
ERROR = 5  # stream, serial, code, name, text, traceback, may have run: the last response
# From both:
CHUNK = 6  # stream, serial, offset, last (serial 0: of the call's payload); the body frame follows
CREDIT = 7  # stream, bytes of its responses (or of its payload) that may have been sent in all
# Unnumbered, about the channel itself:
INIT = 8  # token
OPEN = 9  # token, cookie
RESET = 10  # cookie, life of its sender, what was received ([c, b], True: idle, False: unknown)

# How the payload of CALL, RESULT and ITEM is given:
INLINE, BODY, NOTHING = 0, 1, 2  # BODY: payload is [content kind, size or nil]; chunks follow
CONTENT_BYTES, CONTENT_TEXT, CONTENT_VALUE = 0, 1, 2

# Hints:
HINT_NO_ROUTE, HINT_FULL, HINT_HOP_LIMIT, HINT_CLIENT_GONE = 1, 2, 3, 4
HINT_TEXTS = {
    HINT_NO_ROUTE: "no route",
    HINT_FULL: "relay full",
    HINT_HOP_LIMIT: "hop limit",
    HINT_CLIENT_GONE: "client gone",
}

KEY_BYTES_MAX = 300

_HEAD = struct.Struct(">BBBBIQHHH")
HEAD_BYTES = _HEAD.size  # 22
_KEY = struct.Struct(">BQQB")
_LIST16 = struct.Struct(">BH")

_UNDECODABLE = (ProtocolError, ValueError, TypeError, RecursionError, msgpack.UnpackException)

_packer = msgpack.Packer()
pack = _packer.pack
_unpackb = msgpack.unpackb


def make_key(role: int, source: str, source_life: int, destination: str, life: int) -> bytes:
    name = source.encode()
    return _KEY.pack(role, source_life, life, len(name)) + name + destination.encode()


def read_key(key: bytes) -> tuple[int, str, int, str, int]:
    """(role, source, source life, destination, destination life); ProtocolError if malformed."""
    try:
        role, source_life, life, length = _KEY.unpack_from(key)
        source = key[_KEY.size : _KEY.size + length].decode("ascii")
        destination = key[_KEY.size + length :].decode("ascii")
    except (struct.error, UnicodeDecodeError) as error:
        raise ProtocolError("malformed key") from error
    if role > FROM_RESPONDER or not source or not destination or len(key) > KEY_BYTES_MAX:
        raise ProtocolError("malformed key")
    return role, source, source_life, destination, life


def turned(key: bytes) -> bytes:
    """The key of the other direction."""
    role, source, source_life, destination, life = read_key(key)
    return make_key(1 - role, destination, life, source, source_life)


def make_head(kind: int, flags: int, key: bytes) -> bytes:
    """The hop header of a fresh packet; constant for one lane of one direction of a channel."""
    return _HEAD.pack(VERSION, kind, HOP_LIMIT, flags, NO_LIMIT_MS, 0, 0, 0, len(key)) + key


def key_of(frame: bytes) -> bytes:
    """The key in a frame of kind PACKET or HINT; ProtocolError where it is too short or too new."""
    if len(frame) < HEAD_BYTES or frame[0] != VERSION:
        raise ProtocolError("packet too short, or of another version")
    return frame[HEAD_BYTES : HEAD_BYTES + (frame[20] << 8 | frame[21])]


def end_to_end(frame: bytes, key: bytes) -> tuple[list[Any], list[str] | None]:
    """The end-to-end part, `[cookie, number, acks, message…]`, its frame checked; and the trace."""
    start = HEAD_BYTES + len(key)
    trace = None
    if frame[3] & FLAG_TRACE:
        trace, start = _trace(frame, start)
    packed = memoryview(frame)[start:]
    try:
        # Headers of lists allocate what they announce: what is inline is smaller than a body.
        part = _unpackb(
            packed,
            ext_hook=refuse_extension,
            strict_map_key=False,
            max_array_len=LARGE_BYTES,
            max_map_len=LARGE_BYTES,
        )
    except _UNDECODABLE:
        part = _one_by_one(packed)
    if (
        type(part) is not list
        or not 3 <= len(part) <= 3 + PACKET_MESSAGES_MAX
        or type(part[0]) is not int
        or type(part[1]) is not int
    ):
        raise ProtocolError("end-to-end part")
    return part, trace


class Undecodable:
    """Stands for a message that does not decode: the fields in front of the one that is broken.

    What one user sends (a map whose keys are lists, an extension type) must neither stop the
    packet that it shares with others, nor leave its own call without an answer.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: list[Any]) -> None:
        self.fields = fields


def _one_by_one(packed: memoryview) -> list[Any]:
    """The end-to-end part, with `Undecodable` in place of the messages that do not decode."""
    try:
        elements = _elements(packed)
        part: list[Any] = []
        for element in elements:
            try:
                part.append(unpack(element))
            except ProtocolError:
                part.append(Undecodable(_leading(element)))
    except _UNDECODABLE as error:
        raise ProtocolError("end-to-end part is not MessagePack") from error
    return part


def _elements(packed: memoryview) -> list[memoryview]:
    """The packed elements of the packed list `packed`; whatever is in them."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(packed))
    unpacker.feed(packed)
    count = unpacker.read_array_header()
    if count > 3 + PACKET_MESSAGES_MAX:
        raise ProtocolError("too many messages")
    elements = []
    for _ in range(count):
        start = unpacker.tell()
        unpacker.skip()
        elements.append(packed[start : unpacker.tell()])
    if unpacker.tell() != len(packed):
        raise ProtocolError("trailing bytes")
    return elements


def _leading(element: memoryview) -> list[Any]:
    fields: list[Any] = []
    try:
        for field in _elements(element):
            fields.append(unpack(field))
    except _UNDECODABLE:
        return fields
    return fields


def _trace(frame: bytes, start: int) -> tuple[list[str], int]:
    end = start + 2 + int.from_bytes(frame[start : start + 2], "big")
    trace = unpack(frame[start + 2 : end])
    if (
        end > len(frame)
        or type(trace) is not list
        or len(trace) > TRACE_HOPS_MAX
        or not all(type(hop) is str and len(hop) <= 64 for hop in trace)
    ):
        raise ProtocolError("trace")
    return trace, end


def list_head(count: int) -> bytes:
    """The MessagePack header of a list of `count` items, which follow packed one by one."""
    return bytes((0x90 | count,)) if count < 16 else _LIST16.pack(0xDC, count)


def empty_trace() -> bytes:
    return b"\x00\x01\x90"


def forwarded(frame: bytes, key: bytes, node_id: str) -> bytes:
    """What a relay sends on: one hop less to go, and its own id where a trace was asked for."""
    if not frame[3] & FLAG_TRACE:
        return b"%b%c%b" % (frame[:2], frame[2] - 1, frame[3:])
    start = HEAD_BYTES + len(key)
    trace, end = _trace(frame, start)
    packed = pack([*trace, node_id])
    length = len(packed).to_bytes(2, "big")
    return b"".join(
        (frame[:2], bytes((frame[2] - 1,)), frame[3:start], length, packed, frame[end:])
    )


def make_hint(source: str, source_life: int, about: bytes, reason: int) -> bytes:
    """A hint to the source of the packet whose key is `about`."""
    _, sender, sender_life, _, _ = read_key(about)
    key = make_key(FROM_RESPONDER, source, source_life, sender, sender_life)
    packed: bytes = pack([reason, about])
    return make_head(HINT, 0, key) + packed


def read_hint(frame: bytes, key: bytes) -> tuple[int, bytes]:
    """(reason, key of the packet that it is about)."""
    values = unpack(memoryview(frame)[HEAD_BYTES + len(key) :])
    if (
        type(values) is not list
        or len(values) < 2
        or type(values[0]) is not int
        or type(values[1]) is not bytes
    ):
        raise ProtocolError("hint")
    return values[0], values[1]


def pack_message(fields: Any) -> bytes:
    """One message; BadPayloadError where the payload in it cannot be encoded."""
    try:
        packed: bytes = pack(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadPayloadError(f"payload cannot be sent: {error}", may_have_run=False) from error
    return packed


def pack_value(value: Any) -> bytes:
    """The MessagePack form of a payload value; BadPayloadError where it has none."""
    return pack_message(value)


def unpack_value(data: bytes | memoryview) -> Any:
    return unpack(data)
