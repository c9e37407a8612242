"""What the watches see: deaths in time, steps in order, no life that comes back; and canaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshcore.protocol.membership.detector import Detector
from meshcore.protocol.membership.roster import Roster
from meshcore.protocol.routing.graph import Graph
from meshcore.protocol.wire import control
from meshcore.sim import checkers, topology
from meshcore.sim.churn import Churn
from meshcore.sim.deaths import Deaths
from meshcore.sim.network import Conditions
from meshcore.sim.transitions import Transitions
from meshcore.sim.watch import watch
from meshcore.sim.world import World

Plant = Callable[[pytest.MonkeyPatch], None]
EDGES = [*topology.ring(topology.names(8)), ("n00", "n04"), ("n02", "n06")]


def judged(seed: int) -> list[str]:
    """What the watches say of silent crashes, crashes and restarts in a mesh of eight."""
    world = World(seed, check_every=0, conditions=Conditions(delay=0.02))
    deaths, transitions = Deaths(world), Transitions(world)
    watch(world, [deaths, transitions])
    world.build(EDGES, within=0.5)
    world.run(3.0)
    for name, silent, wait in (
        ("n01", True, 12.0),
        ("n05", False, 1.0),
        ("n03", False, 12.0),
        ("n06", True, 7.0),
    ):
        world.crash(name, silent=silent)
        world.run(wait)
        world.restart(name)
        world.run(4.0)
    assert len(deaths.deaths) == 4
    return [*deaths.problems, *deaths.false, *transitions.problems]


@pytest.mark.parametrize("seed", range(4))
def test_deaths_are_known_in_time_and_every_step_is_one_event(seed: int) -> None:
    assert judged(seed) == []


def patience_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Silence makes nobody dead."""
    from meshcore.protocol.membership import known

    patch.setattr(known, "is_dead", lambda node, timings, now: False)


def lives_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    """A link to a new life makes the old one alive again."""
    patch.setattr(Graph, "_is_about", lambda self, edge, slot: True)


def warning_is_skipped(patch: pytest.MonkeyPatch) -> None:
    """A step goes missing."""
    become = Roster._become

    def skipped(self: Roster, node: Any, status: Any, *more: Any) -> None:
        events = more[-1]
        before = len(events)
        become(self, node, status, *more)
        if len(events) > before and getattr(events[-1], "new", None) == 2:
            del events[-1]

    patch.setattr(Roster, "_become", skipped)


def added_twice(patch: pytest.MonkeyPatch) -> None:
    """A node that is known is added again when it restarts."""
    from meshcore.protocol.membership.events import Added

    restart = Roster._restart

    def again(self: Roster, node: Any, incarnation: int, life: int, events: Any) -> None:
        restart(self, node, incarnation, life, events)
        events.append(Added(node.node_id, incarnation, life))

    patch.setattr(Roster, "_restart", again)


def impatience(patch: pytest.MonkeyPatch) -> None:
    """For half of the time a node hears none of its neighbours."""
    heard = Detector.on_heard

    def deaf(self: Detector, node_id: str, now: float) -> Any:
        return () if int(now) % 40 > 20 else heard(self, node_id, now)

    patch.setattr(Detector, "on_heard", deaf)


@pytest.mark.parametrize(
    "plant",
    [patience_for_ever, lives_do_not_matter, warning_is_skipped, added_twice, impatience],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_bug_is_seen(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(found(seed) for seed in range(3))


def found(seed: int) -> list[str]:
    """What the watches, or the assertions of the core itself, say of a run."""
    try:
        return judged(seed)
    except AssertionError as error:
        return [str(error)]


@pytest.mark.parametrize("keep_data", [True, False])
def test_late_messages_of_an_old_life_do_nothing(keep_data: bool) -> None:
    world = World(3, check_every=5)
    world.build(EDGES)
    world.run(2.0)
    said: list[bytes] = []
    publish = world.network.publish

    def recorded(process: Any, data: bytes) -> None:
        if process.name == "n01":
            said.append(data)
        publish(process, data)

    world.network.publish = recorded  # type: ignore[method-assign]
    old = world.node("n01")
    old_links = {
        process.name: [link for link in process.wires if process.mesh.links.node_of(link) == "n01"]
        for process in world.alive()
    }
    old.input(old.mesh.set_details, {"name": "n01", "actions": {}, "pid": 1})
    world.run(3.0)
    world.crash("n01")
    world.run(0.5)
    world.restart("n01", keep_data=keep_data)
    world.run_until(lambda: not checkers.agreement(world), within=5.0)
    world.run(3.0)
    world.network.publish = publish  # type: ignore[method-assign]
    told = {process: len(process.events) for process in world.alive()}
    assert {data[1] for data in said} >= {control.Beat.KIND, control.News.KIND}
    for data in said:
        for process in world.alive():
            is_news = data[1] == control.News.KIND  # records may come by anybody
            for link in list(process.wires) if is_news else old_links.get(process.name, ()):
                process.on_news(link, data)
    world.run(3.0)
    steps = [
        event
        for process, before in told.items()
        for event in process.events[before:]
        if type(event).__name__ in ("Added", "Removed", "Restarted", "StatusChanged")
    ]
    assert steps == []
    assert checkers.settled(world) == []
    assert checkers.quiet(world) == []


def test_news_end_within_five_seconds_of_the_last_change() -> None:
    world = World(4, check_every=50)
    names = topology.names(12)
    world.build(topology.shape("random", names, world._rng, degree=4.0), within=1.0)
    world.run(3.0)
    churn = Churn(world, world._rng, names, links=3)
    for _ in range(2):  # a link's cost is measured, and told once more, after its first minute
        churn.step()
        world.run(16.0)
    world.run(5.0)
    assert checkers.quiet(world) == []


def two_at_the_end_of_a_chain(seed: int) -> tuple[World, Deaths]:
    """n02 dies while nobody can say yet that n01 has died, which was linked to it alone."""
    world = World(seed, check_every=0)
    world.build(topology.chain(topology.names(5)), within=0.5)
    world.run(3.0)
    deaths = Deaths(world)
    watch(world, [deaths])
    for name in ("n00", "n01"):
        world.crash(name, silent=True)
        world.run(1.0)
    return world, deaths


def test_silence_counts_from_the_lost_path_where_nobody_can_say_more() -> None:
    world, deaths = two_at_the_end_of_a_chain(1)
    world.run(12.0)
    assert [death.name for death in deaths.deaths] == ["n00", "n01"]
    assert all(6.0 < max(death.took) < 9.5 for death in deaths.known())
    assert deaths.problems == []


@pytest.mark.parametrize("seed", range(3))
def test_a_death_that_counts_from_the_lost_path_is_owed_as_well(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshcore.protocol.membership import known

    def patient(node: Any, timings: Any) -> Any:
        return node.silent_since + timings.dead + 3.0

    monkeypatch.setattr(known, "_dead_at", patient)
    world, deaths = two_at_the_end_of_a_chain(seed)
    world.run(12.0)
    assert any("takes n01 for WARNING 9.5 s after its silent" in one for one in deaths.problems)
