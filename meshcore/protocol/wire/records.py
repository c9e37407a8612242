"""Records: what an origin says of itself, flooded through the mesh and stored as received.

Two kinds for each origin, versioned apart so that a changed edge does not carry the capabilities
along: LinkState (edges, endpoints, flags) and Details (capabilities, host, version).
A record on the wire is `[body, signature]`; the body is a list that begins with kind, origin,
incarnation, sequence. The signature is empty until the mesh is secured. The received bytes are
forwarded as they are, never packed again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import msgpack

from meshcore.errors import ProtocolError
from meshcore.protocol.wire import schema
from meshcore.protocol.wire.limits import (
    DETAILS_BYTES_MAX,
    EDGES_MAX,
    ENDPOINTS_MAX,
    RECORD_BYTES_MAX,
)

LINK_STATE = 1
DETAILS = 2


class EdgeState(IntEnum):
    UP = 0
    WARN = 1
    DOWN = 2


class DownReason(IntEnum):
    NONE = 0
    GONE = 1  # its process has ended: every endpoint refuses
    SILENT = 2  # nothing is heard of it; it may live


@dataclass(frozen=True, slots=True)
class Edge:
    """One end's claim about its link to `neighbour`.

    `cost` is in microseconds; `age` is how long the neighbour had been silent, in seconds, when
    this was written (only for DOWN). `round_trip` is as it was measured, in microseconds, 0 where
    it was not yet: it is for people, ways are chosen by cost alone. `life` is the one of the
    neighbour that the link leads to, or led to; 0 where that is not said. A claim about one life
    says nothing about another.
    """

    neighbour: str
    cost: int
    state: EdgeState = EdgeState.UP
    reason: DownReason = DownReason.NONE
    age: float = 0.0
    round_trip: int = 0
    life: int = 0


@dataclass(frozen=True, slots=True)
class LinkState:
    """An origin's links. `born` counts seconds on the scale named by the 64 bits `scale`."""

    origin: str
    incarnation: int
    sequence: int
    life: int
    edges: tuple[Edge, ...] = ()
    endpoints: tuple[str, ...] = ()
    scale: int = 0
    born: float = 0.0
    forced: bool | None = None
    left: bool = False
    extension: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Details:
    """What changes seldom: `content` holds capabilities, host, version and the like."""

    origin: str
    incarnation: int
    sequence: int
    content: dict[str, Any] = field(default_factory=dict)


Record: TypeAlias = LinkState | Details


def kind_of(record: Record) -> int:
    return LINK_STATE if isinstance(record, LinkState) else DETAILS


def content_hash(raw: bytes) -> int:
    """64 bits that stand for the record's bytes in digests and ties."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big")


def encode_record(record: Record) -> bytes:
    head = [kind_of(record), record.origin, record.incarnation, record.sequence]
    if isinstance(record, LinkState):
        edges = [
            [
                edge.neighbour,
                edge.cost,
                int(edge.state),
                int(edge.reason),
                round(edge.age, 3),
                edge.round_trip,
                edge.life,
            ]
            for edge in record.edges
        ]
        head += [record.life, edges, list(record.endpoints), record.scale, record.born]
        head += [record.forced, record.left, record.extension]
    else:
        head += [record.content]
    packed: bytes = msgpack.packb([msgpack.packb(head), b""])
    return packed


def decode_record(raw: bytes) -> Record:
    """The record in `raw`; raises ProtocolError with a reason."""
    if len(raw) > RECORD_BYTES_MAX:
        raise ProtocolError(f"record of {len(raw)} bytes")
    body, _signature = schema.fields(schema.unpack(raw), _ENVELOPE, "record")
    values = schema.unpack(body)
    kind = values[0] if type(values) is list and values else None
    if kind == LINK_STATE:
        checked = schema.fields(values, _LINK_STATE, "link state")
        neighbours = {edge.neighbour for edge in checked[5]}
        if len(neighbours) != len(checked[5]) or checked[1] in neighbours:
            raise ProtocolError("link state: an edge twice, or to itself")
        return LinkState(*checked[1:])
    if kind == DETAILS:
        if len(raw) > DETAILS_BYTES_MAX:
            raise ProtocolError(f"details of {len(raw)} bytes")
        return Details(*schema.fields(values, _DETAILS, "details")[1:])
    raise ProtocolError("record of an unknown kind")


def _edge(value: Any) -> Edge:
    neighbour, cost, state, reason, age, round_trip, life = schema.fields(value, _EDGE, "edge")
    cost, round_trip, life = schema.shared(cost), schema.shared(round_trip), schema.shared(life)
    return Edge(neighbour, cost, EdgeState(state), DownReason(reason), age, round_trip, life)


_ENVELOPE = (schema.blob(RECORD_BYTES_MAX), schema.blob(64))
_EDGE = (
    schema.node_id,
    schema.among(1, 2**40),
    schema.among(0, 2),
    schema.among(0, 2),
    schema.seconds,
    schema.among(0, 2**40),
    schema.bits64,
)
_HEAD = (schema.number, schema.node_id, schema.number, schema.number)
_LINK_STATE = (
    *_HEAD,
    schema.bits64,
    schema.many(_edge, EDGES_MAX),
    schema.many(schema.url, ENDPOINTS_MAX),
    schema.bits64,
    schema.real,
    schema.maybe_flag,
    schema.flag,
    schema.mapping,
)
_DETAILS = (*_HEAD, schema.mapping)
