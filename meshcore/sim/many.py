"""`python -m meshcore.sim --many N [--seed FIRST]`: thousands of swarm seeds on all cores.

Each seed is a random mesh with a random mixture of all faults (see `swarm`). Whatever one finds is
printed with the seed and how to have it again; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from meshcore.sim.swarm import Swarm

SECONDS = 12.0  # of the phase with faults
SHOWN = 5  # findings of one seed
MANY_MAX = 10_000_000


def run_seed(job: tuple[int, float]) -> tuple[int, list[str]]:
    """What one seed finds."""
    seed, seconds = job
    swarm = Swarm(seed, seconds=seconds)
    try:
        problems = swarm.run()
    except Exception as error:  # the core broke its contract: that is a finding like any other
        problems = [f"{type(error).__name__}: {error}"]
    return seed, [*problems[:SHOWN], swarm.describe()] if problems else []


def main(arguments: list[str] | None = None) -> int:
    """0: all seeds found nothing; 1: some found something; 2: usage; 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="bin/sim",
        description="Run many random mixtures of all faults, each out of one seed.",
        epilog="example: bin/sim --many 1000 --seed 5000",
    )
    parser.add_argument("--many", type=_count, required=True, metavar="N", help="how many seeds")
    parser.add_argument("--seed", type=_seed, default=1, metavar="FIRST", help="the first of them")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of faults (default {SECONDS:g})"
    )
    parser.add_argument(
        "--jobs", type=_count, default=os.cpu_count() or 1, help="processes (default: every core)"
    )
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.seconds <= 3600:
        parser.error("--seconds must be more than 0, at most 3600")
    seeds = range(chosen.seed, chosen.seed + chosen.many)
    begun, done, found = time.monotonic(), 0, []
    try:
        for seed, problems in _results([(seed, chosen.seconds) for seed in seeds], chosen.jobs):
            done += 1
            if problems:
                found.append(seed)
                _clear()
                print(f"seed {seed}:", *problems, sep="\n    ", flush=True)
                again = f"bin/sim --many 1 --seed {seed} --seconds {chosen.seconds:g}"
                print(f"    again: {again}", flush=True)
            _progress(done, len(seeds), len(found), begun)
    except KeyboardInterrupt:
        _clear()
        print(_summary(done, found, begun), flush=True)
        return 130
    _clear()
    print(_summary(done, found, begun), flush=True)
    return 1 if found else 0


def _results(work: list[tuple[int, float]], jobs: int) -> Iterator[tuple[int, list[str]]]:
    """As they come, in the order of the seeds."""
    jobs = min(jobs, len(work))
    if jobs == 1:
        yield from map(run_seed, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=200) as pool:
        yield from pool.imap(run_seed, work)


def _summary(done: int, found: list[int], begun: float) -> str:
    took = f"{done} seeds in {time.monotonic() - begun:.0f} s"
    return f"{took}: " + (f"{len(found)} found something: {found}" if found else "nothing found")


def _progress(done: int, whole: int, found: int, begun: float) -> None:
    if sys.stderr.isatty():
        pace = done / max(0.001, time.monotonic() - begun)
        left = (whole - done) / pace
        text = f"{done}/{whole} seeds, {found} found something, {left:.0f} s left"
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MANY_MAX:
        raise argparse.ArgumentTypeError(f"must be 1 to {MANY_MAX}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value
