"""What work carries: bytes, text or a value; small in memory, large in a file or as it comes.

A body on the wire is bytes with a kind: raw bytes, UTF-8 text, or a MessagePack value. Whoever
receives one gets a `Payload`, and need not care whether it lies in memory or in a file.

`values`    values to bytes and back; what cannot be sent is named with its place
`spool`     `Spool`, the node's budget for received bodies
`assembly`  `Assembly`, which gathers the chunks of one
`received`  `Payload` and `LivePayload` (taken while it still arrives)
`source`    what is sent piece by piece: paths, binary files, async iterators of bytes
"""

from __future__ import annotations

from meshcore.payload.assembly import Assembly
from meshcore.payload.received import LivePayload, Payload
from meshcore.payload.source import Source, classify
from meshcore.payload.spool import Spool
from meshcore.payload.values import (
    KIND_BYTES,
    KIND_TEXT,
    KIND_VALUE,
    decode_body,
    decode_value,
    encode_body,
    encode_value,
    json_text,
)

__all__ = [
    "KIND_BYTES",
    "KIND_TEXT",
    "KIND_VALUE",
    "Assembly",
    "LivePayload",
    "Payload",
    "Source",
    "Spool",
    "classify",
    "decode_body",
    "decode_value",
    "encode_body",
    "encode_value",
    "json_text",
]
