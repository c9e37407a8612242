"""Faults that can befall a mesh, by name, and the weather that it can have.

A fault strikes at one moment and undoes itself after a while: `FAULTS` has a function for each, and
whoever adds one adds a row. Weather lasts: `WEATHER` says what each kind makes of the conditions.
`LASTS_MAX` is the longest that anything goes on by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from meshcore.sim.churn import Churn
from meshcore.sim.network import Conditions
from meshcore.sim.world import World

LASTS_MAX = 16.0
CRASHED_FOR = (0.0, 0.3, 2.0, 8.0, 15.0)
RATES_APART = 0.01  # clocks run up to 1 % too fast or too slow
WALLS_APART = 3600.0  # wall clocks are up to an hour wrong


class Faults:
    """Lets faults strike a world; `names` are the nodes that may be hit."""

    def __init__(self, world: World, rng: random.Random, names: list[str]) -> None:
        self.world, self.rng, self.names = world, rng, names
        self.churn = Churn(world, rng, names)

    def strike(self, kind: str) -> None:
        FAULTS[kind](self)

    def living(self) -> str | None:
        """Some node that runs; None where none does."""
        names = [process.name for process in self.world.alive() if not process.is_leaving]
        return self.rng.choice(names) if names else None

    def restart(self, name: str, keep_data: bool) -> None:
        """Start a node again, if it is dead; lost data may come with a clock set back."""
        if not self.world.node(name).is_alive:
            clock_back = not keep_data and self.rng.random() < 0.5
            self.world.restart(name, keep_data=keep_data, clock_back=clock_back)


def _crash(faults: Faults, *, silent: bool = False, keep_data: bool = True) -> None:
    name = faults.living()
    if name is not None:
        faults.world.crash(name, silent=silent)
        wait = faults.rng.choice(CRASHED_FOR)
        faults.world.clock.after(wait, faults.restart, name, keep_data)


def _leave(faults: Faults) -> None:
    name = faults.living()
    if name is not None:
        faults.world.stop(name)
        faults.world.clock.after(faults.rng.choice([0.6, 3.0]), faults.restart, name, True)


def _cut(faults: Faults, *, one_way: bool = False) -> None:
    world, rng = faults.world, faults.rng
    if not world.dials:
        return
    one, other = rng.choice(list(world.dials))
    if rng.random() < 0.5:
        one, other = other, one
    world.cut(one, other, one_way=one_way)
    world.clock.after(rng.choice([0.2, 1.0, 4.0, 12.0]), world.heal, one, other)


def _partition(faults: Faults) -> None:
    world, rng = faults.world, faults.rng
    side = [name for name in faults.names if rng.random() < 0.5]
    chosen = frozenset(side)
    world.partition(side, [name for name in faults.names if name not in chosen])
    world.clock.after(rng.choice([1.0, 6.0, 14.0]), world.heal_all)


def _pause(faults: Faults) -> None:
    name = faults.living()
    if name is not None:
        faults.world.pause(name, faults.rng.choice([0.3, 1.5, 4.0, 9.0]))


def _slow(faults: Faults) -> None:
    name = faults.living()
    if name is not None:
        busy = faults.rng.choice([0.1, 0.5, 1.5, 4.0])
        faults.world.slow_down(name, busy, faults.rng.uniform(1.0, 10.0))


def _clock_jump(faults: Faults) -> None:
    name = faults.living()
    if name is not None:
        seconds = faults.rng.choice([1.0, 60.0, WALLS_APART])
        faults.world.jump(name, seconds if faults.rng.random() < 0.5 else -seconds)


def _clock_rate(faults: Faults) -> None:
    name = faults.living()
    if name is not None:
        faults.world.set_rate(name, 1.0 + faults.rng.uniform(-RATES_APART, RATES_APART))


FAULTS: dict[str, Callable[[Faults], None]] = {
    "crash": _crash,
    "silent-crash": lambda faults: _crash(faults, silent=True),
    "leave": _leave,
    "cut": _cut,
    "one-way-cut": lambda faults: _cut(faults, one_way=True),
    "partition": _partition,
    "pause": _pause,
    "forget": lambda faults: _crash(faults, keep_data=False),
    "slow": _slow,
    "clock-jump": _clock_jump,
    "clock-rate": _clock_rate,
    "churn": lambda faults: faults.churn.step(),
}
# What may befall a mesh without a node that is there being called dead.
HARMLESS = ("clock-jump", "clock-rate")

Weather: TypeAlias = Callable[[Conditions], Conditions]
WEATHER: dict[str, Weather] = {
    "delay": lambda conditions: replace(conditions, delay=0.2, jitter=0.02),
    "packet-loss": lambda conditions: replace(conditions, packet_loss=0.05),
    "duplication": lambda conditions: replace(conditions, duplication=0.1),
    "loss": lambda conditions: replace(conditions, news_loss=0.05),
    "reorder": lambda conditions: replace(conditions, news_reorder=0.2),
    "no-news": lambda conditions: replace(conditions, has_news=False),
    "narrow": lambda conditions: replace(conditions, bytes_per_second=1_000_000.0),
}


def weather_of(kinds: Sequence[str]) -> Conditions:
    """The conditions under all these kinds of weather at once."""
    conditions = Conditions()
    for kind in kinds:
        conditions = WEATHER[kind](conditions)
    return conditions
