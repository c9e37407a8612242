"""Virtual time."""

from __future__ import annotations

from meshcore.sim.clock import Clock


def test_events_happen_in_time_order_and_ties_in_the_order_they_were_set() -> None:
    clock, seen = Clock(), list[tuple[float, str]]()
    for delay, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        clock.after(delay, lambda name=name: seen.append((clock.now, name)))
    while clock.next_at() is not None:
        clock.step()
    assert seen == [(1.0, "first"), (1.0, "second"), (2.0, "late")]


def test_what_was_due_before_now_happens_now_and_time_never_goes_back() -> None:
    clock, seen = Clock(), list[float]()
    clock.at(5.0, lambda: clock.at(1.0, lambda: seen.append(clock.now)))
    clock.step()
    clock.step()
    assert seen == [5.0]


def test_the_trace_tells_order_instants_and_notes_apart() -> None:
    def trace(delays: list[float], note: bytes = b"") -> int:
        clock = Clock()
        for delay in delays:
            clock.after(delay, clock.note, note)
        while clock.next_at() is not None:
            clock.step()
        return clock.trace

    assert trace([1.0, 2.0]) == trace([1.0, 2.0])
    assert len({trace([1.0, 2.0]), trace([2.0, 1.0]), trace([1.0, 2.5]), trace([1.0], b"x")}) == 4
