"""Services on real nodes: groups, policies, errors, membership, hooks, the watch over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import (
    BusyError,
    Config,
    ConfigError,
    Controller,
    Group,
    GroupResult,
    Node,
    RPCConnectionError,
    RPCError,
    RPCNotFoundError,
    RPCRemoteError,
    RPCTimeoutError,
    Service,
    service,
    task,
)  # fmt: skip
from meshcore.services.service import RESERVED
from tests.integration.nodes import eventually, node, run


class Overdrawn(Exception):
    def __init__(self, balance: int, asked: int) -> None:
        super().__init__(f"{asked} asked, {balance} there")
        self.balance, self.asked = balance, asked
        self.lock = object()  # cannot be sent: left out


class Lamp(Service):
    """A plain service; `gate` holds calls up until it is set."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.gate = asyncio.Event()
        self.log: list[Any] = []

    async def init(self) -> None:
        self.log.append("init")

    async def clean_up(self) -> None:
        self.log.append("clean_up")

    @task
    async def blink(self) -> None:
        self.log.append("blink")
        await asyncio.Event().wait()

    @service
    async def echo(self, value: Any, times: int = 1) -> Any:
        """Give it back."""
        return [value] * times if times > 1 else value

    @service
    async def who(self) -> str:
        return self.name

    @service
    async def wait(self) -> str:
        await self.gate.wait()
        return self.name

    @service(concurrent=2)
    async def both(self) -> str:
        self.log.append("in")
        await self.gate.wait()
        return self.name

    @service
    async def fail(self) -> None:
        raise Overdrawn(5, 7)

    @service
    def plain(self, number: int) -> int:
        return number + 1

    @service(concurrent=True)
    async def beyond(self) -> list[str]:
        return sorted((await self.controller.group("lamps").who()).ok)


@asynccontextmanager
async def lamps(*names: str, **settings: Any) -> AsyncIterator[tuple[Controller, dict[str, Lamp]]]:
    """A controller "oscar", and nodes of these names that serve a Lamp in the group "lamps"."""
    made: dict[str, Lamp] = {}
    async with Controller(Config(node_id="oscar", listen=["tcp://127.0.0.1:0"])) as oscar:
        nodes: list[Node] = []
        try:
            for name in names:
                one = node(name, peers=[oscar.endpoints[0]])
                nodes.append(one)
                await one.start()
                made[name] = Lamp(name)
                await one.serve(made[name], group="lamps", **settings)
            group = oscar.group("lamps")
            await eventually(lambda: group.members == tuple(sorted(names)))
            yield oscar, made
        finally:
            for lamp in made.values():
                lamp.gate.set()
            for one in nodes:
                await one.stop()


def test_a_life_init_tasks_calls_and_clean_up() -> None:
    async def scenario() -> None:
        async with lamps("a") as (oscar, made):
            group = oscar.group("lamps", policy="first")
            assert await group.echo(b"\x00\xff") == b"\x00\xff"
            assert await group.call("echo", {"k": [1, None]}, times=2) == [{"k": [1, None]}] * 2
            assert await group.proxy(Lamp).plain(3) == 4  # type: ignore[misc]
            await eventually(lambda: "blink" in made["a"].log)
        assert made["a"].log == ["init", "blink", "clean_up"]

    run(scenario)


def test_policies_and_partial_results() -> None:
    async def scenario() -> None:
        async with lamps("a", "b", "c") as (oscar, made):
            everyone = await oscar.group("lamps").who()
            assert everyone == GroupResult(ok={"a": "a", "b": "b", "c": "c"})
            made["a"].name = made["b"].name = ""  # and c does not answer in time
            made["a"].gate.set()
            made["b"].gate.set()
            group = oscar.group("lamps", policy="quorum")
            group.set_rpc_timeout(1.0)
            assert set((await group.wait()).ok) == {"a", "b"}
            group = oscar.group("lamps", policy="all")
            group.set_rpc_timeout(0.3)
            result = await group.wait()
            assert set(result.ok) == {"a", "b"}
            assert isinstance(result.failed["c"], RPCTimeoutError)
            assert "c did not answer lamps.wait within 0.3 s" in str(result.failed["c"])
            assert not result

    run(scenario)


