"""Requests and outcomes as bytes.

An outcome is `[value]`, or `[None, failure]` where the service raised: the class, the text, and
what the exception was made with and has in it. It has no traceback: the outcomes of replicas are
compared byte by byte. A traceback travels beside it.
"""

from __future__ import annotations

import traceback
from typing import Any

from meshcore.errors import BadPayloadError, MeshError, RPCError, RPCNotFoundError, RPCRemoteError
from meshcore.payload.values import decode_value, encode_value

FIELDS_BYTES_MAX = 16 * 1024  # of an exception
TEXT_CHARS_MAX = 4096
TRACEBACK_CHARS_MAX = 16 * 1024

RAISED, NOT_FOUND = "raised", "not_found"


def encode_request(method: str, args: Any, kwargs: dict[str, Any]) -> bytes:
    """A call; BadPayloadError names the argument that cannot be sent."""
    return encode_value([method, list(args), kwargs])


def decode_request(data: bytes) -> tuple[str, list[Any], dict[str, Any]]:
    """(method, args, kwargs); BadPayloadError where it is none."""
    value = decode_value(data)
    if type(value) is list and len(value) == 3:
        method, args, kwargs = value
        fits = type(method) is str and type(args) is list and type(kwargs) is dict
        if fits and (not kwargs or all(type(name) is str for name in kwargs)):
            return method, args, kwargs
    raise BadPayloadError("a request of a service is a list: method, args, kwargs")


def encode_outcome(value: Any) -> bytes:
    """A result; one that cannot be sent is a failure that says so."""
    try:
        return encode_value([value])
    except BadPayloadError as error:
        return encode_failure(error)


def encode_failure(error: BaseException) -> bytes:
    """What the service raised."""
    return encode_value([None, plain_failure(error)])


def plain_failure(error: BaseException) -> dict[str, Any]:
    """What the service raised, as plain values, without its traceback."""
    kind = NOT_FOUND if isinstance(error, RPCNotFoundError) else RAISED
    return {
        "kind": kind,
        "type": type(error).__name__,
        "message": _text(error)[:TEXT_CHARS_MAX],
        "args": _sendable(list(error.args)) or [],
        "fields": _sendable_fields(error),
    }


def traceback_of(error: BaseException) -> str:
    """The text of a traceback, its end where it is long."""
    return "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]


def decode_outcome(data: bytes, **about: Any) -> Any:
    """The value; raises what `outcome_of` raises."""
    return outcome_of(decode_value(data), **about)


def outcome_of(outcome: Any, **about: Any) -> Any:
    """The value of a plain outcome.

    Raises:
        RPCRemoteError: the service raised.
        RPCNotFoundError: there is no such method.
    """
    match outcome:
        case [value]:
            return value
        case [None, {"kind": str() as kind, "type": str(), "message": str()} as failure]:
            raise _error_of(kind, failure, about)
    raise RPCError("the outcome of the call cannot be understood", **about)


def _error_of(kind: str, failure: dict[str, Any], about: dict[str, Any]) -> RPCError:
    if kind == NOT_FOUND:
        return RPCNotFoundError(failure["message"], may_have_run=False, **about)
    args, fields = failure.get("args"), failure.get("fields")
    return RPCRemoteError(
        failure["message"],
        remote_type=failure["type"],
        remote_traceback=str(failure.get("traceback") or ""),
        remote_args=tuple(args) if isinstance(args, list) else (),
        fields=fields if isinstance(fields, dict) else {},
        **about,
    )


def _sendable(value: Any) -> Any:
    try:
        return value if len(encode_value(value)) <= FIELDS_BYTES_MAX else None
    except BadPayloadError:
        return None


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two replicas did the same.

    Of failures the class counts alone: a text may hold what differs between processes, as the
    address of an object.
    """
    if one == other:
        return True
    first, second = decode_value(one), decode_value(other)
    return (
        len(first) == len(second) == 2
        and first[1]["kind"] == second[1]["kind"]
        and first[1]["type"] == second[1]["type"]
    )


def _sendable_fields(error: BaseException) -> dict[str, Any]:
    if isinstance(error, MeshError):
        return {}  # ours: what it says of the node differs between replicas
    fields = {
        name: value
        for name, value in vars(error).items()
        if not name.startswith("_") and isinstance(name, str)
    }
    if _sendable(fields) is not None:
        return fields
    return {name: value for name, value in fields.items() if _sendable([value]) is not None}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # a faulty __str__ must not hide the failure
        return f"<its text cannot be had: {type(broken).__name__}>"
