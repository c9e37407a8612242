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
from collections.abc import Callable
from typing import Any

from meshcore.sim import checkers, topology
from meshcore.sim.network import Conditions
from meshcore.sim.work import pattern
from meshcore.sim.world import World

FAULTS = ("crash", "silent crash", "leave", "cut", "one-way cut", "partition", "pause", "forget")
WEATHER = ("delay", "packet loss", "duplication", "news loss", "no news", "narrow")
SETTLE_WITHIN = 25.0  # seconds from the last fault: `remove`, and what waits for it
TTL_MAX = 20.0


class Swarm:
    """One run. `problems` is empty where everything was as it must be."""

    def __init__(self, seed: int, *, seconds: float = 20.0, check_every: int = 25) -> None:
        self.rng = rng = random.Random(f"swarm {seed}")
        self.seconds = seconds
        self.faults = [fault for fault in FAULTS if rng.random() < 0.5]
        self.weather = [kind for kind in WEATHER if rng.random() < 0.4]
        self.world = World(
            seed,
            conditions=self._conditions(),
            check_every=check_every,
            auto_connect=2 if seed % 8 in (0, 3) else 0,  # not of a kept seed: it stays what it was
        )
        self.names = topology.names(rng.randint(3, 9))
        kind = rng.choice(topology.SHAPES)
        both_ways = rng.choice([0.0, 0.5, 1.0])
        edges = topology.shape(kind, self.names, rng, both_ways=both_ways)
        self.world.build(edges, within=rng.choice([0.0, 2.0]))
        self.problems: list[str] = []
        self._does: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "silent crash": lambda: self._crash(silent=True),
            "leave": self._leave,
            "cut": self._cut,
            "one-way cut": lambda: self._cut(one_way=True),
            "partition": self._partition,
            "pause": self._pause,
            "forget": lambda: self._crash(keep_data=False),
        }

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
                self._does[rng.choice(self.faults)]()
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

    def _living(self) -> str | None:
        names = [process.name for process in self.world.alive() if not process.is_leaving]
        return self.rng.choice(names) if names else None

    def _crash(self, *, silent: bool = False, keep_data: bool = True) -> None:
        name = self._living()
        if name is not None:
            self.world.crash(name, silent=silent)
            wait = self.rng.choice([0.0, 0.3, 2.0, 8.0, 15.0])
            self.world.clock.after(wait, self._restart, name, keep_data)

    def _restart(self, name: str, keep_data: bool) -> None:
        if not self.world.node(name).is_alive:
            clock_back = not keep_data and self.rng.random() < 0.5
            self.world.restart(name, keep_data=keep_data, clock_back=clock_back)

    def _leave(self) -> None:
        name = self._living()
        if name is not None:
            self.world.stop(name)
            self.world.clock.after(self.rng.choice([0.6, 3.0]), self._restart, name, True)

    def _cut(self, *, one_way: bool = False) -> None:
        one, other = self.rng.choice(list(self.world.dials))
        if self.rng.random() < 0.5:
            one, other = other, one
        self.world.cut(one, other, one_way=one_way)
        wait = self.rng.choice([0.2, 1.0, 4.0, 12.0])
        self.world.clock.after(wait, self.world.heal, one, other)

    def _partition(self) -> None:
        side = [name for name in self.names if self.rng.random() < 0.5]
        others = [name for name in self.names if name not in side]
        self.world.partition(side, others)
        wait = self.rng.choice([1.0, 6.0, 14.0])
        self.world.clock.after(wait, self.world.heal_all)

    def _pause(self) -> None:
        name = self._living()
        if name is not None:
            self.world.pause(name, self.rng.choice([0.3, 1.5, 4.0, 9.0]))

    # The judgement ---------------------------------------------------------------------------

    def _heal(self) -> None:
        world = self.world
        world.run(16.0)  # the longest of the waits above
        world.heal_all()
        world.network.conditions = Conditions(has_news=world.network.conditions.has_news)
        for process in list(world.processes.values()):
            process.resume()
            self._restart(process.name, True)

    def _judge(self) -> None:
        world, problems = self.world, self.problems
        problems += self._until(lambda: checkers.agreement(world), SETTLE_WITHIN)
        world.run(5.0)
        problems += checkers.settled(world) + checkers.gathered(world)
        calls = world.call_all_pairs()
        world.run(2.0)
        problems += checkers.all_succeeded(calls)
        problems += self._until(lambda: checkers.ended(world, slack=10.0), TTL_MAX)
        if world.auto_connect:  # a lost link that others stand for is told of until `remove`
            world.run(10.0)
        problems += checkers.quiet(world)

    def _until(self, check: Callable[[], list[str]], within: float) -> list[str]:
        end = self.world.now + within
        while (found := check()) and self.world.now < end:
            self.world.run(0.25)
        return found
