"""relay: what a hop in between adds, and what it costs the node that forwards.

The same echo as in `call`, directly and over one relay, for meshcore and for a plain pyzmq relay
(ROUTER and DEALER, forwarding without looking inside). Two things are judged: the round trip that
the hop adds, as a multiple of the subject's own one-hop round trip, and the CPU time of the relay's
main thread per message that it forwards, one call at a time (two messages each), against the plain
relay. With many in flight meshcore puts many messages into one packet: that column is per message
as well, and shows what this saves.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from benchmarks.processes import Chain, Subject
from benchmarks.results import Bar, Report
from benchmarks.rounds import Burst, Options, run_rounds

IN_FLIGHT = 128
MESSAGES_PER_CALL = 2
ROUND_TRIP = "round trip p50"
CALLS = f"{IN_FLIGHT} in flight"
ADDED = "hop / one hop"
CPU_ALONE = "relay CPU per message"
CPU_BUSY = f"the same, {IN_FLIGHT} in flight"
LIMIT = "limit-relay"

SUBJECTS = (
    Subject(name="limit-direct", module="limit"),
    Subject(name=LIMIT, module="limit", relays=1),
    Subject(name="meshcore-direct", module="meshcore_node"),
    Subject(name="meshcore-relay", module="meshcore_node", relays=1),
)

BARS = (
    Bar(subject="meshcore-relay", metric=ADDED, compare="value", limit=1.25, stretch=1.1,
        says="a hop adds, in one-hop round trips"),
    Bar(subject="meshcore-relay", metric=CPU_ALONE, against=(LIMIT,), limit=1.5,
        says="CPU of the relay's main thread per message, against the plain relay"),
)  # fmt: skip


def run(options: Options) -> Report:
    """Measure both with and without the relay."""
    report = Report("relay", "64-byte echo, directly and over one relay", limit=LIMIT)
    report.quick = options.quick
    report.metric(ROUND_TRIP, "µs")
    report.metric(ADDED, "", digits=2, ratio=False)
    report.metric(CALLS, "calls/s", "higher")
    report.metric(CPU_ALONE, "µs", digits=1)
    report.metric(CPU_BUSY, "µs", digits=1, ratio=False)
    report.bars += BARS
    plain = ("limit-direct", LIMIT)
    wanted = [s for s in SUBJECTS if options.wants(s.name, always=plain)]

    def measure(chain: Chain) -> Burst:
        relay = chain.relays[0].pid if chain.relays else None
        before = main_thread_time(relay)
        burst = Burst(chain.round_trips_ns(options.latency_burst))
        between = main_thread_time(relay)
        burst.calls, burst.call_time = chain.calls(options.throughput_burst, IN_FLIGHT)
        burst.relay_cpu_alone = between - before
        burst.relay_cpu_busy = main_thread_time(relay) - between
        return burst

    run_rounds(report, wanted, options, measure, _figures)
    for name in ("limit", "meshcore"):
        _add_hop_cost(report, f"{name}-direct", f"{name}-relay")
    return report


def _figures(burst: Burst) -> dict[str, float]:
    figures = {ROUND_TRIP: burst.quantile_us(0.5), CALLS: burst.calls_per_second}
    if burst.relay_cpu_alone:
        messages = MESSAGES_PER_CALL * len(burst.round_trips_ns)
        figures[CPU_ALONE] = burst.relay_cpu_alone / messages * 1e6
        figures[CPU_BUSY] = burst.relay_cpu_busy / (MESSAGES_PER_CALL * burst.calls) * 1e6
    return figures


def _add_hop_cost(report: Report, direct: str, relayed: str) -> None:
    one = report.figures.get(direct, {}).get(ROUND_TRIP, [])
    two = report.figures.get(relayed, {}).get(ROUND_TRIP, [])
    if len(one) == len(two):
        for near, far in zip(one, two, strict=True):
            report.figure(relayed, ADDED, (far - near) / near)


def main_thread_time(pid: int | None) -> float:
    """CPU seconds of a process's main thread so far; 0.0 for None.

    schedstat counts nanoseconds; where the kernel does not offer it, ticks of 10 ms have to do.
    """
    if pid is None:
        return 0.0
    try:
        nanoseconds = int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        nanoseconds = 0
    if nanoseconds:
        return nanoseconds / 1e9
    for thread in psutil.Process(pid).threads():
        if thread.id == pid:
            return float(thread.user_time + thread.system_time)
    return 0.0
