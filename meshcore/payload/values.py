"""Values to bytes and back.

`encode_body(value)` gives `(kind, body)`: bytes and text travel as they are, everything else as
MessagePack. What MessagePack cannot carry raises BadPayloadError that names the type and its place
(`payload["a"][3]: set cannot be sent; …`); the search for the place runs only after a failure.
Tuples arrive as lists. Keys of maps should be text, bytes, numbers or None.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import msgpack

from meshcore.errors import BadPayloadError

KIND_BYTES: Final = 0
KIND_TEXT: Final = 1
KIND_VALUE: Final = 2

_BYTES = (bytes, bytearray, memoryview)
_DEPTH_MAX = 512  # MessagePack's own limit is 511: deeper structures are refused, not searched
_SENDABLE = "None, bool, int, float, str, bytes, list, dict"
_REASON_CHARS_MAX = 200

_pack = msgpack.Packer().pack


def encode_value(value: object) -> bytes:
    """`value` as MessagePack; BadPayloadError says what cannot be sent, and where it is."""
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadPayloadError(_complaint(value, error), may_have_run=False) from error
    return packed


def decode_value(body: bytes | bytearray | memoryview) -> Any:
    """The value of a MessagePack body; BadPayloadError where it is none."""
    try:
        return msgpack.unpackb(body, ext_hook=_refuse_extension, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error)[:_REASON_CHARS_MAX] or type(error).__name__
        raise BadPayloadError(f"payload is not MessagePack: {reason}") from error


def encode_body(value: object) -> tuple[int, bytes | bytearray | memoryview]:
    """`(kind, body)` of a value; bytes-like objects are not copied."""
    if isinstance(value, _BYTES):
        return KIND_BYTES, value
    if isinstance(value, str):
        try:
            return KIND_TEXT, value.encode()
        except UnicodeEncodeError as error:
            raise BadPayloadError(_complaint(value, error), may_have_run=False) from error
    return KIND_VALUE, encode_value(value)


def decode_body(kind: int, body: bytes | bytearray | memoryview) -> Any:
    """The value of a body of this kind; BadPayloadError where it does not fit the kind."""
    if kind == KIND_BYTES:
        return bytes(body)
    if kind == KIND_TEXT:
        try:
            return str(body, "utf-8")
        except UnicodeDecodeError as error:
            raise BadPayloadError(f"payload is not UTF-8: {error.reason}") from error
    if kind == KIND_VALUE:
        return decode_value(body)
    raise BadPayloadError(f"payload of unknown kind {kind}")


def json_text(value: object) -> str:
    """`value` as JSON text; bytes become `{"base64": "…"}`, keys that JSON lacks become text."""
    return json.dumps(_for_json(value), ensure_ascii=False)


def _for_json(value: object) -> object:
    if isinstance(value, _BYTES):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {_json_key(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_for_json(item) for item in value]
    if isinstance(value, (str, int, float)) or value is None:
        return value
    return str(value)  # a MessagePack timestamp: the one type that only a foreign peer sends


def _json_key(key: object) -> str | int | float | None:
    if isinstance(key, _BYTES):
        return bytes(key).decode(errors="backslashreplace")
    return key if isinstance(key, (str, int, float)) or key is None else str(key)


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _complaint(value: object, error: Exception) -> str:
    found = _find(value, "payload", 0)
    return found or f"payload cannot be sent: {str(error)[:_REASON_CHARS_MAX]}"


def _find(value: object, place: str, depth: int) -> str | None:
    """The first part of `value` that cannot be sent, in words."""
    if depth >= _DEPTH_MAX:
        return f"payload is nested more than {_DEPTH_MAX - 1} levels deep"
    if isinstance(value, dict):
        for key, item in value.items():
            found = _find(key, f"{place} key {_short(key)}", depth + 1)
            found = found or _find(item, f"{place}[{_short(key)}]", depth + 1)
            if found:
                return found
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            found = _find(item, f"{place}[{index}]", depth + 1)
            if found:
                return found
        return None
    return _find_leaf(value, place)


def _find_leaf(value: object, place: str) -> str | None:
    try:
        _pack(value)
    except OverflowError:
        return f"{place}: {value} does not fit into 64 bits"
    except UnicodeEncodeError:
        return f"{place}: text with a lone surrogate cannot be sent"
    except ValueError as error:
        return f"{place}: {str(error)[:_REASON_CHARS_MAX]}"
    except TypeError:
        return f"{place}: {type(value).__name__} cannot be sent; use {_SENDABLE}"
    return None


def _short(key: object) -> str:
    text = json.dumps(key, ensure_ascii=False) if isinstance(key, str) else repr(key)
    return text if len(text) <= 40 else text[:37] + "..."
