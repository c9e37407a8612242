"""start: how long a person waits for a command and for a node.

Whole processes, from spawn to exit, or for `meshctl run` to its `ready` line, in turn: a bare
`python -c 'import click'` as the floor, `meshctl --help`, `import meshcore`, a node, a ping
against a node that runs all the time. Data and sockets go to a folder of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from benchmarks.processes import ROOT, SubjectError
from benchmarks.results import Bar, Report
from benchmarks.rounds import Options

TIMEOUT = 20.0
TIME = "time"
NODE_ID = "bench-start"

CLICK = "import click"
HELP = "meshctl --help"
LIBRARY = "import meshcore"
RUN = "meshctl run to ready"
PING = "meshctl ping"
WRAPPER = "bin/meshctl --help"

BARS = (
    Bar(subject=RUN, metric=TIME, compare="value", limit=0.5, stretch=0.3, says="node to ready"),
    Bar(subject=PING, metric=TIME, compare="value", limit=0.4, stretch=0.3,
        says="ping, whole process"),
    Bar(subject=HELP, metric=TIME, compare="difference", against=(CLICK,), limit=0.06,
        says="meshctl --help more than import click"),
    Bar(subject=WRAPPER, metric=TIME, compare="difference", against=(HELP,), limit=0.05,
        says="bin/meshctl adds"),
)  # fmt: skip


def run(options: Options) -> Report:
    """Time each command once per round; `--only` names subjects of other questions."""
    report = Report("start", "whole processes, from spawn to exit or to the ready line")
    report.quick = options.quick
    report.metric(TIME, "s", digits=3, ratio=False)
    report.bars += [bar for bar in BARS if bar.subject != WRAPPER or _has_wrapper()]
    gate = options.gate()
    with tempfile.TemporaryDirectory(prefix="meshcore-bench-") as name, _node(Path(name)) as url:
        commands = _commands(Path(name), url)
        _all(report, commands)  # warm-up: byte code and the disk cache
        for number in range(1, options.rounds + 1):
            times, load = gate.run_round(
                lambda: _all(report, commands), f"start, round {number} of {options.rounds}"
            )
            report.rounds.append(load)
            for subject, seconds in times.items():
                report.figure(subject, TIME, seconds)
        for missing in report.missing:
            report.figures.pop(missing, None)
    return report


def _commands(folder: Path, url: str | SubjectError) -> dict[str, Callable[[], float]]:
    python = [sys.executable, "-c"]
    environment = environment_of(folder)

    def ping() -> float:
        if isinstance(url, SubjectError):
            raise url
        command = [*meshctl(), "ping", NODE_ID, "--count", "1", "--via", url]
        return _time_whole(command, environment)

    commands = {
        CLICK: lambda: _time_whole([*python, "import click"], environment),
        HELP: lambda: _time_whole([*meshctl(), "--help"], environment),
        LIBRARY: lambda: _time_whole([*python, "import meshcore"], environment),
        RUN: lambda: _time_ready(folder),
        PING: ping,
    }
    if _has_wrapper():
        wrapper = [str(ROOT / "bin" / "meshctl"), "--help"]
        commands[WRAPPER] = lambda: _time_whole(wrapper, environment)
    return commands


def _all(report: Report, commands: dict[str, Callable[[], float]]) -> dict[str, float]:
    times: dict[str, float] = {}
    for name, command in list(commands.items()):
        try:
            times[name] = command()
        except SubjectError as error:
            report.missing[name] = str(error)
            del commands[name]
    return times


def meshctl() -> list[str]:
    """The installed command where there is one, else the module."""
    script = Path(sys.executable).parent / "meshctl"
    return [str(script)] if script.exists() else [sys.executable, "-m", "meshcore"]


def _has_wrapper() -> bool:
    # Only in the checkout's own .venv: elsewhere bin/meshctl would first build one.
    return Path(sys.prefix) == ROOT / ".venv" and (ROOT / "bin" / "meshctl").exists()


def environment_of(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESHCORE_")}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {
        "XDG_STATE_HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _time_whole(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SubjectError(str(error)) from error
    elapsed = time.perf_counter() - started
    if done.returncode != 0:
        raise SubjectError(f"exit {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    return elapsed


def _time_ready(folder: Path) -> float:
    started = time.perf_counter()
    with _running_node(folder, f"{NODE_ID}-timed") as (_, ready_at):
        return ready_at - started


@contextlib.contextmanager
def _node(folder: Path) -> Iterator[str | SubjectError]:
    """The node that is pinged; the reason instead of its address where it does not start."""
    with contextlib.ExitStack() as stack:
        try:
            ready, _ = stack.enter_context(_running_node(folder, NODE_ID))
        except SubjectError as error:
            yield error
        else:
            yield str(ready["listen"][0])


@contextlib.contextmanager
def _running_node(folder: Path, node_id: str) -> Iterator[tuple[dict[str, Any], float]]:
    """`meshctl run` until its ready line, stopped by SIGTERM: (that line, when it came)."""
    command = [*meshctl(), "run", "--json", "--id", node_id, "--listen", "tcp://127.0.0.1:0"]
    command += ["--data-dir", str(folder / node_id)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env=environment_of(folder), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            line = _first_line(process, errors)
            ready_at = time.perf_counter()
            yield _ready(line), ready_at
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _first_line(process: subprocess.Popen[bytes], errors: IO[str]) -> bytes:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], TIMEOUT)[0]:
        raise SubjectError(f"meshctl run was not ready after {TIMEOUT:.0f} s")
    line = process.stdout.readline()
    if not line.startswith(b"{"):
        process.wait(TIMEOUT)
        errors.seek(0)
        raise SubjectError(f"meshctl run gave no ready line: {_last_line(errors.read())}")
    return line


def _ready(line: bytes) -> dict[str, Any]:
    document = json.loads(line)
    if document.get("event") != "ready":
        raise SubjectError(f"meshctl run said {line.decode().strip()[:200]}")
    return dict(document)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no output"
