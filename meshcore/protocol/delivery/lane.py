"""One numbered flow of packets between two lives: a small TCP whose segments are whole packets.

The sending half numbers packets from 1, keeps what is not acknowledged, and sends it again when it
must be lost: three newer packets acknowledged, or the retransmission timeout over. The receiving
half hands packets on in order and holds those beyond a hole. Order within a lane is what makes the
order within each stream trivial; a hole holds up its lane until the packet that fills it comes,
which happens only where a link or relay was lost, for the links themselves lose nothing.

Bounds: 256 packets and `window` bytes beyond the first unacknowledged one, so the bit field of an
ack can name every packet that may be held, and the receiver never holds more.
Source: RFC 6298 (timeout), RFC 6675 (loss after three), RFC 9002 (no sample while a hole is open).
"""

from __future__ import annotations

from typing import Any

WINDOW_PACKETS = 256
WINDOW_BYTES_MIN = 64 * 1024
RTO_MIN, RTO_MAX, RTO_FIRST = 0.2, 1.0, 0.3  # seconds
LOST_AFTER = 3  # newer packets acknowledged


class Sent:
    """A packet in flight."""

    __slots__ = ("frames", "passed_over", "resent", "sent_at", "size")

    def __init__(self, frames: list[Any], size: int, sent_at: float) -> None:
        self.frames, self.size, self.sent_at = frames, size, sent_at
        self.resent = False
        self.passed_over = 0  # packets sent after it that were acknowledged before it


class Lane:
    """Sending and receiving half of one lane of a channel."""

    __slots__ = (
        "_highest",
        "_lowest",
        "_recover_until",
        "_rttvar",
        "ack_due",
        "backoff",
        "expected",
        "held",
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
        self._highest = 0  # the greatest number that is
        self._recover_until = 0  # one halving of the window for all that was in flight then
        self.expected = 1
        self.held: dict[int, Any] = {}  # packets beyond a hole, by number
        self.ack_due = False
        self.received_bytes = 0  # since the last ack that was sent

    # The sending half ------------------------------------------------------------------------

    def has_room(self) -> bool:
        return (
            self.in_flight_bytes < self.window and self.next_number - self._lowest < WINDOW_PACKETS
        )

    def sent(self, frames: list[Any], size: int, now: float) -> None:
        """Packet `next_number` was handed to the link."""
        self.in_flight[self.next_number] = Sent(frames, size, now)
        self.in_flight_bytes += size
        self.next_number += 1

    def on_ack(self, complete: int, beyond: int, now: float) -> list[Sent] | None:
        """Take an acknowledgement; returns packets to send again, None if it acknowledges nothing new.

        `complete`: all packets up to this number arrived; bit i of `beyond`: complete + 2 + i did.
        A number that was never sent is ignored.
        """
        if complete >= self.next_number:
            return None
        in_flight = self.in_flight
        newest: Sent | None = None
        if complete >= self._lowest:
            for number in range(self._lowest, complete + 1):
                sent = in_flight.pop(number, None)
                if sent is not None:
                    self.in_flight_bytes -= sent.size
                    newest = sent
            self._lowest = complete + 1
            if complete > self._highest:
                self._highest = complete
        if not beyond:
            if newest is None:
                return None
            if not newest.resent:
                self._sample(now - newest.sent_at)
            self.backoff = 1.0
            self._grow(newest.size)
            return []
        return self._on_hole(complete, beyond, newest is not None, now)

    def _on_hole(self, complete: int, beyond: int, progress: bool, now: float) -> list[Sent] | None:
        number = complete + 2
        newly: list[int] = []
        while beyond and number < self.next_number:
            if beyond & 1:
                sent = self.in_flight.pop(number, None)
                if sent is not None:
                    self.in_flight_bytes -= sent.size
                    newly.append(number)
            beyond >>= 1
            number += 1
        if not newly:
            return [] if progress else None
        self.backoff = 1.0
        self._highest = max(self._highest, newly[-1])
        lost: list[Sent] = []
        for number, sent in self.in_flight.items():
            if number > newly[-1]:
                break
            sent.passed_over += sum(1 for passed in newly if passed > number)
            if sent.passed_over >= LOST_AFTER:
                sent.passed_over = 0
                sent.resent, sent.sent_at = True, now
                lost.append(sent)
        if lost:
            self.on_loss()
        return lost

    def on_loss(self) -> None:
        """Halve the window, once for all that is in flight now."""
        if self._lowest >= self._recover_until:
            self.window = max(WINDOW_BYTES_MIN, self.window // 2)
            self._recover_until = self.next_number

    def _grow(self, acked_bytes: int) -> None:
        if self.window < self.window_max:
            self.window = min(self.window_max, self.window + acked_bytes)

    def _sample(self, round_trip: float) -> None:
        if self.srtt == 0.0:
            self.srtt, self._rttvar = round_trip, round_trip / 2
        else:
            self._rttvar += (abs(self.srtt - round_trip) - self._rttvar) / 4
            self.srtt += (round_trip - self.srtt) / 8
        self.rto = min(RTO_MAX, self.srtt + max(4 * self._rttvar, RTO_MIN))

    def oldest(self) -> Sent | None:
        for sent in self.in_flight.values():
            return sent
        return None

    def resend_at(self) -> float | None:
        """When the oldest packet in flight counts as lost; None while nothing is in flight."""
        sent = self.oldest()
        return None if sent is None else sent.sent_at + min(RTO_MAX, self.rto * self.backoff)

    def resend_oldest(self, now: float, *, timed_out: bool) -> list[Any] | None:
        """The frames of the oldest packet in flight, which is now sent again."""
        sent = self.oldest()
        if sent is None:
            return None
        sent.resent, sent.sent_at = True, now
        if timed_out:
            self.backoff = min(16.0, self.backoff * 2)
            self.on_loss()
        return sent.frames

    # The receiving half ----------------------------------------------------------------------

    def receive(self, number: int, packet: Any, size: int) -> list[Any] | None:
        """The packets that are due now, in order; None for a duplicate or one beyond the window."""
        self.ack_due = True
        if number != self.expected:
            if number > self.expected + WINDOW_PACKETS or number < self.expected:
                return None
            if number in self.held:
                return None
            self.held[number] = packet
            return []
        self.received_bytes += size
        self.expected = number + 1
        if not self.held:
            return [packet]
        due = [packet]
        while (following := self.held.pop(self.expected, None)) is not None:
            due.append(following)
            self.expected += 1
        return due

    def beyond(self) -> int:
        """The bit field of held packets for an ack."""
        base = self.expected + 1
        return sum(1 << (number - base) for number in self.held)

    def check_invariants(self) -> None:
        assert self.in_flight_bytes == sum(sent.size for sent in self.in_flight.values())
        assert all(self._lowest <= number < self.next_number for number in self.in_flight)
        assert all(
            self.expected < number <= self.expected + WINDOW_PACKETS for number in self.held
        )
        assert len(self.held) <= WINDOW_PACKETS
