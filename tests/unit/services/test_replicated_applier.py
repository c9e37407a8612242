"""What a replica wants run: in order; a state is put back when nothing else changes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from meshcore import Service, service
from meshcore.payload.values import decode_value, encode_value
from meshcore.protocol.replication.effects import Capture, Execute, Restore
from meshcore.services.instance import Instance
from meshcore.services.outcome import encode_request
from meshcore.services.replicated.applier import Applier


class Slow(Service):
    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.thread_began = threading.Event()
        self.thread_go = threading.Event()

    async def init(self) -> None:
        self.value: list[str] = []

    @service
    async def add(self, name: str) -> int:
        self.value.append(name)
        return len(self.value)

    @service
    async def stubborn(self) -> None:
        """Its effect comes after it was cancelled."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.go.wait()
            self.value.append("stale")

    @service
    def blocking(self) -> None:
        self.thread_began.set()
        self.thread_go.wait(10)
        self.value.append("stale")

    @service
    async def cancelled(self) -> None:
        raise asyncio.CancelledError("from within")

    def get_checkpoint(self) -> Any:
        return list(self.value)

    def put_checkpoint(self, state: Any) -> None:
        self.value = list(state)


class Sink:
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._more = asyncio.Event()

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self._more.set()

    def executed(self, epoch: int, outcomes: list[tuple[int, bytes]]) -> None:
        for token, answer in outcomes:
            self._tell("executed", epoch, token, decode_value(answer))

    def captured(self, epoch: int, index: int, state: bytes) -> None:
        self._tell("captured", epoch, index, decode_value(state))

    def failed(self, reason: str) -> None:
        self._tell("failed", reason)

    async def until(self, count: int) -> None:
        while len(self.told) < count:
            self._more.clear()
            await self._more.wait()


Scenario = Callable[[Slow, Applier, Sink], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            slow, sink = Slow(), Sink()
            instance = Instance(slow, group="slow", node_id="alpha")
            await instance.start()
            applier = Applier(instance, sink)
            applier.start()
            try:
                await scenario(slow, applier, sink)
            finally:
                slow.go.set()
                slow.thread_go.set()
                await applier.stop()

    asyncio.run(bounded())


def call(method: str, *args: Any, epoch: int = 1, token: int = 1) -> Execute:
    return Execute(epoch, token, token, encode_request(method, args, {}), 0.0, 1)


def test_calls_and_captures_run_in_order() -> None:
    async def scenario(slow: Slow, applier: Applier, sink: Sink) -> None:
        applier.add(call("add", "a", token=1))
        applier.add(Capture(1, 1))
        applier.add(call("add", "b", token=2))
        await sink.until(3)
        assert sink.told == [
            ("executed", 1, 1, [1]),
            ("captured", 1, 1, ["a"]),
            ("executed", 1, 2, [2]),
        ]

    run(scenario)


async def _stays_unchanged(
    slow: Slow, applier: Applier, sink: Sink, go: Callable[[], None]
) -> None:
    """Put a state back twice while a call ends slowly: its effect is not in what follows."""
    for epoch in (2, 3):
        applier.restore(Restore(epoch, encode_value([f"epoch {epoch}"])))
        applier.add(Capture(epoch, 0))
        for _ in range(20):
            await asyncio.sleep(0)
    assert sink.told == []
    go()
    await sink.until(1)
    assert sink.told == [("captured", 3, 0, ["epoch 3"])]
    assert slow.value == ["epoch 3"]


def test_a_state_is_put_back_when_a_cancelled_call_has_ended() -> None:
    async def scenario(slow: Slow, applier: Applier, sink: Sink) -> None:
        applier.add(call("stubborn"))
        await slow.began.wait()
        await _stays_unchanged(slow, applier, sink, slow.go.set)

    run(scenario)


def test_a_state_is_put_back_when_a_thread_has_ended() -> None:
    async def scenario(slow: Slow, applier: Applier, sink: Sink) -> None:
        applier.add(call("blocking"))
        await asyncio.to_thread(slow.thread_began.wait, 10)
        await _stays_unchanged(slow, applier, sink, slow.thread_go.set)

    run(scenario)


def test_a_service_that_raises_a_cancellation_has_failed_and_goes_on() -> None:
    async def scenario(slow: Slow, applier: Applier, sink: Sink) -> None:
        applier.add(call("cancelled", token=1))
        applier.add(call("add", "a", token=2))
        await sink.until(2)
        failure = sink.told[0][3][1]
        assert (failure["type"], failure["message"]) == ("CancelledError", "from within")
        assert sink.told[1] == ("executed", 1, 2, [1])

    run(scenario)


def test_none_puts_back_what_init_made() -> None:
    async def scenario(slow: Slow, applier: Applier, sink: Sink) -> None:
        applier.add(call("add", "a"))
        await sink.until(1)
        applier.restore(Restore(2, None))
        applier.add(Capture(2, 0))
        await sink.until(2)
        assert sink.told[1] == ("captured", 2, 0, [])

    run(scenario)
