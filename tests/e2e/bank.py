"""The bank counter in three processes, under load, while its processes are killed and frozen.

`run(plan, seconds)` starts three replicas with data directories and ten clients that call without a
pause. A misfortune after the other: a replica is killed and started again, then the primary, then
the primary is frozen for a while. At the end everything that the clients saw is checked by the same
checker as the simulator's (`meshcore.sim.replicas.history`), and the replicas must be equal.

With leases of an etcd (`LEASES`) the primary is frozen until another one has the lease, and wakes
up beside it.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

from meshcore import Config, Controller, RPCError
from meshcore.sim.replicas import history
from tests.e2e.mesh_processes import ROOT, NodeProcess, World

NODES = ("a", "b", "c")
CLIENTS = 10
OPERATIONS = ("add", "minus", "multiply", "add", "read")
CALL_TIMEOUT = 15.0  # seconds; the longest wait is measured, and has its own limit
SETTLE_TIMEOUT = 30.0


@dataclass(frozen=True)
class Plan:
    """What is tried, and how long a client may wait (seconds)."""

    replication: str
    turns: tuple[str, ...] = ("other", "primary", "primary", "freeze")
    frozen: float = 4.0
    wait_max: float = 3.0  # with default timings
    frozen_wait_max: float = 8.0  # for a frozen primary
    leadership: str = "election"


ACTIVE, PASSIVE = Plan("active"), Plan("passive")
# A lease lives 5 s, whoever has it dead or frozen, and etcd ends it up to a second later; it may
# then go to one who lacks entries, and gives it back.
LEASES = Plan(
    "passive", ("freeze", "primary"), frozen=9.0, wait_max=9.0, frozen_wait_max=15.0,
    leadership="etcd",
)  # fmt: skip


@dataclass
class Measured:
    """What a run saw; waits in seconds."""

    calls: int = 0
    answered: int = 0
    kills: int = 0
    freezes: int = 0
    longest_wait: float = 0.0  # of a call that did not begin while the primary was frozen
    longest_frozen_wait: float = 0.0
    effects: int = 0
    errors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.calls} calls, {self.answered} answered, {self.effects} effects,"
            f" {self.kills} kills, {self.freezes} freezes; longest wait {self.longest_wait:.2f} s,"
            f" with a frozen primary {self.longest_frozen_wait:.2f} s"
        )


class Bank:
    def __init__(self, world: World, plan: Plan, seed: int) -> None:
        self._world = world
        self._plan = plan
        self._rng = random.Random(seed)
        self.nodes: dict[str, NodeProcess] = {}
        self.calls: list[history.Called] = []
        self.measured = Measured()
        self._ending = False
        self._frozen: list[tuple[float, float]] = []

    async def start(self) -> None:
        plan = self._plan
        service = (
            f"bank=bank_counter:Counter,replication={plan.replication},replicas=3"
            f",leadership={plan.leadership}"
        )
        self._world.environment["PYTHONPATH"] = f"{ROOT / 'examples'}:{ROOT}"
        for name in NODES:
            peers = [self.nodes[NODES[0]]] if self.nodes else []
            arguments = ["--service", service, "--log-level", "info"]
            self.nodes[name] = await self._world.start(name, *arguments, peers=peers)

    # Clients -------------------------------------------------------------------------------------

    async def client(self, controller: Controller, name: str) -> None:
        group = controller.group("bank", timeout=CALL_TIMEOUT)
        count = 0
        while not self._ending:
            count += 1
            operation = self._rng.choice(OPERATIONS)
            called = history.Called(
                f"{name}-{count}", operation, self._rng.randrange(2, history.MODULUS),
                time.monotonic(),
            )  # fmt: skip
            self.calls.append(called)
            try:
                answer = await group.call(operation, called.argument, called.id)
            except RPCError as error:
                self.measured.errors.append(f"{called.id}: {type(error).__name__}: {error}")
            else:
                called.end, called.answer = time.monotonic(), (answer[0], answer[1])

    # Misfortunes ---------------------------------------------------------------------------------

    async def primary(self, controller: Controller) -> str:
        """Who leads, as soon as somebody does."""
        end = time.monotonic() + SETTLE_TIMEOUT
        while True:
            offers = controller.services.directory.offers("bank")
            leads = [o for o in offers if o.role == "primary" and o.state == "ready" and o.alive]
            if leads:
                return max(leads, key=lambda offer: offer.term).node
            assert time.monotonic() < end, f"nobody leads: {offers}"
            await asyncio.sleep(0.02)

    async def all_ready(self, controller: Controller) -> None:
        """Everybody is a ready replica."""
        end = time.monotonic() + SETTLE_TIMEOUT
        while True:
            offers = controller.services.directory.offers("bank")
            if sum(o.state == "ready" and o.alive and o.answering for o in offers) == len(NODES):
                return
            assert time.monotonic() < end, f"not all are ready: {offers}"
            await asyncio.sleep(0.02)

    async def kill(self, name: str) -> None:
        node = self.nodes[name]
        await node.kill()
        self.measured.kills += 1
        await asyncio.sleep(self._rng.uniform(0.0, 1.0))
        await node.start_again()

    async def freeze(self, controller: Controller, name: str) -> None:
        node = self.nodes[name]
        node.freeze()
        began = time.monotonic()
        self.measured.freezes += 1
        await asyncio.sleep(self._plan.frozen)
        if self._plan.leadership == "etcd":
            assert await self.primary(controller) != name, f"{name} leads, and is frozen"
        node.thaw()
        self._frozen.append((began, time.monotonic()))

    async def misfortunes(self, controller: Controller, seconds: float) -> None:
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            await self.all_ready(controller)
            primary = await self.primary(controller)
            other = self._rng.choice([name for name in NODES if name != primary])
            match self._plan.turns[turn % len(self._plan.turns)]:
                case "other":
                    await self.kill(other)
                case "primary":
                    await self.kill(primary)
                case "freeze":
                    await self.freeze(controller, primary)
            turn += 1
            await asyncio.sleep(0.5)

    # The end -------------------------------------------------------------------------------------

    async def check(self, controller: Controller) -> None:
        """The clients have ended: what they saw, and what the replicas hold."""
        await self.all_ready(controller)
        order = await controller.group("bank", timeout=CALL_TIMEOUT).call("history")
        history.check(self.calls, order)
        end = time.monotonic() + SETTLE_TIMEOUT
        while True:
            states = [await self._state_of(controller, name) for name in NODES]
            if all(state == states[0] for state in states):
                break
            assert time.monotonic() < end, f"replicas differ: {states}"
            await asyncio.sleep(0.1)
        self.measured.effects = len(order)
        self.measured.calls = len(self.calls)
        self.measured.answered = sum(call.answer is not None for call in self.calls)
        for call in self.calls:
            ended = call.begin + CALL_TIMEOUT if call.end is None else call.end
            wait = ended - call.begin
            if any(call.begin < until and ended > since for since, until in self._frozen):
                self.measured.longest_frozen_wait = max(self.measured.longest_frozen_wait, wait)
            else:
                self.measured.longest_wait = max(self.measured.longest_wait, wait)

    async def _state_of(self, controller: Controller, name: str) -> Any:
        """How far it is, and a digest of its state."""
        status = await controller.call(name, "mesh:service_status", ["bank"], timeout=5)
        return status["bank"]["applied"], status["bank"]["digest"]


async def run(plan: Plan, seconds: float, *, seed: int = 1, etcd: str | None = None) -> Measured:
    """Everything; AssertionError where something was wrong."""
    async with World() as world:
        if etcd is not None:
            world.environment["MESHCORE_ETCD"] = etcd
        bank = Bank(world, plan, seed)
        await bank.start()
        peers = [node.url for node in bank.nodes.values()]
        async with Controller(Config(node_id="boss", peers=peers)) as boss:
            await bank.all_ready(boss)
            clients = [
                asyncio.create_task(bank.client(boss, f"client{number}"))
                for number in range(CLIENTS)
            ]
            try:
                await bank.misfortunes(boss, seconds)
            finally:
                bank._ending = True
                outcomes = await asyncio.gather(*clients, return_exceptions=True)
            failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert not failed, failed
            await bank.check(boss)
        return bank.measured


def check_waits(plan: Plan, measured: Measured) -> None:
    """AssertionError where a client waited too long."""
    assert measured.longest_wait <= plan.wait_max, f"a client waited {measured.longest_wait:.2f} s"
    frozen = measured.longest_frozen_wait
    assert frozen <= plan.frozen_wait_max, f"a client waited {frozen:.2f} s for a frozen primary"
