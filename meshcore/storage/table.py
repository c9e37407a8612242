"""The read side of the catalogue: every record in memory, column by column.

A record has a *slot*, a small number; what is known of it stands at that place of each column.
Columns are arrays of plain numbers, and one list of the same `Flow` objects that the node keeps
anyway, so that a record costs about as much as its case-folded text. A slot that was freed is used
again. What all records of an origin share stands with the origin and is found by its number.

`apply` takes the node's changes in order and tells `Journal` which rows of the file differ now:
whole rows, so that what is on disk is what was in memory at some moment, and nothing is reckoned
twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Protocol

from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage.changes import (
    Change,
    DropFlow,
    DropOrigin,
    PutFlow,
    PutOrigin,
    StoredFlow,
    StoredOrigin,
)

NEVER = float("-inf")  # a time that there is not: it comes before every other
NUMBER_MAX = 2**63 - 1  # of an incarnation or a version; the largest that fits everywhere
NOTHING = Flow("")  # in slots that are free


class Journal(Protocol):
    """What is told of the rows that changed."""

    def origin(self, number: int, put: PutOrigin | None) -> None:
        """The origin of that number is this; None: it is gone with all its records."""

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


def folded(flow: Flow) -> bytes:
    """The texts of a flow that full text looks at, case-folded, with NUL between them."""
    parts = (flow.name, flow.author, *flow.tags, flow.description)
    return encoded("\0".join(parts).casefold())


def encoded(text: str) -> bytes:
    """As UTF-8; half a surrogate pair, which JSON can bring, as if it were a character."""
    return text.encode("utf-8", "surrogatepass")


class Table:
    """All records with their origins."""

    def __init__(self) -> None:
        # By number of the origin:
        self.origins: list[PutOrigin | None] = []
        self.slots: list[dict[str, int]] = []  # url -> slot
        self._numbers: dict[Origin, int] = {}
        self._free_numbers: list[int] = []
        # By slot:
        self.flows: list[Flow] = []
        self.texts: list[bytes] = []
        self.origin_of = array("L")
        self.created = array("d")
        self.modified = array("d")
        self.live = bytearray()  # 1: not deleted
        self.incarnations = array("Q")
        self.versions = array("Q")
        self._free: list[int] = []
        self.total = 0  # records that are live
        self.generation = 0  # counts changes

    # -- changes -----------------------------------------------------------------------------------

    def apply(self, changes: Iterable[Change], journal: Journal) -> None:
        """Take them in order. Flows of an origin that was never put are refused: ValueError."""
        for change in changes:
            self.generation += 1
            if isinstance(change, PutFlow):
                self._put_flow(change, journal)
            elif isinstance(change, PutOrigin):
                number = self._put_origin(change)
                journal.origin(number, change)
            elif isinstance(change, DropFlow):
                self._drop_flow(change, journal)
            elif isinstance(change, DropOrigin):
                self._drop_origin(change, journal)

    def restore(self, number: int, put: PutOrigin, records: Iterable[Record]) -> None:
        """An origin as it comes from disk, with the number that it has there; numbers ascend."""
        while len(self.origins) <= number:
            self._free_numbers.append(len(self.origins))
            self.origins.append(None)
            self.slots.append({})
        self._free_numbers.remove(number)
        self._numbers[put.origin] = number
        self.origins[number] = put
        for record in records:
            self._set(self._slot(number, record.flow.url), record)

    def _put_origin(self, put: PutOrigin) -> int:
        number = self._numbers.get(put.origin)
        if number is None:
            if self._free_numbers:
                number = self._free_numbers.pop()
            else:
                number = len(self.origins)
                self.origins.append(None)
                self.slots.append({})
            self._numbers[put.origin] = number
        self.origins[number] = put
        return number

    def _put_flow(self, change: PutFlow, journal: Journal) -> None:
        number = self._numbers.get(change.origin)
        if number is None:
            raise ValueError(f"a flow of {change.origin}, which was never put")
        slot = self.slots[number].get(change.flow.url)
        at = change.at
        created = modified = at
        if slot is not None:
            created = time_or_none(self.created[slot])
            kept = (self.incarnations[slot], self.versions[slot])
            if (change.incarnation, change.version) <= kept:
                modified = time_or_none(self.modified[slot])
        record = Record(
            change.flow,
            incarnation=min(change.incarnation, NUMBER_MAX),
            version=min(change.version, NUMBER_MAX),
            deleted=change.deleted,
            created=at if created is None else created,
            modified=at if modified is None else modified,
        )
        self._set(self._slot(number, change.flow.url), record)
        journal.flow(number, change.flow.url, record)

    def _drop_flow(self, change: DropFlow, journal: Journal) -> None:
        number = self._numbers.get(change.origin)
        slot = None if number is None else self.slots[number].pop(change.url, None)
        if number is not None and slot is not None:
            self._clear(slot)
            journal.flow(number, change.url, None)

    def _drop_origin(self, change: DropOrigin, journal: Journal) -> None:
        number = self._numbers.pop(change.origin, None)
        if number is None:
            return
        for slot in self.slots[number].values():
            self._clear(slot)
        self.slots[number] = {}
        self.origins[number] = None
        self._free_numbers.append(number)
        journal.origin(number, None)

    def _slot(self, number: int, url: str) -> int:
        """The slot of a record, a new one where it has none."""
        slot = self.slots[number].get(url)
        if slot is not None:
            return slot
        if self._free:
            slot = self._free.pop()
            self.origin_of[slot] = number
        else:
            slot = len(self.flows)
            self.flows.append(NOTHING)
            self.texts.append(b"")
            self.origin_of.append(number)
            self.created.append(NEVER)
            self.modified.append(NEVER)
            self.live.append(0)
            self.incarnations.append(0)
            self.versions.append(0)
        self.slots[number][url] = slot
        return slot

    def _set(self, slot: int, record: Record) -> None:
        self.flows[slot] = record.flow
        self.created[slot] = NEVER if record.created is None else record.created
        self.modified[slot] = NEVER if record.modified is None else record.modified
        self.incarnations[slot] = record.incarnation
        self.versions[slot] = record.version
        self.total += (not record.deleted) - self.live[slot]
        self.live[slot] = not record.deleted
        self.texts[slot] = b"" if record.deleted else folded(record.flow)

    def _clear(self, slot: int) -> None:
        self._set(
            slot,
            Record(NOTHING, incarnation=0, version=0, deleted=True, created=None, modified=None),
        )
        self._free.append(slot)

    # -- what is there -----------------------------------------------------------------------------

    def stored(self) -> list[StoredOrigin]:
        """Everything, as it is handed to the node after a restart."""
        found = []
        for number, put in enumerate(self.origins):
            if put is not None:
                flows = [
                    StoredFlow(
                        self.flows[slot],
                        self.incarnations[slot],
                        self.versions[slot],
                        not self.live[slot],
                    )
                    for slot in self.slots[number].values()
                ]
                found.append(StoredOrigin(put, flows))
        return found

    def item(self, slot: int) -> dict[str, object]:
        """A record with all its columns."""
        flow = self.flows[slot]
        put = self.put_of(slot)
        return {
            "registry": put.registry,
            "node": put.origin.node,
            "mesh": put.origin.mesh,
            "organization": put.organization,
            "created": time_or_none(self.created[slot]),
            "modified": time_or_none(self.modified[slot]),
            "heartbeat": put.heartbeat,
            "url": flow.url,
            "name": flow.name,
            "author": flow.author,
            "description": flow.description,
            "tags": list(flow.tags),
            "status": put.status,
            "kind": flow.kind,
        }

    def put_of(self, slot: int) -> PutOrigin:
        """The origin of a record that is there."""
        put = self.origins[self.origin_of[slot]]
        assert put is not None, slot
        return put

    def dump(self) -> list[dict[str, object]]:
        """Every record, deleted ones too, with its version; by name, node and url."""
        slots = [slot for by_url in self.slots for slot in by_url.values()]
        slots.sort(key=self.default_key)
        return [
            {
                **self.item(slot),
                "incarnation": self.incarnations[slot],
                "version": self.versions[slot],
                "deleted": not self.live[slot],
            }
            for slot in slots
        ]

    def default_key(self, slot: int) -> tuple[str, str, str, str]:
        """What the default order compares."""
        flow = self.flows[slot]
        mesh, node = self.put_of(slot).origin
        return flow.name, node, flow.url, mesh


def time_or_none(value: float) -> float | None:
    """A time of a column as it is told."""
    return None if value == NEVER else value
