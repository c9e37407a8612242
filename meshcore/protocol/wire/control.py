"""Messages between two neighbours: the control plane.

On the wire: one byte version, one byte kind, a MessagePack list of the fields in the order below.
They travel on lane `c` of a link, beats and news also over PUB/SUB.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, TypeAlias

import msgpack

from meshcore.errors import ProtocolError
from meshcore.protocol.wire import schema
from meshcore.protocol.wire.limits import (
    ENDPOINTS_MAX,
    FRAME_BYTES_MAX,
    NODES_MAX,
    REASON_CHARS_MAX,
    RECORD_BYTES_MAX,
    RECORDS_PER_NEWS_MAX,
    VERSION,
)


class Flags(IntFlag):
    NONE = 0
    EPHEMERAL = 1  # a client: attached to one node, never listed
    OUTBOUND_ONLY = 2  # listens nowhere


class Refusal(IntEnum):
    """Why a link is refused; the dialler acts on the number, people read the text."""

    VERSION = 1
    MESH = 2
    SELF = 3  # you dialled yourself
    TAKEN = 4  # your node id lives elsewhere, with another life
    DUPLICATE = 5  # another link of this pair stays
    FULL = 6
    LEAVING = 7
    STALE = 8  # your incarnation is older than one I know: take `known_incarnation` + 1
    EVICTED = 9  # two lives of one id met, and the other is older


@dataclass(frozen=True, slots=True)
class Hello:
    """The dialler's first message on lane `c`."""

    KIND: ClassVar[int] = 1
    version_min: int
    version_max: int
    mesh: str
    node_id: str
    incarnation: int
    life: int
    nonce: int
    endpoints: tuple[str, ...]
    flags: int
    interval: float
    scale: int
    born: float
    up_time: float


@dataclass(frozen=True, slots=True)
class Welcome:
    """The listener's answer. `news_urls`: its XPUB and its SUB, empty where it has none."""

    KIND: ClassVar[int] = 2
    version: int
    mesh: str
    node_id: str
    incarnation: int
    life: int
    nonce: int
    endpoints: tuple[str, ...]
    flags: int
    interval: float
    scale: int
    born: float
    up_time: float
    known_incarnation: int
    news_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Instead of WELCOME. `known_incarnation`: the greatest that is known of the dialler's id."""

    KIND: ClassVar[int] = 3
    code: int
    reason: str
    node_id: str
    known_incarnation: int


@dataclass(frozen=True, slots=True)
class Bye:
    """This link will be closed by its sender now, on purpose."""

    KIND: ClassVar[int] = 4
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Beat:
    """I live. `digest` stands for my database; `lag` is how late my loop runs, in seconds.

    `position` is where I am now on the scale of ages named `scale`, in seconds.
    """

    KIND: ClassVar[int] = 5
    node_id: str
    incarnation: int
    life: int
    number: int
    interval: float
    digest: int
    lag: float
    scale: int
    position: float


