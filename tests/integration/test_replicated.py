"""Replicated services on real nodes: fail-over, hand-over, lost state, spares, hanging services."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshcore import (
    Config,
    ConfigError,
    Controller,
    FencedError,
    Node,
    Request,
    RPCConnectionError,
    RPCError,
    RPCRemoteError,
    Service,
    service,
)  # fmt: skip
from tests.integration.nodes import eventually, node, run


class Counter(Service):
    """Counts; `held` is waited for by `wait`."""

    def __init__(self) -> None:
        self.held = asyncio.Event()

    async def init(self) -> None:
        self.value = 0
        self.drawn: list[float] = []

    @service
    async def add(self, number: int) -> int:
        self.value += number
        return self.value

    @service
    async def draw(self) -> list[float]:
        """The time and a random number, which all replicas must have alike."""
        self.drawn = [self.time(), self.random.random()]
        return self.drawn

    @service
    async def differ(self) -> float:
        return random.random()

    @service
    async def fail(self, data: bytes) -> None:
        raise ValueError(data, object())

    @service
    async def wait(self) -> int:
        await self.held.wait()
        return self.value

    @service(readonly=True)
    async def get(self) -> int:
        return self.value

    def get_checkpoint(self) -> Any:
        return {"value": self.value, "drawn": self.drawn}

    def put_checkpoint(self, state: Any) -> None:
        self.value, self.drawn = state["value"], state["drawn"]


class Trio:
    """Nodes n0, n1, … that serve a Counter in the group "count", and a controller."""

    def __init__(self, stack: AsyncExitStack, kind: str, directory: Path | None) -> None:
        self._stack = stack
        self.kind = kind
        self.directory = directory
        self.nodes: dict[str, Node] = {}
        self.counters: dict[str, Counter] = {}
        self.controller: Controller

    async def begin(self) -> None:
        config = Config(node_id="oscar", listen=["tcp://127.0.0.1:0"])
        self.controller = await self._stack.enter_async_context(Controller(config))
        self.group = self.controller.group("count", timeout=10.0)

    async def start(
        self, name: str, *, make: Callable[[], Counter] = Counter, **settings: Any
    ) -> None:
        data_dir = None if self.directory is None else self.directory / name
        one = node(name, peers=[self.controller.endpoints[0]], data_dir=data_dir)
        counter = make()
        await one.serve(
            counter, group="count", replication=self.kind, replicas=3,
            **{"hang_after": 60.0, **settings},
        )  # fmt: skip
        await one.start()
        self._stack.push_async_callback(self._end, one, counter)
        self.nodes[name], self.counters[name] = one, counter

    async def _end(self, one: Node, counter: Counter) -> None:
        counter.held.set()
        await one.stop(grace=0)

    def offers(self) -> dict[str, Any]:
        offers = self.controller.services.directory.offers("count")
        return {offer.node: offer for offer in offers if offer.alive}

    def primary(self) -> str | None:
        leads = [o for o in self.offers().values() if o.role == "primary" and o.state == "ready"]
        return max(leads, key=lambda offer: offer.term).node if leads else None

    def ready(self, count: int = 3) -> bool:
        good = [o for o in self.offers().values() if o.state == "ready" and o.answering]
        roles = {offer.role for offer in good}
        return len(good) == count and self.primary() is not None and roles <= {"primary", "replica"}

    async def equal(self) -> bool:
        """Whether all have applied the same, and are the same."""
        told = []
        for name in self.nodes:
            status = await self.controller.call(name, "mesh:service_status", ["count"], timeout=5)
            told.append((status["count"]["applied"], status["count"]["digest"]))
        return all(each == told[0] for each in told)


@asynccontextmanager
async def trio(
    kind: str, directory: Path | None = None, *, count: int = 3, **settings: Any
) -> AsyncIterator[Trio]:
    async with AsyncExitStack() as stack:
        made = Trio(stack, kind, directory)
        await made.begin()
        for number in range(count):
            await made.start(f"n{number}", **settings)
        await eventually(lambda: made.ready(3) or made.ready(count), 10)
        yield made


KINDS = pytest.mark.parametrize("kind", ["active", "passive"])


@KINDS
def test_calls_have_one_effect_everywhere_and_draw_alike(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with trio(kind, tmp_path) as made:
            values = await asyncio.gather(*(made.group.add(1) for _ in range(200)))
            assert sorted(values) == list(range(1, 201))
            drawn = await made.group.draw()
            assert await made.group.get() == 200
            with pytest.raises(RPCRemoteError) as told:
                await made.group.fail(b"\xff\x00")
            assert told.value.remote_type == "ValueError"
            assert "raise ValueError(data, object())" in told.value.remote_traceback
            assert await made.group.add(0) == 200  # a text that differs stopped nobody
            await eventually(made.equal)
            assert all(counter.drawn == drawn for counter in made.counters.values())

    run(scenario)


@KINDS
def test_a_primary_that_stops_hands_over_and_comes_back_with_its_state(
    kind: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with trio(kind, tmp_path) as made:
            await made.group.add(5)
            old = made.primary()
            assert old is not None
            await made.nodes.pop(old).stop()
            assert await made.group.add(2) == 7
            assert made.primary() != old
            await made.start(old)
            await eventually(made.ready)
            await eventually(made.equal)
            assert made.counters[old].value == 7

    run(scenario)


def test_any_replica_can_be_made_primary() -> None:
    async def scenario() -> None:
        async with trio("passive") as made:
            for name in made.nodes:
                await made.group.set_primary(name)
                await eventually(lambda name=name: made.primary() == name)
                await made.group.add(1)
            with pytest.raises(RPCError, match="zz has no member of count; those are on"):
                await made.group.set_primary("zz")
            assert await made.group.get() == 3

    run(scenario)


@KINDS
def test_a_replica_that_lost_its_disk_is_replaced(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with trio(kind, tmp_path, checkpoint_interval=0.2) as made:
            for _ in range(50):
                await made.group.add(1)
            lost = next(name for name in made.nodes if name != made.primary())
            before = made.offers()[lost].replica
            await made.nodes.pop(lost).stop()
            (tmp_path / lost / "services" / "count.db").unlink()
            await made.start(lost)
            await eventually(lambda: made.ready() and made.offers()[lost].replica != before, 15)
            assert await made.group.add(1) == 51
            await eventually(made.equal)

    run(scenario)


def test_a_spare_waits_and_is_no_member() -> None:
    async def scenario() -> None:
        async with trio("active", count=4) as made:
            expected = ["primary", "replica", "replica", "spare"]
            await eventually(lambda: sorted(o.role for o in made.offers().values()) == expected)
            assert await made.group.add(1) == 1

    run(scenario)


@KINDS
def test_checkpoints_are_taken_by_time_and_by_size_as_set_while_running(kind: str) -> None:
    async def scenario() -> None:
        async with trio(kind, checkpoint_interval=3600.0) as made:
            await made.group.add(1)

            async def numbers() -> list[int]:
                groups = await made.controller.request("n0", "mesh:services", None, timeout=3)
                return [member["checkpoint"] for member in groups[0]["members"]]

            assert await numbers() == [0, 0, 0]
            await made.group.set_checkpoint_interval(0.1)

            async def more() -> bool:
                await made.group.add(1)
                return min(await numbers()) > 1

            await eventually(more)
            await made.group.set_checkpoint_interval(3600.0)
            await made.group.set_checkpoint_log_bytes(100)
            before = await numbers()

            async def bigger() -> bool:
                await made.group.add(1)
                return all(n > b + 3 for n, b in zip(await numbers(), before, strict=True))

            await eventually(bigger)

    run(scenario)


@KINDS
def test_a_service_that_hangs_is_led_by_another_until_it_answers(kind: str) -> None:
    async def scenario() -> None:
        async with trio(kind, hang_after=0.5, heartbeat_interval=0.1) as made:
            await made.group.add(1)
            old = made.primary()
            assert old is not None
            for name, counter in made.counters.items():
                if name != old:
                    counter.held.set()  # only the primary's own copy hangs
            waiting = asyncio.ensure_future(made.group.wait())
            await eventually(lambda: made.primary() not in (None, old), 10)
            assert await waiting == 1
            made.counters[old].held.set()
            await eventually(made.ready, 10)
            await eventually(made.equal)

    run(scenario)


def test_an_active_group_gives_the_first_answer_also_if_its_primary_is_slow() -> None:
    async def scenario() -> None:
        async with trio("active") as made:
            await made.group.add(1)
            primary = made.primary()
            assert primary is not None
            for name, counter in made.counters.items():
                if name != primary:
                    counter.held.set()
            assert await made.group.wait() == 1  # the primary has yet to run it
            assert made.primary() == primary
            made.counters[primary].held.set()
            assert await made.group.add(1) == 2
            await eventually(made.equal)

    run(scenario)


def test_nobody_attends_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshcore.services.replicated.clients.ATTEND_WAIT", 0.1)

    async def scenario() -> None:
        async with trio("active") as made:
            await made.group.add(1)
            other = next(name for name in made.nodes if name != made.primary())
            never = ["count", 1, 999, 1, b"", 2]  # a request that nobody has made
            reply = await made.controller.request(other, "mesh:submit", never, timeout=5)
            assert reply[0] == "not_primary"
            host = made.nodes[other].services.served["count"].host
            assert host is not None
            assert host.machine is not None
            assert not host.machine._attending

    run(scenario)


def test_the_primary_alone_gives_out_its_term() -> None:
    async def scenario() -> None:
        async with trio("passive") as made:
            primary = made.primary()
            for name, one in made.nodes.items():
                served = one.services.served["count"]
                if name == primary:
                    told = served.fenced("x")
                    assert told == {"term": made.offers()[name].term, "payload": "x"}
                else:
                    with pytest.raises(FencedError, match="does not lead"):
                        served.fenced("x")

    run(scenario)


def test_a_replay_that_yields_another_answer_stops_the_replica() -> None:
    async def scenario() -> None:
        async with trio("passive") as made:
            await made.group.differ()
            stopped = await eventually(
                lambda: [o for o in made.offers().values() if o.state == "stopped"]
            )
            assert made.primary() not in {offer.node for offer in stopped}
            status = await made.controller.call(stopped[0].node, "mesh:service_status", "count")
            assert "answered otherwise in the replay of entry" in status["count"]["problem"]

    run(scenario)


def test_without_a_majority_nothing_is_answered_and_the_error_says_so() -> None:
    async def scenario() -> None:
        async with trio("active") as made:
            await made.group.add(1)
            primary = made.primary()
            for name in [name for name in made.nodes if name != primary]:
                await made.nodes.pop(name).stop()
            group = made.controller.group("count", timeout=1.0)
            with pytest.raises(RPCError, match="no answer in time") as told:
                await group.add(1)
            assert told.value.may_have_run or isinstance(told.value, RPCConnectionError)

    run(scenario)


def test_a_policy_for_many_answers_is_refused_where_there_is_one() -> None:
    async def scenario() -> None:
        async with trio("passive") as made:
            with pytest.raises(ConfigError, match="count is replicated"):
                await made.controller.group("count", policy="all").add(1)
            beats = await made.controller.group("count", policy="all").heartbeat()
            assert sorted(beat["role"] for beat in beats.ok.values()) == [
                "primary", "replica", "replica",
            ]  # fmt: skip

    run(scenario)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "n0" / "services").mkdir(parents=True)
        (tmp_path / "n0" / "services" / "count.db").write_bytes(b"this is no database" * 100)
        one = node("n0", data_dir=tmp_path / "n0")
        await one.serve(Counter(), group="count", replication="passive", replicas=1)
        with pytest.raises(ConfigError, match=r"count\.db: cannot be read as the state"):
            await one.start()

    run(scenario)


def test_large_arguments_and_states_travel(tmp_path: Path) -> None:
    class Store(Counter):
        async def init(self) -> None:
            self.data = b""

        @service
        async def put(self, data: bytes) -> int:
            self.data += data
            return len(self.data)

        def get_checkpoint(self) -> Any:
            return self.data

        def put_checkpoint(self, state: Any) -> None:
            self.data = state

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            oscar = await stack.enter_async_context(
                Controller(Config(node_id="oscar", listen=["tcp://127.0.0.1:0"]))
            )
            nodes, stores = [], []
            for number in range(4):
                one = node(f"n{number}", peers=[oscar.endpoints[0]])
                store = Store()
                if number < 3:
                    await one.serve(
                        store, group="store", replication="passive", replicas=3,
                        checkpoint_interval=0.2, checkpoint_log_bytes=1000,
                    )  # fmt: skip
                await stack.enter_async_context(one)
                nodes.append(one)
                stores.append(store)
            group = oscar.group("store", timeout=15.0)
            await eventually(lambda: len(group.members) == 3)
            for number in range(8):
                assert await group.put(bytes([number]) * 300_000) == (number + 1) * 300_000
            # The fourth replaces one that is gone, and gets it all as a checkpoint.
            gone = next(n for n in nodes[:3] if n.node_id not in _leads(oscar, "store"))
            await gone.stop()
            await nodes[3].serve(stores[3], group="store", replication="passive", replicas=3)
            for host in (n.services.served["store"].host for n in nodes if n is not gone):
                if host is not None and host.machine is not None:
                    machine = host.machine
                    machine.timings = type(machine.timings)(replace_after=0.5)
            await eventually(
                lambda: stores[3].data == b"".join(bytes([n]) * 300_000 for n in range(8)), 15
            )

    run(scenario)


def _leads(controller: Controller, group: str) -> set[str]:
    offers = controller.services.directory.offers(group)
    return {offer.node for offer in offers if offer.role == "primary"}


class Hooked(Counter):
    """Its hooks are part of what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str, Any]] = []

    async def on_service_called(self, request: Request) -> None:
        self.heard.append((request.client, request.method, request.args))
        if request.method == "add":
            request.args = [request.args[0] * 10]


@KINDS
def test_hooks_run_on_each_replica_and_see_who_called(kind: str) -> None:
    async def scenario() -> None:
        async with trio(kind, make=Hooked) as made:
            assert await made.group.add(1) == 10
            assert await made.group.get() == 10
            await eventually(made.equal)
            for counter in made.counters.values():
                assert isinstance(counter, Hooked)
                assert counter.heard[0] == ("oscar", "add", [1])
            read = [("oscar", "get", [])]
            assert sum(counter.heard[1:] == read for counter in made.counters.values()) == 1

    run(scenario)
