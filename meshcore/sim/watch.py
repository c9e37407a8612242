"""Watches: judges that look on while a world runs, where a checker only looks at the end of it.

A watch is told every event that a core tells its application, every start and end of a process and
every healing; it notes what must never have been in `problems`, and what an operator wants to know
in `figures`.

What truly was is asked of the world alone: `reaches` follows wires, cuts and processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meshcore.sim.process import Ended, Process, Started

if TYPE_CHECKING:
    from meshcore.sim.world import World


class Watch:
    """Overrides what it wants to be told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.problems: list[str] = []

    def on_start(self, process: Process) -> None:
        """A process has started, and has said nothing yet."""

    def on_end(self, process: Process, *, silent: bool) -> None:
        """A process has ended; `silent`: its whole machine is off."""

    def on_event(self, process: Process, event: object) -> None:
        """A core tells its application something."""

    def on_heal(self) -> None:
        """A cut was healed."""

    def figures(self) -> dict[str, Any]:
        """What it has measured, by name."""
        return {}

    def problem(self, text: str) -> None:
        self.problems.append(f"{self.world.now:.3f}: {text}")


def watch(world: World, watches: Sequence[Watch]) -> list[Watch]:
    """Let these watches look on at a world from now on."""

    def tell(process: Process, event: object) -> None:
        for one in watches:
            if isinstance(event, Started):
                one.on_start(process)
            elif isinstance(event, Ended):
                one.on_end(process, silent=event.silent)
            else:
                one.on_event(process, event)

    world.observe(tell)
    for one in watches:
        world.on_heal(one.on_heal)
    return list(watches)


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Median, 95 % and greatest of some figures; None where there are none."""
    if not values:
        return {"median": None, "p95": None, "max": None}
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = (ordered[middle] + ordered[~middle]) / 2
    p95 = ordered[min(len(ordered) - 1, (95 * len(ordered) + 99) // 100 - 1)]
    return {"median": round(median, 3), "p95": round(p95, 3), "max": round(ordered[-1], 3)}


def peers_of(world: World, process: Process, since: float) -> list[Process]:
    """The processes to which it has been linked, soundly at both ends, at least since then."""
    found = []
    for wire in process.wires.values():
        other = wire.other(wire.end_of(process)).process
        if wire.sound_since <= since and world.network.is_sound(wire) and was_sound(other, since):
            found.append(other)
    return found


def was_sound(process: Process, since: float) -> bool:
    """It runs, and nothing has kept it from doing what was due since then."""
    return process.is_sound and process.troubled_at <= since and process.started_at <= since


def reachable(world: World, start: Process, since: float) -> dict[Process, None]:
    """Everybody to whom a chain of links leads that have all been sound since then."""
    found = {start: None}
    if not was_sound(start, since):
        return found
    queue = deque([start])
    while queue:
        for other in peers_of(world, queue.popleft(), since):
            if other not in found:
                found[other] = None
                queue.append(other)
    return found
