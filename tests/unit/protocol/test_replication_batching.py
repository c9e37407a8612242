"""Batches of entries: small ones wait for nobody, large ones for those who were just answered."""

from __future__ import annotations

import math

from meshcore.protocol.replication.batching import HOLD, LARGE, PACE, UNDER_WAY_MAX, Batching

SMALL = LARGE - 1


def test_what_comes_first_is_a_batch_at_once() -> None:
    batching = Batching()
    assert batching.may_begin(1, 0.0)
    assert batching.next_at() <= 0.0


def test_a_second_small_batch_follows_at_once_and_a_third_waits_for_the_first() -> None:
    batching = Batching()
    for number in range(1, UNDER_WAY_MAX + 1):
        assert batching.may_begin(SMALL, 1.0)
        batching.began(number, SMALL, 1.0)
    assert not batching.may_begin(1000, 99.0)
    assert batching.next_at() == math.inf
    batching.committed(1, 1000, 1.1)
    assert batching.may_begin(1000, 1.1)


def test_after_a_small_batch_nobody_waits() -> None:
    batching = Batching()
    batching.began(5, SMALL, 1.0)
    batching.committed(5, 0, 1.01)
    assert batching.may_begin(1, 1.01)


def test_what_comes_while_a_large_batch_is_under_way_is_gathered_for_a_while() -> None:
    batching = Batching()
    batching.began(LARGE, LARGE, 1.0)
    assert not batching.may_begin(LARGE, 1.0)
    assert batching.next_at() == 1.0 + PACE
    assert batching.may_begin(1, 1.0 + PACE)


def test_after_a_large_batch_as_many_are_waited_for_as_were_under_way() -> None:
    batching = Batching()
    batching.began(32, 32, 1.0)
    batching.committed(31, 30, 1.001)  # not yet all of it
    assert not batching.may_begin(62, 1.001)
    batching.committed(32, 32, 1.001)
    assert not batching.may_begin(63, 1.001)
    assert batching.may_begin(64, 1.001)


def test_they_are_not_waited_for_long() -> None:
    batching = Batching()
    batching.began(32, 32, 1.0)
    batching.committed(32, 32, 1.001)
    until = batching.next_at()
    assert math.isclose(until, 1.001 + HOLD * 0.001)
    assert batching.may_begin(1, until)
    batching.began(64, 32, 2.0)
    batching.committed(64, 0, 3.0)  # one that took long
    assert batching.next_at() == 3.0 + PACE
