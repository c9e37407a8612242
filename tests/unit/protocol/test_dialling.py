"""Dialling: when each URL is tried, and which are left alone."""

from __future__ import annotations

import random

import pytest

from meshcore.errors import ConfigError
from meshcore.protocol.machine import Dial
from meshcore.protocol.membership import dialling
from meshcore.protocol.membership.dialling import Dialling, DialState, DialStatus

A, B = "tcp://10.0.0.1:7323", "tcp://10.0.0.2:7323"


def new() -> Dialling:
    return Dialling(random.Random(1))


def status(machine: Dialling, url: str, now: float = 0.0) -> DialStatus:
    machine.check_invariants()
    return next(one for one in machine.snapshot(now) if one.url == url)


def delays_until_failure(machine: Dialling, url: str, failures: int) -> list[float]:
    """How long the machine waits after each of so many failures in a row."""
    delays, now = [], 0.0
    for _ in range(failures):
        assert len(machine.start_due(now)) == 1
        machine.failed(url, "refused", now)
        deadline = machine.next_deadline()
        assert deadline is not None
        delays.append(deadline - now)
        now = deadline
    return delays


def test_a_configured_url_is_dialled_at_once_with_an_odd_number() -> None:
    machine = new()
    machine.add(A, 5.0)
    machine.add(B, 5.0)
    assert machine.start_due(5.0) == [Dial(1, A), Dial(3, B)]
    assert machine.start_due(5.0) == []
    assert status(machine, A).state is DialState.DIALLING


def test_configured_urls_back_off_with_jitter_to_one_second() -> None:
    machine = new()
    machine.add(A, 0.0)
    delays = delays_until_failure(machine, A, 12)
    for failures, delay in enumerate(delays, 1):
        full = min(1.0, 0.1 * 2**failures)
        assert full / 2 <= delay <= full
    assert len(set(delays)) == len(delays), "no jitter"


def test_learnt_urls_back_off_to_ten_seconds_and_after_ten_minutes_to_a_minute() -> None:
    machine = new()
    machine.learn(A, "alpha", 0.0)
    delays = delays_until_failure(machine, A, 120)
    assert 5.0 <= max(delays[:60]) <= 10.0
    assert all(30.0 <= delay <= 60.0 for delay in delays[-5:])


def test_a_learnt_url_that_once_failed_for_long_starts_anew_after_a_link() -> None:
    machine = new()
    machine.learn(A, "alpha", 0.0)
    delays_until_failure(machine, A, 120)
    machine.start_due(2000.0)
    machine.linked(A, "alpha", 2000.0)
    machine.closed(A, "lost", 3000.0)
    machine.start_due(3001.0)
    machine.failed(A, "refused", 3001.0)
    assert (status(machine, A, 3001.0).next_in or 0) <= 0.2


def test_a_refusal_waits_ten_seconds_and_is_shown() -> None:
    machine = new()
    machine.add(A, 0.0)
    machine.start_due(0.0)
    machine.failed(A, "refused: other mesh", 1.0, delay=dialling.REFUSED_DELAY)
    shown = status(machine, A, 2.0)
    assert (shown.state, shown.last_error, shown.attempts) == (
        DialState.WAITING,
        "refused: other mesh",
        1,
    )
    assert shown.next_in == pytest.approx(9.0)
    assert machine.start_due(10.9) == []
    assert machine.start_due(11.0) == [Dial(3, A)]


def test_a_link_that_lasted_is_dialled_again_within_a_tenth_of_a_second() -> None:
    machine = new()
    machine.add(A, 0.0)
    delays_until_failure(machine, A, 8)
    machine.start_due(100.0)
    machine.linked(A, "alpha", 100.0)
    machine.closed(A, "lost", 101.0)
    assert status(machine, A).attempts == 0
    deadline = machine.next_deadline()
    assert deadline is not None
    assert 0.05 <= deadline - 101.0 <= 0.1


def test_a_link_that_flaps_keeps_backing_off() -> None:
    machine = new()
    machine.add(A, 0.0)
    now = 0.0
    for _ in range(6):
        machine.start_due(now)
        machine.linked(A, "alpha", now)
        machine.closed(A, "lost", now + 0.01)
        now = machine.next_deadline() or 0.0
    assert status(machine, A, now).attempts == 6


def test_other_urls_of_a_linked_node_are_parked_until_it_has_no_link() -> None:
    machine = new()
    machine.learn(A, "alpha", 0.0)
    machine.start_due(0.0)
    machine.node_up("alpha")
    machine.linked(A, "alpha", 0.0)
    machine.learn(B, "alpha", 0.0)
    assert status(machine, B).state is DialState.PARKED
    assert machine.start_due(1e6) == []
    machine.node_down("alpha", 1e6)
    assert [dial.url for dial in machine.start_due(1e6 + dialling.FIRST)] == [B]


def test_a_waiting_url_is_parked_when_its_node_links_by_another_way() -> None:
    machine = new()
    machine.add(A, 0.0)
    machine.start_due(0.0)
    machine.identified(A, "alpha")
    machine.failed(A, "no beat", 0.0)
    machine.node_up("alpha")
    assert status(machine, A).state is DialState.PARKED
    assert machine.next_deadline() is None


