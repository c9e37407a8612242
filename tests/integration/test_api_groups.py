"""Plain services on real nodes: serving, groups, policies, errors, hooks, the watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshcore import (
    ActionError,
    BadPayloadError,
    BusyError,
    ClosedError,
    Config,
    ConfigError,
    Controller,
    GroupResult,
    Node,
    Request,
    Response,
    RPCConnectionError,
    RPCConnectionTimeoutError,
    RPCError,
    RPCNotFoundError,
    RPCRemoteError,
    RPCTimeoutError,
    Service,
    service,
    task,
)
from tests.integration.nodes import eventually, node, run

ALL_BYTES = bytes(range(256))


class NoFundsError(Exception):
    """With fields, one of which cannot be sent."""

    def __init__(self, wanted: int, blob: bytes) -> None:
        super().__init__(wanted, blob)
        self.wanted = wanted
        self.blob = blob
        self.lock = object()

    def __str__(self) -> str:
        return f"{self.wanted} are not there"


class Desk(Service):
    """Does what the tests want done."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.release = asyncio.Event()
        self.active = self.active_max = 0

    async def init(self) -> None:
        self.log.append("init" if self.controller is not None else "init without controller")

    async def clean_up(self) -> None:
        self.log.append("clean_up")

    @task
    async def ticking(self) -> None:
        self.log.append("task")
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append("task ends")

    @service
    async def who(self) -> str:
        """Who answers."""
        return str(self.controller.node_id)

    @service
    async def echo(self, *args: Any, **kwargs: Any) -> list[Any]:
        return [list(args), kwargs]

    @service
    def thread(self, number: int) -> int:
        return number + 1

    @service
    async def fail(self, wanted: int = 7) -> None:
        raise NoFundsError(wanted, ALL_BYTES)

    @service
    async def unsendable(self) -> Any:
        return {"a": [object()]}

    @service
    async def hold(self) -> str:
        """In its turn."""
        return await self._hold()

    @service(concurrent=2)
    async def hold_beside(self) -> str:
        return await self._hold()

    async def _hold(self) -> str:
        self.active += 1
        self.active_max = max(self.active_max, self.active)
        try:
            await self.release.wait()
        finally:
            self.active -= 1
        self.log.append("held")
        return str(self.controller.node_id)

    @service
    async def fail_at(self, node_id: str) -> str:
        if self.controller.node_id == node_id:
            raise ValueError(f"not at {node_id}")
        return str(self.controller.node_id)


@asynccontextmanager
async def desks(
    *names: str, group: str = "desk", **settings: Any
) -> AsyncIterator[tuple[Controller, dict[str, Node], dict[str, Desk]]]:
    """oscar, and nodes of these names that serve a Desk; all of it known to oscar."""
    nodes: dict[str, Node] = {}
    served: dict[str, Desk] = {}
    async with asyncio.timeout(20):
        try:
            for name in names:
                nodes[name] = node(name)
                served[name] = Desk()
                await nodes[name].serve(served[name], group=group, **settings)
                await nodes[name].start()
            peers = [one.endpoints[0] for one in nodes.values()]
            async with Controller(Config(node_id="oscar", peers=peers)) as oscar:
                members = oscar.group(group)
                await eventually(lambda: members.members == tuple(sorted(names)))
                yield oscar, nodes, served
        finally:
            for desk in served.values():
                desk.release.set()
            for one in nodes.values():
                await one.stop()


# -- Serving ---------------------------------------------------------------------------------------


def test_a_service_lives_from_init_to_clean_up() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, nodes, served):
            log = served["alpha"].log
            await eventually(lambda: log == ["init", "task"])
            assert await oscar.group("desk", policy="first").who() == "alpha"
            await nodes["alpha"].stop()
            assert log == ["init", "task", "task ends", "clean_up"]

    run(scenario)


def test_what_is_served_after_the_start_is_known_at_once_and_ends_on_its_own() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, nodes, _):
            seen: list[tuple[str, ...]] = []
            late = oscar.group("late")
            late.on_change(seen.append)
            desk = Desk()
            served = await nodes["alpha"].serve(desk, group="late")
            await eventually(lambda: seen == [(), ("alpha",)])
            assert await late.who() == GroupResult(ok={"alpha": "alpha"})
            await served.stop()
            await served.stop()
            await eventually(lambda: seen == [(), ("alpha",), ()])
            assert desk.log[-1] == "clean_up"
            await nodes["alpha"].serve(Desk(), group="late")  # the name is free again

    run(scenario)


