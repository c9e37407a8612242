"""`bin/soak replicas [SEEDS] [FIRST]`: seeds of misfortunes for replicated groups, both kinds.

Half as many run with leases, and as many of all again with tight limits. What a seed finds is
printed, and the exit code is 1.
"""

from __future__ import annotations

import os
import time

from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.records import Replication
from meshcore.sim.replicas.many import Job, run_all
from meshcore.sim.replicas.world import Outcome


def main(arguments: list[str]) -> int:
    seeds = int(arguments[0]) if arguments else 1000
    first = int(arguments[1]) if len(arguments) > 1 else 10_000
    started, found = time.monotonic(), 0
    for leadership, count in ((Leadership.ELECTION, seeds), (Leadership.LEASE, seeds // 2)):
        for kind in Replication:
            for is_tight in (False, True):
                work = [
                    Job(seed, kind, leadership, is_tight) for seed in range(first, first + count)
                ]
                found += _run(work)
    print(f"{found} runs found something; {time.monotonic() - started:.0f} s")
    return 1 if found else 0


def _run(work: list[Job]) -> int:
    """Runs of one world; how many of them found something."""
    outcomes: list[Outcome] = []
    for job, outcome, problem in run_all(work, os.cpu_count() or 1):
        if outcome is None:
            print(f"{job.name}, seed {job.seed}: {problem}"[:400])
        else:
            outcomes.append(outcome)
    if work:
        print(
            f"{work[0].name}: {len(work)} seeds, {sum(o.calls for o in outcomes)} calls,"
            f" {sum(o.answered for o in outcomes)} answered,"
            f" {sum(o.terms for o in outcomes)} terms,"
            f" {sum(o.checkpoints for o in outcomes)} checkpoints"
        )
    return len(work) - len(outcomes)
