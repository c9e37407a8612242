"""Replicated groups in virtual time: seeds of misfortunes, planted bugs, determinism."""

from __future__ import annotations

import subprocess
import sys

import pytest

from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.records import Replication
from meshcore.sim.replicas.planted import PLANTED, planted
from meshcore.sim.replicas.world import run_seed

KINDS = list(Replication)
# Of bugs that were found: a checkpoint that was being written when a primary was demoted (202);
# disks lost before the one before was replaced, which is the world's mistake (70, 173, 658, 993).
SEEDS = [*range(20), 70, 173, 202, 658, 993]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", range(0, 80, 20))
def test_no_call_is_lost_doubled_or_answered_wrongly(kind: Replication, first: int) -> None:
    for seed in range(1000 + first, 1020 + first):
        outcome = run_seed(seed, kind)
        assert outcome.answered > outcome.calls / 2, f"seed {seed} answered next to nothing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_that_found_something(kind: Replication, seed: int) -> None:
    run_seed(seed, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_lease_nobody_answers_without_it(kind: Replication) -> None:
    for seed in range(30):
        run_seed(seed, kind, Leadership.LEASE)


def test_misfortunes_do_happen() -> None:
    outcomes = [run_seed(seed, Replication.PASSIVE) for seed in range(10)]
    for what in ("kill", "lose", "pause", "isolate", "designate", "aside", "weather"):
        assert sum(outcome.happened.get(what, 0) for outcome in outcomes) > 2, what
    assert max(outcome.terms for outcome in outcomes) > 3
    assert max(outcome.checkpoints for outcome in outcomes) > 3


ONLY_PASSIVE = {"checkpoint"}  # an active replica's state is never ahead of what is committed
TOO_RARE = {"older-terms"}  # pinned by a unit test instead: no seed of 600 found it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(set(PLANTED) - TOO_RARE))
def test_a_planted_bug_is_found(name: str, kind: Replication) -> None:
    if name in ONLY_PASSIVE:
        kind = Replication.PASSIVE
    with planted(name):
        for seed in range(400):
            try:
                run_seed(seed, kind)
            except AssertionError:
                return
    pytest.fail(f"{PLANTED[name][0]}: not found by 400 seeds")


def test_one_seed_is_one_trace_whatever_the_hashes() -> None:
    program = (
        "from meshcore.sim.replicas.world import run_seed, Replication\n"
        "print([run_seed(s, k).trace for s in range(3) for k in Replication])"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": hashes}, check=True,
            capture_output=True, text=True, timeout=60,
        ).stdout
        for hashes in ("1", "2")
    }  # fmt: skip
    assert len(traces) == 1
