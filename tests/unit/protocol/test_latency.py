"""What links cost: measured, in coarse steps, slow to change."""

from __future__ import annotations

import random

import pytest

from meshcore.protocol.routing.latency import (
    COST_DEFAULT,
    ECHO_INTERVAL,
    HURRIES_MAX,
    REVIEW_INTERVAL,
    YOUNG,
    Latency,
    Ping,
    Recost,
)


class Rig:
    """A node with links whose round trips are as they are set."""

    def __init__(self, **costs: int) -> None:
        self.latency = Latency(costs, rng=random.Random(1))
        self.round_trips: dict[str, float | None] = {}
        self.now = 0.0
        self.pings: list[tuple[float, str]] = []
        self.recosts: list[float] = []

    def up(self, node_id: str, round_trip: float | None) -> None:
        self.round_trips[node_id] = round_trip
        self.latency.on_link_up(node_id, self.now)

    def run(self, until: float) -> None:
        """Answer echoes until then, in the order in which answers come."""
        answers: list[tuple[float, str, int]] = []
        while True:
            deadline = self.latency.next_deadline()
            answer = min(answers, default=None)
            at = min(
                until if deadline is None else deadline, until if answer is None else answer[0]
            )
            if at >= until:
                break
            self.now = at
            if answer is not None and answer[0] == at:
                answers.remove(answer)
                self.latency.on_reply(answer[1], answer[2], at)
                continue
            for effect in self.latency.on_tick(at):
                if isinstance(effect, Ping):
                    self.pings.append((at, effect.node_id))
                    round_trip = self.round_trips[effect.node_id]
                    if round_trip is not None:
                        answers.append((at + round_trip, effect.node_id, effect.number))
                else:
                    assert isinstance(effect, Recost)
                    self.recosts.append(at)
            self.latency.check_invariants()
            after = self.latency.next_deadline()
            assert after is None or after > at
        self.now = until

    def cost(self, node_id: str = "b") -> int:
        return self.latency.claim(node_id).cost


def test_a_new_link_costs_the_default_for_a_minute_and_then_what_it_measures() -> None:
    rig = Rig()
    rig.up("b", 0.0004)
    rig.run(YOUNG - 1)
    assert (rig.cost(), rig.recosts) == (COST_DEFAULT, [])
    rig.run(YOUNG + REVIEW_INTERVAL + 1)
    assert (rig.cost(), len(rig.recosts)) == (400, 1)
    rig.run(600)
    assert len(rig.recosts) == 1


def test_an_echo_leaves_every_two_seconds_and_sooner_at_first() -> None:
    rig = Rig()
    rig.up("b", 0.001)
    rig.run(1.0)
    assert len(rig.pings) == 3
    rig.run(1.0 + 50 * ECHO_INTERVAL)
    assert 50 <= len(rig.pings) <= 56


def test_the_least_of_the_last_round_trips_counts() -> None:
    rig = Rig()
    rig.up("b", 0.0004)
    rig.run(10.0)
    rig.round_trips["b"] = 0.3
    rig.run(16.0)
    assert rig.latency.round_trip("b") == pytest.approx(0.0004)
    rig.run(40.0)
    assert rig.latency.round_trip("b") == pytest.approx(0.3)


def test_a_new_link_that_is_far_slower_says_so_within_moments_and_dearer_than_it_is() -> None:
    rig = Rig()
    rig.up("b", 0.1)
    rig.run(5.0)
    assert 2 * 100_000 <= rig.cost() <= 3 * 100_000
    assert len(rig.recosts) == 1
    rig.run(YOUNG + REVIEW_INTERVAL + 1)
    assert 100_000 <= rig.cost() <= 1.5 * 100_000


def test_a_cost_changes_only_by_two_buckets_that_hold() -> None:
    rig = Rig()
    rig.up("b", 0.0004)
    rig.run(80.0)
    rig.round_trips["b"] = 0.00055  # the next bucket: not far enough
    rig.run(140.0)
    assert rig.cost() == 400
    rig.round_trips["b"] = 0.004
    rig.run(155.0)  # eight echoes have yet to say so
    assert rig.cost() == 400
    rig.run(190.0)
    assert 4000 <= rig.cost() <= 6000
    assert len(rig.recosts) == 2


def test_what_does_not_hold_until_the_next_look_changes_nothing() -> None:
    rig = Rig()
    rig.up("b", 0.0004)
    rig.run(81.0)
    rig.round_trips["b"] = 0.004
    rig.run(101.0)  # all of the last eight, at one look
    assert rig.latency.round_trip("b") == pytest.approx(0.004)
    rig.round_trips["b"] = 0.0004
    rig.run(200.0)
    assert rig.cost() == 400
    assert len(rig.recosts) == 1


def test_a_configured_cost_stays_and_the_round_trip_is_told_beside_it() -> None:
    rig = Rig(b=77)
    rig.up("b", 0.004)
    rig.run(100.0)
    cost, round_trip = rig.latency.claim("b")
    assert cost == 77
    assert 4000 <= round_trip <= 6000


def test_a_link_that_does_not_answer_keeps_its_cost() -> None:
    rig = Rig()
    rig.up("b", None)
    rig.run(200.0)
    assert (rig.cost(), rig.recosts, rig.latency.round_trip("b")) == (COST_DEFAULT, [], None)


def test_a_late_or_foreign_answer_is_ignored() -> None:
    latency = Latency({}, rng=random.Random(1))
    latency.on_link_up("b", 0.0)
    (ping,) = latency.on_tick(0.1)
    assert latency.on_reply("b", ping.number + 1, 0.2) is None
    assert latency.on_reply("c", ping.number, 0.2) is None
    assert latency.on_reply("b", ping.number, 0.2) == 0.1
    assert latency.on_reply("b", ping.number, 0.3) is None


def test_who_waits_for_the_time_hurries_a_bounded_number_of_times() -> None:
    rig = Rig()
    rig.up("b", 0.001)
    rig.run(3.0)
    before = len(rig.pings)
    for _ in range(40):
        rig.latency.hurry("b", rig.now)
        rig.run(rig.now + 0.3)
    assert len(rig.pings) - before <= HURRIES_MAX + 12.0 / (0.9 * ECHO_INTERVAL) + 1
    assert len(rig.pings) - before >= HURRIES_MAX


def test_a_link_that_is_gone_is_not_measured_and_a_replaced_one_goes_on() -> None:
    rig = Rig()
    rig.up("b", 0.001)
    rig.run(5.0)
    rig.up("b", 0.001)  # another link of the pair serves
    assert rig.latency.round_trip("b") is not None
    rig.latency.on_link_down("b")
    assert rig.latency.next_deadline() is None
    assert rig.latency.round_trip("b") is None
