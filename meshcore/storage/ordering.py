"""One page of records in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshcore.storage.columns import COLUMNS, Key
from meshcore.storage.table import NEVER, Table


def page(table: Table, slots: list[int], by: Sequence[Key], start: int, stop: int) -> list[int]:
    """The slots at these places of that order."""
    slots.sort(key=table.default_key)
    for key in reversed(by):
        slots.sort(key=lambda slot: _value(table, slot, key.column), reverse=key.descending)
    return slots[start:stop]


def _value(table: Table, slot: int, column: str) -> Any:
    value = table.item(slot)[column]
    if COLUMNS[column].is_time and value is None:
        return NEVER
    return value
