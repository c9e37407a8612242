"""`bin/soak replicas [SEEDS] [FIRST]`: seeds of misfortunes for replicated groups, both kinds.

Half as many run with leases. What a seed finds is printed, and the exit code is 1.
"""

from __future__ import annotations

import time

from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.records import Replication
from meshcore.sim.replicas.world import Outcome, run_seed


def main(arguments: list[str]) -> int:
    seeds = int(arguments[0]) if arguments else 1000
    first = int(arguments[1]) if len(arguments) > 1 else 10_000
    started, found = time.monotonic(), 0
    for leadership, count in ((Leadership.ELECTION, seeds), (Leadership.LEASE, seeds // 2)):
        for kind in Replication:
            outcomes: list[Outcome] = []
            for seed in range(first, first + count):
                try:
                    outcomes.append(run_seed(seed, kind, leadership))
                except AssertionError as error:
                    found += 1
                    print(f"{kind.name} {leadership.value} seed {seed}: {error!r}"[:400])
            calls = sum(outcome.calls for outcome in outcomes)
            answered = sum(outcome.answered for outcome in outcomes)
            print(
                f"{kind.name.lower()}, {leadership.value}: {count} seeds, {calls} calls,"
                f" {answered} answered, {sum(o.terms for o in outcomes)} terms,"
                f" {sum(o.checkpoints for o in outcomes)} checkpoints"
            )
    print(f"{found} seeds found something; {time.monotonic() - started:.0f} s")
    return 1 if found else 0
