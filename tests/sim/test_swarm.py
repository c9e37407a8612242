"""Random mixtures of faults, each out of one seed; any seed that ever failed stays in the list."""

from __future__ import annotations

import pytest

from meshcore.sim.swarm import Swarm

SEEDS = range(100, 150)
# Seeds that found something, with what it was.
FOUND: dict[int, str] = {}


@pytest.mark.parametrize("seed", [*SEEDS, *FOUND])
def test_no_mixture_of_faults_breaks_a_promise(seed: int) -> None:
    swarm = Swarm(seed, seconds=8.0)
    try:
        problems = swarm.run()
    except AssertionError as error:
        error.add_note(swarm.describe())
        raise
    assert problems == [], swarm.describe()
