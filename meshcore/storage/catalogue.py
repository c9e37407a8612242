"""The catalogue's store: changes in, pages out, and a file that survives.

Two threads. One has the table: it takes changes and answers searches in the order in which they
were handed in, so that a search sees everything submitted before, and never waits for a disk. The
other one has the file (`writing`). The loop only hands over: nothing here blocks it, but for the
rule at the bound.

The rule at the bound: changes that wait for the table number at most `CHANGES_MAX`; `submit` waits
for room beyond it, which takes as long as the thread needs for what is before it (12 to 60 µs
each). Nothing is lost, and memory is bounded. Searches that wait number at most `SEARCHES_MAX`;
one more is BusyError. What waits for the disk is bounded by the number of records.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from meshcore.errors import BadPayloadError, BusyError, ClosedError
from meshcore.storage import items, ordering, query
from meshcore.storage.batch import Batch
from meshcore.storage.changes import (
    PAGE_MAX,
    Change,
    DropFlow,
    DropOrigin,
    PutFlow,
    PutOrigin,
    Search,
    StoredFlow,
    StoredOrigin,
)
from meshcore.storage.columns import Key, order_of
from meshcore.storage.matching import Matcher
from meshcore.storage.table import Table

if TYPE_CHECKING:
    from meshcore.storage.writing import Writer

__all__ = [
    "CatalogueStore",
    "Change",
    "DropFlow",
    "DropOrigin",
    "PutFlow",
    "PutOrigin",
    "Search",
    "StoredFlow",
    "StoredOrigin",
    "reset",
]

CHANGES_MAX = 250_000
MANY = 2000  # changes that wait: with more of them nothing is kept sorted meanwhile
QUIET = 0.2  # seconds without anything to do, after which what is out of order is sorted
SEARCHES_MAX = 256
PLACE_MAX = 2**53  # of a record in a page; beyond it JSON has no whole numbers

T = TypeVar("T")


class CatalogueStore:
    """Every record that a node knows, in memory, and on disk where it is given a path.

    `on_failure` is called in a thread of the store, with one line, when the disk begins to refuse.
    """

    def __init__(self, path: Path | None, *, on_failure: Callable[[str], None]) -> None:
        """Open or create the file, and read it: ConfigError where that cannot be."""
        self._table = Table()
        self._matcher = Matcher(self._table)
        self._on_failure = on_failure
        self._writer: Writer | None = None
        self._wake = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changes_waiting = 0
        self._searches_waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        # A node that is no registry needs neither SQLite nor, before the first query, a parser.
        from meshcore.storage.disk import RegistryFile
        from meshcore.storage.writing import Writer

        file = RegistryFile(path)
        try:
            self._table.void_orders()
            for number, put, records in file.read():
                self._table.restore(number, put, records)
        except BaseException:
            file.close()
            raise
        self._writer = Writer(file, on_failure=self._on_failure)
        with self._wake:
            self._hand_over(query.prepare)

    # -- what the node calls -----------------------------------------------------------------------

    def load(self) -> list[StoredOrigin]:
        """What was on disk, for the node to begin with: before the first `submit`.

        Who was online then is stale here, in this list and in searches.
        """
        return items.stored(self._table)

    def submit(self, changes: Sequence[Change]) -> None:
        """Take changes, in order; on disk all of these are there, or none.

        Raises ClosedError after `close`. Waits at the bound, see above.
        """
        if not changes:
            return
        with self._wake:
            self._check_open()
            self._wake.wait_for(lambda: self._closed or self._changes_waiting < CHANGES_MAX)
            self._check_open()
            self._changes_waiting += len(changes)
            self._hand_over(lambda: self._apply(changes))

    async def flush(self) -> None:
        """Return when everything submitted before is on disk; OSError where the disk refuses."""
        if self._writer is None:
            await self._ask(lambda: None)
            return
        loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        writer = self._writer

        def told(error: Exception | None) -> None:
            failure = None if error is None else OSError(str(error))
            _answer(loop, done, None, failure)

        with self._wake:
            self._check_open()
            self._hand_over(lambda: writer.when_written(told))
        await done

    async def search(self, search: Search) -> dict[str, Any]:
        """One page: `{total, filtered, p, pp, items, by, q}`, and `reason` where q is no query.

        BadPayloadError for an order or a page that does not exist; a query is always answered.
        """
        if type(search.p) is not int or search.p < 0:
            raise BadPayloadError(f"p: {search.p!r} must be a number from 0")
        if type(search.pp) is not int or not 1 <= search.pp <= PAGE_MAX:
            raise BadPayloadError(f"pp: {search.pp!r} must be a number from 1 to {PAGE_MAX}")
        order = order_of(search.by)
        with self._wake:
            if self._searches_waiting >= SEARCHES_MAX:
                raise BusyError(f"{SEARCHES_MAX} searches wait already", may_have_run=False)
            self._searches_waiting += 1
        try:
            return await self._ask(lambda: self._search(search, order))
        finally:
            with self._wake:
                self._searches_waiting -= 1

    async def counts(self) -> dict[str, Any]:
        """`{total, organization: {…}, node: {…}, tags: {…}}` of what is not deleted."""
        return await self._ask(self._counts)

    async def dump(self) -> list[dict[str, Any]]:
        """Every record, deleted ones too, with `incarnation`, `version`, `deleted`."""
        return await self._ask(lambda: items.dump(self._table))

    def close(self) -> None:
        """Finish what was submitted, on disk as well, and stop; twice is harmless. Blocks."""
        with self._wake:
            if self._closed:
                return
            self._closed = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._writer is not None:
            self._writer.close()

    # -- between the threads -----------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the catalogue is closed", may_have_run=False)

    def _hand_over(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        if self._thread is None:  # a node that offers nothing and asks nothing needs none
            self._thread = threading.Thread(
                target=self._run, name="meshcore-catalogue", daemon=True
            )
            self._thread.start()
        self._wake.notify_all()

    async def _ask(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            if done.cancelled():
                return
            try:
                result = work()
            except Exception as error:
                _answer(loop, done, None, error)
            else:
                _answer(loop, done, result, None)

        with self._wake:
            self._check_open()
            self._hand_over(job)
        return await done

    def _run(self) -> None:
        while self._has_job(None):
            while self._has_job(QUIET):
                self._jobs.popleft()()
            for _ in self._table.tidying():
                if self._jobs or self._closed:
                    break

    def _has_job(self, timeout: float | None) -> bool:
        """Wait for one; False after `timeout` seconds without, or when it is closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or self._closed, timeout)
            return bool(self._jobs)

    # -- in the thread -----------------------------------------------------------------------------

    def _apply(self, changes: Sequence[Change]) -> None:
        batch = Batch()
        try:
            self._table.apply(changes, batch, many=self._changes_waiting > MANY)
        except Exception as error:  # a bug of ours: the thread lives on, and it is heard of
            self._on_failure(f"the catalogue could not take a change: {error!r}")
        if self._writer is not None and batch:
            self._writer.add(batch)
        with self._wake:
            self._changes_waiting -= len(changes)
            self._wake.notify_all()

    def _search(self, search: Search, order: Sequence[Key]) -> dict[str, Any]:
        table = self._table
        asked = query.parse(search.q)
        mask = self._matcher.matching(asked.node)
        start = min(search.p * search.pp, PLACE_MAX)
        found = ordering.page(table, mask, order, start, start + search.pp)
        answer: dict[str, Any] = {
            "total": table.total,
            "filtered": mask.bit_count(),
            "p": search.p,
            "pp": search.pp,
            "items": [items.item(table, slot) for slot in found],
            "by": search.by,
            "q": search.q,
        }
        if asked.reason is not None:
            answer["reason"] = asked.reason
        return answer

    def _counts(self) -> dict[str, Any]:
        table = self._table
        organizations: Counter[str] = Counter()
        nodes: Counter[str] = Counter()
        for number, size in Counter(compress(table.origin_of, table.live)).items():
            put = table.origin(number)
            organizations[put.organization] += size
            nodes[put.origin.node] += size
        return {
            "total": table.total,
            "organization": dict(organizations),
            "node": dict(nodes),
            "tags": {tag: table.tags.having(tag) for tag in table.tags},
        }


def _answer(
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[T],
    result: Any,
    error: BaseException | None,
) -> None:
    """Give a result to a future of the loop, from a thread."""

    def give() -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    try:
        loop.call_soon_threadsafe(give)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def reset(path: Path) -> None:
    """Forget what the file of a registry holds: delete it. The store must not be open."""
    from meshcore.storage import disk

    disk.remove(path)
