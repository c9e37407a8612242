"""The wheel: deadlines fire late by at most one bucket, never early, and leave nothing behind."""

from __future__ import annotations

import random

from meshcore.protocol.delivery.wheel import SLOTS_PER_SECOND, SWEEP_FROM, Wheel

WIDTH = 1 / SLOTS_PER_SECOND


def test_a_deadline_fires_within_one_bucket_and_never_early() -> None:
    rng = random.Random(1)
    for _ in range(500):
        deadline = rng.uniform(0, 1000)
        wheel = Wheel()
        wheel.add("x", deadline)
        due = wheel.next_deadline()
        assert due is not None
        assert deadline <= due <= deadline + WIDTH
        assert wheel.pop_due(due - 1e-6) == []
        assert wheel.pop_due(due) == ["x"]
        assert wheel.next_deadline() is None


def test_deadlines_fire_in_the_order_of_their_buckets() -> None:
    wheel = Wheel()
    for deadline in (3.0, 1.0, 2.0, 1.01, 7.0):
        wheel.add(deadline, deadline)
    assert wheel.pop_due(2.5) == [1.0, 1.01, 2.0]
    assert wheel.pop_due(2.5) == []
    assert wheel.pop_due(100.0) == [3.0, 7.0]


def test_after_popping_the_next_deadline_lies_ahead() -> None:
    rng = random.Random(2)
    wheel = Wheel()
    now = 0.0
    for n in range(2000):
        now += rng.random() / 10
        wheel.add(n, now + rng.random() * 5)
        wheel.pop_due(now)
        due = wheel.next_deadline()
        assert due is not None
        assert due > now


def test_a_removed_deadline_does_not_fire_and_does_not_count() -> None:
    wheel = Wheel()
    bucket = wheel.add("x", 1.0)
    wheel.add("y", 5.0)
    bucket.pop("x", None)
    assert wheel.next_deadline() == 5.0 + WIDTH
    assert wheel.pop_due(10.0) == ["y"]


def test_a_bucket_that_was_emptied_takes_a_deadline_again() -> None:
    wheel = Wheel()
    wheel.add("x", 1.0).pop("x")
    assert wheel.next_deadline() is None
    wheel.add("y", 1.0)
    assert wheel.pop_due(2.0) == ["y"]


def test_a_deadline_in_the_past_fires_at_once() -> None:
    wheel = Wheel()
    wheel.add("x", 1.0)
    assert wheel.pop_due(50.0) == ["x"]


def test_far_deadlines_that_are_removed_leave_no_buckets_behind() -> None:
    wheel = Wheel()
    wheel.add("stays", 5.0)
    for n in range(1, 20 * SWEEP_FROM):
        wheel.add(n, 1000.0 * n).pop(n)
    assert len(wheel._buckets) <= 2 * SWEEP_FROM
    assert sorted(wheel._buckets) == sorted(wheel._order)
    assert wheel.pop_due(6.0) == ["stays"]
