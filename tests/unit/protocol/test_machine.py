"""Timers: one deadline for each key, in order, whatever is set, set again and cancelled."""

from __future__ import annotations

import random

from meshcore.protocol.machine import Timers


def test_keys_are_due_in_the_order_of_their_deadlines_and_once() -> None:
    timers: Timers[str] = Timers()
    for key, at in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        timers.set(key, at)
    assert timers.next_deadline() == 1.0
    assert timers.pop_due(0.9) == []
    assert timers.pop_due(2.0) == ["a", "b"]
    assert timers.pop_due(2.0) == []
    assert timers.next_deadline() == 3.0
    assert "c" in timers
    assert "a" not in timers


def test_equal_deadlines_are_due_in_the_order_in_which_they_were_set() -> None:
    timers: Timers[str] = Timers()
    for key in "zxyw":
        timers.set(key, 1.0)
    assert timers.pop_due(1.0) == list("zxyw")


def test_keys_that_cannot_be_ordered_are_fine() -> None:
    timers: Timers[object] = Timers()
    keys: list[object] = [("a", 1), "b", 3, ("a", "x"), None, object()]
    for key in keys:
        timers.set(key, 1.0)
    assert timers.pop_due(1.0) == keys


def test_setting_a_key_again_replaces_its_deadline_to_either_side() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 5.0)
    timers.set("a", 2.0)
    timers.set("b", 2.0)
    timers.set("b", 5.0)
    assert timers.pop_due(3.0) == ["a"]
    assert timers.pop_due(10.0) == ["b"]
    assert timers.next_deadline() is None


def test_a_key_set_back_to_an_earlier_value_fires_once() -> None:
    timers: Timers[str] = Timers()
    for at in (2.0, 5.0, 2.0, 2.0):
        timers.set("a", at)
    assert timers.pop_due(10.0) == ["a"]
    assert timers.pop_due(10.0) == []


def test_set_earlier_only_brings_forward() -> None:
    timers: Timers[str] = Timers()
    timers.set_earlier("a", 5.0)
    timers.set_earlier("a", 7.0)
    assert timers.next_deadline() == 5.0
    timers.set_earlier("a", 3.0)
    assert timers.next_deadline() == 3.0


def test_a_cancelled_key_is_not_due_and_may_be_set_again() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.cancel("a")
    timers.cancel("never set")
    assert timers.next_deadline() is None
    assert timers.pop_due(10.0) == []
    timers.set("a", 12.0)
    assert timers.pop_due(12.0) == ["a"]


def test_the_heap_stays_in_proportion_to_the_keys() -> None:
    timers: Timers[int] = Timers()
    for n in range(10_000):
        timers.set(n % 10, float(n))
    assert len(timers._heap) <= 64 + 4 * 10
    for n in range(10_000):
        timers.set(n, 1e6)
        timers.cancel(n)
    timers.set(1, 1e6)
    assert len(timers._heap) <= 64 + 4 * 11


def test_timers_do_as_a_dict_that_is_searched_through() -> None:
    rng = random.Random(3)
    timers: Timers[int] = Timers()
    naive: dict[int, float] = {}
    now = 0.0
    for _ in range(20_000):
        key, at = rng.randrange(30), now + rng.choice([0.0, 0.5, rng.random() * 9])
        match rng.randrange(5):
            case 0 | 1:
                timers.set(key, at)
                naive[key] = at
            case 2:
                timers.set_earlier(key, at)
                naive[key] = min(at, naive.get(key, at))
            case 3:
                timers.cancel(key)
                naive.pop(key, None)
            case 4:
                now += rng.random()
                due = timers.pop_due(now)
                expected = [each for each, when in naive.items() if when <= now]
                assert sorted(due) == sorted(expected)
                assert [naive[each] for each in due] == sorted(naive[each] for each in due)
                for each in due:
                    del naive[each]
                deadline = timers.next_deadline()
                assert deadline is None or deadline > now
        assert timers.next_deadline() == min(naive.values(), default=None)
