"""Planted bugs: the simulator must find each of them, or its silence means nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshcore.protocol.delivery.channel import Channel
from meshcore.protocol.delivery.lane import Lane
from meshcore.protocol.election.election import Election
from meshcore.protocol.election.scale import Scale
from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.routing.database import LinkStateDatabase
from meshcore.protocol.routing.graph import Graph, Urgency
from meshcore.protocol.routing.repair import LinkRepair
from meshcore.protocol.timesync.clock import MeshClock
from meshcore.sim import checkers, topology
from meshcore.sim.network import Conditions
from meshcore.sim.world import World

SEEDS = range(1, 5)
Plant = Callable[[pytest.MonkeyPatch], None]
LOSSY = Conditions(delay=0.005, packet_loss=0.05, duplication=0.2, news_loss=0.1)


def found_by(world: World) -> list[str]:
    """What the checkers, or the assertions of the core itself, say of a run with every fault."""
    try:
        problems = run_of(world)
    except AssertionError as error:
        return [f"assertion: {error}"]
    return [
        *problems,
        *checkers.settled(world),
        *checkers.ended(world),
        *checkers.quiet(world),
    ]


def run_of(world: World) -> list[str]:
    world.build([*topology.chain(topology.names(7)), ("n00", "n06"), ("n06", "leaf")], within=0.5)
    world.run(1.5)
    problems = checkers.agreement(world)
    world.network.conditions = LOSSY
    calls = []
    for number in range(40):
        calls.append(world.call("n00", "n03", "test:echo", number, ttl=8.0))
        calls.append(world.call("n02", "leaf", "test:items", 50, ttl=8.0))
        world.run(0.05)
    hanging = world.call("n03", "leaf", "test:hang", ttl=10.0)
    world.run(4.0)
    problems += checkers.all_succeeded(calls)
    world.crash("leaf")
    world.run(1.0)
    if not hanging.ended:
        problems.append(f"{hanging}: its recipient is gone")
    world.cut("n00", "n01")
    world.run(5.0)  # not so long that the leaf is removed, and its next life a new node
    world.network.conditions = Conditions()  # two lost beats make a neighbour SLOW, rightly
    world.run(3.0)
    problems += checkers.agreement(world) + checkers.routes(world)
    world.restart("leaf")
    world.heal_all()
    world.run(12.0)
    master = world.node("n03").mesh.master
    if master is not None:
        world.crash(master)
        world.run(4.0)
        problems += checkers.master_and_time(world)
        world.restart(master)
        world.run(12.0)
    return problems


def no_dedupe(patch: pytest.MonkeyPatch) -> None:
    """A packet that comes twice is handed on twice."""
    receive = Lane.receive

    def received(self: Lane, number: int, packet: Any, size: int) -> Any:
        due = receive(self, number, packet, size)
        return due if due is not None or number >= self.expected else type(due or [])([packet])

    patch.setattr(Lane, "receive", received)


def no_resend(patch: pytest.MonkeyPatch) -> None:
    """What is lost stays lost."""
    patch.setattr(Channel, "resend", lambda self, index, frames, out: None)


def down_edges_ignored(patch: pytest.MonkeyPatch) -> None:
    """An edge that is down is taken for none at all, so that nobody is reported as gone."""
    patch.setattr(Graph, "_take_downs", lambda self, slot, said, now: Urgency.NONE)


def edges_of_one_end(patch: pytest.MonkeyPatch) -> None:
    """The detector never tells that a link was lost."""
    patch.setattr(Detector, "on_link_down", lambda self, node_id, **more: [])


def no_repair(patch: pytest.MonkeyPatch) -> None:
    """Lost news stay lost."""
    patch.setattr(LinkRepair, "on_digest", lambda self, told, store, now: None)


def no_flood(patch: pytest.MonkeyPatch) -> None:
    """News go no further than one hop."""
    on_foreign = LinkStateDatabase._on_foreign_news

    def kept(self: LinkStateDatabase, link: int, held: Any, now: float) -> Any:
        effects = on_foreign(self, link, held, now)
        self._flood.withdraw(held.origin)
        return effects

    patch.setattr(LinkStateDatabase, "_on_foreign_news", kept)


def lives_confused(patch: pytest.MonkeyPatch) -> None:
    """A restart is not noticed."""
    patch.setattr(Roster, "_restart", lambda self, node, incarnation, life, events: None)


def ages_of_ones_own(patch: pytest.MonkeyPatch) -> None:
    """Whoever joins a scale of ages says that it was born at its beginning."""
    patch.setattr(Scale, "_take", lambda self, name, position, now: setattr(self, "name", name))


def scales_that_do_not_spread(patch: pytest.MonkeyPatch) -> None:
    """Two meshes that meet go on counting apart."""
    patch.setattr(Scale, "meet", lambda self, name, position, now: False)


def masters_for_life(patch: pytest.MonkeyPatch) -> None:
    """Nobody hears that a candidate is dead."""
    update = Election.update

    def kept(self: Election, node_id: str, candidate: Any, now: float, **more: Any) -> Any:
        return update(self, node_id, candidate, now, **more) if candidate is not None else []

    patch.setattr(Election, "update", kept)


def time_the_wrong_way(patch: pytest.MonkeyPatch) -> None:
    """What the clock is behind is taken off it, as the ancestors had it."""
    aim = MeshClock._aim

    def aimed(self: MeshClock, offset: float, now: float) -> None:
        aim(self, 2 * self._offset - offset, now)

    patch.setattr(MeshClock, "_aim", aimed)


PLANTS: list[Plant] = [
    no_dedupe,
    no_resend,
    down_edges_ignored,
    edges_of_one_end,
    no_repair,
    no_flood,
    lives_confused,
    ages_of_ones_own,
    scales_that_do_not_spread,
    masters_for_life,
    time_the_wrong_way,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(found_by(World(seed, check_every=5, rates_apart=0.01)) for seed in SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_found_where_nothing_is_planted(seed: int) -> None:
    assert found_by(World(seed, check_every=5, rates_apart=0.01)) == []
