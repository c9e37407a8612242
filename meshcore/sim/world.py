"""A simulated mesh behind a few verbs: nodes, links, calls, faults, time.

::

    world = World(seed=7, conditions=Conditions(packet_loss=0.05))
    world.build(topology.ring(topology.names(5)))
    world.run(5.0)
    call = world.call("n00", "n03", "test:echo", "hello")
    world.cut("n00", "n04")
    world.run_until(lambda: call.ended, within=2.0)

Everything random comes from the seed, so that a run can be had again by its number; what goes wrong
carries seed and time in a note.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from meshcore.protocol.membership.timings import Timings
from meshcore.sim.clock import Clock
from meshcore.sim.hostclock import EPOCH, HostClock
from meshcore.sim.network import Conditions, Network
from meshcore.sim.process import Observer, Process, Started, Surroundings
from meshcore.sim.work import Call, Ledger

EPOCH_MS = 1000 * EPOCH
CLOCKS_APART = 1000.0  # seconds between the monotonic clocks of two processes, at most
LOOK_INTERVAL = 0.02  # seconds between two looks at what `run_until` waits for


class World:
    """A mesh, its network, and what happens to them.

    Args:
        seed: of everything random.
        conditions: how the network behaves; may be replaced while it runs (`network.conditions`).
        timings: of every node.
        check_every: steps of a process between two looks at its invariants; 0 = never.
        rates_apart: by how much the clock of a host runs too fast or too slow, at most (0.01: 1 %).
        walls_apart: seconds by which the wall clock of a host is wrong, at most.
        keep_events: every process keeps what its core told it.
        auto_connect: links that every node is meant to have by learnt addresses; 0 = off.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        conditions: Conditions | None = None,
        timings: Timings | None = None,
        check_every: int = 1,
        rates_apart: float = 0.0,
        walls_apart: float = 0.0,
        keep_events: bool = True,
        auto_connect: int = 0,
    ) -> None:
        self.seed = seed
        self.auto_connect = auto_connect
        self.clock = Clock()
        self.network = Network(
            self.clock, random.Random(f"network {seed}"), conditions or Conditions()
        )
        self.ledger = Ledger()
        self.processes: dict[str, Process] = {}  # the latest life of each node
        self.dials: dict[tuple[str, str], None] = {}  # (who dials, who is dialled)
        self.log: list[tuple[float, str]] = []  # the faults, for people
        self._around = Surroundings(
            self.clock,
            self.network,
            self.ledger,
            check_every,
            keep_events=keep_events,
            auto_connect=auto_connect,
        )
        self.timings = timings or Timings()
        self.troubled_at = float("-inf")  # something was cut or paused last
        self._on_heal: list[Callable[[], object]] = []
        self._rng = random.Random(f"world {seed}")
        self._listens: dict[str, bool] = {}
        self._clocks: dict[str, HostClock] = {}  # of each host, in its latest life
        self._apart = rates_apart, walls_apart

    # Nodes and links -------------------------------------------------------------------------

    def build(self, edges: Sequence[tuple[str, str]], *, within: float = 0.0) -> None:
        """Start the nodes that the edges name, and have them dial as the edges say.

        `within`: seconds in which they start, each at an instant of its own.
        """
        nodes = list(dict.fromkeys(name for edge in edges for name in edge))
        for dialler, listener in edges:
            self.dials[dialler, listener] = None
        for name in nodes:
            self.clock.after(self._rng.uniform(0.0, within), self.add, name)
        self.run(within)

    def add(self, name: str, *, listens: bool = True) -> Process:
        """Start a node for the first time."""
        assert name not in self.processes, f"{name} was added before"
        self._listens[name] = listens
        return self._start(name, self._incarnation_at(name))

    def link(self, dialler: str, listener: str) -> None:
        """From now on, and after every restart, one node dials another."""
        self.dials[dialler, listener] = None
        self.node(dialler).add_peer(url_of(listener))

    def unlink(self, dialler: str, listener: str) -> None:
        """One node dials another no more."""
        self.dials.pop((dialler, listener), None)
        process = self.node(dialler)
        process.input(process.mesh.remove_peer, url_of(listener))

    def node(self, name: str) -> Process:
        return self.processes[name]

    def alive(self) -> list[Process]:
        return [process for process in self.processes.values() if process.is_alive]

    def _clock_of(self, host: str) -> HostClock:
        """The clock of a host, as it is or as it is given to a new one."""
        clock = self._clocks.get(host)
        if clock is None:
            rng, (rates, walls) = random.Random(f"clock of {host} {self.seed}"), self._apart
            rate, error = 1.0 + rng.uniform(-rates, rates), rng.uniform(-walls, walls)
            clock = self._clocks[host] = HostClock(rate=rate, wall_error=error)
        return clock

    def _incarnation_at(self, host: str) -> int:
        """What the wall clock of a host makes the number of a new life, if nothing is kept."""
        return EPOCH_MS + self._clock_of(host).wall_ms(self.clock.now)

    def _boot(self, host: str, rng: random.Random) -> HostClock:
        offset = rng.uniform(0.0, CLOCKS_APART)
        clock = self._clocks[host] = self._clock_of(host).reboot(offset, self.clock.now)
        return clock

    def _start(self, name: str, incarnation: int) -> Process:
        url = url_of(name)
        self.network.hosts[url] = name
        rng = random.Random(f"{self.seed} {name} {incarnation} {self.clock.now}")
        process = Process(
            self._around,
            name,
            incarnation=incarnation,
            host_clock=self._boot(name, rng),
            rng=rng,
            url=url if self._listens[name] else None,
            timings=self.timings,
        )
        self.processes[name] = process
        process.tell(Started())
        self.network.host_up(name)
        if self._listens[name]:
            self.network.listening[url] = process
        for dialler, listener in self.dials:
            if dialler == name:
                process.add_peer(url_of(listener))
        return process

    def twin(self, name: str, *, peer: str) -> Process:
        """A second process under the id of a node, on a machine of its own, that dials `peer`."""
        host, rng = f"second {name}", random.Random(f"{self.seed} twin of {name}")
        twin = Process(
            self._around,
            name,
            incarnation=self.node(name).incarnation + 1,
            host_clock=self._boot(host, rng),
            rng=rng,
            url=None,
            timings=self.timings,
            host=host,
        )
        twin.add_peer(url_of(peer))
        return twin

    # Work ------------------------------------------------------------------------------------

    def call(
        self, sender: str, recipient: str, directive: str, payload: Any = None, **more: Any
    ) -> Call:
        """Have a node call another, now."""
        process = self.node(sender)
        call = process.work.call(recipient, directive, payload, **more)
        process.flush()
        return call

    def call_all_pairs(self, directive: str = "test:echo", **more: Any) -> list[Call]:
        """Every living node calls every other."""
        names = [process.name for process in self.alive()]
        return [
            self.call(one, other, directive, f"{one} to {other}", **more)
            for one in names
            for other in names
            if one != other
        ]

    # Faults ----------------------------------------------------------------------------------

    def crash(self, name: str, *, silent: bool = False) -> None:
        """End a process as kill -9 does; `silent`: its machine is off, nobody is told."""
        self._note(f"crash {name}{' silently' if silent else ''}")
        self.node(name).kill(silent=silent)

    def stop(self, name: str) -> None:
        """Let a node leave in good order."""
        self._note(f"stop {name}")
        self.node(name).stop()

    def restart(self, name: str, *, keep_data: bool = True, clock_back: bool = False) -> Process:
        """Start a dead node again; `clock_back`: its clock is at 1970 now."""
        self._note(f"restart {name}")
        old = self.processes[name]
        assert not old.is_alive, f"{name} is running"
        incarnation = 1 if clock_back else self._incarnation_at(name)
        if keep_data:
            incarnation = max(incarnation, old.incarnation + 1)
        return self._start(name, incarnation)

    def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Nothing passes between two hosts; `one_way`: from the first to the second."""
        self._note(f"cut {one} {'->' if one_way else '-'} {other}")
        self.network.cut(one, other)
        if not one_way:
            self.network.cut(other, one)

    def heal(self, one: str, other: str) -> None:
        self._note(f"heal {one} - {other}")
        self.network.heal(one, other)
        self.network.heal(other, one)
        self._healed()

    def partition(self, *sides: Iterable[str]) -> None:
        """Nothing passes between any two of the sides."""
        groups = [list(side) for side in sides]
        for at, group in enumerate(groups):
            for others in groups[at + 1 :]:
                for one in group:
                    for other in others:
                        self.cut(one, other)

    def heal_all(self) -> None:
        self._note("heal all")
        for source, destination in self.network.cuts():
            self.network.heal(source, destination)
        self._healed()

    def _healed(self) -> None:
        self.troubled_at = self.clock.now
        for told in self._on_heal:
            told()

    def pause(self, name: str, seconds: float) -> None:
        """Stop a process for a time, as SIGSTOP does."""
        self._note(f"pause {name} for {seconds:.2f}")
        process = self.node(name)
        process.pause()
        self.troubled_at = max(self.troubled_at, self.clock.now + seconds)
        self.clock.after(seconds, process.resume)

    def slow_down(self, name: str, busy: float, seconds: float) -> None:
        """For some seconds a process is busy with something else, for `busy` seconds at a time."""
        self._note(f"slow {name}: {busy:.2f} s at a time for {seconds:.2f}")
        self.troubled_at = max(self.troubled_at, self.clock.now + seconds + busy)
        self.node(name).slow_down(busy, seconds)

    def jump(self, name: str, seconds: float) -> None:
        """Somebody sets the wall clock of a host."""
        self._note(f"clock of {name} jumps by {seconds:.0f}")
        self._clock_of(name).jump(seconds)

    def set_rate(self, name: str, rate: float) -> None:
        """The clock of a host runs at another rate from now on."""
        self._note(f"clock of {name} runs at {rate:.4f}")
        self.node(name).set_rate(rate)

    def set_conditions(self, one: str, other: str, conditions: Conditions | None) -> None:
        """The link between two nodes behaves like this; None: as the whole network does."""
        self._note(f"conditions of {one} - {other}: {conditions}")
        self.network.set_conditions(one, other, conditions)

    def observe(self, observer: Observer) -> None:
        """Call `observer(process, event)` for everything that a core tells its application."""
        self._around.observers.append(observer)

    def on_heal(self, told: Callable[[], object]) -> None:
        """Call `told()` whenever cuts are healed."""
        self._on_heal.append(told)

    def _note(self, text: str) -> None:
        self.log.append((self.clock.now, text))

    # Time ------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.clock.now

    @property
    def trace(self) -> int:
        """A checksum over everything that has happened."""
        return self.clock.trace

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._run_to(self.clock.now + seconds)

    def run_until(self, condition: Callable[[], Any], *, within: float) -> float:
        """Let time pass until a condition holds; returns how many seconds it took.

        Raises:
            AssertionError: it does not hold `within` seconds from now.
        """
        start, end = self.clock.now, self.clock.now + within
        while not condition():
            assert self.clock.now < end, f"not within {within} s; {self.describe()}"
            self._run_to(min(end, self.clock.now + LOOK_INTERVAL))
        return self.clock.now - start

    def _run_to(self, end: float) -> None:
        clock = self.clock
        try:
            while (at := clock.next_at()) is not None and at <= end:
                clock.step()
        except Exception as error:
            error.add_note(self.describe())
            raise
        clock.now = end

    def describe(self) -> str:
        faults = "; ".join(f"{at:.2f} {what}" for at, what in self.log[-12:])
        return f"simulation of seed {self.seed} at {self.clock.now:.3f} s; faults: {faults or '-'}"

    def counters(self) -> dict[str, int]:
        """What the living counted, by reason."""
        total: dict[str, int] = {}
        for process in self.alive():
            for reason, count in process.counters.items():
                total[reason] = total.get(reason, 0) + count
        return total


def url_of(name: str) -> str:
    return f"tcp://{name}:1"
