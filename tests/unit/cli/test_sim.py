"""`meshctl sim`: reports, bad input, the same seed, interrupts, and what a finding looks like."""

from __future__ import annotations

import builtins
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshcore.protocol.membership import known
from meshcore.sim.replicas.planted import planted
from meshcore.sim.simulation import Simulation

SMALL = ("sim", "--nodes", "8", "--duration", "20s", "--every", "4s")


def test_the_report_tells_times_loads_and_false_deaths(run: Any) -> None:
    done = run(*SMALL, "--faults", "crash,churn,partition", "--seed", "3")
    assert (done.code, done.err) == (0, "")
    for words in ("death known everywhere", "join known", "healed mesh", "false deaths: 0"):
        assert words in done.out
    assert "beats" in done.out
    assert "8 nodes, degree 6, 24 links, seed 3; 20 s with crash, partition, churn" in done.out


def test_json_has_everything_and_the_command_that_repeats_it(run: Any) -> None:
    done = run(*SMALL, "--faults", "silent-crash,loss", "--timings", "dead=4,remove=8", "--json")
    report = json.loads(done.out)
    assert done.code == 0
    assert report["complete"] is True
    assert report["deaths"]["known_by_all"] >= 1
    # `dead` counts from the last beat, which was sent at most 0.55 s before the end.
    assert 3.4 < report["deaths"]["everywhere_s"]["max"] < 9.0
    assert report["false_deaths"] == 0
    assert report["load"]["beats"]["messages_sent"] > 5
    assert report["again"].endswith("--churn 1 --timings dead=4,remove=8")
    again = run(*report["again"].split()[1:], "--json")
    assert json.loads(again.out) == report


def test_without_faults_there_are_beats_and_echoes_alone(run: Any) -> None:
    report = json.loads(run("sim", "--nodes", "6", "--faults", "none", "--json").out)
    assert report["load"]["beats"]["messages_sent"] == pytest.approx(5 * 2, rel=0.05)
    assert report["load"]["news"]["messages_sent"] == report["load"]["repair"]["bytes_sent"] == 0
    assert report["deaths"]["count"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--faults", "crsh"), "--faults: there is no 'crsh'; did you mean crash?"),
        (("--faults", ","), "--faults: name some, or say none"),
        (("--topology", "ring", "--degree", "3"), "--degree is for --topology random"),
        (("--nodes", "4", "--degree", "5"), "4 nodes have at most 3 links"),
        (("--nodes", "2000", "--topology", "full"), "at most 20,000 are simulated"),
        (("--nodes", "1"), "1 is not in the range 2<=x<=2000"),
        (("--timings", "dead=1"), "need 0 < slow < warn < dead < remove"),
        (("--timings", "deed=1"), "--timings: there is no 'deed'; did you mean dead?"),
        (("--timings", "dead=soon"), "--timings: dead: 'soon' is no duration"),
        (("--duration", "0"), "must be more than 0"),
        (("--plot", "/no/such/directory/x.png"), "--plot: there is no directory"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: tuple[str, ...], says: str, run: Any) -> None:
    done = run("sim", *arguments)
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_the_same_seed_gives_the_same_report_under_any_hash_seed() -> None:
    def report(hash_seed: str) -> str:
        arguments = [*SMALL, "--faults", "all", "--seed", "11", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "meshcore", *arguments],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout

    assert report("1") == report("2")


def test_what_a_checker_finds_ends_with_1_and_names_the_seed(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "AGE_SLACK", -3.0)  # everybody waits for three seconds more
    done = run(*SMALL, "--faults", "silent-crash", "--seed", "5")
    assert done.code == 1
    assert "WRONG: " in done.err
    assert "seed 5 found this; again: meshctl sim --nodes 8" in done.err


def test_an_interrupt_tells_what_was_measured_so_far(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Simulation, progress: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "_settle", interrupted)
    done = run(*SMALL, "--json")
    report = json.loads(done.out)
    assert done.code == 130
    assert (report["complete"], report["measured_s"]) == (False, 20.0)
    assert report["load"]["beats"]["messages_sent"] > 5


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    """In a process of its own: the library keeps its fonts open."""
    path = tmp_path / "times.png"
    command = [sys.executable, "-m", "meshcore", *SMALL, "--faults", "crash", "--plot", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_the_library_a_plot_names_the_extra(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "times.png"
    real = builtins.__import__

    def without(name: str, *more: Any, **also: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *more, **also)

    monkeypatch.setattr(builtins, "__import__", without)
    done = run(*SMALL, "--plot", str(path))
    assert done.code == 2
    assert done.err == "--plot needs matplotlib: pip install 'meshcore-runtime[plot]'\n"


def test_replicas_are_simulated_in_every_world(run: Any) -> None:
    done = run("sim", "--replicas", "both", "--many", "2", "--seed", "3", "--json")
    report = json.loads(done.out)
    assert (done.code, done.err, report["problems"]) == (0, "", [])
    assert len(report["worlds"]) == 8
    assert all(counts["seeds"] == 2 for counts in report["worlds"].values())
    assert all(counts["answered"] > 20 for counts in report["worlds"].values())
    table = run("sim", "--replicas", "active", "--seed", "3")
    assert "active, lease, tight" in table.out
    assert "runs that found something: 0" in table.out


def test_what_a_seed_of_replicas_finds_ends_with_1_and_can_be_had_again(run: Any) -> None:
    with planted("sessions"):
        done = run("sim", "--replicas", "passive", "--seed", "1")
    assert done.code == 1
    found = r"^WRONG: seed 1, passive, \w+(, tight)?: WrongHistory: calls with two effects"
    assert re.search(found, done.err, re.MULTILINE)  # in which world depends on each message
    assert "again: meshctl sim --replicas passive --seed 1" in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--many", "2"), "--many is for --replicas"),
        (("--replicas", "both", "--nodes", "4"), "--nodes is for a mesh, not for --replicas"),
        (("--replicas", "none"), "'none' is not one of"),
        (("--replicas", "both", "--many", "0"), "0 is not in the range"),
    ],
)
def test_options_of_meshes_and_of_replicas_do_not_mix(
    arguments: tuple[str, ...], says: str, run: Any
) -> None:
    done = run("sim", *arguments)
    assert done.code == 2
    assert says in done.err
