"""Rows that differ from what is on disk, gathered until they are written."""

from __future__ import annotations

import json
from collections.abc import Iterator

from meshcore.storage.changes import PutOrigin
from meshcore.storage.record import NUMBER_MAX, Record


class Batch:
    """Rows that differ from the file; a later word on the same row replaces the earlier one.

    So a batch that has to wait never holds more than one row for each record that there is or was.
    """

    def __init__(self) -> None:
        self.is_urgent = False  # it holds more than signs of life
        self._gone: set[int] = set()  # numbers of origins to forget, before the rest
        self._origins: dict[int, PutOrigin] = {}
        self._flows: dict[int, dict[str, Record | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._gone or self._origins or self._flows)

    def origin(self, number: int, put: PutOrigin | None, *, beat: bool = False) -> None:
        """The origin of that number is this; None: it is gone with all its records."""
        self.is_urgent = self.is_urgent or not beat
        if put is not None:
            self._origins[number] = put
            return
        self._gone.add(number)
        self._origins.pop(number, None)
        self._flows.pop(number, None)

    def flow(self, number: int, url: str, record: Record | None) -> None:
        """The record of that origin is this; None: it is forgotten."""
        self.is_urgent = True
        self._flows.setdefault(number, {})[url] = record

    def update(self, later: Batch) -> None:
        """Take over what a later batch says."""
        self.is_urgent = self.is_urgent or later.is_urgent
        for number in later._gone:
            self.origin(number, None)
        self._origins.update(later._origins)
        for number, flows in later._flows.items():
            self._flows.setdefault(number, {}).update(flows)

    def gone(self) -> Iterator[tuple[int]]:
        for number in self._gone:
            yield (number,)

    def origins(self) -> Iterator[tuple[object, ...]]:
        """Rows as the table has them."""
        for number, put in self._origins.items():
            yield (
                number,
                *map(_storable, (*put.origin, put.organization, put.registry)),
                min(put.incarnation, NUMBER_MAX),
                min(put.version, NUMBER_MAX),
                put.direct,
                put.status,
                put.heartbeat,
                put.at,
                put.ttl,
            )

    def flows(self) -> Iterator[tuple[object, ...]]:
        """Rows as the table has them."""
        for number, records in self._flows.items():
            for url, record in records.items():
                if record is not None:
                    yield _flow_row(number, url, record)

    def forgotten(self) -> Iterator[tuple[int, str]]:
        """Keys of records to forget."""
        for number, records in self._flows.items():
            for url, record in records.items():
                if record is None:
                    yield number, _storable(url)


def _flow_row(number: int, url: str, record: Record) -> tuple[object, ...]:
    flow = record.flow
    return (
        number,
        *map(_storable, (url, flow.name, flow.description, flow.author)),
        json.dumps(flow.tags),
        flow.kind,
        record.incarnation,
        record.version,
        record.deleted,
        record.created,
        record.modified,
    )


def _storable(text: str) -> str:
    """The text, without halves of surrogate pairs: UTF-8, and so SQLite, has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
