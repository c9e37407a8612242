"""A world that begins converged: everybody is linked and knows everybody, and it is quiet.

A mesh of a thousand nodes that start at once is a storm of a million records, which is worth to be
simulated for its own sake and a waste of minutes before every other question. Here the links come
up in no time, by real handshakes over a network without delay, and then every core is given every
record instead of hearing it. From then on it is a world like any other; a test has the checkers
find no difference to one that has converged by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace

from meshcore.protocol.routing.graph import Graph
from meshcore.protocol.routing.store import Held
from meshcore.protocol.wire.records import LinkState
from meshcore.sim.network import Conditions
from meshcore.sim.process import Process
from meshcore.sim.world import World

KNOWN_FOR_LONG = 0.0  # before anything on the clock of any process


def start_converged(world: World, edges: Sequence[tuple[str, str]]) -> None:
    """Start the nodes that the edges name at this moment, converged.

    Raises:
        AssertionError: a link did not come up; then the simulator is broken.
    """
    network, clock = world.network, world.clock
    conditions = network.conditions
    network.conditions = replace(
        conditions, delay=0.0, jitter=0.0, news_loss=0.0, bytes_per_second=0.0
    )
    collects = gc.isenabled()
    gc.disable()  # it would look at every record of every node again and again
    try:
        world.build(edges)
        clock.run_instant()
        network.conditions = conditions
        _check_links(world, edges)
        processes = world.alive()
        for process in processes:
            process.input(process.mesh.adopt_round_trips, _round_trips(process, conditions))
        own = [held for process in processes for held in process.mesh.database.own_records()]
        records = [Held(held.raw, held.record, KNOWN_FOR_LONG) for held in own]
        graph = Graph(processes[0].name)
        for held in records:
            if isinstance(held.record, LinkState):
                graph.update(held.record, held.origin)
        for process in processes:
            process.input(process.mesh.adopt, records, graph)
    finally:
        network.conditions = conditions
        if collects:
            gc.enable()


def _round_trips(process: Process, conditions: Conditions) -> dict[str, float]:
    """What echoes over each link would measure."""
    found = {}
    for wire in process.wires.values():
        one, other = wire.ends
        peer = wire.other(wire.end_of(process)).process.name
        found[peer] = (one.share + other.share) * conditions.delay
    return found


def _check_links(world: World, edges: Sequence[tuple[str, str]]) -> None:
    for one, other in edges:
        for near, far in ((one, other), (other, one)):
            link = world.node(near).mesh.links.link_to(far)
            assert link is not None, f"{near} has no link to {far}"
