"""The columns of the catalogue: what each holds, and the order that `by` asks for.

`by` is `column[:a|d],…`: the first column decides, the next ones where it is equal; at the end
always name, node, url, so that the order is total. Texts compare by code point, tags as lists of
texts. What is null comes before everything else.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from meshcore.errors import BadPayloadError
from meshcore.storage.changes import PutOrigin

NEVER = float("-inf")  # a time that there is not: it comes before every other


class Kind(Enum):
    """What a column holds."""

    ORIGIN = "a text that all records of an origin share"
    ORIGIN_TIME = "a time that all records of an origin share"
    TEXT = "a text"
    TAGS = "a list of texts"
    TIME = "a time"

    @property
    def is_time(self) -> bool:
        return self in (Kind.ORIGIN_TIME, Kind.TIME)

    @property
    def of_origin(self) -> bool:
        return self in (Kind.ORIGIN, Kind.ORIGIN_TIME)


COLUMNS: dict[str, Kind] = {
    "registry": Kind.ORIGIN,
    "node": Kind.ORIGIN,
    "mesh": Kind.ORIGIN,
    "organization": Kind.ORIGIN,
    "created": Kind.TIME,
    "modified": Kind.TIME,
    "heartbeat": Kind.ORIGIN_TIME,
    "url": Kind.TEXT,
    "name": Kind.TEXT,
    "author": Kind.TEXT,
    "description": Kind.TEXT,
    "tags": Kind.TAGS,
    "status": Kind.ORIGIN,
    "kind": Kind.TEXT,
}
# Where the origin of a record has what its records share; a time is NEVER where there is none.
ORIGIN_VALUES: dict[str, Callable[[PutOrigin], Any]] = {
    "registry": lambda put: put.registry,
    "node": lambda put: put.origin.node,
    "mesh": lambda put: put.origin.mesh,
    "organization": lambda put: put.organization,
    "heartbeat": lambda put: NEVER if put.heartbeat is None else put.heartbeat,
    "status": lambda put: put.status,
}
SEPARATOR = "\x1f"  # between the texts of a record; white space, as str.split sees it
FULL_TEXT = ("organization", "name", "author", "description", "tags")

BY_MAX = 1024  # characters


class Key(NamedTuple):
    """One column of an order."""

    column: str
    descending: bool


DEFAULT_ORDER = (Key("name", False), Key("node", False), Key("url", False))


def order_of(by: str) -> tuple[Key, ...]:
    """The columns that `by` names, each once; nothing for an empty text.

    Raises BadPayloadError, which names what is wrong and what is known.
    """
    if len(by) > BY_MAX:
        raise BadPayloadError(f"by: longer than {BY_MAX} characters")
    keys: dict[str, Key] = {}
    for part in by.split(",") if by.strip() else ():
        column, colon, direction = (piece.strip() for piece in part.partition(":"))
        if column not in COLUMNS:
            raise BadPayloadError(f"by: {unknown_column(column)}")
        if direction not in ("a", "d") and (direction or colon):
            raise BadPayloadError(
                f"by: {column}:{direction[:20]!r} must be {column}:a (ascending) or"
                f" {column}:d (descending)"
            )
        keys.setdefault(column, Key(column, direction == "d"))
    return tuple(keys.values())


def fold(text: str) -> str:
    """The text as searches compare it: case-folded, with the unit separator as a space."""
    return text.casefold().replace(SEPARATOR, " ")


def time_or_none(value: float) -> float | None:
    """A time of a column as it is told."""
    return None if value == NEVER else value


def unknown_column(name: str) -> str:
    """`no column 'nam'; did you mean name?`, with all of them where nothing is close."""
    name = name[:64]
    close = difflib.get_close_matches(name.casefold(), COLUMNS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(COLUMNS)}"
    return f"no column {name!r}; {hint}"
