"""What a node and its worker process say to each other.

Each frame is a MessagePack list behind its length in 8 bytes.

From the node::

    ["job", module, qualname, file or None, kind, argument, context fields, wants context]
    ["cancel"]
    ["credit"]                      a value of the generator was taken

From the process::

    ["value", kind, body]           the one value, the last frame of a job
    ["item", kind, body]            one of several; at most AHEAD of them without credit
    ["end"]                         a generator has ended
    ["failure", code, name, message, traceback]
    ["log", level, logger, text]

Kinds are those of `payload`, and PATH for a path. Both ends trust each other: it is one program.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from meshcore.payload import decode_body, decode_value, encode_body, encode_value

HEADER = struct.Struct(">Q")
AHEAD = 16
PATH: Final = 3
MAIN = "__mp_main__"  # what a script is called in a worker: not __main__, so that it does not start


def pack(*fields: Any) -> bytes:
    """One frame."""
    body = encode_value(fields)
    return HEADER.pack(len(body)) + body


def unpack(body: bytes) -> list[Any]:
    """The fields of a frame, without its header."""
    fields: list[Any] = decode_value(body)
    return fields


def pack_value(value: object) -> tuple[int, bytes | bytearray | memoryview]:
    """Kind and body of a value. Raises BadPayloadError where it cannot be sent."""
    return (PATH, str(value).encode()) if isinstance(value, Path) else encode_body(value)


def unpack_value(kind: int, body: bytes) -> Any:
    """The value of this kind and body."""
    return Path(body.decode()) if kind == PATH else decode_body(kind, body)


def reference_of(function: Callable[..., Any]) -> tuple[str, str, str | None]:
    """How a worker finds the function: module, name in it, and the script's file or None."""
    module = function.__module__
    if module != "__main__":
        return module, function.__qualname__, None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m pkg.mod
        return spec.name, function.__qualname__, None
    return MAIN, function.__qualname__, str(Path(str(main.__file__)).absolute())
