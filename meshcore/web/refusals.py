"""Every error in one shape: `{"error": {"name", "message", "field"?}}`, with a status to match.

The names are those of the errors of meshcore. What a client sent wrong is a 4xx that names the
field; only a mistake of ours is a 500, and its details are in our log alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from meshcore.errors import (
    AccessDeniedError,
    BadPayloadError,
    BusyError,
    ClosedError,
    ConfigError,
    DeadlineExceededError,
    MeshError,
    UnreachableError,
)

NO_REGISTRY = "this node is no registry"
_STATUS: tuple[tuple[type[MeshError], int], ...] = (
    (BadPayloadError, 422),
    (ConfigError, 422),
    (AccessDeniedError, 403),
    (BusyError, 503),
    (ClosedError, 503),
    (DeadlineExceededError, 504),
    (UnreachableError, 502),
)
# How texts of the catalogue begin that speak of a field: `nodes[3].age = …`, `by: …`.
_FIELD = re.compile(r"([a-z_]+(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*)(?: = |: | must )")
_MESSAGE_MAX = 1000  # characters


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str = "",
        name: str = "BadPayloadError",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message[:_MESSAGE_MAX]
        self.field = field
        self.name = name
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        error = {"name": self.name, "message": self.message}
        return {"error": {**error, "field": self.field} if self.field else error}


def no_registry() -> Refusal:
    """What only a registry can answer was asked of another node."""
    return Refusal(404, NO_REGISTRY, name="UnknownDirectiveError")


def internal() -> Refusal:
    return Refusal(500, "an error inside this node; its log says more", name="InternalError")


def of(error: Exception) -> Refusal | None:
    """What to answer when a request failed with `error`; None: it is a mistake of ours."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestValidationError):
        return _of_validation(error.errors())
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, MeshError):
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
        if status is not None:
            text = str(error)
            known = getattr(error, "field", "") if status == 422 else ""
            found = _FIELD.match(text) if status == 422 else None
            field = known or (found[1] if found else "")
            return Refusal(status, text, field=field, name=type(error).__name__)
    return None


def _of_http(error: HTTPException) -> Refusal:
    name = "BadPayloadError"
    message = str(error.detail)
    if error.status_code == 404:
        name, message = "UnknownDirectiveError", "there is nothing here; see /openapi.json"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        name, message = "UnknownDirectiveError", f"not with this method; allowed: {allowed}"
    elif error.status_code == 400:
        text = "the body is not JSON that can be read"
        return Refusal(400, text, field="body", headers=error.headers)
    return Refusal(error.status_code, message, name=name, headers=error.headers)


def _of_validation(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    first = errors[0]
    place = [part for part in first["loc"] if part not in ("query", "body", "path")]
    if first["type"] == "json_invalid":
        why = first.get("ctx", {}).get("error", "")
        return Refusal(400, f"the body is not JSON: {why} (character {place[0]})", field="body")
    field = ""
    for part in place:
        if isinstance(part, int):
            field += f"[{part}]"
        else:
            field += f".{part}" if field else str(part)
    field = field[:200] or "body"
    text = str(first["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return Refusal(422, f"{field}: {text[:1].lower()}{text[1:]}", field=field)
