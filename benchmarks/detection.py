"""How soon does everybody know what became of a node, and is anybody taken for dead who is not?

Twenty processes (`meshctl run --json`) in a graph in which no single loss cuts anybody off. A node
is frozen and woken, killed, and, started again, told to leave; all the others tell what they
conclude with its time (`tests/e2e/detection.py`). A round takes one victim, each round another.
Afterwards a mesh of eight is watched while every core is overloaded fourfold.

Bars: kill -9 until every node routes around it ≤ 1 s; SIGSTOP until DEAD everywhere by the default
timings ≤ 6 s, SIGCONT until ALIVE again ≤ 1 s; an orderly end until removed everywhere ≤ 0.5 s; no
false death.
"""

from __future__ import annotations

import asyncio

from benchmarks.results import Bar, Report
from benchmarks.rounds import Options
from tests.e2e import detection, overload

SUBJECT = f"mesh of {detection.SIZE}"
LOADED = f"mesh of {overload.SIZE}, overloaded"
AROUND, DEAD = "kill -9: routed around", "kill -9: DEAD everywhere"
FROZEN, AWAKE = "SIGSTOP: DEAD everywhere", "SIGCONT: ALIVE everywhere"
LEFT, DEATHS = "SIGTERM: removed everywhere", "false deaths"
SECONDS, QUICK_SECONDS = 60.0, 10.0
LIMITS = {
    AROUND: detection.KILLED_DEAD,
    DEAD: detection.KILLED_DEAD,
    FROZEN: detection.FROZEN_DEAD,
    AWAKE: detection.ALIVE_AGAIN,
    LEFT: detection.LEFT_REMOVED,
}


def run(options: Options) -> Report:
    """Rounds in one mesh; then, once, the overload."""
    report = Report("detection", "seconds until the last node knew", quick=options.quick)
    for name in LIMITS:
        report.metric(name, "s", digits=2, ratio=False)
    report.metric(DEATHS, "", ratio=False)
    report.bars += [
        Bar(subject=SUBJECT, metric=name, compare="value", limit=limit, says=name)
        for name, limit in LIMITS.items()
    ]
    report.bars += [
        Bar(subject=name, metric=DEATHS, compare="value", limit=0.0, says=f"{name}: {DEATHS}")
        for name in (SUBJECT, LOADED)
    ]
    gate = options.gate()
    with asyncio.Runner() as runner:
        manager = detection.mesh_of()
        mesh = runner.run(manager.__aenter__())
        try:
            for number in range(options.rounds):
                figures, load = gate.run_round(
                    lambda number=number: runner.run(_round(mesh, number)),
                    f"detection, round {number + 1} of {options.rounds}",
                )
                report.rounds.append(load)
                for name, value in figures.items():
                    report.figure(SUBJECT, name, value)
        finally:
            runner.run(manager.__aexit__(None, None, None))
    seconds = QUICK_SECONDS if options.quick else SECONDS
    loaded = asyncio.run(_overloaded(seconds))
    report.figure(LOADED, DEATHS, len(loaded.deaths))
    report.note(f"overloaded: {loaded}")
    return report


async def _overloaded(seconds: float) -> overload.Overload:
    async with detection.mesh_of(overload.SIZE) as mesh:
        return await overload.overload(mesh, seconds)


async def _round(mesh: detection.Mesh, number: int) -> dict[str, float]:
    victim = detection.name_of(1 + (7 * number + 3) % (detection.SIZE - 1))
    frozen = await mesh.freeze(victim)
    killed = await mesh.kill(victim)
    await mesh.back(victim)
    left = await mesh.stop(victim)
    await mesh.back(victim)
    return {
        AROUND: killed.around,
        DEAD: killed.dead,
        FROZEN: frozen.dead,
        AWAKE: frozen.alive,
        LEFT: left,
        DEATHS: float(len(frozen.wrong)),
    }
