"""Replicated groups in virtual time: seeds of misfortunes, planted bugs, determinism."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from meshcore.protocol.replication.core import Leadership
from meshcore.protocol.replication.members import Membership
from meshcore.protocol.replication.records import Replication
from meshcore.protocol.replication.sessions import Sessions
from meshcore.protocol.replication.transfer import Receiving
from meshcore.sim.replicas.host import Host
from meshcore.sim.replicas.planted import PLANTED, planted
from meshcore.sim.replicas.world import run_seed

KINDS = list(Replication)
# Of bugs that were found: a checkpoint that was being written when a primary was demoted (202);
# disks lost before the one before was replaced, which is the world's mistake (70, 173, 658, 993);
# a late copy of a call that was given up, which some replicas ran and others did not (1047).
SEEDS = [*range(20), 70, 173, 202, 658, 993, 1047]
# With tight limits, when they were: a stopped replica stood when its lease came (24, 105, 129); a
# member that was just added did not vote (196); a primary that woke up removed a member (108). The
# fixes moved what these seeds do: what pins each is in tests/unit/protocol/test_replication_faults.
TIGHT_SEEDS = {Replication.ACTIVE: (24, 105, 129, 196), Replication.PASSIVE: (108,)}


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
def test_tight_seeds_that_found_something(kind: Replication) -> None:
    for seed in TIGHT_SEEDS[kind]:
        run_seed(seed, kind, Leadership.LEASE, is_tight=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leadership", list(Leadership))
def test_with_tight_limits_all_comes_to_rest(kind: Replication, leadership: Leadership) -> None:
    for seed in range(2000, 2020):
        run_seed(seed, kind, leadership, is_tight=True)


def test_tight_runs_meet_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    met: dict[str, int] = {}

    def watch(where: type, name: str, what: Callable[..., str]) -> None:
        whole = getattr(where, name)

        def watched(*arguments: Any) -> Any:
            label = what(*arguments)
            met[label] = met.get(label, 0) + 1
            return whole(*arguments)

        monkeypatch.setattr(where, name, watched)

    watch(Receiving, "take", lambda _, part: "first part" if part.offset == 0 else "later part")
    watch(Sessions, "evict", lambda *_: "evicted")
    watch(Membership, "_change", lambda machine, members, _: f"members {len(members)}")
    watch(Host, "_fail", lambda _: "failed disk")
    for seed in range(12):
        run_seed(seed, Replication.PASSIVE, is_tight=True)
    for label in ("first part", "later part", "evicted", "members 4", "failed disk"):
        assert met.get(label, 0) > 1, (label, met)


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


# An active replica's state is never ahead of what is committed, so that no checkpoint holds too
# much, and a stale read is rare: 1 of 1,800 seeds shows it (1774), and 68 of 300 of passive groups.
ONLY_PASSIVE = {"checkpoint", "reads"}
TOO_RARE = {"older-terms"}  # no seed finds it: unit/protocol/test_replication_faults does


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
        "from meshcore.protocol.replication.core import Leadership\n"
        "print([run_seed(s, k, l, is_tight=t).trace for s in range(3) for k in Replication"
        " for l in Leadership for t in (False, True)])"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": hashes}, check=True,
            capture_output=True, text=True, timeout=60,
        ).stdout
        for hashes in ("1", "2")
    }  # fmt: skip
    assert len(traces) == 1
