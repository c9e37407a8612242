"""Many seeds of replicated groups, on all cores.

A seed is run in four worlds for each kind: elected or with a lease, with the usual limits and with
tight ones. Results come in the order of the jobs, whatever the number of processes.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.records import Replication
from meshcore.sim.replicas.world import Outcome, run_seed


@dataclass(frozen=True, slots=True)
class Job:
    """One world of one seed."""

    seed: int
    kind: Replication
    leadership: Leadership
    is_tight: bool

    @property
    def name(self) -> str:
        """The world without its seed: equal for what is counted together."""
        limits = ", tight" if self.is_tight else ""
        return f"{self.kind.name.lower()}, {self.leadership.value}{limits}"


def jobs(kind: str, seeds: range) -> list[Job]:
    """All worlds of these seeds, those of one seed together; `kind` is active, passive or both."""
    kinds = list(Replication) if kind == "both" else [Replication[kind.upper()]]
    return [
        Job(seed, kind, leadership, is_tight)
        for seed in seeds
        for kind in kinds
        for leadership in Leadership
        for is_tight in (False, True)
    ]


def run(job: Job) -> tuple[Job, Outcome | None, str]:
    """What became of it, or (None and a text) what was wrong."""
    try:
        outcome = run_seed(job.seed, job.kind, job.leadership, is_tight=job.is_tight)
    except Exception as error:  # whatever breaks is a finding, and has to name its seed
        return job, None, f"{type(error).__name__}: {error}"
    return job, outcome, ""


def run_all(work: Sequence[Job], processes: int) -> Iterator[tuple[Job, Outcome | None, str]]:
    """As they come, in order."""
    if min(processes, len(work) // 32) < 2:
        yield from map(run, work)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=500) as pool:
        yield from pool.imap(run, work, chunksize=8)
