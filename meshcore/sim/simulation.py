"""One simulated mesh under chosen faults, measured: what `meshctl sim` runs.

It starts converged. For `duration` virtual seconds faults strike and nodes come and go; then all is
healed and started again, and the mesh must agree and go quiet. The report says what an operator
wants to know of a mesh that is still to be built: how soon deaths and joins are known, what a node
sends and receives, and whether anybody was called dead who was not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from meshcore.protocol.membership.timings import Timings as Timings
from meshcore.protocol.wire.limits import HOP_LIMIT
from meshcore.sim import checkers, topology
from meshcore.sim.converged import start_converged
from meshcore.sim.deaths import KNOWN_WITHIN, Deaths
from meshcore.sim.faults import (
    FAULTS,
    LASTS_MAX,
    RATES_APART,
    WALLS_APART,
    WEATHER,
    Faults,
    weather_of,
)
from meshcore.sim.growth import Growth
from meshcore.sim.load import Load
from meshcore.sim.network import Conditions
from meshcore.sim.transitions import Transitions
from meshcore.sim.watch import Watch, watch
from meshcore.sim.world import World

WARM_UP = 2.0  # seconds before anything is measured
STEP = 0.25  # seconds between two looks at the progress
SETTLE_WITHIN = 30.0
OBSERVERS_MAX = 40  # nodes of a large mesh whose views are judged
STRICT_NODES_MAX = 200  # up to this size every transition is followed
LINKS_MAX = 20_000
REPAIRED_WITHIN = 5.0  # seconds in which lost news are mostly repaired


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. Times in seconds, `churn` is the share of nodes that dies each minute."""

    nodes: int = 20
    topology: str = "random"
    degree: float = 6.0
    seed: int = 1
    duration: float = 60.0
    faults: tuple[str, ...] = ()
    every: float = 10.0  # mean time between two faults other than churn
    churn: float = 0.01
    timings: Timings = field(default_factory=Timings)


class Simulation:
    """A plan at work. `run` may be interrupted: `report` tells what was measured so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.problems: list[str] = []
        self.is_complete = False
        self._rng = rng = random.Random(f"simulation {plan.seed}")
        self.strikes = [name for name in plan.faults if name in FAULTS and name != "churn"]
        weather = [name for name in plan.faults if name in WEATHER]
        self.world = World(
            plan.seed,
            conditions=weather_of(weather),
            timings=plan.timings,
            check_every=0,
            rates_apart=RATES_APART if "clock-rate" in plan.faults else 0.0,
            walls_apart=WALLS_APART if "clock-jump" in plan.faults else 0.0,
            keep_events=False,
        )
        self.names = topology.names(plan.nodes)
        self.edges = topology.shape(plan.topology, self.names, rng, degree=plan.degree)
        self._faults = Faults(self.world, rng, self.names)
        self._watches: list[Watch] = []
        self._load: Load | None = None
        self._measured = 0.0

    def run(self, progress: Callable[[float], object] = lambda share: None) -> None:
        """Both phases; `progress` is told the share that is done, 0 to 1."""
        start_converged(self.world, self.edges)
        self.world.run(WARM_UP)
        self._look_on()
        self._disturb(progress)
        assert self._load is not None
        self._load.close()
        self._settle(progress)
        self.is_complete = True
        progress(1.0)

    def _look_on(self) -> None:
        plan, world = self.plan, self.world
        within = plan.timings.dead + KNOWN_WITHIN
        if world.network.conditions.news_loss:
            within += REPAIRED_WITHIN
        within += 2 * world.network.conditions.delay * min(plan.nodes, HOP_LIMIT)
        self._load = Load(world)
        watches: list[Watch] = [self._load, Deaths(world, within=within), Growth(world)]
        if plan.nodes <= STRICT_NODES_MAX:
            watches.append(Transitions(world, lenient=True))
        self._watches = watch(world, watches)

    def _disturb(self, progress: Callable[[float], object]) -> None:
        plan, world, rng = self.plan, self.world, self._rng
        if "churn" in plan.faults:
            self._faults.churn.run(plan.churn)
        begin = world.now
        end = begin + plan.duration
        strike_at = begin + rng.expovariate(1.0 / plan.every)
        whole = plan.duration + (LASTS_MAX if plan.faults else 0.0) + SETTLE_WITHIN / 3
        while world.now < end:
            world.run(min(STEP, end - world.now))
            self._measured = world.now - begin
            while self.strikes and strike_at <= world.now:
                self._faults.strike(rng.choice(self.strikes))
                strike_at += rng.expovariate(1.0 / plan.every)
            progress(min(0.99, self._measured / whole))

    def _settle(self, progress: Callable[[float], object]) -> None:
        """Everything heals; then the mesh must agree, and be quiet."""
        world = self.world
        self._faults.churn.stop()
        if self.plan.faults:
            self._wait(LASTS_MAX, progress)
            world.heal_all()
            world.network.conditions = Conditions(has_news=world.network.conditions.has_news)
            for process in list(world.processes.values()):
                process.resume()
                self._faults.restart(process.name, True)
        end = world.now + SETTLE_WITHIN
        while (found := self._disagreement()) and world.now < end:
            self._wait(1.0, progress)
        self.problems += found
        self._wait(5.0, progress)
        self.problems += checkers.quiet(world)
        progress(0.99)

    def _wait(self, seconds: float, progress: Callable[[float], object]) -> None:
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.run(min(STEP, end - self.world.now))
            progress(0.95)

    def _disagreement(self) -> list[str]:
        digests = {process.mesh.database.digest for process in self.world.alive()}
        if len(digests) > 1 and self.plan.nodes > OBSERVERS_MAX:
            return [f"{len(digests)} different sets of records are held"]
        observers = sorted(process.name for process in self.world.alive())
        if len(observers) > OBSERVERS_MAX:
            observers = self._sample(observers)
        return checkers.agreement(self.world, observers=observers)

    def _sample(self, names: list[str]) -> list[str]:
        return random.Random(f"sample {self.plan.seed}").sample(names, OBSERVERS_MAX)

    # What came of it -------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Everything that was measured, ready for JSON; the same for the same plan."""
        figures: dict[str, Any] = {}
        problems = list(self.problems)
        for one in self._watches:
            figures.update(one.figures())
            problems += one.problems
            if isinstance(one, Deaths):
                problems += [f"false death at {text}" for text in one.false]
        plan = {**asdict(self.plan), "faults": list(self.plan.faults)}
        return {
            "plan": plan,
            "complete": self.is_complete,
            "measured_s": round(self._measured, 3),
            "links": len(self.edges),
            "faults_struck": len(self.world.log),
            **figures,
            "problems": problems,
            "trace": f"{self.world.trace:08x}",
        }

    def detections(self) -> dict[str, list[float]]:
        """The times behind the figures, for a plot: seconds until everybody knew."""
        found: dict[str, list[float]] = {"death": [], "join": [], "heal": []}
        for one in self._watches:
            if isinstance(one, Deaths):
                found["death"] = [max(death.took) for death in one.known()]
            elif isinstance(one, Growth):
                found["join"] = [max(join.took) for join in one.known()]
                found["heal"] = one.heals
        return found


def link_count(kind: str, nodes: int, degree: float) -> int:
    """About how many links a topology has."""
    if kind == "full":
        return nodes * (nodes - 1) // 2
    return round(nodes * degree / 2) if kind == "random" else nodes
