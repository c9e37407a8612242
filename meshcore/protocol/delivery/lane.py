"""One numbered flow of packets between two lives: a small TCP whose segments are whole packets.

The sending half numbers packets from 1, keeps what is not acknowledged, and sends it again when it
must be lost: three newer packets acknowledged, or the retransmission timeout over. The receiving
half hands packets on in order and holds those beyond a hole. Order within a lane is what makes the
order within each stream trivial; a hole holds up its lane until the packet that fills it comes,
which happens only where a link or relay was lost, for the links themselves lose nothing.

A lost link or relay takes everything in flight along. So after a timeout, and on a new path, the
oldest packet probes; when only packets that were sent again are acknowledged, the others of that
time are presumed lost too, and each acknowledged packet releases two of them (without this, 256
lost packets took 256 timeouts). An acknowledged first transmission refutes the presumption.

Bounds: 256 packets and `window` bytes beyond the first unacknowledged one, so the bit field of an
ack can name every packet that may be held, and the receiver never holds more.
Source: RFC 6298 (timeout), RFC 6675 (loss after three), RFC 9002 (no sample while a hole is open),
RFC 5682 (what tells a spurious timeout).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

WINDOW_PACKETS = 256
WINDOW_BYTES_MIN = 64 * 1024
OVERSHOOT_BYTES = 512 * 1024  # by which the last packet of a full window may exceed it
RTO_MIN, RTO_MAX, RTO_FIRST = 0.2, 1.0, 0.3  # seconds
RTO_SLOW = 3.0  # seconds: the longest timeout, of a path that is slow by itself
LOST_AFTER = 3  # newer packets acknowledged

_ALONE: list[Any] = []  # never changed: that most packets are due alone costs no list


class Sent:
    """A packet in flight."""

    __slots__ = ("frames", "order", "passed_over", "resent", "sent_at", "size", "start")

    def __init__(
        self, frames: list[Any], size: int, start: int, sent_at: float, order: int
    ) -> None:
        self.frames, self.size, self.sent_at = frames, size, sent_at
        self.start = start  # messages of the outbox that went before it
        self.order = order  # among all transmissions of the lane, the repeated ones too
        self.resent = False
        self.passed_over = 0  # packets sent after it that were acknowledged before it


class Lane:
    """Sending and receiving half of one lane of a channel."""

    __slots__ = (
        "_lowest",
        "_order",
        "_presumed_lost_before",
        "_recover_until",
        "_rttvar",
        "ack_due",
        "backoff",
        "expected",
        "held",
        "held_bytes",
        "in_flight",
        "in_flight_bytes",
        "next_number",
        "received_bytes",
        "rto",
        "srtt",
        "window",
        "window_max",
    )

    def __init__(self, window_max: int) -> None:
        self.next_number = 1
        self.in_flight: dict[int, Sent] = {}
        self.in_flight_bytes = 0
        self.window = self.window_max = window_max  # bytes
        self.srtt = self._rttvar = 0.0
        self.rto = RTO_FIRST
        self.backoff = 1.0
        self._lowest = 1  # the first number that is not acknowledged
        self._recover_until = 0  # one halving of the window for all that was in flight then
        self._order = 0  # of the last transmission
        self._presumed_lost_before = 0  # this transmission; 0: nothing is presumed
        self.expected = 1
        self.held: dict[int, tuple[Any, int]] = {}  # packets beyond a hole, with their bytes
        self.held_bytes = 0
        self.ack_due = False
        self.received_bytes = 0  # since the last ack that was sent

    # The sending half ------------------------------------------------------------------------

    def has_room(self) -> bool:
        return (
            self.in_flight_bytes < self.window and self.next_number - self._lowest < WINDOW_PACKETS
        )

    def sent(self, frames: list[Any], size: int, start: int, now: float) -> None:
        """Packet `next_number`, with the messages after the first `start`, was handed over."""
        self._order += 1
        self.in_flight[self.next_number] = Sent(frames, size, start, now, self._order)
        self.in_flight_bytes += size
        self.next_number += 1

    def on_ack(self, complete: int, beyond: int, now: float) -> list[Sent]:
        """Take an acknowledgement; returns the packets that must be sent again now.

        `complete`: all packets up to this number arrived; bit i of `beyond`: complete + 2 + i did.
        A number that was never sent is ignored.
        """
        if complete >= self.next_number:
            return []
        in_flight = self.in_flight
        if complete == self._lowest and not beyond and not self._presumed_lost_before:
            # Nearly every ack: the one packet that is in flight, or the oldest of them.
            sent = in_flight.get(complete)
            if sent is not None and not sent.resent and self.window == self.window_max:
                del in_flight[complete]
                self._lowest = complete + 1
                self.in_flight_bytes -= sent.size
                self.backoff = 1.0
                self._sample(now - sent.sent_at)
                return _ALONE
        acked: list[Sent] = []
        if complete >= self._lowest:
            for number in range(self._lowest, complete + 1):
                sent = in_flight.pop(number, None)
                if sent is not None:
                    acked.append(sent)
            self._lowest = complete + 1
        if beyond:
            self._take_beyond(complete + 2, beyond, acked)
        if not acked:
            return []
        acked_bytes = 0
        resent = False
        for sent in acked:
            acked_bytes += sent.size
            resent = resent or sent.resent
        self.in_flight_bytes -= acked_bytes
        self.backoff = 1.0
        if not beyond and not resent:
            self._sample(now - acked[-1].sent_at)
        if self.window < self.window_max:
            self.window = min(self.window_max, self.window + acked_bytes)
        if not beyond and not self._presumed_lost_before:
            return []
        return self._lost(acked, beyond, now)

    def _take_beyond(self, number: int, beyond: int, acked: list[Sent]) -> None:
        """Add to `acked` what the bit field acknowledges for the first time."""
        while beyond and number < self.next_number:
            if beyond & 1:
                sent = self.in_flight.pop(number, None)
                if sent is not None:
                    acked.append(sent)
            beyond >>= 1
            number += 1

    def _lost(self, acked: list[Sent], beyond: int, now: float) -> list[Sent]:
        """What must be sent again, now that the packets `acked` are known to have arrived."""
        lost = self._passed_over(acked) if beyond else []
        if self._presumed_lost_before:
            self._presume(acked, lost)
        for sent in lost:
            self._mark_resent(sent, now)
        return lost

    def _passed_over(self, acked: list[Sent]) -> list[Sent]:
        """The packets that three later transmissions have overtaken."""
        orders = sorted(sent.order for sent in acked)
        lost: list[Sent] = []
        for sent in self.in_flight.values():
            sent.passed_over += len(orders) - bisect_right(orders, sent.order)
            if sent.passed_over >= LOST_AFTER:
                lost.append(sent)
        if lost:
            self.on_loss()
        return lost

    def _presume(self, acked: list[Sent], lost: list[Sent]) -> None:
        """Add to `lost` some of what was in flight at the last timeout or change of the path."""
        before = self._presumed_lost_before
        if any(sent.order < before for sent in acked):
            self._presumed_lost_before = 0
            return
        presumed = [sent for sent in self.in_flight.values() if sent.order < before]
        if not presumed:
            self._presumed_lost_before = 0
        again = sum(sent.resent for sent in acked)
        lost += [sent for sent in presumed if sent not in lost][: 2 * again]

    def _mark_resent(self, sent: Sent, now: float) -> None:
        self._order += 1
        sent.order, sent.sent_at, sent.resent, sent.passed_over = self._order, now, True, 0

    def on_loss(self) -> None:
        """Halve the window, once for all that is in flight now."""
        if self._lowest >= self._recover_until:
            self.window = max(WINDOW_BYTES_MIN, self.window // 2)
            self._recover_until = self.next_number

    def _sample(self, round_trip: float) -> None:
        if self.srtt == 0.0:
            self.srtt, self._rttvar = round_trip, round_trip / 2
        else:
            self._rttvar += (abs(self.srtt - round_trip) - self._rttvar) / 4
            self.srtt += (round_trip - self.srtt) / 8
        self.rto = self.srtt + max(4 * self._rttvar, RTO_MIN)

    def oldest(self) -> Sent | None:
        for sent in self.in_flight.values():
            return sent
        return None

    def start_after(self, number: int) -> int | None:
        """How many messages were sent in packets up to `number`; None: all that were sent."""
        return next((sent.start for each, sent in self.in_flight.items() if each > number), None)

    def resend_at(self) -> float | None:
        """When the oldest packet in flight counts as lost; None while nothing is in flight."""
        sent = self.oldest()
        if sent is None:
            return None
        # The back-off ends at RTO_MAX; a path that is slower than that by itself is waited for, but
        # not for ever: what it takes may have been the stall of a process, and that is over.
        longest = min(max(RTO_MAX, self.rto), RTO_SLOW)
        return sent.sent_at + min(longest, self.rto * self.backoff)

    def resend_oldest(self, now: float, *, timed_out: bool) -> list[Any] | None:
        """The frames of the oldest packet in flight, which is now sent again."""
        sent = self.oldest()
        if sent is None:
            return None
        self._presumed_lost_before = self._order + 1
        self._mark_resent(sent, now)
        if timed_out:
            self.backoff = min(16.0, self.backoff * 2)
            self.on_loss()
        return sent.frames

    # The receiving half ----------------------------------------------------------------------

    def receive(self, number: int, packet: Any, size: int) -> list[Any] | None:
        """The held packets that this one makes due, in order; [] where it is itself due alone.

        None where it is not due: a duplicate, held until the hole before it is filled, or dropped
        because no sender that keeps to its window would have sent it.
        """
        self.ack_due = True
        if number != self.expected:
            if (
                self.expected < number < self.expected + WINDOW_PACKETS
                and number not in self.held
                and self.held_bytes + size <= self.window_max + OVERSHOOT_BYTES
            ):
                self.held[number] = (packet, size)
                self.held_bytes += size
            return None
        self.received_bytes += size
        self.expected = number + 1
        if not self.held:
            return _ALONE
        due: list[Any] = []
        while (following := self.held.pop(self.expected, None)) is not None:
            due.append(following[0])
            self.received_bytes += following[1]
            self.held_bytes -= following[1]
            self.expected += 1
        return due

    def beyond(self) -> int:
        """The bit field of held packets for an ack."""
        base = self.expected + 1
        return sum(1 << (number - base) for number in self.held)

    def check_invariants(self) -> None:
        assert self.in_flight_bytes == sum(sent.size for sent in self.in_flight.values())
        assert all(self._lowest <= number < self.next_number for number in self.in_flight)
        assert all(self.expected < number < self.expected + WINDOW_PACKETS for number in self.held)
        assert self.held_bytes == sum(size for _, size in self.held.values())
        assert self.held_bytes <= self.window_max + OVERSHOOT_BYTES
        assert self.next_number - self._lowest <= WINDOW_PACKETS
