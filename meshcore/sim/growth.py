"""Growth: how soon everybody knows who has joined, and how soon a healed mesh agrees.

Agreement of a healed mesh is seen by digests: two nodes with equal ones hold the same records, and
reach the same nodes. It is looked at from time to time until it is there, or something else
happens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meshcore.protocol.membership.events import Added, Restarted
from meshcore.sim.process import Process
from meshcore.sim.watch import Watch, quantiles, reachable

if TYPE_CHECKING:
    from meshcore.sim.world import World

LOOK_INTERVAL = 0.05
GIVE_UP_AFTER = 60.0


@dataclass(slots=True, eq=False)
class Join:
    """One start of a process, and who has yet to hear of it."""

    process: Process
    at: float
    waiting: dict[Process, None]
    took: list[float] = field(default_factory=list)
    is_void: bool = False


class Growth(Watch):
    """Times from a start until everybody lists that life, and from a healing until all agree."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.joins: list[Join] = []
        self.heals: list[float] = []
        self.heals_given_up = 0
        self._open: dict[tuple[str, int], Join] = {}
        self._healed_at: float | None = None

    def on_start(self, process: Process) -> None:
        others = {one: None for one in self.world.alive() if one is not process and one.is_sound}
        join = Join(process, self.world.now, others)
        self.joins.append(join)
        self._open[process.name, process.life] = join

    def on_end(self, process: Process, *, silent: bool) -> None:
        for join in self._open.values():
            join.waiting.pop(process, None)
        over = self._open.pop((process.name, process.life), None)
        if over is not None:
            over.is_void = bool(over.waiting)
        self._close_finished()

    def on_event(self, process: Process, event: object) -> None:
        if isinstance(event, (Added, Restarted)):
            key = (event.node_id, event.life)
            join = self._open.get(key)
            if join is not None and process in join.waiting:
                del join.waiting[process]
                join.took.append(self.world.now - join.at)
                if not join.waiting:
                    del self._open[key]

    def _close_finished(self) -> None:
        for key in [key for key, join in self._open.items() if not join.waiting]:
            del self._open[key]

    def on_heal(self) -> None:
        if self._healed_at is None:
            self.world.clock.after(LOOK_INTERVAL, self._look)
        self._healed_at = self.world.now

    def _look(self) -> None:
        assert self._healed_at is not None
        took = self.world.now - self._healed_at
        if self.world.network.cuts() or took > GIVE_UP_AFTER:
            self.heals_given_up += 1
            self._healed_at = None
        elif self._agree():
            self.heals.append(took)
            self._healed_at = None
        else:
            self.world.clock.after(LOOK_INTERVAL, self._look)

    def _agree(self) -> bool:
        sound = [one for one in self.world.alive() if one.is_sound]
        if not sound:
            return True
        return len({one.mesh.database.digest for one in sound}) == 1 and len(
            reachable(self.world, sound[0], self.world.now)
        ) == len(sound)

    def known(self) -> list[Join]:
        """The joins of which everybody has heard."""
        return [join for join in self.joins if join.took and not join.waiting and not join.is_void]

    def figures(self) -> dict[str, Any]:
        known = [max(join.took) for join in self.known()]
        return {
            "joins": {
                "count": len(self.joins),
                "known_by_all": len(known),
                "everywhere_s": quantiles(known),
            },
            "heals": {
                "count": len(self.heals) + self.heals_given_up,
                "agreed": len(self.heals),
                "agreed_s": quantiles(self.heals),
            },
        }
