"""What is held of one origin: its flows, each with its version, and how far that is complete.

The *head* of a holding says what is held: all changes of the life `incarnation` up to `version`. A
`Delta` carries the changes after one head up to another. It is taken only where it goes on from
what is held, or starts a newer life; so a head never claims what is not there, whatever was lost,
repeated or late. `complete` says that the teller had nothing newer: only then is what an older life
offered, and this one does not, known to be gone.

Removed flows stay as tombstones for as long as their life lasts; the owner starts a new one before
they are too many (`Owned` in `offering.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from meshcore.protocol.catalogue.records import Flow, Origin

RECORDS_PER_DELTA_MAX = 500
_RECORD_BYTES = 96  # beside its texts


class Head(NamedTuple):
    """How far something is known; greater is newer, and `complete` is more than not complete."""

    incarnation: int
    version: int
    complete: bool


NOTHING = Head(0, 0, False)


class Item(NamedTuple):
    """One flow of an origin: `incarnation` and `version` are those of its last change."""

    incarnation: int
    version: int
    deleted: bool
    flow: Flow


class Change(NamedTuple):
    """One change in a delta."""

    version: int
    deleted: bool
    flow: Flow


@dataclass(frozen=True, slots=True)
class Delta:
    """All changes of one life after version `since`, up to the head."""

    since: int
    head: Head
    changes: tuple[Change, ...]


@dataclass(slots=True)
class Holding:
    """What is held of one origin.

    `alive` is whether it is known to live; `silent_since` when it was heard last, where it does not
    (monotonic seconds). `direct` says that it told us itself, `source` which registry told us
    otherwise; None where that one is gone as well. `distance`: how many registries that word has
    passed. `stale`: restored, and not heard of since.
    """

    origin: Origin
    organization: str = ""
    head: Head = NOTHING
    items: dict[str, Item] = field(default_factory=dict)  # by url, in the order of their changes
    alive: bool = True
    silent_since: float = 0.0
    stale: bool = False
    direct: bool = False
    source: str | None = None
    distance: int = 0
    forgotten: list[str] = field(default_factory=list)  # urls, until the shelf has told it
    _ordered: tuple[Head, list[Item]] | None = None  # for whoever needs more than the last few

    def take(self, delta: Delta) -> list[Item] | None:
        """Take a delta; the items that have changed, or None where it does not go on from here."""
        ours, told = self.head, delta.head
        new_life = told.incarnation > ours.incarnation
        if told.incarnation < ours.incarnation or delta.since > (0 if new_life else ours.version):
            return None
        if not new_life and told <= ours:
            return []  # late, or repeated
        changed = []
        for version, deleted, flow in delta.changes:
            if not new_life and version <= ours.version:
                continue
            item = Item(told.incarnation, version, deleted, flow)
            self.items.pop(flow.url, None)  # what has changed last stands last
            self.items[flow.url] = item
            changed.append(item)
        self.head = told
        if told.complete and (new_life or not ours.complete):
            changed += self._bury(told.incarnation)
        return changed

    def _bury(self, incarnation: int) -> list[Item]:
        """Delete what only an older life offered, now that all of this one is known.

        It is remembered for one life more, because it may come back; what was deleted already is
        forgotten.
        """
        old = [item for item in self.items.values() if item.incarnation < incarnation]
        kept: dict[str, Item] = {}
        for item in old:
            del self.items[item.flow.url]
            if item.deleted:
                self.forgotten.append(item.flow.url)
            else:
                kept[item.flow.url] = item._replace(deleted=True)
        if kept:
            self.items = {**kept, **self.items}
        return list(kept.values())

    def delta_after(self, known: Head, budget: int) -> Delta:
        """The next changes for somebody who holds `known`, in about `budget` bytes at most."""
        since = known.version if known.incarnation == self.head.incarnation else 0
        changes: list[Change] = []
        for item in self._after(since):
            size = size_of(item.flow)
            if changes and (size > budget or len(changes) == RECORDS_PER_DELTA_MAX):
                upto = Head(self.head.incarnation, changes[-1].version, False)
                return Delta(since, upto, tuple(changes))
            budget -= size
            changes.append(Change(item.version, item.deleted, item.flow))
        return Delta(since, self.head, tuple(changes))

    def _after(self, since: int) -> Iterator[Item]:
        """The items of this life that changed after `since`, the oldest change first."""
        place = (self.head.incarnation, since)
        last: list[Item] = []
        for item in reversed(self.items.values()):
            if (item.incarnation, item.version) <= place:
                self._ordered = None
                return reversed(last)
            last.append(item)
            if len(last) > RECORDS_PER_DELTA_MAX:
                break
        else:
            return reversed(last)
        if self._ordered is None or self._ordered[0] != self.head:
            self._ordered = self.head, list(self.items.values())
        ordered = self._ordered[1]
        first = bisect_right(ordered, place, key=lambda item: (item.incarnation, item.version))
        return iter(ordered[first : first + RECORDS_PER_DELTA_MAX + 1])

    def live_items(self) -> Iterator[Item]:
        return (item for item in self.items.values() if not item.deleted)

    def check_invariants(self) -> None:
        """Assert that the items stand in the order of their changes, none beyond the head."""
        order = [(item.incarnation, item.version) for item in self.items.values()]
        assert order == sorted(order), self.origin
        assert not order or order[-1] <= (self.head.incarnation, self.head.version), self.origin
        for item in self.items.values():
            old = item.incarnation < self.head.incarnation
            assert item.deleted or not (old and self.head.complete), item


def size_of(flow: Flow) -> int:
    """About how many bytes a flow takes in a message."""
    texts = (flow.url, flow.name, flow.description, flow.author, *flow.tags)
    return _RECORD_BYTES + sum(
        2 + (len(text) if text.isascii() else 4 * len(text)) for text in texts
    )
