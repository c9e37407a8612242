"""One node watches a slow neighbour closely: it alone is told, and no work is lost by it."""

from __future__ import annotations

import pytest

from meshcore.errors import Code
from meshcore.protocol.membership import events
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.view import NodeStatus
from meshcore.sim import checkers
from meshcore.sim.world import World

ALIVE, SLOW, WARNING, DEAD = NodeStatus
TIGHT = Timings(slow=0.5, warn=1.0, dead=2.0, remove=3.0)
LAZY = Timings(send_alive_interval=5.0, slow=12.0, warn=13.0, dead=14.0, remove=15.0)
PATIENT = Timings(send_alive_interval=0.2, slow=12.0, warn=13.0, dead=14.0, remove=15.0)
SINCE_BEAT = 0.1  # seconds
SHAPES = {
    "pair": [("watcher", "lazy")],
    "triangle": [("watcher", "lazy"), ("other", "lazy"), ("other", "watcher")],
    "chain": [("watcher", "lazy"), ("lazy", "behind"), ("other", "watcher")],
}


def watched(shape: str, seed: int = 0) -> World:
    """A settled mesh in which `lazy` has just beaten its first slow beat."""
    world = World(seed=seed)
    world.build(SHAPES[shape])
    world.run(3.0)
    for name, process in world.processes.items():
        timings = {"watcher": TIGHT, "lazy": LAZY}.get(name, PATIENT)
        process.input(process.mesh.set_timings, timings)
    world.run(1.0)
    lazy = world.node("lazy")
    beats = lazy.control_sent["Beat"]
    world.run_until(lambda: lazy.control_sent["Beat"] > beats, within=6.0)
    world.run(SINCE_BEAT)
    for process in world.processes.values():
        process.events.clear()
    return world


def told(world: World, name: str) -> list[object]:
    """What the application of a node was told of nodes, links and ways left out."""
    kinds = (events.StatusChanged, events.Added, events.Removed)
    return [event for event in world.node(name).events if isinstance(event, kinds)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_every_beat_begins_the_same_round_for_the_watcher_and_nobody_else_is_told(
    shape: str, seed: int
) -> None:
    world = watched(shape, seed)
    lazy = world.node("lazy")
    sent = dict.fromkeys(world.processes, 0)
    for name, process in world.processes.items():
        sent[name] = process.control_sent.get("News", 0)
    life, incarnation = lazy.life, lazy.incarnation
    moments: list[tuple[object, float]] = []
    beats, beaten_at = lazy.control_sent["Beat"], world.now - SINCE_BEAT
    while len(moments) < 15:
        world.run(0.01)
        count = lazy.control_sent["Beat"]
        if count != beats:
            beats, beaten_at = count, world.now
        known = told(world, "watcher")
        moments += [(event, world.now - beaten_at) for event in known[len(moments) :]]
    steps = [
        (events.StatusChanged("lazy", ALIVE, SLOW, True, events.Reason.NONE), 0.5),
        (events.StatusChanged("lazy", SLOW, WARNING, True, events.Reason.NONE), 1.0),
        (events.StatusChanged("lazy", WARNING, DEAD, True, events.Reason.QUIET), 2.0),
        (events.Removed("lazy", events.Reason.QUIET), 3.0),
        (events.Added("lazy", incarnation, life), 0.0),
    ]
    for (event, after), (wanted, due) in zip(moments[:15], 3 * steps, strict=True):
        assert event == wanted
        assert due <= after + 0.02, (event, after)
        assert after <= due + 0.4, (event, after)
    for name in world.processes:
        if name != "watcher":
            assert told(world, name) == []
    news = {name: process.control_sent.get("News", 0) for name, process in world.processes.items()}
    assert news == sent, "nothing was told to the mesh"


@pytest.mark.parametrize("shape", SHAPES)
def test_work_to_through_and_from_a_quiet_neighbour_is_not_lost(shape: str) -> None:
    world = watched(shape)
    names = list(world.processes)
    pairs = [(one, other) for one in names for other in names if one != other]
    calls = [world.call(*pair, "test:later", 4.5, ttl=ttl) for pair in pairs for ttl in (60, None)]
    watcher = world.node("watcher")
    world.run_until(lambda: "lazy" not in watcher.mesh.roster, within=6.0)
    late = [world.call(*pair, "test:items", 300, ttl=None) for pair in pairs]
    world.run_until(lambda: not world.ledger.open_calls(), within=12.0)
    assert checkers.all_succeeded([*calls, *late]) == []
    assert checkers.work(world) == []


def test_work_to_a_stuck_neighbour_waits_for_it_but_not_for_ever() -> None:
    world = watched("pair")
    lazy, watcher = world.node("lazy"), world.node("watcher")
    lazy.input(lazy.mesh.set_timings, Timings())
    world.run(1.0)
    call = world.call("watcher", "lazy", "test:hang", ttl=None)
    world.run(0.5)
    mute(world, "lazy")
    world.run_until(lambda: "lazy" not in watcher.mesh.roster, within=5.0)
    took = world.run_until(lambda: call.ended, within=40.0)
    assert (call.code, call.may_have_run) == (Code.UNREACHABLE, True)
    assert 25.0 < took < 35.0, "the request_timeout is 30 s"


def test_work_to_a_stuck_neighbour_is_lost_when_its_connection_is() -> None:
    world = watched("pair")
    watcher = world.node("watcher")
    call = world.call("watcher", "lazy", "test:hang", ttl=None)
    world.run(0.5)
    mute(world, "lazy")
    world.run_until(lambda: "lazy" not in watcher.mesh.roster, within=5.0)
    assert not call.ended
    world.crash("lazy")
    world.run_until(lambda: call.ended, within=0.2)
    assert (call.code, call.may_have_run) == (Code.PEER_LOST, True)


def mute(world: World, name: str) -> None:
    """Its loop is stuck: it takes nothing in and says nothing, but its connections stand."""
    world.node(name).is_paused = True  # `pause` would also tell the network