def test_calls_that_are_there_are_done_before_clean_up_and_no_more_are_taken() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, nodes, served):
            group = oscar.group("desk", policy="first")
            desk = served["alpha"]
            held = asyncio.create_task(group.hold())
            await eventually(lambda: desk.active)
            ending = asyncio.create_task(nodes["alpha"].services.served["desk"].stop())
            await eventually(lambda: "desk" not in nodes["alpha"].services.served)
            with pytest.raises(RPCNotFoundError, match="alpha does not serve 'desk'"):
                await group.add_node("alpha", verify=True)
            desk.release.set()
            assert await held == "alpha"
            await ending
            assert desk.log[-3:] == ["held", "task ends", "clean_up"]

    run(scenario)


def test_an_init_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    class Broken(Service):
        async def init(self) -> None:
            raise OSError("no device")

        def get_checkpoint(self) -> int:
            return 0

        def put_checkpoint(self, state: int) -> None: ...

    async def scenario() -> None:
        async with node("alpha", data_dir=tmp_path) as alpha:
            for _ in range(2):  # the second finds the file of the first free
                with pytest.raises(OSError, match="no device"):
                    await alpha.serve(Broken(), group="g", replication="passive")
            assert alpha.services.served == {}

    run(scenario)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"group": "a b"}, "group = 'a b' must be"),
        ({"group": "g", "replication": "some"}, "none, active, passive"),
        ({"group": "g", "replication": "active"}, "needs get_checkpoint"),
        ({"group": "g", "heartbeat_interval": 0}, "heartbeat_interval = 0 must be"),
    ],
)
def test_what_cannot_be_served_is_named(settings: dict[str, Any], text: str) -> None:
    async def scenario() -> None:
        alpha = node("alpha")
        with pytest.raises(ConfigError, match=text):
            await alpha.serve(Desk(), **settings)

    run(scenario)


# -- Calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_any_bytes_of_any_size_come_back_as_they_were(size: int) -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, _, _):
            blob = (ALL_BYTES * (size // 256 + 1))[:size]
            group = oscar.group("desk", policy="first")
            assert await group.echo(blob, key=[blob, None, 1.5, {"b": blob}]) == [
                [blob],
                {"key": [blob, None, 1.5, {"b": blob}]},
            ]

    run(scenario)


def test_arguments_named_like_ours_go_to_the_method() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, _, _):
            group = oscar.group("desk", policy="first")
            names = {"policy": 1, "timeout": 2, "name": 3, "group": 4, "node": 5}
            assert await group.call("echo", 1, **names) == [[1], names]
            assert await group.proxy(Desk).echo(method=1) == [[], {"method": 1}]
            assert await group.thread(1) == 2

    run(scenario)


def test_an_exception_comes_with_its_fields_and_the_service_goes_on() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, _, _):
            group = oscar.group("desk", policy="first")
            links = oscar.links
            for _ in range(3):
                with pytest.raises(RPCRemoteError) as caught:
                    await group.fail(wanted=9)
                error = caught.value
                assert isinstance(error, ActionError)
                assert error.remote_type == "NoFundsError"
                assert "9 are not there" in str(error)
                assert error.remote_args == (9, ALL_BYTES)
                assert error.fields == {"wanted": 9, "blob": ALL_BYTES}
                assert "raise NoFundsError" in error.remote_traceback
                assert error.node_id == "alpha"
                assert await group.who() == "alpha"
            assert oscar.links == links

    run(scenario)


def test_what_is_missing_or_does_not_fit_is_named() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, _, _):
            group = oscar.group("desk", policy="first")
            with pytest.raises(RPCNotFoundError, match=r"no method 'echoo'; did you mean echo\?"):
                await group.echoo()
            with pytest.raises(RPCRemoteError, match="unexpected keyword argument 'wrong'"):
                await group.fail(wrong=1)
            with pytest.raises(RPCRemoteError, match=r"object cannot be sent"):
                await group.unsendable()
            with pytest.raises(BadPayloadError, match="set cannot be sent"):
                await group.echo({1})
            with pytest.raises(RPCNotFoundError, match=r"'dsk' \(desk\); did you mean desk\?"):
                await oscar.group("dsk").who()
            assert await group.who() == "alpha"

    run(scenario)


