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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Any

from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage.changes import (
    Change,
    DropFlow,
    DropOrigin,
    PutFlow,
    PutOrigin,
)
from meshcore.storage.codes import Codes
from meshcore.storage.columns import COLUMNS, NEVER, ORIGIN_VALUES, Kind, fold, time_or_none
from meshcore.storage.masks import mask_of, mask_of_slots
from meshcore.storage.orders import Order
from meshcore.storage.record import NUMBER_MAX, Journal, Record, folded
from meshcore.storage.words import Postings, Words

NOTHING = Flow("")  # in slots that are free
TEXTS = ("name", "url", "author", "description", "tags", "kind")  # of a flow, sorted at all times
DROPPED_ONE_BY_ONE_MAX = 2000  # records


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
        self.texts: list[str] = []  # `folded`
        self.urls: list[str] = []  # case-folded, mostly the same objects as in the flows
        self.coded = {"author": Codes(), "kind": Codes()}
        self.origin_of = array("I")
        self.created = array("d")
        self.modified = array("d")
        self.live = bytearray()  # 1: not deleted
        self.incarnations = array("Q")
        self.versions = array("Q")
        self._free: list[int] = []
        self.total = 0  # records that are live
        # Indexes, of live records:
        self.words = Words()
        self.tags = Postings()
        self._orders = {name: Order(self.key_of(name)) for name in (*TEXTS, "created", "modified")}
        self._orders["name"] = Order(self.default_key)
        # What has changed how often: the records, and each column of the origins.
        self.epochs = dict.fromkeys(("records", *ORIGIN_VALUES), 0)
        self._all_live = (0, 0)  # the set, and of which epoch of the records

    # -- changes -----------------------------------------------------------------------------------

    def apply(self, changes: Iterable[Change], journal: Journal, *, many: bool = False) -> None:
        """Take them in order. Flows of an origin that was never put are refused: ValueError.

        `many`: there is so much to come that sorting waits.
        """
        if many:
            self.void_orders()
        for change in changes:
            if isinstance(change, PutFlow):
                self._put_flow(change, journal)
            elif isinstance(change, PutOrigin):
                self._put_origin(change, journal)
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

    def _put_origin(self, put: PutOrigin, journal: Journal) -> None:
        number = self._numbers.get(put.origin)
        if number is None:
            if self._free_numbers:
                number = self._free_numbers.pop()
            else:
                number = len(self.origins)
                self.origins.append(None)
                self.slots.append({})
            self._numbers[put.origin] = number
        old = self.origins[number]
        for column, value in ORIGIN_VALUES.items():
            if old is None or value(old) != value(put):
                self.epochs[column] += 1
        self.origins[number] = put
        beat = old is not None and replace(old, heartbeat=put.heartbeat, at=put.at) == put
        journal.origin(number, put, beat=beat)

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
        if len(self.slots[number]) > DROPPED_ONE_BY_ONE_MAX:
            self.void_orders()
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
            self.texts.append("")
            self.urls.append("")
            for column, codes in self.coded.items():
                codes.append(getattr(NOTHING, column))
            self.origin_of.append(number)
            self.created.append(NEVER)
            self.modified.append(NEVER)
            self.live.append(0)
            self.incarnations.append(0)
            self.versions.append(0)
        self.slots[number][url] = slot
        return slot

    def _set(self, slot: int, record: Record) -> None:
        """A record is this now; every index follows."""
        old, was_live = self.flows[slot], self.live[slot]
        new, live = record.flow, not record.deleted
        times = (
            NEVER if record.created is None else record.created,
            NEVER if record.modified is None else record.modified,
        )
        orders = self._orders_left(slot, new, times, bool(was_live and live))
        if was_live:
            for order in orders:
                order.remove(slot)
        if was_live and (not live or old != new):
            self.words.remove(slot, set(self.texts[slot].split()))
            self.tags.remove(slot, set(old.tags))
        if live and (not was_live or old != new):
            text = folded(new)
            self.texts[slot] = text
            self.words.add(slot, set(text.split()))
            self.tags.add(slot, set(new.tags))
        elif not live:
            self.texts[slot] = ""
        if old != new:
            self.coded["author"].put(slot, new.author)
            self.coded["kind"].put(slot, new.kind)
            url = fold(new.url)
            self.urls[slot] = new.url if url == new.url else url
        self.flows[slot] = new
        self.created[slot], self.modified[slot] = times
        self.incarnations[slot] = record.incarnation
        self.versions[slot] = record.version
        self.total += live - was_live
        self.live[slot] = live
        if live:
            for order in orders:
                order.add(slot)
        self.epochs["records"] += 1

    def _orders_left(
        self, slot: int, flow: Flow, times: tuple[float, float], stays: bool
    ) -> list[Order]:
        """The orders in which a record has another place when it becomes this."""
        orders = self._orders
        if not stays:
            return list(orders.values())
        old = self.flows[slot]
        left = [orders[name] for name in TEXTS if getattr(old, name) != getattr(flow, name)]
        for name, before, after in zip(
            ("created", "modified"), (self.created[slot], self.modified[slot]), times, strict=True
        ):
            if before != after:
                left.append(orders[name])
        return left

    def _clear(self, slot: int) -> None:
        self._set(
            slot,
            Record(NOTHING, incarnation=0, version=0, deleted=True, created=None, modified=None),
        )
        self._free.append(slot)

    # -- what is there -----------------------------------------------------------------------------

    def all_live(self) -> int:
        """The set of all live records."""
        mask, epoch = self._all_live
        if epoch != self.epochs["records"]:
            mask = mask_of(self.live)
            self._all_live = mask, self.epochs["records"]
        return mask

    def of_origins(self, numbers: list[int]) -> int:
        """The set of the records of these origins."""
        if sum(len(self.slots[number]) for number in numbers) < len(self.flows) // 4:
            slots = chain.from_iterable(self.slots[number].values() for number in numbers)
            return mask_of_slots(slots, len(self.flows))
        flags = bytearray(len(self.origins))
        for number in numbers:
            flags[number] = 1
        return mask_of(map(flags.__getitem__, self.origin_of))

    def times(self, column: str) -> array[float]:
        """`created` or `modified`, by slot."""
        return self.created if column == "created" else self.modified

    def sorted_by(self, column: str) -> array[int]:
        """The slots of live records by a column of theirs; `name` is the default order."""
        return self._orders[column].slots(self.live)

    def void_orders(self) -> None:
        """Sort later, when it is needed or there is time."""
        for order in self._orders.values():
            order.void()

    def tidying(self) -> Iterator[None]:
        """Steps that make the next searches faster; they must not go on after a change."""
        for order in self._orders.values():
            yield from order.tidying(self.live)
        self.words.tidy()

    def key_of(self, column: str) -> Callable[[int], Any]:
        """What a column has at a slot, to be compared."""
        if COLUMNS[column] is Kind.TIME:
            return self.times(column).__getitem__
        if COLUMNS[column].of_origin:
            of_number, origin_of = self.origin_key_of(column), self.origin_of
            return lambda slot: of_number(origin_of[slot])
        flows, value = self.flows, attrgetter(column)
        return lambda slot: value(flows[slot])

    def origin_key_of(self, column: str) -> Callable[[int], Any]:
        """What a column of origins has for the number of one, to be compared."""
        value = ORIGIN_VALUES[column]
        return lambda number: value(self.origin(number))

    def origin(self, number: int) -> PutOrigin:
        """An origin that is there."""
        put = self.origins[number]
        assert put is not None, number
        return put

    def put_of(self, slot: int) -> PutOrigin:
        """The origin of a record that is there."""
        return self.origin(self.origin_of[slot])

    def default_key(self, slot: int) -> tuple[str, str, str, str]:
        """What the default order compares."""
        flow = self.flows[slot]
        mesh, node = self.put_of(slot).origin
        return flow.name, node, flow.url, mesh

    def check_invariants(self) -> None:
        """Derive every index anew and compare: for tests."""
        slots = {slot: number for number, by in enumerate(self.slots) for slot in by.values()}
        assert sorted([*slots, *self._free]) == list(range(len(self.flows)))
        assert all(self.origin_of[slot] == number for slot, number in slots.items())
        known = {put.origin: number for number, put in enumerate(self.origins) if put is not None}
        assert known == self._numbers
        assert not any(self.slots[number] for number in self._free_numbers)
        live = [slot for slot, alive in enumerate(self.live) if alive]
        assert set(live) <= set(slots)
        assert self.total == len(live) == self.all_live().bit_count()
        words: dict[str, list[int]] = {}
        tags: dict[str, list[int]] = {}
        for slot in live:
            assert self.texts[slot] == folded(self.flows[slot])
            for word in set(self.texts[slot].split()):
                words.setdefault(word, []).append(slot)
            for tag in set(self.flows[slot].tags):
                tags.setdefault(tag, []).append(slot)
        for column, codes in self.coded.items():
            assert codes.contents() == [getattr(flow, column) for flow in self.flows]
        assert self.urls == [fold(flow.url) for flow in self.flows]
        assert self.words.contents() == words
        assert self.tags.contents() == tags
        for name in self._orders:
            key = self.default_key if name == "name" else self.key_of(name)
            assert list(self.sorted_by(name)) == sorted(live, key=lambda slot: (key(slot), slot))
