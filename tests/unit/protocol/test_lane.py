"""The lane: acknowledgements, what counts as lost, windows, and the receiving half."""

from __future__ import annotations

import pytest

from meshcore.protocol.delivery.lane import (
    OVERSHOOT_BYTES,
    RTO_FIRST,
    RTO_MAX,
    RTO_MIN,
    RTO_SLOW,
    WINDOW_BYTES_MIN,
    WINDOW_PACKETS,
    Lane,
    Sent,
)

WINDOW = 1024 * 1024


def lane_with(count: int, *, size: int = 100, now: float = 0.0) -> Lane:
    lane = Lane(WINDOW)
    send(lane, count, size=size, now=now)
    return lane


def send(lane: Lane, count: int, *, size: int = 100, now: float = 0.0) -> None:
    for _ in range(count):
        lane.sent([b"%d" % lane.next_number], size, 0, now)


def beyond(complete: int, *numbers: int) -> int:
    return sum(1 << (number - complete - 2) for number in numbers)


def names(lost: list[Sent]) -> list[int]:
    return [int(sent.frames[0]) for sent in lost]


# -- acknowledgements -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("complete", "bits", "left"),
    [
        (0, 0, [1, 2, 3, 4, 5]),
        (3, 0, [4, 5]),
        (5, 0, []),
        (0, beyond(0, 2, 4), [1, 3, 5]),
        (2, beyond(2, 4, 5), [3]),
        (6, 0, [1, 2, 3, 4, 5]),  # never sent
        (-7, 0, [1, 2, 3, 4, 5]),
        (-7, (1 << 256) - 1, []),  # strange, but only its own loss
        (2**63, 2**200, [1, 2, 3, 4, 5]),
        (3, 2**300, [4, 5]),
    ],
)
def test_an_ack_removes_what_it_names_and_never_what_was_not_sent(
    complete: int, bits: int, left: list[int]
) -> None:
    lane = lane_with(5)
    lane.on_ack(complete, bits, 1.0)
    assert list(lane.in_flight) == left
    lane.check_invariants()


def test_an_ack_that_tells_nothing_new_changes_nothing() -> None:
    lane = lane_with(3)
    lane.on_ack(2, 0, 0.1)
    lane.backoff = 4.0
    rto = lane.rto
    assert lane.on_ack(2, 0, 0.5) == []
    assert lane.on_ack(1, 0, 0.5) == []
    assert (lane.backoff, lane.rto) == (4.0, rto)


def test_the_timeout_follows_the_round_trips() -> None:
    lane = lane_with(1)
    assert lane.resend_at() == pytest.approx(RTO_FIRST)
    lane.on_ack(1, 0, 0.04)
    assert lane.rto == pytest.approx(0.04 + RTO_MIN)
    for number in range(2, 60):
        send(lane, 1, now=number)
        lane.on_ack(number, 0, number + 0.04)
    assert lane.rto == pytest.approx(0.04 + RTO_MIN)
    assert lane.resend_at() is None


def test_what_a_stall_taught_does_not_hold_back_a_lost_packet_for_long() -> None:
    """A process stood still for seconds: later packets on a whole path are not resent too late."""
    lane = lane_with(1)
    lane.on_ack(1, 0, 5.0)
    assert lane.rto > 2 * RTO_SLOW
    send(lane, 1, now=6.0)
    assert lane.resend_at() == pytest.approx(6.0 + RTO_SLOW)
    lane.backoff = 8.0
    assert lane.resend_at() == pytest.approx(6.0 + RTO_SLOW)


def test_a_path_slower_than_the_longest_back_off_is_waited_for() -> None:
    lane = Lane(WINDOW)
    for number in range(1, 60):
        send(lane, 1, now=10.0 * number)
        lane.on_ack(number, 0, 10.0 * number + 2.0)
    send(lane, 1, now=1000.0)
    assert lane.resend_at() == pytest.approx(1002.0 + RTO_MIN, abs=0.05)


