"""call: what one call to the next node costs, against plain ZeroMQ and against the peers.

64 bytes to an action in another process and back, one at a time (round trip) and with 128 in
flight (calls per second). meshcore runs with everything on: acks, dedupe, deadlines, routing.
"""

from __future__ import annotations

from benchmarks.processes import Chain, Subject
from benchmarks.results import Bar, Report
from benchmarks.rounds import Burst, Options, run_rounds

IN_FLIGHT = 128
LIMIT = "limit"
ROUND_TRIP = "round trip p50"
CALLS = f"{IN_FLIGHT} in flight"

SUBJECTS = (
    Subject(name=LIMIT, module="limit"),
    Subject(name="limit-numbered", module="limit", options={"numbered": True}),
    Subject(name="meshcore", module="meshcore_node", options={"action": "eager"}),
    Subject(name="meshcore-async", module="meshcore_node", options={"action": "async"}),
    Subject(name="meshcore-threads", module="meshcore_node", options={"action": "plain"}),
    Subject(name="sketch", module="sketch"),
    Subject(name="zmq.asyncio", module="zmq_asyncio"),
    Subject(name="rpyc", module="rpyc_peer"),
    Subject(name="Pyro5", module="pyro_peer", note="calls/s one at a time (a proxy takes no more)"),
    Subject(name="distributed", module="distributed_peer"),
    Subject(name="grpc.aio", module="grpc_peer"),
    Subject(name="nats", module="nats_peer"),
    Subject(name="zenoh", module="zenoh_peer"),
    Subject(name="zerorpc", module="zerorpc_peer"),
)
# The sketch is no peer: it shows what a path without acks, dedupe and routing could reach.
PEERS = ("zmq.asyncio", "rpyc", "Pyro5", "distributed", "grpc.aio", "nats", "zenoh", "zerorpc")
WITHOUT_RPYC = tuple(name for name in PEERS if name != "rpyc")  # it has no I/O thread

BARS = (
    Bar(subject="meshcore", metric=ROUND_TRIP, against=(LIMIT,), limit=1.5, stretch=1.3,
        says="round trip against the limit"),
    Bar(subject="meshcore", metric=CALLS, against=(LIMIT,), limit=2.0, stretch=3.0,
        says="calls/s against the limit"),
    Bar(subject="meshcore", metric=ROUND_TRIP, against=WITHOUT_RPYC, limit=1.0,
        says="round trip against the best peer but rpyc"),
    Bar(subject="meshcore", metric=CALLS, against=PEERS, limit=1.0,
        says="calls/s against the best peer"),
    Bar(subject="meshcore-threads", metric=CALLS, against=(LIMIT,), limit=1.2, stretch=2.0,
        says="calls/s of a plain function against the limit"),
)  # fmt: skip


def run(options: Options) -> Report:
    """Measure all subjects that run here."""
    report = Report("call", "64-byte echo in another process, one hop", limit=LIMIT)
    report.quick = options.quick
    report.metric(ROUND_TRIP, "µs")
    report.metric("p99", "µs", ratio=False)
    report.metric(CALLS, "calls/s", "higher")
    report.bars += BARS
    wanted = [s for s in SUBJECTS if options.wants(s.name, always=(LIMIT,))]

    def measure(chain: Chain) -> Burst:
        burst = Burst(chain.round_trips_ns(options.latency_burst))
        burst.calls, burst.call_time = chain.calls(options.throughput_burst, IN_FLIGHT)
        return burst

    run_rounds(report, wanted, options, measure, _figures)
    return report


def _figures(burst: Burst) -> dict[str, float]:
    return {
        ROUND_TRIP: burst.quantile_us(0.5),
        "p99": burst.quantile_us(0.99),
        CALLS: burst.calls_per_second,
    }
