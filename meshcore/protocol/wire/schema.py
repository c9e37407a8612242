"""Checked decoding: MessagePack lists whose every field has a type and a bound.

A decoder reads positional fields; more fields than it knows are ignored, so that a later version
can append some. What does not fit raises ProtocolError with a short reason, which is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import msgpack

from meshcore.errors import ProtocolError
from meshcore.identity import NUMBER_MAX, is_node_id
from meshcore.protocol.wire.limits import NODES_MAX, URL_CHARS_MAX

REAL_MAX = 2**53

Check: TypeAlias = Callable[[Any], Any]


def refuse_extension(code: int, _data: bytes) -> Any:
    raise ProtocolError(f"extension type {code}")


def unpack(data: bytes | memoryview) -> Any:
    """One MessagePack value that fills `data`; ProtocolError where it does not."""
    try:
        return msgpack.unpackb(data, ext_hook=refuse_extension, strict_map_key=False)
    except ProtocolError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not MessagePack: {type(error).__name__}") from error


def fields(value: Any, checks: tuple[Check, ...], what: str) -> list[Any]:
    """The checked fields of the list `value`; surplus fields are ignored."""
    if type(value) is not list or len(value) < len(checks):
        raise ProtocolError(f"{what}: not a list of {len(checks)} fields")
    return [check(field) for check, field in zip(checks, value, strict=False)]


def number(value: Any) -> int:
    """An unsigned integer below 2^63 (incarnations, sequences, counts)."""
    if type(value) is not int or not 0 <= value < NUMBER_MAX:
        raise ProtocolError("not a number below 2^63")
    return value


def bits64(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise ProtocolError("not 64 bits")
    return value


def node_id(value: Any) -> str:
    if type(value) is not str:
        raise ProtocolError("not a node id")
    return _node_id(value)


@lru_cache(maxsize=4 * NODES_MAX)
def _node_id(value: str) -> str:
    """One object for each id: in a large mesh every id is named by all its neighbours."""
    if not is_node_id(value):
        raise ProtocolError("not a node id")
    return value


@lru_cache(maxsize=4 * NODES_MAX)
def shared(value: int) -> int:
    """One object for all equal numbers, for those that occur again and again: costs, lives."""
    return value


def maybe_node_id(value: Any) -> str:
    """A node id, or nothing."""
    return "" if value == "" else node_id(value)


def seconds(value: Any) -> float:
    """A duration, not negative."""
    if type(value) not in (int, float) or not 0 <= value <= REAL_MAX:
        raise ProtocolError("not a duration")
    return float(value) if value else 0.0  # one object for most of them


def real(value: Any) -> float:
    """A number that can be reckoned with: sums and differences of such stay finite."""
    if type(value) not in (int, float) or not -REAL_MAX <= value <= REAL_MAX:
        raise ProtocolError("not a number within 2^53")
    return float(value)


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ProtocolError("not a boolean")
    return value


def maybe_flag(value: Any) -> bool | None:
    return None if value is None else flag(value)


def text(bound: int) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str or len(value) > bound:
            raise ProtocolError(f"not a text of at most {bound} characters")
        return value

    return check


def blob(bound: int) -> Check:
    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) > bound:
            raise ProtocolError(f"not at most {bound} bytes")
        return value

    return check


def among(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ProtocolError(f"not within {low}..{high}")
        return value

    return check


def many(check_one: Check, bound: int) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > bound:
            raise ProtocolError(f"not a list of at most {bound}")
        return tuple([check_one(item) for item in value])

    return check


def mapping(value: Any) -> dict[str, Any]:
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise ProtocolError("not a map with text keys")
    return value


url = text(URL_CHARS_MAX)