def test_calls_run_one_after_the_other_unless_they_may_run_beside() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, _, served):
            group, desk = oscar.group("desk", policy="first"), served["alpha"]
            calls = [asyncio.create_task(group.hold()) for _ in range(3)]
            await eventually(lambda: desk.active)
            assert (await group.heartbeat())["role"] == "member"  # it runs beside
            desk.release.set()
            await asyncio.gather(*calls)
            assert desk.active_max == 1
            desk.release.clear()
            calls = [asyncio.create_task(group.hold_beside()) for _ in range(4)]
            await eventually(lambda: desk.active == 2)
            await group.who()
            assert desk.active == 2
            desk.release.set()
            await asyncio.gather(*calls)
            assert desk.active_max == 2

    run(scenario)


def test_hooks_of_both_sides_see_and_change_calls() -> None:
    class Hooked(Desk):
        async def on_service_called(self, request: Request) -> None:
            assert (request.service, request.client, request.server) == ("desk", "oscar", "alpha")
            self.log.append(f"called {request.method} {request.args}")
            if request.args == ["refuse"]:
                raise PermissionError("refused")
            request.args = [*request.args, "server"]

        async def on_service_return(self, response: Response) -> None:
            self.log.append(f"returned {response.method} {response.exception!r}")
            if response.exception is None:
                response.result = [*response.result, response.req_num]

    async def scenario() -> None:
        async with desks("alpha") as (oscar, nodes, _):
            await nodes["alpha"].services.served["desk"].stop()
            desk = Hooked()
            await nodes["alpha"].serve(desk, group="desk")
            group = oscar.group("desk", policy="first")
            await eventually(lambda: group.members)
            returned: list[Response] = []

            async def ask(request: Request) -> None:
                request.args.append("client")

            group.on_rpc_call(ask)
            group.on_rpc_returned(returned.append)
            assert await group.echo(1) == [[1, "client", "server"], {}, 1]
            with pytest.raises(RPCRemoteError, match="takes"):
                await group.who()
            assert returned[0].result[-1] == 1
            assert isinstance(returned[1].exception, RPCRemoteError)
            assert desk.log[-2:] == [
                "called who ['client']",
                "returned who TypeError('Desk.who() takes 1 positional argument but 3 were given')",
            ]
            plain = oscar.group("desk", policy="first")
            with pytest.raises(RPCRemoteError, match="refused"):
                await plain.echo("refuse")

    run(scenario)


# -- Policies --------------------------------------------------------------------------------------


def test_the_first_success_is_the_answer_however_slow_or_faulty_the_others_are() -> None:
    async def scenario() -> None:
        async with desks("alpha", "beta", "gamma") as (oscar, _, served):
            group = oscar.group("desk", policy="first")
            served["beta"].release.set()
            began = time.monotonic()
            assert await group.hold() == "beta"
            assert time.monotonic() - began < 2.0  # alpha and gamma would take 3 s to fail
            assert await group.fail_at("alpha") in ("beta", "gamma")
            served["alpha"].release.set()
            await eventually(lambda: "held" in served["alpha"].log)  # the others run on

    run(scenario)


def test_a_partial_result_names_who_failed_with_what() -> None:
    async def scenario() -> None:
        async with desks("alpha", "beta", "gamma") as (oscar, _, served):
            everybody = oscar.group("desk")  # not replicated: all
            result = await everybody.fail_at("beta")
            assert result.ok == {"alpha": "alpha", "gamma": "gamma"}
            assert list(result.failed) == ["beta"]
            assert isinstance(result.failed["beta"], RPCRemoteError)
            assert not result

            served["alpha"].release.set()
            short = oscar.group("desk", policy="all", timeout=0.5)
            began = time.monotonic()
            result = await short.hold()
            assert time.monotonic() - began < 2.0
            assert result.ok == {"alpha": "alpha"}
            assert {name: type(error) for name, error in result.failed.items()} == {
                "beta": RPCTimeoutError,
                "gamma": RPCTimeoutError,
            }

    run(scenario)