def test_a_slow_member_does_not_slow_first() -> None:
    async def scenario() -> None:
        async with lamps("a", "b") as (oscar, made):
            made["b"].gate.set()
            group = oscar.group("lamps", policy="first")
            loop = asyncio.get_running_loop()
            start = loop.time()
            assert await group.wait() == "b"
            assert loop.time() - start < 2.0  # a would take three seconds
            await group.close()

    run(scenario)


def test_a_quorum_that_cannot_be_names_who_failed_with_what() -> None:
    async def scenario() -> None:
        async with lamps("a", "b") as (oscar, _):
            with pytest.raises(RPCError, match="succeeded at 0 of 2 members, 2 are needed") as told:
                await oscar.group("lamps", policy="quorum").fail()
            assert told.value.failed.keys() <= {"a", "b"}  # one of them is enough to know
            assert told.value.failed
            with pytest.raises(RPCError, match=r"failed at all members: a: 7 asked.*b: 7") as told:
                await oscar.group("lamps", policy="first").fail()
            assert set(told.value.failed) == {"a", "b"}

    run(scenario)


def test_an_exception_comes_with_its_fields_and_the_connection_stays_usable() -> None:
    async def scenario() -> None:
        async with lamps("a") as (oscar, _):
            group = oscar.group("lamps", policy="first")
            for _ in range(3):
                with pytest.raises(RPCRemoteError, match="7 asked, 5 there") as told:
                    await group.fail()
                error = told.value
                assert error.remote_type == "Overdrawn"
                assert error.fields == {"balance": 5, "asked": 7}
                assert error.remote_args == ("7 asked, 5 there",)
                assert "raise Overdrawn(5, 7)" in error.remote_traceback
                assert error.node_id == "a"
                assert await group.echo(1) == 1

    run(scenario)


def test_what_is_not_there_is_said() -> None:
    async def scenario() -> None:
        async with lamps("a") as (oscar, _):
            with pytest.raises(RPCNotFoundError, match=r"'lamp'.*did you mean lamps"):
                await oscar.group("lamp").who()
            group = oscar.group("lamps", policy="first")
            with pytest.raises(RPCNotFoundError, match="no method 'ech'; did you mean echo"):
                await group.ech(1)
            with pytest.raises(RPCRemoteError, match="missing 1 required positional"):
                await group.echo()
            with pytest.raises(ConfigError, match="policy = 'most'"):
                oscar.group("lamps", policy="most")  # type: ignore[arg-type]
            with pytest.raises(KeyError):
                group.get_node("z")
            await group.add_node("zeta")
            result = await oscar.group("lamps").who()
            assert set(result.ok) == {"a"}
            with pytest.raises(RPCConnectionError):
                await group.add_node("zeta", verify=True)
            group.remove_node("a")
            assert group.members == ("zeta",)

    run(scenario)


def test_calls_run_one_after_the_other_but_for_those_that_say_otherwise() -> None:
    async def scenario() -> None:
        async with lamps("a") as (oscar, made):
            group = oscar.group("lamps", policy="first", timeout=10)
            group.set_rpc_timeout(10)
            first = asyncio.ensure_future(group.wait())
            second = asyncio.ensure_future(group.echo(2))
            beside = [asyncio.ensure_future(group.both()) for _ in range(3)]
            await eventually(lambda: made["a"].log.count("in") == 2)
            assert not second.done()
            made["a"].gate.set()
            assert await asyncio.gather(first, second, *beside) == ["a", 2, "a", "a", "a"]

    run(scenario)


def test_members_follow_the_mesh_and_late_subscribers_get_them_first() -> None:
    async def scenario() -> None:
        async with lamps("a") as (oscar, _):
            seen: list[Any] = []
            group = oscar.group("lamps")
            end = group.on_change(seen.append)
            assert seen == [("a",)]
            two = node("b", peers=[oscar.endpoints[0]])
            await two.serve(Lamp("b"), group="lamps")  # before its start
            async with two:
                await eventually(lambda: seen[-1] == ("a", "b"))
                async for members in group.watch():
                    assert members == ("a", "b")
                    break
            await eventually(lambda: seen[-1] == ("a",))
            end()
            assert len(seen) == 3

    run(scenario)


