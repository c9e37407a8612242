"""Gathering: who is dialled beside the configured peers, when, and when no more."""

from __future__ import annotations

import random

import pytest

from meshcore.protocol.machine import Count
from meshcore.protocol.membership import backoff, gathering
from meshcore.protocol.membership import targets as bounds
from meshcore.protocol.membership.backoff import Patience
from meshcore.protocol.membership.gathering import Effects, Gathering, Learn, Unlearn
from meshcore.protocol.membership.targets import Hints, Target


class Rig:
    """A gathering with the link states that it can see; `vain` names whose addresses failed."""

    def __init__(self, degree: int = 2, seed: int = 1) -> None:
        self.known: dict[str, Target] = {}
        self.vain: set[str] = set()
        self.now = 100.0
        self.machine = Gathering(
            "me",
            random.Random(seed),
            degree=degree,
            now=self.now,
            known=lambda: list(self.known.values()),
            in_vain=lambda node_id: node_id in self.vain,
        )
        self.origin("me")

    def origin(
        self, node_id: str, *urls: str, links: int = 1, reachable: bool = True, told_at: float = 0.0
    ) -> str:
        url = f"tcp://{node_id}:1"
        self.known[node_id] = Target(node_id, urls or (url,), links, reachable, told_at)
        return url

    def run(self, seconds: float) -> Effects:
        """Let time pass; what is wanted in it."""
        effects: Effects = []
        end = self.now + seconds
        while (at := self.machine.next_deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            effects += self.machine.on_tick(self.now)
            following = self.machine.next_deadline()
            assert following is None or following > self.now, "no progress"
            self.machine.check_invariants()
        self.now = end
        return effects

    def up(self, node_id: str, url: str | None = None) -> Effects:
        effects = self.machine.on_link_up(node_id, url, self.now)
        self.machine.check_invariants()
        return effects

    def down(self, node_id: str) -> Effects:
        effects = self.machine.on_link_down(node_id, self.now)
        self.machine.check_invariants()
        return effects


def learnt(effects: Effects) -> list[str]:
    return [effect.node_id for effect in effects if isinstance(effect, Learn)]


def test_off_means_that_nobody_is_dialled() -> None:
    rig = Rig(degree=0)
    rig.origin("a")
    rig.origin("b", reachable=False)
    rig.machine.hint("c", ["tcp://c:1"], rig.now)
    assert rig.run(600.0) == []
    assert rig.machine.next_deadline() is None


def test_configured_peers_come_first() -> None:
    rig = Rig()
    url = rig.origin("a")
    assert rig.run(gathering.START_WAIT[0] - 0.01) == []
    assert rig.run(0.6) == [Learn("a", (url,))]


def test_one_at_a_time_until_the_degree_is_reached() -> None:
    rig = Rig(degree=3)
    for name in "abcdef":
        rig.origin(name)
    begun = learnt(rig.run(5.0))
    assert len(begun) == 1, "only one attempt is under way"
    for count in (1, 2, 3):
        assert rig.up(begun[-1], f"tcp://{begun[-1]}:1") == []
        begun += learnt(rig.run(3.0))
        assert len(begun) == min(count + 1, 3)
    assert len(set(begun)) == 3
    assert rig.machine.next_deadline() is None, "a mesh that is whole costs nothing"


def test_links_that_others_dialled_count() -> None:
    rig = Rig(degree=2)
    rig.origin("a")
    rig.up("x")
    rig.up("y")
    assert rig.run(60.0) == []


def test_never_ourselves_the_linked_or_who_cannot_be_dialled() -> None:
    rig = Rig(degree=6)
    rig.origin("linked")
    rig.up("linked")
    rig.known["outbound"] = Target("outbound", (), 1, True)
    rig.origin("local", "ipc:///run/local.sock")
    assert rig.run(60.0) == []


def test_of_some_the_one_with_fewest_links_is_chosen() -> None:
    for seed in range(5):
        rig = Rig(degree=3, seed=seed)
        for name in "abc":
            rig.origin(name, links=5)
        rig.origin("poor", links=1)
        assert learnt(rig.run(2.0)) == ["poor"]


def test_the_choice_is_spread() -> None:
    chosen = set()
    for seed in range(40):
        rig = Rig(degree=3, seed=seed)
        for name in "abcdefgh":
            rig.origin(name)
        chosen.update(learnt(rig.run(2.0)))
    assert chosen == set("abcdefgh")


def test_at_most_eight_addresses_of_a_node_and_each_once() -> None:
    rig = Rig()
    urls = [f"tcp://10.0.0.{number}:1" for number in range(12)]
    rig.origin("a", urls[0], *urls)
    [learn] = rig.run(2.0)
    assert learn == Learn("a", tuple(urls[:8]))


def test_who_failed_waits_while_others_are_tried() -> None:
    rig = Rig(degree=1)
    rig.origin("bad")
    rig.vain.add("bad")
    assert rig.run(1.3) == [Learn("bad", ("tcp://bad:1",)), Unlearn(("tcp://bad:1",))]
    rig.origin("good")
    assert learnt(rig.run(3.0)) == ["good"]
    rig.up("good", "tcp://good:1")
    assert rig.run(100.0) == [], "the degree is reached: nothing is retried"


def test_failures_back_off_and_are_bounded() -> None:
    rig = Rig(degree=1)
    rig.origin("bad")
    rig.vain.add("bad")
    assert 8 <= len(learnt(rig.run(60.0))) <= 20
    rig.run(600.0)
    assert len(learnt(rig.run(600.0))) <= 25, "after ten minutes once a minute"


def test_an_attempt_that_nobody_answers_ends() -> None:
    rig = Rig(degree=1)
    rig.origin("mute")
    assert learnt(rig.run(1.0)) == ["mute"]
    assert rig.run(gathering.ATTEMPT_MAX - 1.0) == []
    assert rig.run(2.0)[0] == Unlearn(("tcp://mute:1",))


def test_the_address_that_led_to_a_link_stays_and_the_others_go() -> None:
    rig = Rig()
    rig.origin("a", "tcp://a:1", "tcp://a:2", "tcp://a:3")
    rig.run(2.0)
    assert rig.up("a", "tcp://a:2") == [Unlearn(("tcp://a:1", "tcp://a:3"))]


def test_a_link_that_the_other_end_dialled_meanwhile_ends_the_attempt() -> None:
    rig = Rig()
    rig.origin("a")
    rig.run(2.0)
    assert rig.up("a", None) == [Unlearn(("tcp://a:1",))]
    assert rig.up("a", None) == []


def test_an_address_that_leads_elsewhere_ends_the_attempt_and_serves_the_other() -> None:
    rig = Rig(degree=2)
    rig.origin("moved", "tcp://old:1", "tcp://old:2")
    assert learnt(rig.run(1.0)) == ["moved"]
    assert rig.up("other", "tcp://old:1") == [Unlearn(("tcp://old:2",))]
    assert rig.down("other") == [], "that address is tried again for it"


def test_an_address_in_use_for_one_node_is_not_dialled_for_another() -> None:
    rig = Rig(degree=2)
    rig.origin("a", "tcp://same:1")
    assert learnt(rig.run(1.0)) == ["a"]
    rig.up("a", "tcp://same:1")
    rig.origin("b", "tcp://same:1")
    rig.machine.on_routes([True], rig.now)
    assert rig.run(5.0) == []


def test_a_lost_link_is_tried_again_where_it_was_and_then_replaced() -> None:
    rig = Rig(degree=1)
    rig.origin("a")
    rig.run(1.0)
    rig.up("a", "tcp://a:1")
    rig.origin("b")
    assert rig.down("a") == []
    assert rig.run(0.2) == []
    rig.vain.add("a")
    assert rig.run(2.0) == [Unlearn(("tcp://a:1",)), Learn("b", ("tcp://b:1",))]


def test_a_lost_link_that_is_not_needed_is_given_up_at_once() -> None:
    rig = Rig(degree=1)
    rig.origin("a")
    rig.run(1.0)
    rig.up("a", "tcp://a:1")
    rig.up("b")
    assert rig.down("a") == [Unlearn(("tcp://a:1",))]


def test_a_link_that_is_back_in_a_moment_is_not_replaced() -> None:
    rig = Rig(degree=2)
    rig.up("a")
    rig.up("b")
    rig.origin("c")
    rig.run(10.0)
    rig.down("a")
    assert rig.run(gathering.LOST_WAIT[0] - 0.01) == []
    rig.up("a")
    assert rig.run(30.0) == []


def test_a_neighbour_that_is_dead_although_linked_does_not_count() -> None:
    rig = Rig(degree=1)
    rig.up("stuck")
    rig.origin("stuck")
    rig.origin("b")
    assert rig.run(10.0) == []
    rig.machine.on_silence("stuck", True, rig.now)
    rig.machine.on_silence("stranger", True, rig.now)
    assert learnt(rig.run(2.0)) == ["b"]
    rig.up("b", "tcp://b:1")
    rig.machine.on_silence("stuck", False, rig.now)
    rig.down("b")
    assert rig.run(10.0) == [], "it is back, and one link is enough"


def test_who_has_left_or_moved_is_dialled_no_more() -> None:
    rig = Rig(degree=1)
    rig.origin("leaver")
    rig.run(1.0)
    del rig.known["leaver"]
    assert rig.run(1.0) == [Unlearn(("tcp://leaver:1",))]
    rig.origin("mover", "tcp://here:1")
    rig.machine.on_routes([True], rig.now)
    assert learnt(rig.run(1.0)) == ["mover"]
    rig.origin("mover", "tcp://there:1")
    assert rig.run(0.3) == [Unlearn(("tcp://here:1",))]


# -- other parts of the mesh -----------------------------------------------------------------------


def test_the_unreachable_are_tried_although_the_degree_is_reached_now_and_then() -> None:
    rig = Rig(degree=1)
    rig.up("near")
    rig.run(10.0)
    url = rig.origin("far", reachable=False)
    rig.machine.on_routes([False], rig.now)
    rig.vain.add("far")
    tries = learnt(rig.run(120.0))
    assert 6 <= len(tries) <= 40
    rig.vain.clear()
    while not learnt(rig.run(1.0)):
        pass
    rig.up("far", url)
    rig.origin("far")
    assert rig.run(600.0) == []


def test_a_large_part_of_the_mesh_makes_no_more_attempts_than_a_small_one() -> None:
    def tries(part: int) -> int:
        rig = Rig(degree=1)
        rig.up("near")
        for number in range(part):
            rig.origin(f"n{number}")
        rig.origin("far", reachable=False)
        rig.vain.add("far")
        rig.run(10.0)
        rig.machine.on_routes([False], rig.now)
        return len(learnt(rig.run(1000.0)))

    assert tries(400) < tries(4) / 10


def test_the_dead_do_not_take_the_place_of_the_living() -> None:
    rig = Rig(degree=2)
    for number in range(20):
        rig.origin(f"dead{number}", reachable=False)
        rig.vain.add(f"dead{number}")
    rig.up("near")
    rig.origin("alive")
    assert "alive" in learnt(rig.run(2.0))


def test_without_any_link_several_unreachable_nodes_are_tried_at_a_time() -> None:
    rig = Rig(degree=6)
    for number in range(20):
        rig.origin(f"n{number}", reachable=False)
    assert len(learnt(rig.run(1.0))) == gathering.JOINS_ALONE


def test_who_has_just_been_heard_of_is_no_other_part() -> None:
    rig = Rig(degree=2)
    rig.run(1.0)
    rig.origin("new", reachable=False, told_at=rig.now)
    rig.machine.on_routes([True], rig.now)
    assert rig.run(gathering.SETTLE - 0.01) == []
    assert learnt(rig.run(1.0)) == ["new"]


# -- hints -----------------------------------------------------------------------------------------


def test_a_hint_is_dialled_like_an_unreachable_node() -> None:
    rig = Rig(degree=1)
    rig.machine.hint("a", ["ipc:///a", "tcp://a:1"], rig.now)
    rig.machine.hint("me", ["tcp://me:1"], rig.now)
    rig.machine.hint("b", ["ipc:///b"], rig.now)
    assert rig.run(2.0) == [Learn("a", ("tcp://a:1",))]


def test_hints_expire_and_are_bounded_and_forgotten() -> None:
    rig = Rig(degree=1)
    rig.up("near")
    for number in range(bounds.HINTS_MAX + 5):
        rig.machine.hint(f"n{number}", [f"tcp://n{number}:1"], rig.now)
        rig.machine.check_invariants()
    named = [row.node_id for row in rig.machine.addresses(1000, rig.now)]
    assert "n0" not in named
    assert f"n{bounds.HINTS_MAX + 4}" in named
    rig.machine.forget_hint("n9")
    assert "n9" not in [row.node_id for row in rig.machine.addresses(1000, rig.now)]
    later = rig.now + bounds.HINT_AGE_MAX + 1.0
    hinted = [row.node_id for row in rig.machine.addresses(1000, later)]
    assert hinted == []


def test_a_hint_adds_to_what_a_link_state_says() -> None:
    hints = Hints()
    hints.put("a", ["tcp://new:1", "tcp://old:1"], 0.0)
    [only] = hints.added_to([Target("a", ("tcp://old:1",), 3, True)])
    assert only == Target("a", ("tcp://old:1", "tcp://new:1"), 3, True)


def test_a_fresh_hint_shortens_the_wait_after_a_failure() -> None:
    waits = Patience(random.Random(1))
    for _ in range(6):
        waits.failed("a", 0.0)
    assert waits.retry_at("a") > 4.0
    waits.heard_of("a", 0.0)
    assert waits.retry_at("a") == backoff.FIRST_RETRY


# -- what may not be dialled -----------------------------------------------------------------------


def test_what_is_not_allowed_is_counted_and_not_dialled() -> None:
    rig = Rig(degree=1)
    rig.machine.allowed = lambda url: "10." in url
    rig.origin("outside", "tcp://192.0.2.1:1")
    effects = rig.run(60.0)
    assert effects == [Count("learnt address not allowed")], "counted once, not at every look"
    rig.origin("inside", "tcp://192.0.2.2:1", "tcp://10.0.0.1:1")
    rig.machine.on_routes([True], rig.now)
    assert rig.run(1.0) == [Learn("inside", ("tcp://10.0.0.1:1",))]


# -- while it runs ---------------------------------------------------------------------------------


def test_the_degree_can_change() -> None:
    rig = Rig(degree=0)
    rig.origin("a")
    rig.origin("b")
    rig.run(10.0)
    assert rig.machine.set_degree(2, rig.now) == []
    [first] = rig.run(1.0)
    assert isinstance(first, Learn)
    rig.up(first.node_id, first.urls[0])
    [second] = rig.run(1.0)
    assert isinstance(second, Learn)
    assert rig.machine.set_degree(0, rig.now) == [Unlearn((*second.urls, *first.urls))]
    assert rig.run(60.0) == []
    rig.machine.check_invariants()


def test_a_node_that_leaves_dials_nobody() -> None:
    rig = Rig(degree=2)
    rig.origin("a")
    rig.up("b")
    rig.machine.stop()
    rig.machine.on_routes([False], rig.now)
    rig.down("b")
    assert rig.run(60.0) == []
    assert rig.machine.next_deadline() is None


@pytest.mark.parametrize("most", [3, 64])
def test_addresses_to_keep_are_of_neighbours_first_and_one_of_each_before_a_second(
    most: int,
) -> None:
    rig = Rig(degree=1)
    rig.origin("lost", reachable=False)
    rig.origin("far", "tcp://far:1", "tcp://far:2")
    rig.origin("near", "tcp://near:1", "tcp://near:2")
    rig.up("near")
    named = rig.machine.addresses(most, rig.now)
    assert [row.node_id for row in named] == ["near", "far", "lost"]
    assert sum(len(row.urls) for row in named) == min(most, 5)
    assert named[0].urls[0] == "tcp://near:1"
