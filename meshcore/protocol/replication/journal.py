"""The log of one replica, in memory: entries without gaps, from some index on.

What lies before `first` is known to be committed and is in a checkpoint; of the entry just before
it the term is known. Entries are appended at the end, cut off at the front when a checkpoint holds
them, and cut off at the end where a primary has others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from meshcore.protocol.replication.records import Batch, Entry


class Journal:
    """Empty, after the entry `index` of `term`."""

    def __init__(self, index: int = 0, term: int = 0) -> None:
        self._before = (index, term)
        self._entries: list[Entry] = []
        self._sizes: list[int] = [0]  # bytes up to and with the entry before; one more than entries
        self._given = Batch()  # what `since` gave last: the disk and the others get the same

    @property
    def first(self) -> int:
        """The index of the first entry that is here, or would be."""
        return self._before[0] + 1

    @property
    def last(self) -> int:
        """The index of the last entry, also where it is no longer here."""
        return self._before[0] + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self._before[1]

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None where it is not known here."""
        offset = index - self._before[0]
        if offset == 0:
            return self._before[1]
        if 0 < offset <= len(self._entries):
            return self._entries[offset - 1].term
        return None

    def entry(self, index: int) -> Entry:
        return self._entries[index - self.first]

    def bytes_after(self, index: int) -> int:
        """About how many bytes the entries after `index` take."""
        offset = max(0, index - self._before[0])
        return self._sizes[-1] - self._sizes[min(offset, len(self._entries))]

    def since(self, index: int, *, count_max: int, bytes_max: int) -> Batch:
        """Entries from `index` on: at least one if there is one, and no more than this."""
        start = index - self.first
        stop = min(len(self._entries), start + count_max)
        sizes, limit = self._sizes, self._sizes[start] + bytes_max
        if sizes[stop] > limit:
            while stop > start + 1 and sizes[stop] > limit:
                stop -= 1
        entries, given = self._entries, self._given
        is_same = len(given) == stop - start and given and given[0] is entries[start]
        if not is_same or given[-1] is not entries[stop - 1]:
            self._given = Batch(entries[start:stop])
        return self._given

    def append(self, entry: Entry) -> None:
        assert entry.index == self.last + 1
        self._entries.append(entry)
        self._sizes.append(self._sizes[-1] + entry.size)

    def extend(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.append(entry)

    def truncate(self, index: int) -> None:
        """Drop the entries from `index` on."""
        keep = max(0, index - self.first)
        del self._entries[keep:]
        del self._sizes[keep + 1 :]

    def reset(self, index: int, term: int) -> None:
        """Be empty, after this entry."""
        self._before = (index, term)
        self._entries.clear()
        self._sizes = [0]

    def cut(self, keep_from: int) -> None:
        """Drop the entries before `keep_from`, which a checkpoint holds."""
        drop = keep_from - self.first
        if drop <= 0:
            return
        last = self._entries[drop - 1]
        self._before = (last.index, last.term)
        del self._entries[:drop]
        del self._sizes[:drop]

    def tail(self, index: int, *, count_max: int, bytes_max: int) -> int:
        """The first of the entries up to `index` that are worth keeping: no more than this."""
        stop = index - self.first + 1
        start = max(0, stop - count_max)
        start = max(start, bisect_left(self._sizes, self._sizes[stop] - bytes_max, start, stop))
        return self.first + start

    def first_of_term(self, index: int) -> int:
        """The first index, of those that are here, that has the term of the entry `index`."""
        term = self.term_at(index)
        if term is None or index < self.first:
            return index
        return self.first + bisect_left(self._entries, term, key=lambda entry: entry.term)

    def check_invariants(self) -> None:
        expected = range(self.first, self.first + len(self._entries))
        assert [entry.index for entry in self._entries] == list(expected)
        terms = [self._before[1], *(entry.term for entry in self._entries)]
        assert terms == sorted(terms)
        assert len(self._sizes) == len(self._entries) + 1
