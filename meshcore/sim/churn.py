"""Churn: nodes die and others join, at a rate, without anybody's doing.

Each death is made good by a start: of the same node after a while, or of a new one that dials some
that are there. So the size of the mesh stays what it is.
"""

from __future__ import annotations

import random

from meshcore.sim.world import World

BACK_AFTER = (2.0, 15.0)  # seconds until a node that died is made good
JOINED_MAX = 100_000


class Churn:
    """Deaths and joins in a world.

    Args:
        world: the mesh.
        rng: of everything here.
        names: the nodes; who joins is appended.
        links: how many a node that joins dials.
        new_share: of the deaths that are made good by a new node instead of the same one.
    """

    def __init__(
        self,
        world: World,
        rng: random.Random,
        names: list[str],
        *,
        links: int = 2,
        new_share: float = 0.5,
    ) -> None:
        self._world, self._rng, self._names = world, rng, names
        self._links, self._new_share = links, new_share
        self._joined = 0
        self._stopped = False

    def run(self, per_minute: float) -> None:
        """From now on this share of the nodes dies each minute, on average."""
        if per_minute > 0:
            rate = per_minute * len(self._names) / 60.0
            self._world.clock.after(self._rng.expovariate(rate), self._next, rate)

    def _next(self, rate: float) -> None:
        if not self._stopped:
            self.step()
            self._world.clock.after(self._rng.expovariate(rate), self._next, rate)

    def stop(self) -> None:
        """Nobody dies of it any more; who is dead is still made good."""
        self._stopped = True

    def step(self) -> None:
        """One node dies, now; it or another takes its place after a while."""
        world, rng = self._world, self._rng
        living = [process.name for process in world.alive() if not process.is_leaving]
        if len(living) < 2:
            return
        name = rng.choice(living)
        world.crash(name, silent=rng.random() < 0.3)
        after = rng.uniform(*BACK_AFTER)
        if rng.random() < self._new_share and self._joined < JOINED_MAX:
            world.clock.after(after, self.join)
        else:
            world.clock.after(after, self._back, name)

    def _back(self, name: str) -> None:
        if not self._world.node(name).is_alive:
            self._world.restart(name)

    def join(self) -> str:
        """A new node dials some of those that live; returns its id."""
        world, rng = self._world, self._rng
        living = [process.name for process in world.alive()] or list(world.processes)
        self._joined += 1
        name = f"j{self._joined:02d}"
        world.add(name)
        self._names.append(name)
        for peer in rng.sample(living, min(self._links, len(living))):
            world.link(name, peer)
        return name
