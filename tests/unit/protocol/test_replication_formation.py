"""How replicas become a group: with a network that loses, disks that are slow, and restarts."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest

from meshcore.protocol.replication import formation
from meshcore.protocol.replication.formation import Conflict, Formation, Formed, Save, Tell


class World:
    """Nodes that serve one name; who is up is seen by everybody that it is not cut off from."""

    def __init__(self, seed: int = 1, *, loss: float = 0.0, replicas: int = 3) -> None:
        self.rng = random.Random(seed)
        self.loss, self.replicas = loss, replicas
        self.named: tuple[str, ...] | None = None
        self.now = 0.0
        self.disks: dict[str, dict[str, Any]] = {}
        self.up: dict[str, Formation] = {}
        self.formed: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.conflicts: list[str] = []
        self.side: dict[str, int] = {}  # who is on which side of a cut
        self._queue: list[tuple[float, int, str, Any]] = []
        self._number = itertools.count()
        self._states = itertools.count(1)

    def start(self, node: str, *, fresh: bool = False, replicas: int | None = None) -> str:
        own = self.newest(node)
        if own is None or fresh:
            own = f"{node}/{next(self._states)}"
        machine = Formation(
            own,
            replicas=self.replicas if replicas is None else replicas,
            named=self.named,
            record=self.disks.setdefault(own, {}),
            rng=self.rng,
        )
        self.up[own] = machine
        self.perform(own, machine.begin(self.now))
        self.look()
        return own

    def newest(self, node: str) -> str | None:
        """The replica whose disk a node has now."""
        known = [replica for replica in self.disks if replica.startswith(node + "/")]
        return known[-1] if known else None

    def down(self, nodes: str) -> list[str]:
        up = {own.partition("/")[0] for own in self.up}
        return [node for node in nodes if node not in up]

    def kill(self, own: str) -> None:
        del self.up[own]
        self.formed.pop(own, None)
        self.look()

    def cut(self, **side: int) -> None:
        self.side = side
        self.look()

    def linked(self, one: str, other: str) -> bool:
        nodes = one.partition("/")[0], other.partition("/")[0]
        return self.side.get(nodes[0], 0) == self.side.get(nodes[1], 0)

    def look(self) -> None:
        for own, machine in self.up.items():
            seen = {
                other: them.gid if them.formed else None
                for other, them in self.up.items()
                if other != own and self.linked(own, other)
            }
            self.perform(own, machine.set_seen(seen, self.now))

    def perform(self, own: str, effects: Iterable[formation.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Tell):
                if self.rng.random() >= self.loss and self.linked(own, effect.to):
                    self._later(self.rng.uniform(0.001, 0.2), effect.to, (own, effect.message))
            elif isinstance(effect, Save):
                self._later(self.rng.uniform(0.0, 0.1), own, (self.up[own], effect))
            elif isinstance(effect, Formed):
                assert self.disks[own]["formed"]
                assert self.disks[own]["gid"] == effect.gid
                self.formed[own] = (effect.gid, effect.members)
                self.look()
            else:
                assert isinstance(effect, Conflict)
                self.conflicts.append(effect.text)

    def _later(self, delay: float, own: str, what: Any) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._number), own, what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            ticks = [
                (at, own) for own, m in self.up.items() if (at := m.next_deadline()) is not None
            ]
            at = min([end, *(at for at, _ in ticks), *(item[0] for item in self._queue[:1])])
            self.now = max(self.now, at)
            if at >= end:
                return
            for due, own in ticks:
                if due <= self.now and own in self.up:
                    self.perform(own, self.up[own].on_tick(self.now))
                    after = self.up[own].next_deadline()
                    assert after is None or after > self.now
            while self._queue and self._queue[0][0] <= self.now:
                self._deliver(*heapq.heappop(self._queue)[2:])

    def _deliver(self, own: str, what: Any) -> None:
        machine = self.up.get(own)
        if machine is None:
            return
        first, second = what
        if isinstance(second, Save):
            if first is machine:
                self.disks[own] = second.record
                self.perform(own, machine.on_saved(second.token, self.now))
        elif self.linked(first, own):
            self.perform(own, machine.on_message(first, second, self.now))

    def groups(self) -> set[tuple[str, tuple[str, ...]]]:
        return set(self.formed.values())


def test_the_first_three_form_a_group_and_the_fourth_is_a_spare() -> None:
    world = World()
    own = [world.start(node) for node in "abcd"]
    world.run(10)
    ((_, members),) = world.groups()
    assert members == tuple(own[:3])
    assert sorted(world.formed) == own


def test_two_of_three_wait() -> None:
    world = World()
    world.start("a")
    world.start("b")
    world.run(60)
    assert not world.formed
    world.start("c")
    world.run(10)
    assert len(world.formed) == 3


def test_named_nodes_form_it_and_nobody_else() -> None:
    world = World()
    world.named = ("b", "c", "d")
    own = [world.start(node) for node in "abcd"]
    world.run(10)
    assert world.groups() == {(world.up[own[0]].gid, tuple(own[1:]))}


def test_who_was_told_nothing_completes_the_group_without_the_first() -> None:
    world = World()
    a, b, c = (world.start(node) for node in "abc")
    while not all(world.disks[own].get("gid") for own in (a, b, c)):
        world.run(0.01)
        assert not world.formed
    world.kill(a)  # everybody is bound, and nobody knows it of everybody
    world.run(30)
    world.start("a")
    world.run(10)
    assert len(world.groups()) == 1
    assert sorted(world.formed) == [a, b, c]


def test_a_member_that_is_gone_for_good_does_not_hold_the_others_up() -> None:
    world = World()
    a, b, c = (world.start(node) for node in "abc")
    while not world.disks[a].get("gid"):
        world.run(0.001)
    world.kill(c)  # it has not heard of the group yet
    while not world.disks[b].get("gid"):
        world.run(0.001)
    world.kill(a)
    c = world.start("c", fresh=True)
    d = world.start("d")
    world.run(60)
    assert world.groups() == {(world.up[b].gid, (b, c, d))}


def test_a_restarted_member_goes_on_at_once_and_a_new_disk_is_a_spare() -> None:
    world = World()
    _, b, c = (world.start(node) for node in "abc")
    world.run(10)
    (group,) = world.groups()
    world.kill(b)
    world.start("b")
    assert world.formed[b] == group
    world.kill(c)
    again = world.start("c", fresh=True)
    world.run(10)
    assert world.formed[again] == group
    assert again not in group[1]
    assert not world.conflicts


def test_two_halves_with_enough_candidates_each_are_a_conflict_and_stay_two() -> None:
    world = World()
    world.cut(d=1, e=1, f=1)
    for node in "abcdef":
        world.start(node)
    world.run(10)
    groups = world.groups()
    assert len(groups) == 2
    world.cut()
    world.run(30)
    assert world.groups() == groups
    assert any("2 groups have this name" in text and "a, b, c" in text for text in world.conflicts)


def test_nodes_that_want_different_numbers_say_so_and_form_nothing() -> None:
    world = World()
    world.start("a")
    world.start("b")
    world.start("c", replicas=5)
    world.run(60)
    assert not world.formed
    assert "a wants 3 replicas, this node 5" in world.conflicts


# 714 and 858 find that it is enough for a majority to be bound; 1333, 2607: lost disks and cuts.
@pytest.mark.parametrize("seed", [*range(120), 714, 858, 1154, 1333, 2379, 2607, 2725])
def test_no_two_groups_that_share_a_replica_can_both_work_whatever_happens(seed: int) -> None:
    world = World(seed, loss=0.2)
    rng = random.Random(seed)
    nodes = "abcd" if seed % 2 else "abcde"
    for node in nodes:
        world.start(node)
    for _ in range(60):
        world.run(rng.choice((0.05, 0.1, 0.3, 0.8)))
        what = rng.random()
        if what < 0.35 and world.up:
            world.kill(rng.choice(sorted(world.up)))
        elif what < 0.45:
            world.cut(**{node: rng.randrange(2) for node in nodes})
        elif what < 0.6:
            world.cut()
        for node in world.down(nodes):
            if rng.random() < 0.6:
                world.start(node, fresh=rng.random() < 0.4)
        assert _safe(world)
    world.cut()
    world.loss = 0.0
    for node in world.down(nodes):
        world.start(node)
    world.run(120)
    assert _safe(world)
    assert len(world.formed) == len(nodes) or world.conflicts


def _safe(world: World) -> bool:
    """A group has the same members everywhere, and no two that share one can both work.

    Whoever lost its disk does not work any more.
    """
    members: dict[str, tuple[str, ...]] = {}
    started: dict[str, list[str]] = {}
    for own, disk in world.disks.items():
        if disk.get("formed"):
            assert members.setdefault(disk["gid"], tuple(disk["members"])) == tuple(disk["members"])
            if own == world.newest(own.partition("/")[0]):
                started.setdefault(disk["gid"], []).append(own)
    able = [
        set(group)
        for gid, group in members.items()
        if sum(own in group for own in started.get(gid, ())) > len(group) // 2
    ]
    return all(one.isdisjoint(other) for one, other in itertools.combinations(able, 2))


MEMBERS = ["a/1", "b/1", "c/1"]


def bound(gid: str = "one") -> Formation:
    """`a/1`, bound to a group of three on disk."""
    machine = Formation("a/1", replicas=3, named=None, record=None, rng=random.Random(1))
    machine.begin(0.0)
    (save,) = machine.on_message("b/1", ["bound", gid, MEMBERS], 0.0)
    assert isinstance(save, Save)
    told = machine.on_saved(save.token, 0.0)
    assert told == [Tell(to, ["bound", gid, MEMBERS]) for to in ("b/1", "c/1")]
    return machine


def test_nothing_is_said_before_it_is_on_disk() -> None:
    machine = Formation("a/1", replicas=3, named=None, record=None, rng=random.Random(1))
    machine.begin(0.0)
    (first,) = machine.on_message("b/1", ["bound", "one", MEMBERS], 0.0)
    (second,) = machine.on_message("c/1", ["refused", "one"], 0.0)
    assert isinstance(first, Save)
    assert isinstance(second, Save)
    (third,) = machine.on_message("c/1", ["bound", "two", MEMBERS], 0.0)
    assert isinstance(third, Save)
    assert machine.on_saved(first.token, 0.1) == []  # it has let go of that meanwhile
    assert machine.on_saved(second.token, 0.2) == [
        Tell(to, ["refused", "one"]) for to in ("b/1", "c/1")
    ]


def test_whoever_is_bound_elsewhere_does_not_join_a_formed_group() -> None:
    machine = bound("one")
    assert machine.on_message("d/1", ["formed", "two", ["a/1", "d/1", "e/1"]], 1.0) == []
    assert machine.gid == "one"


def test_a_refused_id_is_refused_for_ever_also_after_a_restart() -> None:
    machine = bound("one")
    (save,) = machine.on_message("c/1", ["refused", "one"], 1.0)
    assert isinstance(save, Save)
    again = Formation("a/1", replicas=3, named=None, record=save.record, rng=random.Random(1))
    again.begin(2.0)
    for refusing in (machine, again):
        told = refusing.on_message("b/1", ["bound", "one", MEMBERS], 3.0)
        assert told == [Tell("b/1", ["refused", "one"])]


def test_a_second_group_is_refused_once_that_is_on_disk() -> None:
    machine = bound("one")
    (save,) = machine.on_message("b/1", ["bound", "two", MEMBERS], 1.0)
    assert isinstance(save, Save)
    assert save.record["refused"] == ["two"]
    assert machine.on_saved(save.token, 1.0) == [Tell("b/1", ["refused", "two"])]


def test_a_member_that_shows_the_group_knows_that_all_are_bound() -> None:
    machine = bound("one")
    (save,) = machine.set_seen({"b/1": "one"}, 1.0)
    assert isinstance(save, Save)
    assert machine.on_saved(save.token, 1.0)[-1] == Formed("one", tuple(MEMBERS))


def test_with_a_member_gone_the_others_let_go_only_where_nobody_has_started() -> None:
    for seen, lets_go in (
        ({"c/2": None}, False),  # b may have started: it is not seen
        ({"b/1": None, "c/2": None}, True),
    ):
        machine = bound("one")
        machine.set_seen(seen, 1.0)
        effects = machine.on_tick(2.0)
        assert isinstance(effects[0], Save) is lets_go


@pytest.mark.parametrize(
    "message",
    [
        None, 3, [], ["bound"], ["bound", 3, ["a"]], ["bound", "g", []], ["bound", "g", ["a", "a"]],
        ["bound", "g", [3]], ["refused"], ["formed", "g"], ["x", "g", ["a"]], ["ask", 1],
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_ignored(message: Any) -> None:
    machine = Formation("a/1", replicas=1, named=None, record=None, rng=random.Random(1))
    machine.begin(0.0)
    assert machine.on_message("b/1", message, 0.0) == []
    assert machine.gid is None
