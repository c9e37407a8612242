"""Learnt addresses in the data directory, so that a node finds its mesh again after a restart.

The file is a help, never a condition: what is damaged, old, or of another mesh is left out, with a
warning where somebody should know, and the node starts. It is replaced as a whole, so that a crash
at any moment leaves the old or the new one.

    {"format": 1, "mesh": "mesh", "addresses": [{"node_id", "urls", "heard_at"}]}

`heard_at` is when the node was last reachable, in Unix seconds; entries older than AGE_MAX are
dropped. Wall clocks jump: an instant in the future counts as now.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshcore.errors import ConfigError
from meshcore.identity import is_node_id
from meshcore.paths import write_durably
from meshcore.protocol.membership.targets import URLS_PER_NODE, Target
from meshcore.urls import parse_url

_LOG = logging.getLogger("meshcore.addresses")
FILE_NAME = "addresses.json"
FORMAT = 1
ADDRESSES_MAX = 64
AGE_MAX = 7 * 86_400.0
FILE_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    node_id: str
    urls: tuple[str, ...]
    heard_at: float


class AddressBook:
    """The file of one node of one mesh."""

    def __init__(self, path: Path, *, mesh: str) -> None:
        self._path = path
        self._mesh = mesh
        self.entries: dict[str, Entry] = {}
        self._failed = False

    def load(self, unix_now: float) -> list[Entry]:
        """What is still good of the file; nothing where there is none."""
        try:
            with self._path.open("rb") as file:
                raw = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            _LOG.warning("%s: %s; starting without learnt addresses", self._path, error.strerror)
            return []
        try:
            if len(raw) > FILE_BYTES_MAX:
                raise ValueError("it is too long")
            content = json.loads(raw)
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                raise ValueError("it is of no known format")
            rows = content.get("addresses")
            if not isinstance(rows, list):
                raise ValueError("it has no list of addresses")
        except (ValueError, RecursionError) as error:
            _LOG.warning("%s cannot be used (%s); starting without it", self._path, error)
            return []
        if content.get("mesh") != self._mesh:
            _LOG.warning("%s is of mesh %r; starting without it", self._path, content.get("mesh"))
            return []
        found = [entry for row in rows if (entry := _entry(row, unix_now)) is not None]
        self.entries = {entry.node_id: entry for entry in _bounded(found)}
        if len(found) < len(rows):
            _LOG.info("%s: %d entries are old or odd", self._path, len(rows) - len(found))
        return list(self.entries.values())

    def update(self, targets: Iterable[Target], unix_now: float) -> bytes | None:
        """The content to write; None where nobody is known, or nothing worth it has changed."""
        fresh: list[Entry] = []
        for target in targets:
            old = self.entries.get(target.node_id)
            heard_at = unix_now if target.reachable or old is None else old.heard_at
            if unix_now - heard_at < AGE_MAX:
                fresh.append(Entry(target.node_id, target.urls, heard_at))
        fresh = _bounded(fresh)
        if not fresh:  # alone, or not linked yet: what was known is all there is to go by
            return None
        same = {entry.node_id: entry.urls for entry in fresh}
        if same == {entry.node_id: entry.urls for entry in self.entries.values()} and not any(
            entry.heard_at - self.entries[entry.node_id].heard_at > AGE_MAX / 100 for entry in fresh
        ):
            return None
        self.entries = {entry.node_id: entry for entry in fresh}
        rows = [
            {"node_id": entry.node_id, "urls": list(entry.urls), "heard_at": round(entry.heard_at)}
            for entry in fresh
        ]
        content = {"format": FORMAT, "mesh": self._mesh, "addresses": rows}
        return json.dumps(content, indent=1).encode() + b"\n"

    def write(self, content: bytes) -> None:
        """May be called in a thread. What cannot be written is logged, once."""
        try:
            write_durably(self._path, content)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _LOG.warning("%s cannot be written: %s", self._path, error.strerror)
            self._failed = True


def _entry(row: Any, unix_now: float) -> Entry | None:
    """One entry, or None where it is old or odd."""
    if not isinstance(row, dict):
        return None
    node_id, urls, heard_at = row.get("node_id"), row.get("urls"), row.get("heard_at")
    if not isinstance(node_id, str) or not is_node_id(node_id) or not isinstance(urls, list):
        return None
    if isinstance(heard_at, bool) or not isinstance(heard_at, int | float):
        return None
    if not math.isfinite(heard_at) or unix_now - heard_at >= AGE_MAX:
        return None
    some = tuple(url for url in urls[:URLS_PER_NODE] if _is_dialable(url))
    return Entry(node_id, some, min(float(heard_at), unix_now)) if some else None


def _is_dialable(url: Any) -> bool:
    if not isinstance(url, str):
        return False
    try:
        return parse_url(url).scheme == "tcp"
    except ConfigError:
        return False


def _bounded(entries: Iterable[Entry]) -> list[Entry]:
    """As many as there is room for, in their order."""
    room, kept = ADDRESSES_MAX, []
    for entry in entries:
        if len(entry.urls) <= room:
            kept.append(entry)
            room -= len(entry.urls)
    return kept