def test_urls_of_one_node_start_a_quarter_of_a_second_apart() -> None:
    machine = new()
    machine.learn(A, "alpha", 0.0)
    machine.learn(B, "alpha", 0.0)
    assert [dial.url for dial in machine.start_due(0.0)] == [A]
    assert machine.next_deadline() == 0.25
    assert [dial.url for dial in machine.start_due(0.25)] == [B]


def test_learnt_urls_are_bounded_and_the_longest_failing_gives_way() -> None:
    machine = new()
    for number in range(dialling.LEARNT_MAX):
        assert machine.learn(f"tcp://h:{number + 1}", f"n{number}", 0.0)
    assert not machine.learn(A, "alpha", 0.0), "all may still be useful"
    machine.start_due(0.0)
    machine.failed("tcp://h:9", "refused", 1.0)
    machine.failed("tcp://h:8", "refused", 2.0)
    assert machine.learn(A, "alpha", 3.0)
    assert "tcp://h:9" not in machine
    assert "tcp://h:8" in machine
    machine.check_invariants()


def test_dials_in_flight_are_bounded_and_the_rest_follows() -> None:
    machine = new()
    for number in range(dialling.DIALS_MAX + 3):
        machine.add(f"tcp://h:{number + 1}", 0.0)
    assert len(machine.start_due(0.0)) == dialling.DIALS_MAX
    assert machine.start_due(0.0) == []
    machine.failed("tcp://h:1", "refused", 0.0)
    deadline = machine.next_deadline()
    assert deadline is not None
    assert deadline > 0.0
    assert len(machine.start_due(0.3)) == 1


def test_unreachable_nodes_come_first_when_not_all_can_be_dialled() -> None:
    machine = Dialling(random.Random(1), reachable=lambda node_id: node_id != "lost")
    for number in range(dialling.DIALS_MAX - 1):
        machine.add(f"tcp://h:{number + 1}", 0.0)
    machine.learn(A, "near", 0.0)
    machine.learn(B, "lost", 0.0)
    assert machine.start_due(0.0)[-1].url == B


def test_removed_and_stopped_urls_are_dialled_no_more() -> None:
    machine = new()
    machine.add(A, 0.0)
    machine.remove(A)
    machine.remove(A)
    machine.failed(A, "late", 0.0)
    machine.linked(A, "alpha", 0.0)
    machine.closed(A, "late", 0.0)
    assert machine.next_deadline() is None
    machine.add(B, 0.0)
    machine.start_due(0.0)
    machine.stop()
    machine.failed(B, "refused", 0.0)
    assert machine.next_deadline() is None
    machine.check_invariants()


def test_a_learnt_url_that_gets_configured_is_dialled_at_once() -> None:
    machine = new()
    machine.learn(A, "alpha", 0.0)
    delays_until_failure(machine, A, 7)
    machine.add(A, 50.0)
    assert status(machine, A).configured
    assert len(machine.start_due(50.0)) == 1


def test_a_learnt_url_can_be_taken_back_and_a_configured_one_cannot() -> None:
    machine = new()
    machine.learn(A, "alpha", 0.0)
    machine.add(B, 0.0)
    machine.unlearn(A)
    machine.unlearn(B)
    machine.unlearn("tcp://unknown:1")
    assert A not in machine
    assert B in machine
    machine.learn(A, "alpha", 0.0)
    machine.add(A, 1.0)
    machine.unlearn(A)
    assert A in machine, "it is configured now"


def test_a_learnt_url_that_is_taken_back_while_it_is_dialled_is_forgotten() -> None:
    machine = new()
    machine.learn(A, "alpha", 0.0)
    machine.start_due(0.0)
    machine.unlearn(A)
    machine.failed(A, "refused", 1.0)
    machine.linked(A, "alpha", 1.0)
    machine.closed(A, "reset", 2.0)
    machine.check_invariants()
    assert machine.next_deadline() is None


def test_a_node_was_tried_in_vain_when_each_of_its_urls_has_failed_or_led_elsewhere() -> None:
    machine = new()
    assert machine.in_vain("alpha"), "nothing is learnt for it"
    machine.learn(A, "alpha", 0.0)
    machine.learn(B, "alpha", 0.0)
    machine.start_due(0.0)
    machine.start_due(0.25)
    assert not machine.in_vain("alpha")
    machine.failed(A, "refused", 0.3)
    assert not machine.in_vain("alpha")
    machine.identified(B, "beta")
    assert machine.in_vain("alpha")
    assert machine.in_vain("beta"), "nothing was learnt for it"
    machine.identified(B, "alpha")
    machine.linked(B, "alpha", 0.5)
    assert not machine.in_vain("alpha")


def test_too_many_configured_urls_are_misuse() -> None:
    machine = new()
    for number in range(dialling.CONFIGURED_MAX):
        machine.add(f"ipc:///{number}", 0.0)
    with pytest.raises(ConfigError, match="1024"):
        machine.add(A, 0.0)