def test_the_timeout_doubles_up_to_its_maximum_and_any_ack_ends_that() -> None:
    lane = lane_with(2)
    waits = []
    now = 0.0
    for _ in range(5):
        due = lane.resend_at()
        assert due is not None
        waits.append(due - now)
        now = due
        assert lane.resend_oldest(now, timed_out=True) == [b"1"]
    assert waits == pytest.approx([0.3, 0.6, RTO_MAX, RTO_MAX, RTO_MAX])
    lane.on_ack(1, 0, now)
    assert lane.backoff == 1.0


@pytest.mark.parametrize("bits", [0, beyond(1, 3)])
def test_an_ack_of_part_ends_the_back_off_too(bits: int) -> None:
    lane = lane_with(3)
    lane.resend_oldest(1.0, timed_out=True)
    lane.on_ack(1, bits, 1.1)
    assert lane.backoff == 1.0


def test_no_round_trip_is_measured_on_packets_that_were_sent_twice_or_beyond_a_hole() -> None:
    lane = lane_with(5)
    lane.resend_oldest(0.5, timed_out=True)
    lane.on_ack(2, 0, 9.0)  # 1 was sent twice; 2 waited for it at the receiver
    lane.on_ack(2, beyond(2, 4), 9.0)
    assert lane.srtt == 0.0
    lane.on_ack(5, 0, 0.04)
    assert lane.srtt == pytest.approx(0.04)


# -- losses -------------------------------------------------------------------------------------


def test_a_packet_is_lost_when_three_newer_ones_are_acknowledged_and_not_before() -> None:
    lane = lane_with(6)
    assert lane.on_ack(0, beyond(0, 2), 0.1) == []
    assert lane.on_ack(0, beyond(0, 2, 3), 0.1) == []
    assert names(lane.on_ack(0, beyond(0, 2, 3, 4), 0.1)) == [1]


def test_a_packet_sent_again_counts_as_lost_only_when_later_ones_overtake_it() -> None:
    lane = lane_with(20)
    assert names(lane.on_ack(0, beyond(0, 2, 3, 4), 0.1)) == [1]
    for last in range(5, 21):  # these were on their way before the second copy of 1
        assert lane.on_ack(0, beyond(0, *range(2, last + 1)), 0.1) == []
    send(lane, 3, now=0.2)
    assert names(lane.on_ack(0, beyond(0, *range(2, 24)), 0.3)) == [1]


def test_several_holes_are_filled_at_once() -> None:
    lane = lane_with(10)
    assert names(lane.on_ack(1, beyond(1, 3, 5, 7, 8, 9, 10), 0.1)) == [2, 4, 6]


def test_losses_halve_the_window_once_for_all_that_was_in_flight() -> None:
    lane = lane_with(10)
    lane.on_ack(0, beyond(0, 2, 3, 4), 0.1)
    assert lane.window == WINDOW // 2
    lane.on_ack(0, beyond(0, 2, 3, 4, 6, 7, 8), 0.1)
    lane.resend_oldest(0.5, timed_out=True)
    assert lane.window > WINDOW // 2 - 1000
    lane.on_ack(10, 0, 0.6)
    lane.on_loss()
    assert lane.window < WINDOW // 2
    for _ in range(20):
        lane._recover_until = 0
        lane.on_loss()
    assert lane.window == WINDOW_BYTES_MIN


def test_the_window_grows_again_by_what_is_acknowledged() -> None:
    lane = lane_with(1)
    lane.on_loss()
    send(lane, 9, size=10_000)
    lane.on_ack(10, 0, 0.1)
    assert lane.window == WINDOW // 2 + 100 + 90_000
    for _ in range(100):
        send(lane, 1, size=100_000)
        lane.on_ack(lane.next_number - 1, 0, 0.1)
    assert lane.window == WINDOW


def test_all_that_a_dead_path_took_along_comes_again_within_a_few_round_trips() -> None:
    lane = lane_with(200)
    lane.resend_oldest(1.0, timed_out=False)
    now, arrived, again = 1.0, 1, [1]
    rounds = 0
    while arrived < 200:
        now += 0.01
        lost = names(lane.on_ack(arrived, 0, now))
        assert lost == list(range(again[-1] + 1, again[-1] + 1 + len(lost)))
        assert len(lost) == min(2 * len(again), 200 - again[-1])
        arrived, again = lost[-1], lost
        rounds += 1
        lane.check_invariants()
    assert rounds == 7
    lane.on_ack(200, 0, now)
    assert not lane.in_flight


