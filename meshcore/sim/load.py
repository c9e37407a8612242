"""Load: messages and bytes of every node in a second, by what they are for.

Counted are what a node sends and what it receives; of a publication each neighbour gets a copy.
What a process has moved counts from when the watch was set, or from its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.sim.process import Process
from meshcore.sim.traffic import CLASSES, NEWS, Traffic
from meshcore.sim.watch import Watch

if TYPE_CHECKING:
    from meshcore.sim.world import World


class Load(Watch):
    """Sums over all processes, and the node that received the most news."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._since = world.now
        self._before = {process: process.traffic.copy() for process in world.alive()}
        self._until: float | None = None
        self._moved: dict[Process, Traffic] = {}

    def on_start(self, process: Process) -> None:
        if self._until is None:
            self._before[process] = Traffic()

    def close(self) -> None:
        """Count no further."""
        self._moved = self.moved()
        self._until = self.world.now

    def moved(self) -> dict[Process, Traffic]:
        """What each process has moved."""
        if self._until is not None:
            return self._moved
        return {one: one.traffic.since(before) for one, before in self._before.items()}

    def node_seconds(self) -> float:
        """How long all processes have run, together."""
        until = self.world.now if self._until is None else self._until
        total = 0.0
        for process in self._before:
            end = until if process.ended_at is None else min(until, process.ended_at)
            total += max(0.0, end - max(process.started_at, self._since))
        return total

    def figures(self) -> dict[str, Any]:
        moved, seconds = list(self.moved().values()), self.node_seconds()
        if not seconds:
            return {"load": {}, "news_received_max": 0}

        def rate(name: str, at: int) -> float:
            total: int = sum(getattr(one, name)[at] for one in moved)
            return round(total / seconds, 3)

        load = {
            kind: {
                "messages_sent": rate("sent", at),
                "bytes_sent": rate("sent_bytes", at),
                "messages_received": rate("received", at),
                "bytes_received": rate("received_bytes", at),
            }
            for at, kind in enumerate(CLASSES)
        }
        most = max((one.received[NEWS] for one in moved), default=0)
        return {"load": load, "news_received_max": most}
