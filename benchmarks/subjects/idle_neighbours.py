"""The neighbours of one real node, and the mesh behind them, in one process.

Six real nodes dial the measured one over real sockets, beat, echo and repair as any. Behind them
lies a mesh that does not exist: the link states and details of all other origins, about six edges
each, which the first neighbour tells as if it had heard of them. The six say that they are linked
to some of those, so that all can be reached. The measured node cannot tell the difference: what an
idle mesh sends it are the beats and echoes of its neighbours, whatever lies behind them.

It is ready when the six have heard back of all nodes, over the measured one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from benchmarks import answering
from meshcore import Config, Node
from meshcore.protocol.routing.latency import COST_DEFAULT
from meshcore.protocol.wire.records import Details, Edge, LinkState, encode_record
from meshcore.runtime import loop as event_loop

DEGREE = 6
CHORDS = (1, 3, 7)  # how far along the ring the edges of a node lead, on either side
STRANGER = 1 << 40  # no link has this number, so no neighbour counts as informed
RECORDS_AT_ONCE = 128
LEARNT_TIMEOUT = 60.0
INCARNATION = 1_700_000_000_000


def near(number: int) -> str:
    return f"near-{number}"


def edges_of(nodes: int) -> dict[str, list[str]]:
    """Who is linked to whom in a mesh of `nodes`, but for the links of the measured node."""
    far = [f"far-{number:05d}" for number in range(nodes - 1 - DEGREE)]
    ring: list[str] = []
    for number in range(DEGREE):  # each of the six sits at a place of its own
        ring += [near(number), *far[number::DEGREE]]
    edges: dict[str, dict[str, None]] = {name: {} for name in ring}
    for distance in CHORDS:
        for one, other in zip(ring, ring[distance:] + ring[:distance], strict=True):
            both_near = one.startswith("near") and other.startswith("near")
            if one != other and not both_near:  # between two real nodes it would have to be real
                edges[one][other] = edges[other][one] = None
    return {name: list(others) for name, others in edges.items()}


def records_of(edges: dict[str, list[str]]) -> list[bytes]:
    """What the origins that do not exist would say of themselves."""
    said: list[bytes] = []
    for number, (name, others) in enumerate(edges.items(), 1):
        if name.startswith("near"):
            continue
        state = LinkState(
            origin=name,
            incarnation=INCARNATION,
            sequence=1,
            life=number,
            edges=tuple(Edge(other, COST_DEFAULT) for other in others),
            endpoints=(f"tcp://10.0.{number // 256}.{number % 256}:7323",),
            scale=number,
            forced=False,  # nobody could ask it for the time
        )
        content = {
            "actions": {"demo:echo": {"name": "echo", "description": "Echo.", "tags": ["demo"]}},
            "max_workers": 8,
            "version": "0.1.0",
            "host": {"name": f"host-{number}", "cores": 2, "os": "Linux"},
            "pid": number,
            "plugins": ["demo"],
            "organization": None,
        }
        said += [encode_record(state), encode_record(Details(name, INCARNATION, 1, content))]
    return said


def client(address: Any, options: dict[str, Any]) -> None:
    """Play the neighbours of the node at `address` in a mesh of `options["nodes"]`."""
    event_loop.run(_play(str(address), int(options["nodes"])))


async def _play(url: str, nodes: int) -> None:
    edges = edges_of(nodes)
    played = [Node(Config(node_id=near(number), peers=[url])) for number in range(DEGREE)]
    for node in played:
        _claim(node, edges[node.node_id])
        await node.start()
    await _until(lambda: all(len(node._mesh.roster) > DEGREE for node in played))
    teller = played[0]
    said = records_of(edges)
    for begin in range(0, len(said), RECORDS_AT_ONCE):
        driver = teller._started()
        part, now = said[begin : begin + RECORDS_AT_ONCE], driver.now()
        teller._mesh._perform(teller._mesh.database.on_news(STRANGER, part, now), now)
        driver.flush()
        await asyncio.sleep(0.05)
    await _until(lambda: all(len(node._mesh.roster) == nodes for node in played))
    answering.announce(None)
    answering.end_with_parent()
    await asyncio.Event().wait()


def _claim(node: Node, others: list[str]) -> None:
    """Have a node say that it is linked to these as well."""
    own = node._mesh.own
    really = own.link_state

    def link_state(sequence: int, *more: Any) -> LinkState:
        said = really(sequence, *more)
        claimed = tuple(Edge(other, COST_DEFAULT) for other in others)
        return replace(said, edges=(*said.edges, *claimed))

    own.link_state = link_state  # type: ignore[method-assign]


async def _until(condition: Any) -> None:
    end = time.monotonic() + LEARNT_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            answering.refuse(f"the mesh was not known after {LEARNT_TIMEOUT:.0f} s")
            raise SystemExit(1)
        await asyncio.sleep(0.05)