def test_a_needless_timeout_sends_nothing_but_the_probe_again() -> None:
    lane = lane_with(100)
    lane.resend_oldest(0.4, timed_out=True)
    assert lane.on_ack(20, 0, 0.5) == []  # 2 to 20 were sent once: they were not lost
    assert lane.on_ack(40, 0, 0.6) == []


def test_packets_that_get_lost_a_second_time_come_again() -> None:
    lane = lane_with(10)
    lane.resend_oldest(1.0, timed_out=True)
    assert names(lane.on_ack(1, 0, 1.1)) == [2, 3]
    due = lane.resend_at()
    assert due is not None
    assert lane.resend_oldest(due, timed_out=True) == [b"2"]
    assert names(lane.on_ack(2, 0, due + 0.1)) == [3, 4]


# -- windows ------------------------------------------------------------------------------------


def test_never_more_is_in_flight_than_an_ack_can_express() -> None:
    lane = lane_with(WINDOW_PACKETS)
    assert not lane.has_room()
    receiver = Lane(WINDOW)
    for number in range(2, WINDOW_PACKETS + 1):
        receiver.receive(number, b"", 100)
    assert len(receiver.held) == WINDOW_PACKETS - 1
    bits = receiver.beyond()
    assert len(bits.to_bytes(33, "little")) == 33
    lane.on_ack(0, bits, 0.1)
    assert list(lane.in_flight) == [1]
    assert not lane.has_room()  # the hole itself is still open
    lane.on_ack(WINDOW_PACKETS, 0, 0.2)
    assert lane.has_room()


def test_bytes_in_flight_are_bounded_by_the_window() -> None:
    lane = Lane(WINDOW)
    while lane.has_room():
        send(lane, 1, size=256 * 1024)
    assert lane.in_flight_bytes == WINDOW
    lane.on_ack(1, 0, 0.1)
    assert lane.has_room()


# -- the receiving half -----------------------------------------------------------------------


def receive(lane: Lane, number: int, size: int = 10) -> list[int] | None:
    due = lane.receive(number, number, size)
    lane.check_invariants()
    return due if due is None else [number, *due]


def test_packets_are_due_in_order_and_once() -> None:
    lane = Lane(WINDOW)
    assert receive(lane, 1) == [1]
    assert receive(lane, 3) is None
    assert receive(lane, 5) is None
    assert lane.beyond() == beyond(1, 3, 5)
    assert receive(lane, 3) is None
    assert receive(lane, 1) is None
    assert receive(lane, 2) == [2, 3]
    assert receive(lane, 4) == [4, 5]
    assert receive(lane, 5) is None
    assert lane.expected == 6
    assert lane.beyond() == 0


@pytest.mark.parametrize("number", [0, -1, 1, 257, 2**63, -(2**63)])
def test_numbers_outside_of_the_window_are_dropped(number: int) -> None:
    lane = Lane(WINDOW)
    receive(lane, 1)
    lane.ack_due = False
    assert receive(lane, number + (number == 257)) is None
    assert not lane.held
    assert lane.ack_due, "the sender may need to hear where we are"


def test_the_last_number_within_the_window_is_held() -> None:
    lane = Lane(WINDOW)
    assert receive(lane, WINDOW_PACKETS) is None
    assert receive(lane, WINDOW_PACKETS + 1) is None
    assert list(lane.held) == [WINDOW_PACKETS]


def test_what_is_held_is_bounded_in_bytes() -> None:
    lane = Lane(WINDOW)
    for number in range(2, 200):
        receive(lane, number, 500_000)
    assert lane.held_bytes <= WINDOW + OVERSHOOT_BYTES
    assert len(lane.held) == 3
    assert receive(lane, 1) == [1, 2, 3, 4]
    assert lane.held_bytes == 0
    assert receive(lane, 5, 500_000) == [5]
