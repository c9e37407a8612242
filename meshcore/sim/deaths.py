"""Deaths: how soon everybody knows of one, and whether somebody is called dead who is not.

Whoever ends is awaited at all who list its life: each must say DEAD, removed, or another life. An
observer owes that within `dead` and a second, where it has been in touch with a neighbour of the
dead all that time. Where others were linked to the dead, for all that the observer was told, and
are out of reach too, silence counts from what is said of them, or from the lost path where nothing
is, nor can be, for the life that ended has not said a word: then that comes on top. Who was away
comes with words that count from when they come, and then nothing is owed.

The other way round, to say DEAD of a running node to which sound links have led for a while is a
false death, and to bring back a dead life later than that is a resurrection. (Where data were lost
and a clock was set back, a dead life is named, but out of reach, until it is outbid.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meshcore.protocol.membership.events import Added, Removed, Restarted, StatusChanged
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.records import EdgeState
from meshcore.sim.network import HEARTBEAT_MAX
from meshcore.sim.process import Process
from meshcore.sim.watch import Watch, quantiles, reachable, was_sound

if TYPE_CHECKING:
    from meshcore.sim.world import World

KNOWN_WITHIN = 1.0  # seconds after `dead` until everybody knows
SOUND_FOR = 10.0  # seconds that the links to a node have been sound before a DEAD is false
YOUNG = 2.0  # seconds of a life in which its first words may not have gone round
RETURNS_MAX = 10.0  # seconds after a death in which news that were on their way may still count


@dataclass(slots=True, eq=False)
class Death:
    """One end of a process, and who has yet to hear of it."""

    name: str
    life: int
    at: float
    kind: str  # crash, silent, leave
    neighbours: list[Process]
    waiting: dict[Process, None]
    took: list[float] = field(default_factory=list)
    is_void: bool = False  # it started again before everybody knew
    was_young: bool = False


class Deaths(Watch):
    """Times of detection, false deaths and resurrections.

    `within`: seconds after which everybody must know of a death; by default `dead` and a second.
    """

    def __init__(self, world: World, *, within: float | None = None) -> None:
        super().__init__(world)
        self.deaths: list[Death] = []
        self.false: list[str] = []
        self._open: dict[str, list[Death]] = {}
        self._started_at: dict[str, float] = {}
        self._dead_lives: dict[tuple[str, int], float] = {}
        self.within = world.timings.dead + KNOWN_WITHIN if within is None else within

    def on_end(self, process: Process, *, silent: bool) -> None:
        name, life, now = process.name, process.life, self.world.now
        self._dead_lives[name, life] = now
        for deaths in self._open.values():
            for death in deaths:
                death.waiting.pop(process, None)
        if self.world.processes.get(name) is not process:
            return  # the second process of an id
        waiting: dict[Process, None] = {}
        for other in self.world.alive():
            entry = other.mesh.roster.get(name)
            if entry is None or entry.life != life or entry.status is NodeStatus.DEAD:
                continue
            if other.is_sound:
                waiting[other] = None
        kind = "leave" if process.is_leaving else "silent" if silent else "crash"
        neighbours = [
            other for other in self.world.alive() if other.mesh.links.link_to(name) is not None
        ]
        death = Death(name, life, now, kind, neighbours, waiting)
        death.was_young = now - process.started_at < YOUNG
        self.deaths.append(death)
        self._open.setdefault(name, []).append(death)
        self.world.clock.after(self.within, self._on_due, death, self.within)

    def on_start(self, process: Process) -> None:
        self._started_at[process.name] = self.world.now
        for death in self._open.get(process.name, ()):
            death.is_void = death.is_void or bool(death.waiting)

    def on_event(self, process: Process, event: object) -> None:
        match event:
            case StatusChanged(new=NodeStatus.DEAD):
                self._heard(process, event.node_id)
                self._on_dead(process, event.node_id)
            case Removed():
                self._heard(process, event.node_id)
            case Restarted():
                self._heard(process, event.node_id)
                entry = process.mesh.roster.get(event.node_id)
                if entry is not None and entry.reachable:
                    self._on_return(process, event.node_id, event.life)
            case Added():
                self._on_return(process, event.node_id, event.life)
            case StatusChanged(new=NodeStatus.ALIVE):
                entry = process.mesh.roster.get(event.node_id)
                if entry is not None:
                    self._on_return(process, event.node_id, entry.life)

    def _heard(self, process: Process, name: str) -> None:
        deaths = self._open.get(name)
        if not deaths:
            return
        for death in deaths:
            if process in death.waiting:
                del death.waiting[process]
                death.took.append(self.world.now - death.at)
        self._open[name] = [death for death in deaths if death.waiting]

    def _on_dead(self, process: Process, name: str) -> None:
        """Somebody was called dead: was it?"""
        truth = self.world.processes.get(name)
        entry = process.mesh.roster.get(name)
        if truth is None or entry is None or entry.life != truth.life:
            return
        since = self.world.now - SOUND_FOR
        if was_sound(truth, since) and truth in reachable(self.world, process, since):
            self.false.append(f"{self.world.now:.3f}: {process.name} calls {name} dead")

    def _on_return(self, process: Process, name: str, life: int) -> None:
        died_at = self._dead_lives.get((name, life))
        if died_at is None or self.world.network.cuts():
            return
        # Two parts that meet know each other as of when they parted, until they have compared.
        others = (at for other, at in self._started_at.items() if other != name)
        last = max(died_at, self.world.troubled_at, *others) + RETURNS_MAX
        if self.world.now > last and was_sound(process, died_at):
            self.problem(f"{process.name} takes a life of {name} for alive that has ended")

    def _on_due(self, death: Death, within: float, spared: Sequence[Process] = ()) -> None:
        """Who has not heard of it by now, though it could have? `spared`: who got more time."""
        late = [one for one in spared or death.waiting if was_sound(one, death.at)]
        if not late or death.is_void or death.was_young:
            return
        if not death.neighbours or not all(was_sound(one, death.at) for one in death.neighbours):
            return  # one that does not notice for now keeps the dead alive for all
        spare: list[Process] = []
        for process in late:
            found = reachable(self.world, process, death.at)
            if process not in death.waiting or not all(one in found for one in death.neighbours):
                continue
            if not all(one in found for one in self._reporters_of(death.name, process)):
                continue  # it was away, and its word counts from when it came
            beside = self._out_of_reach_with(death, process, found)
            if (beside or spared) and not self._is_whole(death, found):
                continue
            reporters = [self._reporters_of(one, process) for one in beside]
            said = process.mesh.database.link_state(death.name)
            is_known = said is not None and said.life == death.life  # else no report counts
            is_told = all(any(one in found for one in each) for each in reporters)
            if not spared and not (is_known and is_told):
                spare.append(process)
                continue
            entry = process.mesh.roster.get(death.name)
            status = "removed" if entry is None else entry.status.name
            self.problem(
                f"{process.name} takes {death.name} for {status} "
                f"{within:g} s after its {death.kind}"
            )
        if spare:  # HEARTBEAT_MAX is how long it takes until the path is lost
            at = self.world.clock.now + HEARTBEAT_MAX
            self.world.clock.at(at, self._on_due, death, within + HEARTBEAT_MAX, spare)

    def _out_of_reach_with(
        self, death: Death, observer: Process, found: dict[Process, None]
    ) -> list[str]:
        """Whose links to the dead stand, for all that the observer was told, and who is away."""
        said = observer.mesh.database.link_state(death.name)
        graph, processes = observer.mesh.routing.graph, self.world.processes
        return [
            edge.neighbour
            for edge in (() if said is None else said.edges)
            if graph.edge_cost(death.name, edge.neighbour) is not None
            and processes.get(edge.neighbour) not in found
        ]

    def _reporters_of(self, name: str, observer: Process) -> list[Process | None]:
        """Who has told the observer that its link to this node is lost."""
        database = observer.mesh.database
        return [
            self.world.processes.get(origin)
            for origin in database.origins()
            if (said := database.link_state(origin)) is not None
            for edge in said.edges
            if edge.neighbour == name and edge.state is EdgeState.DOWN
        ]

    def _is_whole(self, death: Death, found: dict[Process, None]) -> bool:
        """Whether no part of the mesh has been away since."""
        return all(one in found for one in self.world.alive() if one.started_at <= death.at)

    def known(self) -> list[Death]:
        """The deaths of which everybody has heard."""
        return [
            death for death in self.deaths if death.took and not death.waiting and not death.is_void
        ]

    def figures(self) -> dict[str, Any]:
        known = self.known()
        first = [min(death.took) for death in known]
        whole = [max(death.took) for death in known]
        each = [one for death in known for one in death.took]
        return {
            "deaths": {
                "count": len(self.deaths),
                "known_by_all": len(known),
                "first_s": quantiles(first),
                "each_node_s": quantiles(each),
                "everywhere_s": quantiles(whole),
            },
            "false_deaths": len(self.false),
        }
