"""What the catalogue gives as values of Python, as JSON: times are ISO 8601 in UTC, or null."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response, StreamingResponse

JSON = "application/json"
# Of a record, of `about`, and of what a registry keeps beside both.
_TIMES = ("created", "modified", "heartbeat", "started_at", "now", "deleted_at")
_RECORDS_AT_ONCE = 200  # encoded between two looks at the loop


def iso(seconds: float | None) -> str | None:
    """`2026-11-22T10:30:00.123456Z`; None is null."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00") + "Z"


def record(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the catalogue, or `about`, with its times as texts."""
    return {
        name: iso(value) if name in _TIMES and isinstance(value, int | float) else value
        for name, value in fields.items()
    }


def about(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Who a node is, with the times of its connections as texts."""
    told = record(fields)
    told["connection"] = {key: iso(at) for key, at in fields["connection"].items()}
    return told


def page(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An answer to a query."""
    return {**fields, "items": [record(item) for item in fields["items"]]}


def encode(value: Any) -> bytes:
    """JSON as UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can escape what UTF-8 cannot hold
        return json.dumps(value, separators=(",", ":")).encode()


class JsonResponse(Response):
    """An answer that is small enough to encode at once."""

    media_type = JSON

    def render(self, content: Any) -> bytes:
        return encode(content)


def long_list(items: Iterable[Mapping[str, Any]]) -> StreamingResponse:
    """A list of records, encoded in parts: the loop of the node is never held up by all of it."""
    return StreamingResponse(_in_parts(items), media_type=JSON)


async def _in_parts(items: Iterable[Mapping[str, Any]]) -> AsyncIterator[bytes]:
    rest = iter(items)
    yield b"["
    separator = b""
    while part := list(itertools.islice(rest, _RECORDS_AT_ONCE)):
        yield separator + b",\n".join(encode(record(item)) for item in part)
        separator = b",\n"
        await asyncio.sleep(0)
    yield b"]\n"
