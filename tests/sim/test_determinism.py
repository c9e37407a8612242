"""One seed is one run, event by event, however the process salts its hashes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from meshcore.sim.swarm import Swarm

SCRIPT = (
    "from meshcore.sim.swarm import Swarm\n"
    "swarm = Swarm({seed}, seconds=5.0)\n"
    "swarm.run()\n"
    "print(swarm.world.trace, swarm.world.clock.events)\n"
)
SEEDS = (4, 11)  # the second with learnt addresses


def traced(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(seed=seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_trace_under_any_hash_seed(seed: int) -> None:
    swarm = Swarm(seed, seconds=5.0)
    swarm.run()
    here = f"{swarm.world.trace} {swarm.world.clock.events}\n"
    assert traced(seed, "1") == here
    assert traced(seed, "2") == here


def test_some_seeds_gather_by_learnt_addresses() -> None:
    assert [Swarm(seed).world.auto_connect > 0 for seed in SEEDS] == [False, True]


def test_another_seed_gives_another_trace() -> None:
    runs = [Swarm(seed, seconds=1.0) for seed in (1, 2)]
    for run in runs:
        run.run()
    assert runs[0].world.trace != runs[1].world.trace
