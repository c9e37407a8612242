"""The gate that keeps disturbed rounds out of the figures."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from benchmarks import machine
from benchmarks.machine import ForeignLoad, Gate, GateSettings, RoundLoad


class ScriptedLoad(ForeignLoad):
    """Foreign shares that a test hands out one by one; quiet after the last."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def restart(self) -> None:
        pass

    def share(self) -> float:
        return self.shares.pop(0) if self.shares else 0.0


def gate_with(*shares: float, **settings: float) -> tuple[Gate, list[str], list[float]]:
    said: list[str] = []
    slept: list[float] = []
    gate = Gate(
        GateSettings(**settings),  # type: ignore[arg-type]
        load=ScriptedLoad(*shares),
        sleep=slept.append,
        say=said.append,
    )
    return gate, said, slept


def test_a_quiet_machine_is_measured_at_once() -> None:
    gate, said, slept = gate_with(0.01)
    assert gate.wait_until_quiet() == 0.01
    assert said == []
    assert len(slept) == 1


def test_the_gate_waits_until_others_have_finished() -> None:
    gate, said, slept = gate_with(1.0, 0.9, 0.05)
    assert gate.wait_until_quiet() == 0.05
    assert len(slept) == 3
    assert len(said) == 1


def test_the_wait_for_a_quiet_machine_is_bounded() -> None:
    gate, said, slept = gate_with(*[1.0] * 100, sample=0.5, wait_max=2.0)
    assert gate.wait_until_quiet() == 1.0
    assert sum(slept) == 2.5
    assert len(said) == 1
    assert gate.wait_until_quiet() == 1.0
    assert sum(slept) == 3.0  # all patience is used up: one look and no more


def test_a_disturbed_round_is_thrown_away_and_repeated() -> None:
    gate, said, _ = gate_with(0.0, 0.5, 0.0, 0.1)
    results = iter(["disturbed", "quiet"])
    result, load = gate.run_round(lambda: next(results), "round 1")
    assert result == "quiet"
    assert load == RoundLoad(foreign=0.1, quiet=True, thrown_away=1)
    assert "thrown away" in said[0]


def test_after_so_many_repeats_a_disturbed_round_is_kept_and_marked() -> None:
    gate, said, _ = gate_with(*[0.0, 0.5] * 10, repeats_max=2)
    rounds: list[int] = []
    _, load = gate.run_round(lambda: rounds.append(1), "round 1")
    assert len(rounds) == 3
    assert load == RoundLoad(foreign=0.5, quiet=False, thrown_away=2)
    assert "kept, although" in said[-1]


def test_what_our_own_children_burn_is_not_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        process = psutil.Process(child.pid)
        # The child is all that runs here, as far as the totals say.
        monkeypatch.setattr(machine, "_busy_time", lambda: process.cpu_times().user)
        load = ForeignLoad()
        _wait_for_cpu_time(process, 0.3)
        assert load.share() == pytest.approx(0.0, abs=0.05)
        monkeypatch.setattr(machine, "_tree_time", lambda root: 0.0)
        load.restart()
        _wait_for_cpu_time(process, 0.3)
        assert load.share() > 0.05
    finally:
        child.kill()
        child.wait()


def _wait_for_cpu_time(process: psutil.Process, seconds: float) -> None:
    deadline = time.monotonic() + 20
    begun = process.cpu_times().user
    while process.cpu_times().user - begun < seconds:
        assert time.monotonic() < deadline
        time.sleep(0.02)