def test_a_quorum_is_more_than_half() -> None:
    async def scenario() -> None:
        async with desks("alpha", "beta", "gamma") as (oscar, _, served):
            group = oscar.group("desk", policy="quorum", timeout=0.5)
            result = await group.fail_at("beta")
            assert result.ok == {"alpha": "alpha", "gamma": "gamma"}
            served["alpha"].release.set()
            with pytest.raises(RPCError, match=r"1 of 3 members, 2 are needed: beta: .*") as caught:
                await group.hold()
            assert caught.value.ok == {"alpha": "alpha"}
            assert caught.value.failed  # both, or the one that made it impossible
            assert all(type(e) is RPCTimeoutError for e in caught.value.failed.values())
            group.remove_node("beta")
            with pytest.raises(RPCError, match="1 of 2 members, 2 are needed: gamma"):
                await group.hold()

    run(scenario)


def test_when_all_fail_the_error_says_what_they_failed_with() -> None:
    async def scenario() -> None:
        async with desks("alpha", "beta") as (oscar, _, _):
            group = oscar.group("desk", policy="first", timeout=0.3)
            with pytest.raises(RPCError, match=r"alpha: .*beta: ") as caught:
                await group.fail()
            assert sorted(caught.value.failed) == ["alpha", "beta"]
            with pytest.raises(RPCTimeoutError):
                await group.hold()
            with pytest.raises(RPCNotFoundError, match="did you mean echo"):
                await group.echoo()

    run(scenario)


# -- Members ---------------------------------------------------------------------------------------


def test_members_follow_the_mesh_and_late_subscribers_get_the_present_state() -> None:
    async def scenario() -> None:
        async with desks("alpha", "beta") as (oscar, nodes, _):
            group = oscar.group("desk")
            seen: list[tuple[str, ...]] = []
            end = group.on_change(seen.append)
            watched = group.watch()
            assert seen == [("alpha", "beta")] == [await anext(watched)]
            await nodes["beta"].stop()
            await eventually(lambda: seen[-1] == ("alpha",))
            assert await anext(watched) == ("alpha",)
            assert await group.who() == GroupResult(ok={"alpha": "alpha"})
            end()
            await nodes["alpha"].stop()
            assert await anext(watched) == ()
            assert len(seen) == 2
            with pytest.raises(RPCNotFoundError, match="nobody serves the group 'desk'"):
                await group.who()
            await watched.aclose()

    run(scenario)


def test_nodes_are_added_and_removed_by_hand() -> None:
    async def scenario() -> None:
        async with desks("alpha", "beta") as (oscar, nodes, _):
            group = oscar.group("desk")
            seen: list[tuple[str, ...]] = []
            group.on_change(seen.append)
            group.remove_node("beta")
            assert seen[-1] == group.members == ("alpha",)
            with pytest.raises(KeyError):
                group.get_node("beta")
            with pytest.raises(KeyError):
                group.remove_node("beta")
            assert (await group.who()).ok == {"alpha": "alpha"}
            await group.add_node("beta", verify=True)
            assert group.get_node("beta").kind == "Desk"

            async with node("delta", peers=[nodes["alpha"].endpoints[0]]):
                await oscar.wait_for("delta")
                with pytest.raises(RPCNotFoundError, match="delta does not serve 'desk'"):
                    await group.add_node("delta", verify=True)
                assert group.members == ("alpha", "beta")
                group.add_node("delta", verify=False)  # nothing to wait for
                assert seen[-1] == ("alpha", "beta", "delta")
                result = await group.who()
                assert isinstance(result.failed["delta"], RPCNotFoundError)
            group.add_node("nobody")
            result = await group.who()
            assert isinstance(result.failed["nobody"], RPCConnectionError)
            assert result.failed["nobody"].node == "nobody"

    run(scenario)


def test_a_member_that_cannot_be_reached_is_given_up_after_the_network_timeout() -> None:
    async def scenario() -> None:
        async with desks("alpha") as (oscar, _, served):
            group = oscar.group("desk", policy="first", timeout=10.0)
            group.set_rpc_timeout(10.0)
            group.set_network_timeout(0.2)
            held = asyncio.create_task(group.hold())
            await eventually(lambda: served["alpha"].active)
            await asyncio.sleep(0.3)  # a slow one that is there is waited for
            served["alpha"].release.set()
            assert await held == "alpha"

            served["alpha"].release.clear()
            group._registry.is_reachable = lambda node_id: False  # type: ignore[method-assign]
            began = time.monotonic()
            with pytest.raises(RPCConnectionTimeoutError, match=r"within 0\.2 s"):
                await group.hold()
            assert time.monotonic() - began < 5.0

    run(scenario)


