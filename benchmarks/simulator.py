"""Does a mesh scale, and how fast is it simulated: 10, 100 and 1,000 nodes at degree 6, simulated.

Each size starts converged and runs for 60 virtual seconds, once without faults and once with 5 %
of beats and news lost and churn (a death a minute for each hundred nodes, at least three), of which
half are silent. Asked are the time until everybody knows of a death, what a node sends and
receives, what the join of one more node costs, and, at six changes a minute in the whole mesh,
whether the load depends on its size. Speed is the CPU time of one process, without the start.

A publication to six neighbours counts as six messages sent. The bound on a join, (1 + its links) x
degree news messages at each node, is judged on what a node receives.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshcore.protocol.wire.records import LINK_STATE
from meshcore.sim import topology
from meshcore.sim.churn import Churn
from meshcore.sim.converged import start_converged
from meshcore.sim.deaths import Deaths
from meshcore.sim.load import Load
from meshcore.sim.network import Conditions
from meshcore.sim.traffic import BEATS, ECHOES, NEWS, REPAIR
from meshcore.sim.watch import Watch, watch
from meshcore.sim.world import World

SIZES = (10, 100, 1000)
QUICK = (10, 50)
DEGREE = 6
SECONDS = 60.0
KNOWN_WITHIN = 6.0
SPEED_BARS = {100: 20.0, 1000: 0.5}  # x real time: 60 s in 3 s and in 2 min
LINKS_OF_A_JOINER = 6


@dataclass(frozen=True)
class Run:
    """One run: figures by name, and CPU seconds."""

    figures: dict[str, Any]
    cpu: float
    start: float
    world: World
    load: Load


def converged(nodes: int, seed: int, conditions: Conditions | None = None) -> tuple[World, float]:
    """A mesh that has been there for long, and the CPU seconds of its start."""
    rng = random.Random(seed)
    world = World(seed, check_every=0, keep_events=False)
    edges = topology.random_graph(topology.names(nodes), min(DEGREE, nodes - 1), rng)
    begun = time.process_time()
    start_converged(world, edges)
    took = time.process_time() - begun
    world.run(2.0)
    world.network.conditions = conditions or Conditions()
    gc.collect()
    gc.freeze()  # what stands is not looked at again and again
    return world, took


def measure(
    nodes: int,
    *,
    deaths_a_minute: float,
    loss: float = 0.0,
    seconds: float,
    seed: int | None = None,
) -> Run:
    """Let time pass over a mesh, with or without churn; `seed`: of all, by default the size."""
    seed = nodes if seed is None else seed
    world, start = converged(nodes, seed, Conditions(news_loss=loss))
    deaths, load = Deaths(world, within=KNOWN_WITHIN), Load(world)
    watches: list[Watch] = [deaths, load]
    watch(world, watches)
    if deaths_a_minute:
        rng = random.Random(f"churn {seed}")
        churn = Churn(world, rng, topology.names(nodes), links=DEGREE, new_share=0.5)
        churn.run(deaths_a_minute / nodes)
    begun = time.process_time()
    world.run(seconds)
    cpu = time.process_time() - begun
    figures: dict[str, Any] = {"problems": deaths.problems + deaths.false}
    for one in watches:
        figures |= one.figures()
    gc.unfreeze()
    return Run(figures, cpu, start, world, load)


def join(nodes: int) -> tuple[int, int, int]:
    """One more node joins: (news received at most, the bound, states that anybody wrote anew)."""
    world, _ = converged(nodes, nodes + 1)
    before = {one: one.mesh.database.link_state(one.name).sequence for one in world.alive()}
    load = Load(world)
    rng = random.Random(nodes)
    links = min(LINKS_OF_A_JOINER, nodes)
    peers = rng.sample(topology.names(nodes), links)
    process = world.add("newcomer")
    for peer in peers:
        world.link("newcomer", peer)
    watch(world, [load])
    world.run(5.0)
    bound, most, over = 0, 0, 0
    for one, moved in load.moved().items():
        degree = len(one.wires)
        received, allowed = moved.received[NEWS], (1 + links) * degree
        if one is not process and received / allowed > (most / bound if bound else -1.0):
            most, bound = received, allowed
    for one, sequence in before.items():
        written = one.mesh.database.get(one.name, LINK_STATE).sequence - sequence
        over += written > (1 if one.name in peers else 0)
    gc.unfreeze()
    return most, bound, over


def line_of(what: str, nodes: int, run: Run) -> str:
    """One row: detection and load."""
    deaths, load = run.figures["deaths"], run.figures["load"]
    known = deaths["everywhere_s"]
    times = "no death"
    if deaths["count"]:
        times = f"{deaths['known_by_all']}/{deaths['count']} deaths known everywhere"
        if known["max"] is not None:
            times += f" in {known['median']:.2f} s (max {known['max']:.2f}, bar {KNOWN_WITHIN:g})"
    cells = [
        f"{name} {load[name]['messages_sent']:.2f}/s {load[name]['bytes_sent']:.0f} B/s"
        for name in ("beats", "echoes", "news", "repair")
    ]
    found = f"; WRONG: {run.figures['problems'][:2]}" if run.figures["problems"] else ""
    return f"{nodes:5,} nodes {what}: {times}; a node sends {', '.join(cells)}{found}"


def speed_of(nodes: int, run: Run, seconds: float) -> str:
    speed = seconds / run.cpu
    bar = SPEED_BARS.get(nodes)
    verdict = "" if bar is None else f" (bar {bar:g}: {'met' if speed >= bar else 'MISSED'})"
    return (
        f"{nodes:5,} nodes, churn: {seconds:g} virtual s took {run.cpu:.1f} s of CPU = "
        f"{speed:.1f} x real time{verdict}; the start took {run.start:.1f} s"
    )


def run(report: Callable[[str], object], *, quick: bool = False) -> None:
    """Ask everything and tell each line to `report`."""
    seconds = 20.0 if quick else SECONDS
    for nodes in QUICK if quick else SIZES:
        idle = measure(nodes, deaths_a_minute=0, seconds=seconds)
        moved = [one.received for one in idle.load.moved().values()]
        other = sum(sum(each) - each[BEATS] - each[ECHOES] for each in moved)
        report(line_of("idle", nodes, idle) + f"; messages but beats and echoes: {other}")
        del idle
        rate = max(3.0, nodes / 100)
        churned = measure(nodes, deaths_a_minute=rate, seconds=seconds)
        report(line_of("1 % churn", nodes, churned))
        report(speed_of(nodes, churned, seconds))
        del churned
        lossy = measure(nodes, deaths_a_minute=rate, loss=0.05, seconds=seconds)
        report(line_of("1 % churn, 5 % loss", nodes, lossy))
        del lossy
        steady = measure(nodes, deaths_a_minute=6.0, seconds=seconds)
        news = [one.received[NEWS] + one.received[REPAIR] for one in steady.load.moved().values()]
        report(
            f"{nodes:5,} nodes, 6 deaths a minute in the whole mesh: a node receives "
            f"{sum(news) / max(1.0, steady.load.node_seconds()):.2f} news and repair messages/s"
        )
        del steady
        most, bound, over = join(nodes)
        verdict = "met" if most <= bound and not over else "MISSED"
        report(
            f"{nodes:5,} nodes, one joins with {LINKS_OF_A_JOINER} links: the node that is nearest "
            f"to its bound received {most} news messages of {bound}; {over} nodes flooded their "
            f"own state without need ({verdict})"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small meshes, short runs")
    run(lambda line: print(line, flush=True), quick=parser.parse_args().quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
