"""Whatever the wire and the nodes do: every call ends once, runs at most once, and in order.

A rule-based machine around two nodes with a relay between them. Afterwards, with all faults over,
everything that is outstanding ends within a bounded time, and then nothing moves any more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshcore.errors import BusyError, Code, UnreachableError
from meshcore.protocol.delivery.outputs import NO_PAYLOAD
from tests.unit.protocol.delivery_world import Call, End, Frame, World

WORK = [
    ("t:echo", "x"),
    ("t:echo", b"y" * 70_000),
    ("t:echo", b"z" * 600_000),
    ("t:items", 700),
    ("t:mixed", 7),
    ("t:fed", 900_000),
    ("t:torn", 400_000),
    ("t:fail", None),
    ("t:later", None),
]
NAMES = ["alpha", "beta"]
NODES = st.sampled_from(NAMES)
LIVENESS = 90.0  # seconds: a deadline of 20, a probe after 60


class FaultyWires(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.world = World("alpha", "beta", over="relay")
        self.world.wire = self._wire
        self.rng = random.Random(seed)
        self.loss = self.duplication = self.spread = 0.0
        self.calls: list[Call] = []
        self.expected: dict[Call, tuple[str, object]] = {}
        self.old: list[End] = []

    def _wire(self, frame: Frame) -> Iterable[float]:
        copies = 0 if self.rng.random() < self.loss else 1
        copies += self.rng.random() < self.duplication
        return [0.001 + self.spread * self.rng.random() for _ in range(copies)]

    # Faults ----------------------------------------------------------------------------------

    @rule(
        loss=st.sampled_from([0.0, 0.05, 0.4]),
        duplication=st.sampled_from([0.0, 0.3]),
        spread=st.sampled_from([0.0, 0.05, 0.5]),
    )
    def weather(self, loss: float, duplication: float, spread: float) -> None:
        self.loss, self.duplication, self.spread = loss, duplication, spread

    @rule(name=NODES)
    def lose_the_route(self, name: str) -> None:
        self.world[name].route(other(name), None)

    @rule(name=NODES, direct=st.booleans())
    def change_the_route(self, name: str, direct: bool) -> None:
        self.world[name].route(other(name), other(name) if direct else "relay")

    @rule(name=NODES, dead=st.sampled_from(["", "unreachable", "silent", "removed"]))
    def believe_dead(self, name: str, dead: str) -> None:
        self.world[name].peer(other(name), self._life(name), reachable=False, dead=dead)

    @rule(name=NODES)
    def believe_alive(self, name: str) -> None:
        self.world[name].peer(other(name), self._life(name))

    @rule(name=NODES, told=st.booleans())
    def restart(self, name: str, told: bool) -> None:
        self.old.append(self.world[name])
        for call in self.world[name].calls:
            self.expected.pop(call, None)
            self.calls = [each for each in self.calls if each is not call]
        self.world.restart(name, told=told)

    @rule(name=NODES)
    def stop_taking(self, name: str) -> None:
        self.world[name].taking = False

    @rule(name=NODES)
    def take(self, name: str) -> None:
        self.world[name].take_all()

    @rule(name=NODES)
    def forget_idle_channels(self, name: str) -> None:
        responder = self.world[name].delivery._responder
        responder._make_room()

    # Use -------------------------------------------------------------------------------------

    @rule(
        name=NODES,
        what=st.sampled_from(WORK),
        ttl=st.sampled_from([None, 0.3, 20.0]),
        at_once=st.booleans(),
    )
    def call(self, name: str, what: tuple[str, object], ttl: float | None, at_once: bool) -> None:
        directive, payload = what
        try:
            call = self.world[name].call(other(name), directive, payload, ttl=ttl, flush=at_once)
        except (UnreachableError, BusyError):
            return
        self.calls.append(call)
        self.expected[call] = what

    @rule(name=NODES)
    def answer(self, name: str) -> None:
        self.world[name].answer()

    @rule(number=st.integers(0, 1000))
    def cancel(self, number: int) -> None:
        if self.calls:
            call = self.calls[number % len(self.calls)]
            name = next(name for name in NAMES if call in self.world[name].calls)
            self.world[name].cancel(call)

    @rule(duration=st.sampled_from([0.0005, 0.01, 0.3, 5.0]))
    def wait(self, duration: float) -> None:
        self.world.run(duration)

    def _life(self, name: str) -> int:
        return self.world[other(name)].life

    # What holds ------------------------------------------------------------------------------

    @invariant()
    def nothing_runs_twice(self) -> None:
        for end in [*self.world.ends.values(), *self.old]:
            assert all(times == 1 for times in end.ran.values()), end.ran
            assert not end.counts["malformed message"], end.counts

    @invariant()
    def results_are_right(self) -> None:
        for call, (directive, payload) in self.expected.items():
            assert call.ended <= 1
            assert call.serials == list(range(1, len(call.serials) + 1)) or call.failure
            if call.ended and call.failure is None:
                assert call.values == result_of(directive, payload)
            elif call.failure is not None and call.failure.code == Code.UNREACHABLE:
                assert not call.failure.may_have_run or call.stream.ttl is None

    @invariant()
    def what_cannot_have_run_has_not(self) -> None:
        ran = {}
        for end in [*self.world.ends.values(), *self.old]:
            ran.update(end.ran)
        for name in NAMES:
            end = self.world[name]
            for call in end.calls:
                if call.failure is not None and not call.failure.may_have_run:
                    message_id = f"{name}-{end.life:016x}-{call.stream.number}"
                    assert message_id not in ran, call

    def teardown(self) -> None:
        """The faults are over: all ends, and then it is quiet."""
        if not hasattr(self, "world"):
            return
        self.loss = self.duplication = self.spread = 0.0
        for name in NAMES:
            self.change_the_route(name, direct=False)
            self.believe_alive(name)
            self.world[name].take_all()
            self.answer(name)
        until = self.world.now + LIVENESS
        while self.world.now < until and not all(call.ended for call in self.calls):
            self.world.run(1.0)
            self.answer("alpha")
            self.answer("beta")
        assert [call for call in self.calls if call.ended != 1] == []
        self.results_are_right()
        self.what_cannot_have_run_has_not()
        # Work whose caller was restarted or gave it up is found out by a probe.
        self.world.run(65.0)
        for name in NAMES:
            end = self.world[name]
            stats = end.delivery.stats()
            assert stats["calls_out"] == stats["calls_in"] == end.in_flight == 0, (name, stats)
            assert stats["in_flight_bytes"] == stats["backlog_bytes"] == 0
            assert not end._bodies
            assert end.delivery.is_settled()
        sent = len(self.world.sent)
        self.world.run(700.0)
        assert len(self.world.sent) == sent, "it does not go quiet"
        assert all(not self.world[name].delivery._board.by_key for name in NAMES)


def other(name: str) -> str:
    return "beta" if name == "alpha" else "alpha"


def result_of(directive: str, payload: object) -> list[object]:
    match directive:
        case "t:items":
            assert isinstance(payload, int)
            return [*range(payload), NO_PAYLOAD]
        case "t:mixed":
            assert isinstance(payload, int)
            return [
                *(n.to_bytes(4, "big") * 25_000 if n % 3 == 0 else n for n in range(payload)),
                NO_PAYLOAD,
            ]
        case "t:fed":
            assert isinstance(payload, int)
            return [bytes(payload)]
        case "t:later":
            return ["late"]
    return [payload]


FaultyWires.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestFaultyWires = FaultyWires.TestCase


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_lost_doubled_or_disordered_in_a_storm(seed: int) -> None:
    """The same machine, driven at length, with more use and more time between the faults."""
    rng = random.Random(seed)
    machine = FaultyWires()
    machine.start(seed=seed)
    mishaps: list[Callable[[str], None]] = [
        machine.lose_the_route,
        machine.stop_taking,
        machine.take,
        machine.forget_idle_channels,
        machine.believe_alive,
        lambda name: machine.change_the_route(name, direct=rng.random() < 0.5),
        lambda name: machine.believe_dead(name, rng.choice(["", "unreachable", "silent"])),
        lambda name: machine.restart(name, told=rng.random() < 0.5),
    ]
    for _ in range(150):
        name = rng.choice(NAMES)
        for _ in range(rng.randrange(4)):
            ttl = rng.choice([None, 0.3, 20.0])
            machine.call(name, rng.choice(WORK), ttl, at_once=rng.random() < 0.5)
        if rng.random() < 0.1:
            machine.weather(
                loss=rng.choice([0.0, 0.05, 0.4]),
                duplication=rng.choice([0.0, 0.3]),
                spread=rng.choice([0.0, 0.05, 0.5]),
            )
        if rng.random() < 0.15:
            rng.choice(mishaps)(name)
        elif rng.random() < 0.2:
            machine.change_the_route(name, direct=rng.random() < 0.5)
            machine.believe_alive(name)
        if rng.random() < 0.1:
            machine.cancel(rng.randrange(1000))
        if rng.random() < 0.1:
            machine.answer(name)
        machine.wait(rng.choice([0.0005, 0.003, 0.02, 0.3]))
        machine.nothing_runs_twice()
        machine.what_cannot_have_run_has_not()
    machine.results_are_right()
    machine.teardown()
