"""The mesh's time at one node: right sign, within the bound that it reports, never backwards."""

from __future__ import annotations

import random

import pytest

from meshcore.protocol.timesync.clock import DRIFT, RESOLUTION, SLEW, MeshClock

UNIX = 1_700_000_000.0


def follower(ahead: float = 0.0, now: float = 0.0) -> MeshClock:
    """A clock that follows somebody, whose machine is `ahead` of the truth (UNIX at 0)."""
    clock = MeshClock(UNIX + now + ahead, now)
    clock.follow("master", leads=False, now=now)
    return clock


def ask(clock: MeshClock, now: float, *, ahead: float, there: float, back: float) -> float:
    """One echo with a neighbour whose time is `ahead` of UNIX + now; when it is over."""
    at = UNIX + now + there + ahead
    clock.on_reply(now, at, at, now + there + back, error=0.0, epoch=0)
    return now + there + back


@pytest.mark.parametrize("ahead", [1.0, -1.0, 3600.0, -3600.0])
def test_a_reference_that_is_ahead_takes_the_clock_ahead(ahead: float) -> None:
    clock = MeshClock(UNIX, 0.0)
    clock.set(UNIX + 10.0 + ahead, 0.0, 10.0)
    assert clock.time(12.0) == pytest.approx(UNIX + 12.0 + ahead)
    assert clock.error(10.0) == RESOLUTION


def test_the_delay_of_a_reference_counts_as_time_passed_and_as_error() -> None:
    clock = MeshClock(UNIX, 0.0)
    clock.set(UNIX + 5.0, 0.25, 5.5)
    assert clock.time(5.5) == pytest.approx(UNIX + 5.25)
    assert clock.error(5.5) == pytest.approx(0.25 + RESOLUTION)


@pytest.mark.parametrize("ahead", [1.0, -1.0, 3600.0, -3600.0])
def test_the_first_measurement_sets_the_clock_either_way(ahead: float) -> None:
    clock = follower()
    assert clock.error(0.0) is None
    now = ask(clock, 1.0, ahead=ahead, there=0.01, back=0.01)
    assert clock.time(now) == pytest.approx(UNIX + now + ahead)
    assert clock.error(now) == pytest.approx(0.01 + RESOLUTION)


@pytest.mark.parametrize(("there", "back"), [(0.2, 0.0), (0.0, 0.2), (0.1, 0.1), (0.15, 0.05)])
def test_the_error_covers_ways_of_unequal_length(there: float, back: float) -> None:
    clock = follower(ahead=7.0)
    now = ask(clock, 0.0, ahead=0.0, there=there, back=back)
    error = clock.error(now)
    assert error is not None
    assert abs(clock.time(now) - (UNIX + now)) <= error <= 0.1 + 2 * RESOLUTION


def test_of_several_measurements_the_surest_counts() -> None:
    clock = follower()
    ask(clock, 0.0, ahead=0.0, there=0.001, back=0.001)
    now = ask(clock, 1.0, ahead=0.0, there=0.5, back=0.0)
    assert clock.time(now) == pytest.approx(UNIX + now, abs=1e-6)


def test_forward_at_once_backward_at_nine_tenths_and_what_is_ahead_counts_as_error() -> None:
    clock = follower()
    ask(clock, 0.0, ahead=0.0, there=0.0, back=0.0)
    ask(clock, 40.0, ahead=2.0, there=0.0, back=0.0)
    assert clock.time(40.0) == pytest.approx(UNIX + 42.0)
    ask(clock, 80.0, ahead=1.0, there=0.0, back=0.0)
    assert clock.time(80.0) == pytest.approx(UNIX + 82.0)
    assert clock.error(80.0) == pytest.approx(1.0 + RESOLUTION)
    assert clock.time(85.0) - clock.time(80.0) == pytest.approx(5.0 * (1 - SLEW))
    assert clock.time(90.0) == pytest.approx(UNIX + 91.0)
    assert clock.error(90.0) == pytest.approx(10 * DRIFT + RESOLUTION)


def test_a_new_master_goes_on_with_its_own_time() -> None:
    clock = follower(ahead=500.0)
    ask(clock, 0.0, ahead=0.0, there=0.0, back=0.0)
    clock.follow("me", leads=True, now=3.0)
    assert clock.time(4.0) == pytest.approx(UNIX + 4.0)
    assert clock.error(400.0) == RESOLUTION


def test_another_master_is_another_time() -> None:
    clock = follower()
    ask(clock, 0.0, ahead=0.0, there=0.0, back=0.0)
    clock.follow("other", leads=False, now=1.0)
    assert clock.error(1.0) is None
    assert clock.time(1.0) == pytest.approx(UNIX + 1.0)


def test_a_reply_that_cannot_be_is_ignored() -> None:
    clock = follower()
    clock.on_reply(1.0, UNIX, UNIX + 5.0, 2.0, error=0.0, epoch=0)  # took longer there than here
    clock.on_reply(1.0, UNIX, UNIX - 5.0, 2.0, error=0.0, epoch=0)  # backwards
    assert clock.error(2.0) is None


def test_it_never_goes_back_and_its_error_always_holds_over_random_ways_and_drift() -> None:
    rng = random.Random(9)
    for _ in range(60):
        rate = 1 + rng.uniform(-0.01, 0.01)  # of our clock against the master's
        clock, shown, error = follower(ahead=rng.uniform(-100, 100)), None, None
        now = 0.0  # the master's; ours shows now * rate
        for _ in range(80):
            there, back = rng.expovariate(20), rng.expovariate(20)
            at = UNIX + now + there
            clock.on_reply(now * rate, at, at, (now + there + back) * rate, error=0.0, epoch=0)
            now += there + back
            for _ in range(4):
                now += rng.uniform(0.0, 1.0)
                time, error = clock.time(now * rate), clock.error(now * rate)
                assert error is not None
                assert abs(time - (UNIX + now)) <= error
                assert shown is None or time >= shown
                shown = time


def test_a_master_whose_clock_was_set_is_followed_and_the_error_covers_the_slewing() -> None:
    clock = follower()
    ask(clock, 0.0, ahead=0.0, there=0.0, back=0.0)
    at = UNIX + 1.0 - 5.0
    clock.on_reply(1.0, at, at, 1.0, error=0.0, epoch=1)  # set back by five seconds
    assert clock.time(1.0) == pytest.approx(UNIX + 1.0)
    assert clock.error(1.0) == pytest.approx(5.0 + RESOLUTION)
    at += 1.0
    clock.on_reply(2.0, at, at, 2.0, error=9.0, epoch=2)  # again, and not sure of it: no matter
    assert clock.error(2.0) == pytest.approx(9.0 + 4.9 + RESOLUTION)


def test_what_a_follower_is_told_holds_until_the_master_is_heard_and_is_not_passed_on() -> None:
    clock = follower()
    ask(clock, 0.0, ahead=0.0, there=0.0, back=0.0)
    assert clock.has_time_of_master
    clock.set(UNIX + 1.0 + 9.0, 0.5, 1.0)
    assert clock.time(1.0) == pytest.approx(UNIX + 10.5)
    assert clock.error(1.0) == pytest.approx(0.5 + RESOLUTION)
    assert not clock.has_time_of_master
    ask(clock, 2.0, ahead=20.0, there=0.0, back=0.0)
    assert clock.time(2.0) == pytest.approx(UNIX + 22.0)
    assert clock.has_time_of_master
