"""A record as the table and the file exchange it."""

from __future__ import annotations

from typing import Protocol

from meshcore.protocol.catalogue.records import Flow
from meshcore.storage.changes import PutOrigin
from meshcore.storage.columns import SEPARATOR, fold

NUMBER_MAX = 2**63 - 1  # of an incarnation or a version; the largest that fits everywhere


class Journal(Protocol):
    """What is told of the rows that changed."""

    def origin(self, number: int, put: PutOrigin | None, *, beat: bool = False) -> None:
        """The origin of that number is this; None: it is gone with all its records.

        `beat`: nothing is new but that it lives.
        """

    def flow(self, number: int, url: str, record: Record | None) -> None:
        """The record of that origin is this; None: it is forgotten."""


class Record:
    """One record as it is now."""

    __slots__ = ("created", "deleted", "flow", "incarnation", "modified", "version")

    def __init__(
        self,
        flow: Flow,
        *,
        incarnation: int,
        version: int,
        deleted: bool,
        created: float | None,
        modified: float | None,
    ) -> None:
        self.flow = flow
        self.incarnation = incarnation
        self.version = version
        self.deleted = deleted
        self.created = created
        self.modified = modified


def folded(flow: Flow) -> str:
    """What full text looks at in a flow itself, with separators, which no search can contain."""
    parts = (flow.name, flow.author, *flow.tags, flow.description)
    text = SEPARATOR.join(parts).casefold()
    if text.count(SEPARATOR) >= len(parts):
        text = SEPARATOR.join(map(fold, parts))
    return text
