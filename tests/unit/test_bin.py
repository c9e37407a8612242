"""The commands in bin/ make .venv when it is missing or out of date, once, and cost little after.

A stand-in for python3 takes the place of venv and pip, so that these tests need neither network nor
time; what it was asked to do is in its log.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/bin/bash
log={log}
case "$*" in
    "-c import sys;"*) exit {old} ;;
    "-c import fcntl;"*) exec {python} "$@" ;;
    "-m venv "*)
        echo "venv" >>"$log"
        mkdir -p "${{@: -1}}/bin"
        cp "$0" "${{@: -1}}/bin/python" ;;
    "-m pip "*)
        echo "pip ${{@: -1}}" >>"$log"
        sleep 0.3
        if [[ -e {fail} ]]; then echo "no route to the index"; exit 1; fi ;;
    --version) echo "Python 3.9.1" ;;
    *) printf 'ran'; printf ' <%s>' "$@"; echo ;;
esac
"""


class Checkout:
    """A checkout in a path with a space, and a PATH with nothing but the stand-in before it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "a clone"
        self.log = base / "log"
        self.fail = base / "fail"
        shutil.copytree(ROOT / "bin", self.root / "bin")
        (self.root / "pyproject.toml").write_text("# one\n")
        self.tools = base / "tools"
        self.tools.mkdir()
        self.stand_in(old=0)

    def stand_in(self, old: int) -> None:
        paths = {"log": self.log, "python": sys.executable, "fail": self.fail}
        quoted = {name: shlex.quote(str(path)) for name, path in paths.items()}
        text = STAND_IN.format(**quoted, old=old)
        for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
            path = self.tools / name
            path.write_text(text)
            path.chmod(0o755)

    def start(self, command: str, *arguments: str, cwd: Path | None = None) -> subprocess.Popen:
        return subprocess.Popen(
            [str(self.root / "bin" / command), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd or self.base,
            env={**os.environ, "PATH": f"{self.tools}:/usr/bin:/bin"},
        )

    def run(self, command: str, *arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
        with self.start(command, *arguments, cwd=cwd) as process:
            out, err = process.communicate(timeout=30)
            return process.returncode, out, err

    def logged(self) -> list[str]:
        """What was asked of venv and pip since the last look."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.replace(str(self.root), "ROOT") for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_fresh_clone_is_prepared_once_with_one_line_on_stderr(checkout: Checkout) -> None:
    code, out, err = checkout.run("meshctl", "nodes", "a b")
    assert (code, out) == (0, "ran <-P> <-m> <meshcore> <nodes> <a b>\n")
    assert err.startswith("meshcore: preparing .venv")
    assert err.count("\n") == 1
    assert checkout.logged() == ["venv", "pip ROOT"]
    assert checkout.run("meshctl", "nodes") == (0, "ran <-P> <-m> <meshcore> <nodes>\n", "")
    assert checkout.logged() == []


def test_it_works_from_any_directory_and_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run("meshctl")
    checkout.logged()
    link = tmp_path / "meshctl"
    link.symlink_to(checkout.root / "bin" / "meshctl")
    run = subprocess.run([link], capture_output=True, text=True, cwd="/", timeout=30)
    assert (run.returncode, run.stdout) == (0, "ran <-P> <-m> <meshcore>\n")
    assert checkout.logged() == []


def test_a_command_that_needs_more_adds_only_that(checkout: Checkout) -> None:
    checkout.run("meshctl")
    checkout.logged()
    checkout.run("test", "tests")
    assert checkout.logged() == ["pip ROOT[test]"]
    checkout.run("bench")
    assert checkout.logged() == ["pip ROOT[test,bench]"]
    checkout.run("soak")
    checkout.run("meshctl")
    assert checkout.logged() == []


def test_a_changed_pyproject_updates_what_was_there(checkout: Checkout) -> None:
    checkout.run("test", "tests")
    checkout.logged()
    (checkout.root / "pyproject.toml").write_text("# two\n")
    checkout.run("meshctl")
    assert checkout.logged() == ["pip ROOT[test]"]


def test_a_clone_that_moved_is_made_anew(checkout: Checkout) -> None:
    checkout.run("meshctl")
    checkout.logged()
    checkout.root = checkout.root.rename(checkout.base / "elsewhere")
    checkout.run("meshctl")
    assert checkout.logged() == ["venv", "pip ROOT"]


def test_two_that_start_at_once_prepare_it_once(checkout: Checkout) -> None:
    with checkout.start("meshctl", "one") as one, checkout.start("meshctl", "two") as two:
        outs = [process.communicate(timeout=30) for process in (one, two)]
    assert [out for out, _ in outs] == [
        f"ran <-P> <-m> <meshcore> <{name}>\n" for name in ("one", "two")
    ]
    assert checkout.logged() == ["venv", "pip ROOT"]
    assert sorted(err.split()[1] for _, err in outs) == ["preparing", "waiting"]


def test_a_failed_installation_says_why_and_is_tried_again(checkout: Checkout) -> None:
    checkout.fail.touch()
    code, out, err = checkout.run("meshctl")
    assert (code, out) == (2, "")
    assert "no route to the index" in err
    assert "could not prepare .venv" in err
    checkout.fail.unlink()
    checkout.logged()
    assert checkout.run("meshctl")[0] == 0
    assert checkout.logged() == ["venv", "pip ROOT"]


def test_an_old_python_is_named_in_one_line(checkout: Checkout) -> None:
    checkout.stand_in(old=1)
    code, out, err = checkout.run("meshctl")
    assert (code, out) == (2, "")
    assert err == "meshcore: needs Python 3.11 or newer; found Python 3.9.1\n"


def test_a_newer_python_beside_an_old_one_is_found(checkout: Checkout) -> None:
    newer = (checkout.tools / "python3.12").read_text()
    checkout.stand_in(old=1)
    (checkout.tools / "python3.12").write_text(newer)
    assert checkout.run("meshctl")[0] == 0


def test_bin_test_with_arguments_is_plain_pytest(checkout: Checkout) -> None:
    _, out, _ = checkout.run("test", "tests/unit", "-k", "a or b", cwd=checkout.root)
    assert out == "ran <-m> <pytest> <tests/unit> <-k> <a or b>\n"


def test_an_unknown_soak_is_an_error_that_names_the_known(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.soak", "nosuch"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("no soak 'nosuch'; ")


@pytest.mark.alone
def test_a_prepared_command_costs_no_more_than_two_processes(checkout: Checkout) -> None:
    """50 ms on a quiet machine; here against what two processes cost at the same moment."""
    checkout.run("meshctl")
    times, processes = [], []
    for _ in range(9):
        begin = time.perf_counter()
        checkout.run("meshctl")
        between = time.perf_counter()
        subprocess.run(["bash", "-c", "readlink -f -- /; :"], check=True, capture_output=True)
        times.append(between - begin)
        processes.append(time.perf_counter() - between)
    assert statistics.median(times) < max(0.05, 6 * statistics.median(processes))