def test_a_service_that_hangs_leaves_its_group_until_it_answers() -> None:
    async def scenario() -> None:
        async with lamps("a", "b", hang_after=0.3, heartbeat_interval=0.05) as (oscar, made):
            group = oscar.group("lamps", policy="all")
            group.set_rpc_timeout(10)
            made["b"].gate.set()
            waiting = asyncio.ensure_future(group.wait())
            await eventually(lambda: group.members == ("b",))
            offer = group.get_node("b")
            assert offer is not None
            assert offer.answering
            made["a"].gate.set()
            await eventually(lambda: group.members == ("a", "b"))
            assert set((await waiting).ok) == {"a", "b"}
            beats = await group.heartbeat()
            assert all(beat["beats"] > 0 for beat in beats.ok.values())
            await group.set_beats_per_minute(6000)
            await group.set_heartbeat_interval(0.02)
            with pytest.raises(RPCError, match="not replicated: it has no checkpoints"):
                await group.set_checkpoint_interval(1.0)

    run(scenario)


def test_hooks_on_both_sides_see_and_change_calls() -> None:
    class Hooked(Lamp):
        async def on_service_called(self, request: Any) -> None:
            self.log.append((request.service, request.client, request.server, request.args))
            if request.args == ["no"]:
                raise PermissionError("not that")
            request.args = [request.args[0] * 2]

        async def on_service_return(self, response: Any) -> None:
            self.log.append(response.result)

    async def scenario() -> None:
        hooked = Hooked("h")
        async with (
            Controller(Config(node_id="oscar", listen=["tcp://127.0.0.1:0"])) as oscar,
            node("h", peers=[oscar.endpoints[0]]) as one,
        ):
            await one.serve(hooked, group="hooked")
            group = oscar.group("hooked", policy="first")
            await eventually(lambda: group.members)
            told: list[Any] = []

            def called(request: Any) -> None:
                request.args = [request.args[0] + request.args[0]]

            group.on_rpc_call(lambda request: told.append(request.method))
            group.on_rpc_call(called)
            group.on_rpc_returned(lambda response: told.append(response.result))
            assert await group.echo("x") == "xxxx"
            assert told == ["echo", "xxxx"]
            assert hooked.log[-2:] == [("hooked", "oscar", "h", ["xx"]), "xxxx"]
            with pytest.raises(RPCRemoteError, match="not that"):
                await oscar.group("hooked", policy="first").echo("no")

    run(scenario)


def test_a_service_calls_others_and_attached_programs_call_groups() -> None:
    async def scenario() -> None:
        async with (
            lamps("a", "b") as (oscar, _),
            Controller(Config(ephemeral=True, peers=[oscar.endpoints[0]])) as client,
        ):
            await client.wait_attached(5)
            group = client.group("lamps", policy="first")

            async def all_are_known() -> bool:
                return bool(await group.beyond() == ["a", "b"])

            await eventually(all_are_known)
            assert set((await client.group("lamps").who()).ok) == {"a", "b"}
            with pytest.raises(RPCNotFoundError, match="nobody serves"):
                await client.group("nothing").who()

    run(scenario)


def test_what_cannot_be_served_is_refused() -> None:
    async def scenario() -> None:
        async with node("a") as one:
            for settings, text in (
                ({"group": "a b"}, "group = 'a b' must be"),
                ({"group": "x", "replication": "some"}, "replication = 'some' must be one of"),
                ({"group": "x", "replication": "active"}, "Lamp needs get_checkpoint"),
                ({"group": "x", "hang_after": 0}, "hang_after = 0 must be"),
            ):
                with pytest.raises(ConfigError, match=text):
                    await one.serve(Lamp(), **settings)
            await one.serve(Lamp(), group="x")
            with pytest.raises(ConfigError, match="serves x already"):
                await one.serve(Lamp(), group="x")
            await one.services.end("x")
            await one.serve(Lamp(), group="x")

    run(scenario)


def test_a_method_named_like_a_member_of_group_is_refused_at_once() -> None:
    assert {name for name in dir(Group) if not name.startswith("_")} <= RESERVED
    with pytest.raises(TypeError, match=r"Wrong.watch cannot be a @service: a Group has"):

        class Wrong(Service):
            @service
            async def watch(self) -> None: ...

    with pytest.raises(TypeError, match="a task is an async method"):
        task(lambda self: None)


def test_too_many_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshcore.services.instance.WAITING_MAX", 2)

    async def scenario() -> None:
        async with lamps("a") as (oscar, _):
            group = oscar.group("lamps", policy="first")
            calls = [asyncio.ensure_future(group.wait()) for _ in range(3)]
            done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert isinstance(done.pop().exception(), BusyError)
            for call in pending:
                call.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    run(scenario)
