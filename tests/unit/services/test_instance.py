"""The calls of one service object: their order, their limits, its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshcore import BusyError, ClosedError, Request, RPCNotFoundError, Service, service
from meshcore.services import instance as module
from meshcore.services.instance import Instance


class Gate(Service):
    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.order: list[Any] = []
        self.threads: list[int] = []
        self.served = self

    def beat(self) -> dict[str, Any]:
        return {}

    async def clean_up(self) -> None:
        self.order.append("clean_up")

    @service
    async def through(self, name: Any) -> Any:
        self.order.append(("begins", name))
        await self.open.wait()
        self.order.append(("ends", name))
        return name

    @service(concurrent=1)
    async def beside(self, name: Any) -> Any:
        self.order.append(("beside", name))
        await self.open.wait()
        return name

    @service
    def blocking(self) -> None:
        self.threads.append(threading.get_ident())

    @service
    async def fail(self) -> None:
        raise ValueError


def run(scenario: Callable[[Gate, Instance], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            gate = Gate()
            instance = Instance(gate, group="gates", node_id="alpha")
            await instance.start()
            await scenario(gate, instance)

    asyncio.run(bounded())


def call(instance: Instance, method: str, *args: Any) -> asyncio.Task[Any]:
    request = Request("gates", "oscar", "alpha", 1, list(args), {}, method)
    return asyncio.create_task(instance.call(request))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_calls_run_in_the_order_in_which_they_came() -> None:
    async def scenario(gate: Gate, instance: Instance) -> None:
        calls = [call(instance, "through", number) for number in range(3)]
        await turn()
        assert gate.order == [("begins", 0)]
        gate.open.set()
        assert await asyncio.gather(*calls) == [0, 1, 2]
        assert gate.order == [(what, n) for n in range(3) for what in ("begins", "ends")]
        assert instance.done == 3

    run(scenario)


def test_a_call_that_fails_lets_the_next_run() -> None:
    async def scenario(gate: Gate, instance: Instance) -> None:
        gate.open.set()
        failing, next_one = call(instance, "fail"), call(instance, "through", 1)
        with pytest.raises(ValueError):
            await failing
        assert await next_one == 1

    run(scenario)


def test_plain_functions_run_in_a_thread() -> None:
    async def scenario(gate: Gate, instance: Instance) -> None:
        await call(instance, "blocking")
        assert gate.threads != [threading.get_ident()]

    run(scenario)


@pytest.mark.parametrize("method", ["through", "beside"])
def test_what_waits_is_bounded(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 2)

    async def scenario(gate: Gate, instance: Instance) -> None:
        calls = [call(instance, method, number) for number in range(2)]
        await turn()
        with pytest.raises(BusyError) as caught:
            await call(instance, method, 2)
        assert caught.value.may_have_run is False
        gate.open.set()
        assert await asyncio.gather(*calls) == [0, 1]
        assert await call(instance, method, 3) == 3  # there is room again

    run(scenario)


def test_what_is_there_is_done_before_clean_up() -> None:
    async def scenario(gate: Gate, instance: Instance) -> None:
        calls = [call(instance, "through", 0), call(instance, "beside", 1)]
        await turn()
        ending = asyncio.create_task(instance.stop())
        await turn()
        with pytest.raises(ClosedError) as caught:
            await call(instance, "through", 2)
        assert caught.value.may_have_run is False
        assert "clean_up" not in gate.order
        gate.open.set()
        await ending
        assert await asyncio.gather(*calls) == [0, 1]
        assert gate.order[-2:] == [("ends", 0), "clean_up"]

    run(scenario)


def test_an_end_waits_so_long_and_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(gate: Gate, instance: Instance) -> None:
        hanging = call(instance, "through", 0)
        await turn()
        await instance.stop(0.01)
        assert gate.order == [("begins", 0), "clean_up"]
        assert "1 calls of gates have not ended in 0.01 s" in caplog.text
        gate.open.set()
        await hanging

    run(scenario)


def test_the_probe_comes_after_the_calls_before_it() -> None:
    async def scenario(gate: Gate, instance: Instance) -> None:
        hanging = call(instance, "through", 0)
        await turn()
        probe = asyncio.create_task(instance.probe())
        await turn()
        assert not probe.done()
        gate.open.set()
        await probe
        await hanging
        assert instance.done == 1  # the probe itself is no work

    run(scenario)


def test_a_method_that_is_not_there_is_named() -> None:
    async def scenario(gate: Gate, instance: Instance) -> None:
        with pytest.raises(RPCNotFoundError, match=r"'thruogh'; did you mean through\?"):
            await call(instance, "thruogh")
        with pytest.raises(RPCNotFoundError):
            await call(instance, "clean_up")  # no @service

    run(scenario)