def test_a_program_that_is_attached_to_a_node_calls_and_watches_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with (
            desks("alpha", "beta") as (_, nodes, _),
            Controller(Config(peers=[nodes["alpha"].endpoints[0]], ephemeral=True)) as client,
        ):
            await client.wait_for("alpha")
            group = client.group("desk")

            async def both() -> bool:
                return (await group.who()).ok == {"alpha": "alpha", "beta": "beta"}

            await eventually(both)
            seen: list[tuple[str, ...]] = []
            end = group.on_change(seen.append)
            watched = group.watch()
            assert await anext(watched) == ("alpha", "beta")
            await eventually(lambda: seen == [("alpha", "beta")])
            with pytest.raises(RPCNotFoundError, match="did you mean desk"):
                await client.group("desl").who()
            await nodes["beta"].stop()
            assert await anext(watched) == ("alpha",)
            await eventually(lambda: seen == [("alpha", "beta"), ("alpha",)])
            await watched.aclose()
            end()
            client.group("desk").on_change(seen.append)  # ends with the program
            await eventually(lambda: len(seen) == 3)
            monkeypatch.setattr("meshcore.services.registry.FOLLOWING_MAX", 1)
            with pytest.raises(BusyError, match="1 groups are watched here"):
                group.on_change(seen.append)

    run(scenario)


# -- The watch -------------------------------------------------------------------------------------


def test_a_service_that_hangs_leaves_its_group_until_it_answers() -> None:
    async def scenario() -> None:
        watch = {"heartbeat_interval": 0.05, "hang_after": 0.3}
        async with desks("alpha", "beta", **watch) as (oscar, _, served):
            group = oscar.group("desk", policy="first")
            served["beta"].release.set()
            assert await group.hold() == "beta"  # alpha hangs
            await eventually(lambda: group.members == ("beta",))
            rows = await oscar.call("beta", "mesh:services", "desk")
            [row] = rows
            answering = {member["node"]: member["answering"] for member in row["members"]}
            assert answering == {"alpha": False, "beta": True}
            served["alpha"].release.set()
            await eventually(lambda: group.members == ("alpha", "beta"))

    run(scenario)


def test_a_service_that_has_much_to_do_does_not_hang() -> None:
    class Busy(Desk):
        @service
        async def work(self) -> None:
            await asyncio.sleep(0.05)

    async def scenario() -> None:
        async with desks("alpha") as (oscar, nodes, _):
            served = await nodes["alpha"].serve(
                Busy(), group="busy", heartbeat_interval=0.01, hang_after=1.0
            )
            group = oscar.group("busy", policy="first")
            await eventually(lambda: group.members)
            seen: list[tuple[str, ...]] = []
            group.on_change(seen.append)
            await asyncio.gather(*(group.work() for _ in range(40)))  # 2 s of work
            assert served.answering
            assert seen == [("alpha",)]

    run(scenario)


def test_the_interval_of_heartbeats_is_set_while_it_runs() -> None:
    async def scenario() -> None:
        async with desks("alpha", heartbeat_interval=600.0) as (oscar, nodes, _):
            group = oscar.group("desk", policy="first")
            await eventually(lambda: nodes["alpha"].services.served["desk"].beats == 1)
            await group.set_heartbeat_interval(0.02)

            async def beats() -> bool:
                return int((await group.heartbeat())["beats"]) > 3

            await eventually(beats)
            await group.set_beats_per_minute(1)
            for wrong in (0, -1, float("nan"), float("inf"), True, "1"):
                with pytest.raises(ConfigError, match="must be a number greater than 0"):
                    await group.set_heartbeat_interval(wrong)  # type: ignore[arg-type]
            with pytest.raises(RPCError, match="is not replicated"):
                await group.set_checkpoint_interval(1.0)
            with pytest.raises(RPCError):
                await group.set_primary("alpha")

    run(scenario)


def test_a_node_that_is_not_started_says_so() -> None:
    async def scenario() -> None:
        controller = Controller(Config(node_id="oscar"))
        with pytest.raises(RPCNotFoundError, match="nobody serves the group 'desk'"):
            await controller.group("desk").who()
        group = controller.group("desk")
        group.add_node("alpha")
        with pytest.raises(ClosedError):
            await group.add_node("beta", verify=True)

    run(scenario)
