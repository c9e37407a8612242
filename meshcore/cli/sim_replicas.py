"""`meshctl sim --replicas`: one replicated group under misfortunes, judged from outside."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.failure import FAILED, INTERRUPTED, Reported
from meshcore.cli.render import Column

KINDS = ("active", "passive", "both")
MANY_MAX = 1_000_000
PROBLEM_CHARS = 400
_COUNTED = ("calls", "answered", "effects", "terms", "checkpoints")
_TABLE = (
    Column("WORLD", style="bold"),
    Column("SEEDS", right=True),
    *(Column(name.upper(), right=True) for name in _COUNTED),
)


def simulate(kind: str, *, seed: int, many: int, json: bool) -> None:
    """Run the seeds, and say what they counted and found; Reported(FAILED) if that is anything."""
    from meshcore.sim.replicas.many import jobs, run_all

    work = jobs(kind, range(seed, seed + many))
    worlds: dict[str, dict[str, int]] = {}
    problems: list[dict[str, Any]] = []
    interrupted = False
    try:
        for done, (job, outcome, problem) in enumerate(run_all(work, os.cpu_count() or 1), 1):
            counts = worlds.setdefault(job.name, dict.fromkeys(("seeds", *_COUNTED), 0))
            counts["seeds"] += 1
            if outcome is None:
                again = f"meshctl sim --replicas {job.kind.name.lower()} --seed {job.seed}"
                problems.append({"seed": job.seed, "world": job.name, "problem": problem,
                                 "again": again})  # fmt: skip
                _clear()
                if not json:
                    text = problem[:PROBLEM_CHARS]
                    click.echo(f"WRONG: seed {job.seed}, {job.name}: {text}", err=True)
                    click.echo(f"again: {again}", err=True)
            else:
                for name in _COUNTED:
                    counts[name] += getattr(outcome, name)
            _progress(done, len(work), len(problems))
    except KeyboardInterrupt:
        interrupted = True
    _clear()
    _show(worlds, problems, json=json)
    if interrupted:
        raise Reported(INTERRUPTED)
    if problems:
        raise Reported(FAILED)


def _show(worlds: dict[str, dict[str, int]], problems: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        render.print_json({"worlds": worlds, "problems": problems})
        return
    rows = [[name, *(f"{value:,}" for value in counts.values())] for name, counts in worlds.items()]
    render.print_table(_TABLE, rows)
    click.echo(f"\nruns that found something: {len(problems)}")


def _progress(done: int, whole: int, found: int) -> None:
    if sys.stderr.isatty():
        text = f"{done}/{whole} runs, {found} found something"
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
