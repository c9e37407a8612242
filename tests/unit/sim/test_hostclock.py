"""The clocks of a host: rates, jumps, and what never happens to the monotonic one."""

from __future__ import annotations

import pytest

from meshcore.sim.hostclock import EPOCH, HostClock


def test_a_fast_clock_counts_more_and_knows_when_it_will_show_something() -> None:
    clock = HostClock(100.0, rate=1.01)
    assert clock.monotonic(10.0) == pytest.approx(110.1)
    assert clock.instant(clock.monotonic(123.4)) == pytest.approx(123.4)
    assert clock.wall(10.0) == pytest.approx(EPOCH + 10.1, abs=0.002)


def test_a_change_of_the_rate_makes_neither_clock_jump() -> None:
    clock = HostClock(5.0, rate=0.99)
    before = clock.monotonic(50.0), clock.wall(50.0)
    clock.set_rate(1.01, 50.0)
    assert clock.monotonic(50.0) == pytest.approx(before[0])
    assert clock.wall(50.0) == pytest.approx(before[1], abs=0.002)
    assert clock.monotonic(60.0) == pytest.approx(before[0] + 10.1)


def test_only_the_wall_clock_jumps_and_a_reboot_keeps_its_error() -> None:
    clock = HostClock(0.0, wall_error=-3600.0)
    assert clock.wall(7.0) == pytest.approx(EPOCH + 7.0 - 3600.0)
    clock.jump(7200.0)
    assert clock.wall(7.0) == pytest.approx(EPOCH + 7.0 + 3600.0)
    assert clock.monotonic(7.0) == 7.0
    again = clock.reboot(500.0, 20.0)
    assert again.wall(20.0) == pytest.approx(EPOCH + 20.0 + 3600.0)
    assert again.monotonic(21.0) == pytest.approx(521.0)
