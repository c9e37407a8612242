"""Every transition exactly once and in order, as each observer tells it of each node.

A node is ADDED before anything else is said of it, then goes down one step after the other, up in
any step, and is REMOVED once, from DEAD unless it left. A life that was followed by another is
never ALIVE again, however late its messages arrive. (Where data were lost and a clock was set back,
its number may still be the greatest that anybody knows: then it is named until it is outbid.)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from meshcore.protocol.membership.events import Added, Reason, Removed, Restarted, StatusChanged
from meshcore.protocol.view import NodeStatus
from meshcore.sim.process import Process
from meshcore.sim.watch import Watch

if TYPE_CHECKING:
    from meshcore.sim.world import World

_ALIVE, _SLOW, _WARNING, _DEAD = NodeStatus
# A new life of a DEAD node is not yet dead; one with a WARN edge alone comes back as WARNING.
STEPS = {
    (_ALIVE, _SLOW),
    (_ALIVE, _WARNING),
    (_SLOW, _WARNING),
    (_WARNING, _DEAD),
    (_SLOW, _ALIVE),
    (_WARNING, _ALIVE),
    (_DEAD, _ALIVE),
    (_DEAD, _WARNING),
}


class _Known:
    __slots__ = ("life", "past", "status")

    def __init__(self, life: int) -> None:
        self.life, self.status = life, NodeStatus.ALIVE
        self.past: dict[int, None] = {}


class Transitions(Watch):
    """Follows every view of every node; `lenient`: it looks on from the middle of a run."""

    def __init__(self, world: World, *, lenient: bool = False) -> None:
        super().__init__(world)
        self._lenient = lenient
        self._views: dict[Process, dict[str, _Known]] = {}
        self._past: dict[Process, dict[str, dict[int, None]]] = {}
        self.counts: Counter[str] = Counter()

    def on_end(self, process: Process, *, silent: bool) -> None:
        self._views.pop(process, None)
        self._past.pop(process, None)

    def on_event(self, process: Process, event: object) -> None:
        match event:
            case Added():
                self._on_added(process, event)
            case Removed():
                self._on_removed(process, event)
            case StatusChanged():
                self._on_status(process, event)
            case Restarted():
                self._on_restarted(process, event)

    def _on_added(self, process: Process, event: Added) -> None:
        self.counts["added"] += 1
        views = self._views.setdefault(process, {})
        if event.node_id in views:
            self.problem(f"{process.name} added {event.node_id} twice")
        elif self._is_over(process, event.node_id, event.life):
            self.problem(f"{process.name} added an old life of {event.node_id}")
        views[event.node_id] = _Known(event.life)

    def _known(self, process: Process, node_id: str, what: str) -> _Known | None:
        known = self._views.setdefault(process, {}).get(node_id)
        if known is None and not self._lenient:
            self.problem(f"{process.name} says {what} of {node_id}, which it never added")
        return known

    def _on_removed(self, process: Process, event: Removed) -> None:
        self.counts["removed"] += 1
        known = self._known(process, event.node_id, "removed")
        if known is None:
            return
        del self._views[process][event.node_id]
        if event.reason is Reason.LEFT:  # leaving ends a life
            self._end_life(process, event.node_id, known.life)
        elif known.status is not _DEAD:
            self.problem(f"{process.name} removed {event.node_id} from {known.status.name}")

    def _on_status(self, process: Process, event: StatusChanged) -> None:
        self.counts[event.new.name.lower()] += 1
        known = self._known(process, event.node_id, event.new.name)
        if known is None:
            if self._lenient:
                known = self._views[process][event.node_id] = _Known(0)
                known.status = event.new
            return
        if event.old is not known.status:
            self.problem(
                f"{process.name} told {event.node_id} {known.status.name}, now says that it was "
                f"{event.old.name}"
            )
        if (event.old, event.new) not in STEPS:
            self.problem(
                f"{process.name} took {event.node_id} from {event.old.name} to {event.new.name}"
            )
        known.status = event.new
        if event.new is _ALIVE and self._is_over(process, event.node_id, known.life):
            self.problem(f"{process.name} takes an old life of {event.node_id} for alive")

    def _is_over(self, process: Process, node_id: str, life: int) -> bool:
        truth = self.world.processes.get(node_id)
        past = self._past.get(process, {}).get(node_id, ())
        return life in past and (truth is None or truth.life != life)

    def _on_restarted(self, process: Process, event: Restarted) -> None:
        self.counts["restarted"] += 1
        known = self._known(process, event.node_id, "restarted")
        if known is None:
            return
        if known.life not in (0, event.old_life):
            self.problem(f"{process.name}: {event.node_id} restarted from a life that it had not")
        self._end_life(process, event.node_id, event.old_life)
        known.life = event.life

    def _end_life(self, process: Process, node_id: str, life: int) -> None:
        self._past.setdefault(process, {}).setdefault(node_id, {})[life] = None

    def figures(self) -> dict[str, Any]:
        return {"transitions": dict(sorted(self.counts.items()))}
