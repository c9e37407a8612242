"""Swarm testing: out of one seed a mesh, a mixture of faults, work all the time, and a judgement.

Every seed turns some kinds of fault off. A mixture of everything mostly shows the same few
behaviours, for the loudest fault hides the others; what is left out is what lets the rest act
(Groce and others, "Swarm Testing", ISSTA 2012).

First a phase in which faults come and go while calls are made: only safety is judged then (nothing
runs twice, no untruth is told, no invariant breaks). Then everything is healed and restarted, and
liveness is judged: all agree again, every call has ended, new ones succeed, and it is quiet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from meshcore.sim import checkers, topology
from meshcore.sim.deaths import KNOWN_WITHIN, Deaths
from meshcore.sim.faults import FAULTS, LASTS_MAX, RATES_APART, WALLS_APART, Faults
from meshcore.sim.network import Conditions
from meshcore.sim.transitions import Transitions
from meshcore.sim.watch import Watch, watch
from meshcore.sim.work import pattern
from meshcore.sim.world import World

WEATHER = ("delay", "packet loss", "duplication", "news loss", "no news", "narrow")
SETTLE_WITHIN = 25.0  # seconds from the last fault: `remove`, and what waits for it
TTL_MAX = 20.0
PAUSES_MAX = 25.0  # seconds by which pauses and slowness of its sender may delay the end of a call
REPAIRED_WITHIN = 5.0  # seconds in which lost news are mostly repaired
NODES_MAX = 15  # with those that join


class Swarm:
    """One run. `problems` is empty where everything was as it must be.

    Args:
        seed: of everything.
        seconds: of the phase with faults.
        check_every: steps of a process between two looks at its invariants; 0 = never.
        kinds: the faults out of which the seed chooses.
    """

    def __init__(
        self,
        seed: int,
        *,
        seconds: float = 20.0,
        check_every: int = 25,
        kinds: Sequence[str] = tuple(FAULTS),
    ) -> None:
        self.rng = rng = random.Random(f"swarm {seed}")
        self.seconds = seconds
        self.faults = [fault for fault in kinds if rng.random() < 0.5]
        self.weather = [kind for kind in WEATHER if rng.random() < 0.4]
        self.world = World(
            seed,
            conditions=self._conditions(),
            check_every=check_every,
            rates_apart=RATES_APART if "clock-rate" in self.faults else 0.0,
            walls_apart=WALLS_APART if "clock-jump" in self.faults else 0.0,
            auto_connect=2 if seed % 8 in (0, 3) else 0,  # not of a kept seed: it stays what it was
        )
        self.names = topology.names(rng.randint(3, 9))
        within = self.world.timings.dead + KNOWN_WITHIN
        if "news loss" in self.weather:
            within += REPAIRED_WITHIN  # every fifth word is lost
        within += 2 * self.world.network.conditions.delay * len(self.names)  # at most so many hops
        self.deaths = Deaths(self.world, within=within)
        self.watches: list[Watch] = watch(self.world, [self.deaths, Transitions(self.world)])
        kind = rng.choice(topology.SHAPES)
        both_ways = rng.choice([0.0, 0.5, 1.0])
        edges = topology.shape(kind, self.names, rng, both_ways=both_ways)
        self.world.build(edges, within=rng.choice([0.0, 2.0]))
        self.problems: list[str] = []
        self._faults = Faults(self.world, rng, self.names)

    def describe(self) -> str:
        return (
            f"{len(self.names)} nodes, faults {self.faults}, weather {self.weather}; "
            + self.world.describe()
        )

    def run(self) -> list[str]:
        """Both phases; returns what was wrong."""
        world, rng = self.world, self.rng
        end = world.now + self.seconds
        while world.now < end:
            world.run(rng.expovariate(1.0 / 0.25))
            self._work()
            if self.faults and rng.random() < 0.15:
                fault = rng.choice(self.faults)
                if fault != "churn" or len(self.names) < NODES_MAX:
                    self._faults.strike(fault)
        self.problems += checkers.work(world)
        self._heal()
        self._judge()
        return self.problems

    # The mixture -----------------------------------------------------------------------------

    def _conditions(self) -> Conditions:
        rng, weather = self.rng, self.weather
        return Conditions(
            delay=rng.choice([0.02, 0.2]) if "delay" in weather else 0.001,
            jitter=0.02 if "delay" in weather else 0.0005,
            packet_loss=0.05 if "packet loss" in weather else 0.0,
            duplication=0.1 if "duplication" in weather else 0.0,
            news_loss=0.2 if "news loss" in weather else 0.0,
            news_reorder=0.2 if "news loss" in weather else 0.0,
            has_news="no news" not in weather,
            bytes_per_second=1_000_000.0 if "narrow" in weather else 0.0,
            same_machine=rng.random() < 0.3,
        )

    def _work(self) -> None:
        """Some calls at one moment; now and then one of the open ones is cancelled."""
        rng, world = self.rng, self.world
        for _ in range(rng.choice([1, 1, 3])):
            sender, recipient = rng.choice(self.names), rng.choice(self.names)
            process = world.processes.get(sender)
            if process is None or not process.is_alive or process.is_paused:
                continue
            kinds: list[tuple[str, Any]] = [
                ("test:echo", "hello"),
                ("test:echo", rng.random()),
                ("test:items", rng.choice([1, 40, 900])),
                ("test:later", rng.uniform(0.0, 5.0)),
                ("test:hang", None),
                ("test:fail", None),
                ("test:large", rng.choice([70_000, 500_000])),
                ("test:size", pattern(rng.choice([100, 200_000]))),
            ]
            directive, payload = rng.choice(kinds)
            ttl = rng.uniform(0.5, TTL_MAX)
            world.call(sender, recipient, directive, payload, ttl=ttl, trace=rng.random() < 0.1)
        open_calls = world.ledger.open_calls()
        if open_calls and rng.random() < 0.1:
            call = rng.choice(open_calls)
            if not call.sender.is_paused:
                call.sender.work.cancel(call)

    # The judgement ---------------------------------------------------------------------------

    def _heal(self) -> None:
        world = self.world
        world.run(LASTS_MAX)
        world.heal_all()
        self._healed_at = world.now
        world.network.conditions = Conditions(has_news=world.network.conditions.has_news)
        for process in list(world.processes.values()):
            process.resume()
            self._faults.restart(process.name, True)

    def _judge(self) -> None:
        world, problems = self.world, self.problems
        problems += self._until(lambda: checkers.agreement(world), SETTLE_WITHIN)
        world.run(5.0)
        problems += checkers.settled(world) + checkers.gathered(world)
        calls = world.call_all_pairs()
        world.run(2.0)
        problems += checkers.all_succeeded(calls)
        problems += self._until(lambda: checkers.ended(world, slack=PAUSES_MAX), TTL_MAX)
        # A link that was lost, and that another has replaced, is told of until `remove`.
        world.run(max(0.0, self._healed_at + 11.0 - world.now))
        problems += checkers.quiet(world)
        for one in self.watches:
            problems += one.problems
        problems += [f"false death at {text}" for text in self.deaths.false]

    def _until(self, check: Callable[[], list[str]], within: float) -> list[str]:
        end = self.world.now + within
        while (found := check()) and self.world.now < end:
            self.world.run(0.25)
        return found
