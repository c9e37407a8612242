"""What must be true, judged from outside: from wires, dials, cuts and the ledger, not by the cores.

Each function returns what is wrong, in words; an empty list is a pass. `agreement`, `routes` and
`quiet` are for a mesh that has had time to settle; `work` and `bounds` hold at any time, `ended`
when every deadline has passed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from meshcore.errors import Code
from meshcore.protocol.mesh import LOOPBACK
from meshcore.protocol.view import NodeStatus
from meshcore.protocol.wire.limits import HOP_LIMIT
from meshcore.sim.process import Process
from meshcore.sim.work import Call, pattern
from meshcore.sim.world import World

Adjacency: TypeAlias = dict[str, dict[str, None]]

STEADY = ("Beat", "Echo", "EchoReply")  # what a mesh says in which nothing happens
AGES_APART = 0.1  # of an age: clocks run wrong, and beats that tell of it are late
DEADLINE_SLACK = 0.3  # seconds: the wheel fires up to an eighth late
ENDS = (Code.ACTION_FAILED, Code.CANCELLED, Code.DEADLINE, Code.UNREACHABLE, Code.PEER_LOST)


def expected_links(world: World) -> Adjacency:
    """Who must be linked to whom, as the dials, the living and the cuts say.

    Where nodes dial learnt addresses, whoever stands on a wire is linked as well.
    """
    living = {process.name: process for process in world.alive()}
    links: Adjacency = {name: {} for name in living}
    cuts = frozenset(world.network.cuts())
    for one, other in world.dials:
        if one in living and other in living and living[other].url is not None:
            cut = (one, other) in cuts or (other, one) in cuts
            if not cut and not living[one].is_leaving and not living[other].is_leaving:
                links[one][other] = links[other][one] = None
    if world.auto_connect:
        for name, process in living.items():
            for wire in process.wires.values():
                other = wire.other(wire.end_of(process)).process.name
                if other in living:
                    links[name][other] = links[other][name] = None
    return links


def hops_from(start: str, links: Adjacency) -> dict[str, int]:
    """How far every node is that can be reached."""
    found, queue = {start: 0}, deque([start])
    while queue:
        one = queue.popleft()
        for other in links[one]:
            if other not in found:
                found[other] = found[one] + 1
                queue.append(other)
    return found


def costs_from(world: World, start: str, links: Adjacency) -> dict[str, int]:
    """What the cheapest way to every node costs, by what the ends of its links say themselves."""
    claims = {name: _claims(world.node(name)) for name in links}
    found: dict[str, int] = {}
    queue = [(0, start)]
    while queue:
        cost, one = heapq.heappop(queue)
        if one in found:
            continue
        found[one] = cost
        for other in links[one]:
            edge = max(claims[one].get(other, 0), claims[other].get(one, 0))
            heapq.heappush(queue, (cost + edge, other))
    return found


def _claims(process: Process) -> dict[str, int]:
    record = process.mesh.database.link_state(process.name)
    return {} if record is None else {edge.neighbour: edge.cost for edge in record.edges}


def agreement(
    world: World, *, forgotten: bool = False, observers: Sequence[str] | None = None
) -> list[str]:
    """All nodes of a component know the same nodes and edges, and those are the true ones.

    `forgotten`: nodes outside of the component must have been removed, not only be unreachable.
    `observers`: whose views are judged, if not everybody's.
    """
    links = expected_links(world)
    problems: list[str] = []
    for name in links if observers is None else observers:
        problems += _view_of(world, world.node(name), links, forgotten=forgotten)
    return problems


def _view_of(world: World, process: Process, links: Adjacency, *, forgotten: bool) -> list[str]:
    mesh, problems = process.mesh, []
    hops, costs = hops_from(process.name, links), costs_from(world, process.name, links)
    entries = {entry.node_id: entry for entry in mesh.roster.nodes()}
    seen = sorted(name for name, entry in entries.items() if entry.reachable)
    if seen != sorted(hops):
        problems.append(f"{process.name} reaches {seen}, not {sorted(hops)}")
    if forgotten and sorted(entries) != sorted(hops):
        problems.append(f"{process.name} still lists {sorted(entries.keys() - hops.keys())}")
    for name in seen:
        entry, truth = entries[name], world.node(name)
        if name not in hops:
            continue
        if entry.status is not NodeStatus.ALIVE:
            problems.append(f"{process.name} takes {name} for {entry.status.name}")
        if (entry.life, entry.incarnation) != (truth.life, truth.incarnation):
            problems.append(f"{process.name} knows another life of {name}")
        if entry.cost != costs[name]:
            problems.append(f"{process.name}: {name} costs {costs[name]}, not {entry.cost}")
        if entry.hops != len(mesh.routing.graph.path(name)) - 1 or entry.hops < hops[name]:
            problems.append(f"{process.name}: {name} is {hops[name]} hops away, not {entry.hops}")
        if name != process.name and name not in mesh.details_of:
            problems.append(f"{process.name} lacks the details of {name}")
    edges = [(one, other) for one, other, _ in mesh.routing.graph.edges()]
    truth_edges = sorted((a, b) for a in hops for b in links[a] if a < b)
    if edges != truth_edges:
        missing, extra = set(truth_edges) - set(edges), set(edges) - set(truth_edges)
        problems.append(f"{process.name}: edges {sorted(missing)} missing, {sorted(extra)} extra")
    return problems


def one_link_per_pair(world: World) -> list[str]:
    """Between two neighbours stands one wire, and both ends use it."""
    problems: list[str] = []
    for name, others in expected_links(world).items():
        process = world.node(name)
        peers = [wire.other(wire.end_of(process)).process.name for wire in process.wires.values()]
        if sorted(peers) != sorted(others):
            problems.append(f"{name} has wires to {sorted(peers)}, not {sorted(others)}")
    return problems


def gathered(world: World) -> list[str]:
    """Every node has the links that it is meant to have, or one to everybody who listens."""
    links = expected_links(world)
    listeners = {process.name for process in world.alive() if process.url is not None}
    return [
        f"{name} has {len(others)} links of {world.auto_connect}"
        for name, others in links.items()
        if len(others) < world.auto_connect and listeners - {name} - others.keys()
    ]


def routes(world: World) -> list[str]:
    """Every way from node to node, followed hop by hop over the wires, leads there."""
    links = expected_links(world)
    problems: list[str] = []
    for start in links:
        for goal in hops_from(start, links):
            problem = _follow(world, world.node(start), goal)
            if problem:
                problems.append(problem)
    return problems


def _follow(world: World, process: Process, goal: str) -> str | None:
    way = [process.name]
    while process.name != goal:
        link = process.mesh.link_of(goal)
        wire = process.wires.get(link)
        if wire is None:
            return f"{way} ends: no way to {goal} (link {link})"
        process = wire.other(wire.end_of(process)).process
        if process.name in way or len(way) > HOP_LIMIT:
            return f"{[*way, process.name]} goes round in circles, not to {goal}"
        way.append(process.name)
    return None if process.mesh.link_of(goal) == LOOPBACK else f"{goal} does not know itself"


def master_and_time(world: World) -> list[str]:
    """All nodes of a component have one master among them, and its time as exactly as they say."""
    links = expected_links(world)
    problems: list[str] = []
    for name in links:
        process, component = world.node(name), hops_from(name, links)
        master = process.mesh.master
        if master not in component:
            problems.append(f"{name} takes {master} for the master of {sorted(component)}")
            continue
        problems += [
            f"{name} takes {master} for the master, and {other} another one"
            for other in component
            if other > name and world.node(other).mesh.master != master
        ]
        leader = world.node(str(master))
        oldest = min(world.node(each).started_at for each in component)
        younger = leader.started_at - oldest
        if leader.mesh.own.forced is None and younger > AGES_APART * (1 + world.now - oldest):
            problems.append(f"{master} is master, and {younger:.2f} s younger than somebody else")
        ahead = process.mesh.clock.time(process.now()) - leader.mesh.clock.time(leader.now())
        error = process.mesh.clock.error(process.now())
        if error is None or abs(ahead) > error:
            problems.append(f"{name} is {ahead:.6f} s ahead of {master}'s time, and says {error}")
    return problems


def quiet(world: World, seconds: float = 5.0) -> list[str]:
    """Nothing but beats and echoes is said while nothing happens. Lets that time pass."""
    before = {process: dict(process.control_sent) for process in world.processes.values()}
    world.run(seconds)
    said: dict[str, int] = {}
    for process in world.processes.values():
        for kind, count in process.control_sent.items():
            more = count - before.get(process, {}).get(kind, 0)
            if more and kind not in STEADY:
                said[kind] = said.get(kind, 0) + more
    return [f"said in {seconds} quiet seconds: {said}"] if said else []


# Work ----------------------------------------------------------------------------------------


def work(world: World) -> list[str]:
    """Nothing ran twice, no response was out of place, and every end is a truthful one."""
    problems = list(world.ledger.problems)
    for call in world.ledger.calls:
        if call.is_void:
            continue
        if call.ended > 1:
            problems.append(f"{call}: ended {call.ended} times")
        if call.ended:
            problems += _judge(world, call)
    return problems


def _judge(world: World, call: Call) -> list[str]:
    ran = len(world.ledger.executions.get(call.message_id, ())) if call.message_id else 0
    if call.succeeded:
        if ran != 1:
            return [f"{call}: succeeded, but ran {ran} times"]
        wanted = _answers_to(call)
        if wanted is not None and call.values != wanted:
            return [f"{call}: wrong or incomplete answers {str(call.values)[:120]}"]
        return []
    if call.code not in ENDS:
        return [f"{call}: ended with an unexpected code"]
    if call.code == Code.ACTION_FAILED and call.directive != "test:fail":
        return [f"{call}: failed, though it does not"]
    if not call.may_have_run and ran:
        return [f"{call}: said not to have run, but ran"]
    return []


def _answers_to(call: Call) -> list[object] | None:
    if call.directive in ("test:echo", "test:later"):
        return [call.payload]
    if call.directive == "test:items":
        return list(range(1, call.payload + 1))
    if call.directive == "test:large":
        return [pattern(call.payload)]
    return None


def ended(world: World, *, slack: float = DEADLINE_SLACK) -> list[str]:
    """Every call of a living sender has ended, by its deadline, and no work is left over."""
    problems = [f"{call}: never ended" for call in world.ledger.open_calls()]
    for call in world.ledger.calls:
        if (
            call.ttl is not None
            and call.ended
            and call.ended_at > call.started_at + call.ttl + slack
        ):
            problems.append(
                f"{call}: ended {call.ended_at - call.started_at:.2f} s after its start"
            )
    for process in world.alive():
        left = [stream.message_id for stream in process.work.active]
        if left:
            problems.append(f"{process.name} still works for {left[:5]}")
    return problems


def all_succeeded(calls: list[Call]) -> list[str]:
    return [str(call) for call in calls if not call.succeeded]


def bounds(world: World) -> list[str]:
    """Nothing has grown without a reason."""
    problems: list[str] = []
    lives = max(1, len(world.processes))
    for process in world.alive():
        delivery, database = process.mesh.delivery.stats(), process.mesh.database.stats()
        calls = sum(1 for call in world.ledger.open_calls() if call.sender is process)
        if delivery["calls_out"] > calls:
            problems.append(f"{process.name} keeps {delivery['calls_out']} calls of {calls}")
        if delivery["channels"] > 4 * lives:
            problems.append(f"{process.name} keeps {delivery['channels']} channels")
        if database["origins"] > lives or database["waiting"] > 2 * lives:
            problems.append(f"{process.name} keeps records: {database}")
        most = 2 * len(world.dials) + 2 + 2 * lives * bool(world.auto_connect)
        if len(process.mesh.links.links()) > most:
            problems.append(f"{process.name} keeps {len(process.mesh.links.links())} links")
    return problems


def settled(world: World) -> list[str]:
    """Everything that must hold of a mesh that has settled."""
    fatal = [f"{p.name}: {reason}" for p in world.processes.values() for reason in p.fatal]
    return [
        *fatal,
        *agreement(world),
        *one_link_per_pair(world),
        *routes(world),
        *master_and_time(world),
        *work(world),
        *bounds(world),
    ]
