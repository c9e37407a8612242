"""A process like that of a registry, with the store of its catalogue, for `benchmarks.catalogue`.

With `fill` it hears of all records for the first time and says how long that took; without, it is
started on the file that was left, keeps the records as the node's core does, and has loaded what a
node with a web page loads. Then it answers orders: `search` (one search of each kind, timed),
`memory`. Before each search that is timed a record changes, so that nothing of an earlier one
helps.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import answering, made_up_flows
from meshcore.protocol.catalogue.records import Flow
from meshcore.storage.catalogue import CatalogueStore, PutFlow, PutOrigin, Search

BATCH = 1000  # records that are handed in at once, as a registry hears of them from another
MIB = 2**20


class Seen(NamedTuple):
    """A record as a filter sees it."""

    put: PutOrigin
    flow: Flow
    created: float

    @property
    def text(self) -> str:
        """All that full text looks at, with something between that is in no filter."""
        flow = self.flow
        parts = (self.put.organization, flow.name, flow.author, flow.description, *flow.tags)
        return "\n".join(parts).casefold()


COMMON, RARE = made_up_flows.COMMON_WORD, made_up_flows.RARE_WORD
LATE = made_up_flows.STARTED + 5e6

# Each query with what it means, so that `filtered` is known to be right.
FILTERS: dict[str, Callable[[Seen], bool]] = {
    "": lambda seen: True,
    'organization == "org-07"': lambda seen: seen.put.organization == "org-07",
    "status != offline": lambda seen: seen.put.status != "offline",
    f"created > {LATE:.0f}": lambda seen: seen.created > LATE,
    '@tag("service")': lambda seen: "service" in seen.flow.tags,
    'tags ~ "er"': lambda seen: any("er" in tag for tag in seen.flow.tags),
    "name ~ ma": lambda seen: "ma" in seen.flow.name.casefold(),
    "name < m": lambda seen: seen.flow.name < "m",
    'url ~ "17"': lambda seen: "17" in seen.flow.url,
    f"description ~ {COMMON}": lambda seen: COMMON in seen.flow.description.casefold(),
    COMMON: lambda seen: COMMON in seen.text,
    RARE: lambda seen: RARE in seen.text,
    "e": lambda seen: "e" in seen.text,
    "ro": lambda seen: "ro" in seen.text,
    f"{COMMON} data ro": lambda seen: all(word in seen.text for word in (COMMON, "data", "ro")),
    '"service con"': lambda seen: "service con" in seen.text,
    "STRASSE": lambda seen: "strasse" in seen.text,
    "xyzzyplugh": lambda seen: False,
    '(organization == "org-01" | author ~ "ma") & not @tag("service") & kind == flow': (
        lambda seen: (
            (seen.put.organization == "org-01" or "ma" in seen.flow.author.casefold())
            and "service" not in seen.flow.tags
            and seen.flow.kind == "flow"
        )
    ),
    f"zz | qq | {RARE} | {COMMON} | 77": lambda seen: any(
        word in seen.text for word in ("zz", "qq", RARE, COMMON, "77")
    ),
    "name == ": lambda seen: all(word in seen.text for word in ("name", "==")),
}
QUICK_FILTERS = ("", "status != offline", "name ~ ma", COMMON, "ro", "xyzzyplugh")

ORDERS = (
    "",
    "name:d",
    "url",
    "description:d",
    "author",
    "tags:d",
    "kind",
    "created",
    "modified:d",
    "registry",
    "node:d",
    "mesh",
    "organization:d",
    "heartbeat:d",
    "status",
    "organization,author:d,name",
    "status,kind,modified:d",
    "tags,author",
)


class Registry:
    """The store, what the core keeps besides, and one record that changes."""

    def __init__(self, path: Path, records: int) -> None:
        begun = time.perf_counter()
        self.store = CatalogueStore(path, on_failure=sys.exit)
        self.core = {
            put.origin: (put, {flow.url: (flow, *version) for flow, *version, _ in flows})
            for put, flows in self.store.load()
        }
        self.open_seconds = time.perf_counter() - begun
        self.records = records
        origin, (_, flows) = next(iter(self.core.items()))
        flow = next(iter(flows.values()))[0]
        self._changing = PutFlow(origin, flow, 4, 0, False, 0.0)

    async def change(self) -> None:
        """A registry in use: a description is another one now, and its record newer."""
        before = self._changing
        version = before.version + 1
        text = before.flow.description.rstrip("§ ") + " §" * (version % 2)
        self._changing = dataclasses.replace(
            before,
            flow=dataclasses.replace(before.flow, description=text),
            version=version,
            at=made_up_flows.STARTED + 2e7 + version,
        )
        self.store.submit([self._changing])
        await self.store.search(Search(pp=1))

    async def timed(self, search: Search) -> tuple[float, dict[str, Any]]:
        """Milliseconds, and the page."""
        await self.change()
        begun = time.perf_counter()
        page = await self.store.search(search)
        return 1000 * (time.perf_counter() - begun), page

    async def searches(self, filters: list[str]) -> dict[str, Any]:
        """Each filter with each order: the first page, and one far behind."""
        first: dict[str, list[float]] = {}
        deep: dict[str, list[float]] = {}
        filtered: dict[str, int] = {}
        for number, q in enumerate(filters):
            for place, by in enumerate(ORDERS):
                spent, page = await self.timed(Search(q, by))
                first.setdefault(q, []).append(spent)
                filtered[q] = page["filtered"]
                assert page["total"] == self.records, page["total"]
                last = max(0, (page["filtered"] - 1) // 10)
                p = (last, last // 2, last // 7)[(number + place) % 3]
                spent, _ = await self.timed(Search(q, by, p))
                deep.setdefault(q, []).append(spent)
        return {"first": first, "deep": deep, "filtered": filtered}

    def plainly(self, filters: list[str]) -> dict[str, int]:
        """How many records each filter should find."""
        found = dict.fromkeys(filters, 0)
        for put_flow in made_up_flows.put_flows(self.records):
            put, _ = self.core[put_flow.origin]
            seen = Seen(put, put_flow.flow, put_flow.at or 0.0)
            for q in filters:
                found[q] += FILTERS[q](seen)
        return found


def client(_address: object, options: dict[str, Any]) -> None:
    """Fill the file and end, or open it and answer orders until stdin closes."""
    path, records = Path(options["path"]), options["records"]
    if options["fill"]:
        answering.announce(asyncio.run(fill(path, records)))
        return
    for name in ("meshcore.node", "fastapi", "uvicorn", "jinja2", "httpx"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    base = memory()
    registry = Registry(path, records)
    filters = list(QUICK_FILTERS if options["quick"] else FILTERS)
    asyncio.run(registry.store.search(Search("warm up", "name")))
    wanted = registry.plainly(filters) if not options["quick"] else None
    answering.announce({"open_s": registry.open_seconds, "base": base, "wanted": wanted})
    for line in sys.stdin:
        if json.loads(line)["op"] == "memory":
            answer: dict[str, Any] = {"rss": memory(), "peak": peak()}
        else:
            answer = asyncio.run(registry.searches(filters))
        print(json.dumps(answer), flush=True)
    registry.store.close()


async def fill(path: Path, records: int) -> dict[str, float]:
    """Seconds until everything could be searched, and until it was on disk."""
    store = CatalogueStore(path, on_failure=sys.exit)
    flows = list(made_up_flows.put_flows(records))
    begun = time.perf_counter()
    store.submit(list(made_up_flows.put_origins(records)))
    for batch in _batches(flows):
        store.submit(batch)
        await asyncio.sleep(0)
    assert (await store.search(Search()))["total"] == records
    found = time.perf_counter() - begun
    await store.flush()
    written = time.perf_counter() - begun
    store.close()
    return {"found": found, "written": written}


def _batches(flows: list[PutFlow]) -> Iterator[list[PutFlow]]:
    for begin in range(0, len(flows), BATCH):
        yield flows[begin : begin + BATCH]


def memory() -> float:
    """Resident, MiB."""
    gc.collect()
    return psutil.Process().memory_info().rss / MIB


def peak() -> float:
    """The most that was ever resident, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