@dataclass(frozen=True, slots=True)
class News:
    """Records, as the bytes that their origins made."""

    KIND: ClassVar[int] = 6
    node_id: str
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Repair, step 1: one 64-bit sum for each of the 256 buckets of the database."""

    KIND: ClassVar[int] = 7
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BucketContents:
    """Repair, step 2: (origin, kind, incarnation, sequence, content hash) in the named buckets."""

    KIND: ClassVar[int] = 8
    buckets: tuple[int, ...]
    versions: tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Want:
    """Repair, step 3: send me these records (origin, kind)."""

    KIND: ClassVar[int] = 9
    keys: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LeaveAck:
    """I know that you leave."""

    KIND: ClassVar[int] = 10
    node_id: str


@dataclass(frozen=True, slots=True)
class Echo:
    """Measures a link: answered at once with EchoReply of the same number."""

    KIND: ClassVar[int] = 11
    number: int


@dataclass(frozen=True, slots=True)
class EchoReply:
    """`received` and `replied`: the mesh's time here, Unix seconds, as `master` has it; `error`
    bounds how far that is off, in seconds. `master` is empty where this node knows no such time.
    `epoch` counts how often the master's clock was set.
    """

    KIND: ClassVar[int] = 12
    number: int
    master: str
    received: float
    replied: float
    error: float
    epoch: int


@dataclass(frozen=True, slots=True)
class View:
    """A node tells its ephemeral client whom it knows; `reset`: forget what I told before.

    An entry is (id, life, status 0-3 or 4 = removed, reachable, reason, hops). `master` is empty
    where there is none.
    """

    KIND: ClassVar[int] = 13
    reset: bool
    entries: tuple[tuple[str, int, int, bool, str, int], ...]
    master: str


Control: TypeAlias = (
    Hello | Welcome | Refuse | Bye | Beat | News | Buckets | BucketContents | Want
    | LeaveAck | Echo | EchoReply | View
)  # fmt: skip

BUCKETS = 256


def encode(message: Control) -> bytes:
    values = [getattr(message, name) for name in _NAMES[type(message)]]
    packed: bytes = msgpack.packb(values)
    return bytes((VERSION, message.KIND)) + packed


def decode(frame: bytes) -> Control:
    """The control message in `frame`; raises ProtocolError with a reason."""
    if not 2 < len(frame) <= FRAME_BYTES_MAX:
        raise ProtocolError(f"control frame of {len(frame)} bytes")
    if frame[0] != VERSION and frame[1] != Hello.KIND:  # HELLO itself settles the version
        raise ProtocolError(f"protocol version {frame[0]}")
    cls = _CLASSES.get(frame[1])
    if cls is None:
        raise ProtocolError(f"control message of unknown kind {frame[1]}")
    values = schema.unpack(memoryview(frame)[2:])
    return cls(*schema.fields(values, _CHECKS[cls], cls.__name__.lower()))  # type: ignore[no-any-return]


def _tuple_of(*checks: schema.Check) -> schema.Check:
    def check(value: Any) -> tuple[Any, ...]:
        return tuple(schema.fields(value, checks, "entry"))

    return check


_name, _text = schema.text(64), schema.text(REASON_CHARS_MAX)
_endpoints = schema.many(schema.url, ENDPOINTS_MAX)
_version, _kind = schema.among(0, 255), schema.among(1, 2)
_who = (_name, schema.node_id, schema.number, schema.bits64, schema.bits64, _endpoints)
_self = (schema.number, schema.seconds, schema.bits64, schema.real, schema.seconds)

_CHECKS: dict[type, tuple[schema.Check, ...]] = {
    Hello: (_version, _version, *_who, *_self),
    Welcome: (_version, *_who, *_self, schema.number, schema.many(schema.url, 2)),
    Refuse: (schema.number, _text, schema.node_id, schema.number),
    Bye: (schema.number, _text),
    Beat: (
        schema.node_id,
        schema.number,
        schema.bits64,
        schema.number,
        schema.seconds,
        schema.bits64,
        schema.seconds,
        schema.bits64,
        schema.real,
    ),
    News: (schema.node_id, schema.many(schema.blob(RECORD_BYTES_MAX), RECORDS_PER_NEWS_MAX)),
    Buckets: (schema.many(schema.bits64, BUCKETS),),
    BucketContents: (
        schema.many(schema.among(0, BUCKETS - 1), BUCKETS),
        schema.many(
            _tuple_of(schema.node_id, _kind, schema.number, schema.number, schema.bits64),
            2 * NODES_MAX,
        ),
    ),
    Want: (schema.many(_tuple_of(schema.node_id, _kind), 2 * NODES_MAX),),
    LeaveAck: (schema.node_id,),
    Echo: (schema.number,),
    EchoReply: (
        schema.number,
        schema.maybe_node_id,
        schema.real,
        schema.real,
        schema.seconds,
        schema.number,
    ),
    View: (
        schema.flag,
        schema.many(
            _tuple_of(
                schema.node_id,
                schema.bits64,
                schema.among(0, 4),
                schema.flag,
                _text,
                schema.number,
            ),
            NODES_MAX,
        ),
        schema.maybe_node_id,
    ),
}
_CLASSES: dict[int, Any] = {cls.KIND: cls for cls in _CHECKS}  # type: ignore[attr-defined]
# `bucket_contents` and the like, under which each kind is counted.
KIND_NAMES: dict[type, str] = {
    cls: "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__)[1:] for cls in _CHECKS
}
_NAMES = {cls: tuple(field.name for field in dataclass_fields(cls)) for cls in _CHECKS}
