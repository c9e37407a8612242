"""Writes a registry's file as fast as it can, until it is killed: PATH FLOWS.

Each generation is one `submit`: the origin gets the generation as its version and all its flows
get it as their name; another origin comes with a flow, and the one of two generations ago goes.
Lines on stdout: `open`, then each generation that has been flushed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from meshcore.protocol.catalogue.records import Flow, Origin
from meshcore.storage.catalogue import (
    CatalogueStore,
    Change,
    DropFlow,
    DropOrigin,
    PutFlow,
    PutOrigin,
)

ORIGIN = Origin("mesh", "writer")
FILLER = "x" * 600  # so that a transaction takes many pages


def put_origin(origin: Origin, generation: int) -> PutOrigin:
    return PutOrigin(
        origin=origin,
        organization="acme",
        registry="hub",
        incarnation=1,
        version=generation,
        direct=True,
        status="online",
        heartbeat=float(generation),
        at=0.0,
        ttl=None,
    )


def put_flow(origin: Origin, url: str, generation: int) -> PutFlow:
    flow = Flow(url, name=str(generation), description=FILLER)
    return PutFlow(origin, flow, 1, generation, generation % 5 == 0, float(generation))


def changes(generation: int, flows: int) -> list[Change]:
    passing, gone = (Origin("mesh", f"passing-{generation - ago}") for ago in (0, 2))
    return [
        DropOrigin(gone),
        put_origin(ORIGIN, generation),
        *(put_flow(ORIGIN, f"u{number}", generation) for number in range(flows)),
        put_origin(passing, generation),
        put_flow(passing, "u", generation),
        put_flow(ORIGIN, f"once-{generation}", generation),
        DropFlow(ORIGIN, f"once-{generation - 1}"),
    ]


async def write(store: CatalogueStore, generation: int, flows: int) -> None:
    while True:
        generation += 1
        store.submit(changes(generation, flows))
        if generation % 3 == 0:
            await store.flush()
            print(generation, flush=True)


def fail(line: str) -> None:
    print(line, flush=True)
    os._exit(1)  # this is another thread


def main(path: str, flows: str) -> None:
    store = CatalogueStore(Path(path), on_failure=fail)
    versions = [each.put.version for each in store.load() if each.put.origin == ORIGIN]
    print("open", flush=True)
    asyncio.run(write(store, max(versions, default=0), int(flows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
