"""A replicated group, its clients and its misfortunes, in virtual time.

First everything goes wrong that may: loss, cuts, pauses, crashes with the disk kept or lost,
hand-overs, services that step aside. Then all is healed, and everything must come to rest: calls
are answered, spares are taken in, and all replicas are equal. What clients saw, and what the
replicas did, is checked from outside (`history`); while it runs it is checked that no term has two
primaries, and with leases that nobody answers without one.

A *tight* run has small limits (`tight`), disks that fail, and absences so long that spares take
over.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.core import Leadership, ReplicaTimings
from meshcore.protocol.replication.records import Replication, Stored
from meshcore.protocol.replication.replica import Replica
from meshcore.sim.replicas import history
from meshcore.sim.replicas.client import Client, Pending
from meshcore.sim.replicas.host import Disk, Host
from meshcore.sim.replicas.network import LeaseServer, Network
from meshcore.sim.replicas.tight import REPLACE_AFTER, tight

TROUBLE = 12.0  # seconds of misfortunes
REST = 25.0  # seconds until everything must have come to rest
CLIENTS = 5
NAMES = (
    "kill", "lose", "pause", "cut", "heal", "isolate", "designate", "aside", "weather",
    "checkpoints",
)  # fmt: skip
WEIGHTS = (5, 2, 4, 3, 4, 3, 2, 1, 2, 1)
TIGHT_NAMES, TIGHT_WEIGHTS = (*NAMES, "absent", "disk"), (*WEIGHTS, 3, 2)


@dataclass(slots=True)
class Outcome:
    """What became of one seed."""

    seed: int
    calls: int = 0
    answered: int = 0
    effects: int = 0
    terms: int = 0
    checkpoints: int = 0
    trace: str = ""
    happened: dict[str, int] = field(default_factory=dict)


class World:
    WITHOUT_TIME = frozenset({"forget"})

    def __init__(
        self,
        seed: int,
        replication: Replication,
        *,
        leadership: Leadership = Leadership.ELECTION,
        is_tight: bool = False,
    ) -> None:
        self.seed = seed
        self.is_tight = is_tight
        self.replication = replication
        self.leadership = leadership
        self.rng = random.Random(seed)
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._number = itertools.count()
        self._states = itertools.count(1)
        self._refs: dict[int, tuple[Client, Pending, int]] = {}
        self.network = Network(self, self.rng)
        self.lease = LeaseServer(self)
        self.size = self.rng.choice((3, 3, 3, 3, 5, 2, 1))
        nodes = [
            f"n{i}" for i in range(self.size + self.rng.choice((1,) if is_tight else (0, 0, 1)))
        ]
        self.hosts = {node: Host(self, node) for node in nodes}
        for host in self.hosts.values():
            host.own = self.new_id(host.node)
        self.members = tuple(self.hosts[node].own for node in nodes[: self.size])
        for host in self.hosts.values():
            host.disk = Disk(self.members)
        self.clients = [Client(self, f"c{i}") for i in range(CLIENTS)]
        # A primary that notices late that it is none any more finds what does not ask the others.
        self.timings = ReplicaTimings(majority=self.rng.choice((1.5, 1.5, 6.0)))
        if is_tight:
            self.timings = replace(self.timings, replace_after=REPLACE_AFTER)
        self.pause = 0.15  # seconds between the calls of a client, in the mean
        self.calls: list[history.Called] = []
        self.calls_until = TROUBLE + 3.0
        self.primaries: dict[int, str] = {}
        self.happened: dict[str, int] = {}
        self._hash = 0
        self._checked = 0

    # Time ----------------------------------------------------------------------------------------

    def after(self, delay: float, method: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._number), method, arguments))

    def run_until(self, end: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, method, arguments = heapq.heappop(queue)
            method(*arguments)
        self.now = end

    # What hosts and clients need -----------------------------------------------------------------

    def new_id(self, node: str) -> str:
        return f"{node}/{next(self._states):04x}"

    def new_replica(self, own: str, stored: Stored) -> Replica:
        return Replica(
            own,
            stored,
            size=self.size,
            replication=self.replication,
            leadership=self.leadership,
            rng=self.rng,
            timings=self.timings,
            checkpoint_interval=1.5,
            checkpoint_log_bytes=16_000,
        )

    def new_ref(self, client: Client, pending: Pending, attempt: int) -> int:
        ref = next(self._number)
        self._refs[ref] = (client, pending, attempt)
        return ref

    def on_reply(self, host: Host, effect: effects.Reply) -> None:
        client, pending, attempt = self._refs.pop(effect.ref)
        if isinstance(effect, effects.Answered) and self.leadership is Leadership.LEASE:
            assert self.lease.holds(host), f"{host.own} answers without the lease"
        client.on_reply(host, effect, pending, attempt)

    def look_at(self, host: Host) -> None:
        """After every step of a replica."""
        machine = host.machine
        self._checked += 1
        if self.is_tight or self._checked % 16 == 0:  # each time would halve the pace
            machine.check_invariants()
        self._hash = (self._hash * 31 + machine.commit * 7 + machine.term) % (2**61 - 1)
        if machine.role.value == "primary":
            known = self.primaries.setdefault(machine.term, host.own)
            assert known == host.own, f"term {machine.term}: {known} and {host.own} lead"
            if self.is_tight and machine.members != host.members_seen:
                self._strike_at_change(host)
        host.members_seen = machine.members
        expected = host.disk_failed
        assert not host.stopped or expected, f"{host.own} stopped: {host.stopped}"

    # Misfortunes ---------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def announce(self) -> None:
        """Everybody hears from time to time who is there."""
        self.after(self.rng.uniform(0.1, 0.4), self.announce)
        for host in self.hosts.values():
            if host.up:
                there = [
                    other.own
                    for other in self.hosts.values()
                    if other.up and self.network.passes(other.node, host.node)
                ]
                host.feed(host.machine.set_present, there)

    def _strike_at_change(self, host: Host) -> None:
        """Often a primary has bad luck just when it changes the members."""
        rng = self.rng
        if not host.members_seen or self.now >= TROUBLE or rng.random() < 0.6:
            return
        self.count("change")
        host.later(rng.uniform(0.0, 0.03), self._strike, host)

    def _strike(self, host: Host) -> None:
        what = self.rng.choice(("kill", "pause", "isolate"))
        if what == "kill":
            self._kill(host, lose=False, back_after=self.rng.uniform(0.5, 5.0))
        elif what == "pause":
            host.pause(self.rng.uniform(0.5, 3.0))
        else:
            self._isolate(host)

    def may_lose_disk(self) -> bool:
        """Only one disk is lost at a time: until a member with another is in its place."""
        if self.size < 3 or not all(host.up for host in self.hosts.values()):
            return False
        machines = {host.own: host.machine for host in self.hosts.values()}
        newest = max(machines.values(), key=lambda m: (m.journal.last_term, m.journal.last))
        return len(newest.members) == self.size and all(
            member in machines
            and machines[member].members == newest.members
            and machines[member].members_at(machines[member].commit) == newest.members
            for member in newest.members
        )

    def misfortune(self) -> None:
        if self.now >= TROUBLE:
            return
        rng = self.rng
        self.after(rng.expovariate(1 / 0.4), self.misfortune)
        host = self.hosts[rng.choice(sorted(self.hosts))]
        names, weights = (TIGHT_NAMES, TIGHT_WEIGHTS) if self.is_tight else (NAMES, WEIGHTS)
        what = rng.choices(names, weights)[0]
        self.count(what)
        if what == "kill" and host.up:
            self._kill(host, lose=False)
        elif what == "lose" and host.up and self.may_lose_disk():
            self._kill(host, lose=True)
        elif what == "absent" and host.up:
            self._kill(host, lose=False, back_after=rng.uniform(2.0, 6.0))
        elif what == "disk" and host.up:
            host.fail_disk()
        elif what == "pause" and host.up:
            host.pause(rng.choice((0.3, 1.0, 2.5, 4.0)))
        elif what == "cut":
            others = [*sorted(self.hosts), *(client.name for client in self.clients), "lease"]
            for name in rng.sample(others, 2):
                self.network.cut[(host.node, name)] = None
        elif what == "heal":
            self.network.cut.clear()
        elif what == "isolate":
            self._isolate(host)
        elif what == "weather":
            self.network.loss = rng.choice((0.0, 0.0, 0.05, 0.3))
            self.network.slow = rng.choice((0.0, 0.02, 0.2))
        elif host.up:
            self._ask(host, what)

    def _isolate(self, host: Host) -> None:
        """Alone, but for some of the clients, who reach nobody else; most often a primary."""
        rng = self.rng
        if rng.random() < 0.6:
            host = next((h for h in self.hosts.values() if h.up and h.machine.ready), host)
        with_it = [client.name for client in self.clients if rng.random() < 0.5]
        for one in (*self.hosts, *(client.name for client in self.clients)):
            for other in (*self.hosts, *(client.name for client in self.clients)):
                alone = one == host.node or one in with_it
                if alone != (other == host.node or other in with_it):
                    self.network.cut[(one, other)] = None

    def _ask(self, host: Host, what: str) -> None:
        machine = host.machine
        if what == "designate" and machine.role.value == "primary":
            host.feed(self._designate(host, self.rng.choice(machine.members)))
        elif what == "aside":
            host.feed(machine.step_aside)
            host.later(self.rng.uniform(0.5, 3.0), host.feed, machine.resume)
        elif what == "checkpoints":
            interval = self.rng.choice((0.3, 1.0, 5.0))
            host.feed(lambda now: machine.set_checkpoints(interval=interval, now=now))

    def _designate(self, host: Host, target: str) -> Callable[..., list[effects.Effect]]:
        def designate(now: float) -> list[effects.Effect]:
            try:
                return host.machine.designate(target, now)
            except ValueError:
                return []  # it leads no more

        return designate

    def restart(self, host: Host) -> None:
        """Its replica has stopped, as it must when its disk fails: the process starts again."""
        self._kill(host, lose=False)

    def _kill(self, host: Host, *, lose: bool, back_after: float | None = None) -> None:
        lost = host.own
        host.kill()
        if lose:
            host.own = self.new_id(host.node)
            host.disk = Disk(self.members)
        delay = self.rng.uniform(0.05, 3.0) if back_after is None else back_after
        self.after(delay, self._start, host)
        for other in self.hosts.values():
            if other.up and self.rng.random() < 0.5:
                other.later(self.rng.uniform(0.05, 0.5), self._tell_lost, other, lost)

    def _tell_lost(self, other: Host, lost: str) -> None:
        other.feed(lambda now: other.machine.on_lost(lost, now))

    def _start(self, host: Host) -> None:
        if not host.up:
            host.start()

    # The whole -----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Everything, and the checks; an AssertionError tells what was wrong."""
        for host in self.hosts.values():
            host.start()
        self.after(0.05, self.announce)
        self.after(1.5, self.misfortune)
        for client in self.clients:
            client.begin()
        self.run_until(TROUBLE)
        self._heal()
        self.run_until(self.calls_until)
        end = self.calls_until + REST
        while self.now < end and not self.is_at_rest():
            self.run_until(self.now + 0.5)
        self._check()
        return Outcome(
            self.seed,
            calls=len(self.calls),
            answered=sum(call.answer is not None for call in self.calls),
            effects=len(next(iter(self.hosts.values())).service.order),
            terms=len(self.primaries),
            checkpoints=max(host.machine.checkpoint.number for host in self.hosts.values()),
            trace=self._trace(),
            happened=self.happened,
        )

    def _trace(self) -> str:
        """Equal for equal runs: what was drawn, what the replicas were, what the clients heard."""
        heard = [(call.id, call.begin, call.end, call.answer) for call in self.calls]
        state = repr((self._hash, self.rng.getstate(), next(self._number), heard))
        return hashlib.sha256(state.encode()).hexdigest()[:16]

    def _heal(self) -> None:
        self.network.cut.clear()
        self.network.loss = self.network.slow = 0.0
        for host in self.hosts.values():
            self._start(host)
            host.paused_until = min(host.paused_until, self.now)
            host.later(0.0, host._wake)

    def is_at_rest(self) -> bool:
        """Whether nothing is under way, and everybody is where the group is."""
        if not all(client.idle for client in self.clients):
            return False
        machines = [host.machine for host in self.hosts.values()]
        primaries = [machine for machine in machines if machine.ready]
        if len(primaries) != 1:
            return False
        primary = primaries[0]
        if len(primary.members) != self.size or primary.learners:
            return False
        return all(
            machine.applied == primary.journal.last
            for machine in machines
            if machine.own in primary.members
        )

    def _check(self) -> None:
        assert self.is_at_rest(), f"not at rest at {self.now:.1f} s: {self.describe()}"
        for host in self.hosts.values():
            host.machine.check_invariants()
        primary = next(host for host in self.hosts.values() if host.machine.ready)
        members = [h for h in self.hosts.values() if h.own in primary.machine.members]
        history.check(self.calls, primary.service.order)
        history.check_equal(
            (host.own, host.service.order, (host.service.value, host.service.drawn))
            for host in members
        )
        sessions = {str(host.machine.sessions.plain()) for host in members}
        assert len(sessions) == 1, "the tables of sessions differ"

    def describe(self) -> str:
        """What the replicas are, in words."""
        lines = []
        for host in self.hosts.values():
            view = host.machine.view()
            lines.append(
                f"{view.own} {view.role} {view.state} term {view.term} primary {view.primary}"
                f" applied {view.applied} commit {view.commit} last {view.last}"
                f" members {view.members} learners {view.learners}"
            )
        open_calls = [client.name for client in self.clients if not client.idle]
        return "; ".join([*lines, f"calls open: {open_calls}"])


def run_seed(
    seed: int,
    replication: Replication,
    leadership: Leadership = Leadership.ELECTION,
    *,
    is_tight: bool = False,
) -> Outcome:
    """One seed, whole; an AssertionError tells what was wrong."""
    with tight() if is_tight else nullcontext():
        return World(seed, replication, leadership=leadership, is_tight=is_tight).run()
