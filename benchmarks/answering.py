"""The side of a subject that runs in the child process: how it takes orders and answers.

A child talks JSON lines: it announces its address once, and a client then answers one order at a
time. Two orders exist, the same for all subjects, so that no subject times itself differently:

    {"op": "latency", "seconds": S}                    -> {"round_trips_ns": [...]}
    {"op": "throughput", "seconds": S, "in_flight": N} -> {"calls": C, "seconds": elapsed}

Every call checks that the answer has the length of the payload. Blocking peers bring their own way
to keep N calls in flight (`many`), coroutine peers simply run N loops.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable

PAYLOAD = b"x" * 64

Call = Callable[[], object]
AsyncCall = Callable[[], Awaitable[object]]
Many = Callable[[float, int], int]
"""(seconds, in_flight) -> calls completed; it must come back soon after `seconds`."""


def announce(address: object) -> None:
    """Tell the parent that this process is ready, and where (any JSON value)."""
    _write({"ready": address})


def refuse(reason: str) -> None:
    """Tell the parent that this subject cannot run here, and why."""
    _write({"unavailable": reason})


def _write(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def end_with_parent() -> None:
    """End this process and what it started as soon as stdin closes (the parent is gone).

    For roles that take no orders; the thread sleeps in one read and costs nothing.
    """

    def wait_for_the_end() -> None:
        # The bare descriptor: a thread inside sys.stdin holds a lock that exit would wait for.
        while os.read(0, 4096):
            pass
        if os.getpgrp() == os.getpid():  # as processes.py starts it: take its children along
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    threading.Thread(target=wait_for_the_end, name="end-with-parent", daemon=True).start()


def check(answer: object) -> None:
    """Raise where an answer is not as long as the payload: a wrong echo must not look fast."""
    if len(answer) != len(PAYLOAD):  # type: ignore[arg-type]
        raise ValueError(f"the echo came back wrong: {answer!r}")


def answer_blocking(call: Call, many: Many | None = None) -> None:
    """Answer orders until stdin closes; without `many`, calls go one at a time."""
    announce(None)
    for line in sys.stdin:
        order = json.loads(line)
        seconds = order["seconds"]
        if order["op"] == "latency":
            _write({"round_trips_ns": _blocking_round_trips(call, seconds)})
            continue
        started = time.perf_counter()
        calls = (many or _one_at_a_time(call))(seconds, order["in_flight"])
        _write({"calls": calls, "seconds": time.perf_counter() - started})


def _one_at_a_time(call: Call) -> Many:
    def many(seconds: float, _in_flight: int) -> int:
        return len(_blocking_round_trips(call, seconds))

    return many


def _blocking_round_trips(call: Call, seconds: float) -> list[int]:
    clock = time.perf_counter_ns
    samples: list[int] = []
    at = clock()
    end = at + int(seconds * 1e9)
    while at < end:
        call()
        now = clock()
        samples.append(now - at)
        at = now
    return samples


async def answer_async(
    call: AsyncCall, many: Callable[[float, int], Awaitable[int]] | None = None
) -> None:
    """The same inside a running loop, which keeps turning between two orders."""
    announce(None)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        seconds = order["seconds"]
        if order["op"] == "latency":
            _write({"round_trips_ns": await _async_round_trips(call, seconds)})
            continue
        started = time.perf_counter()
        if many is not None:
            calls = await many(seconds, order["in_flight"])
        else:
            calls = await _loops(call, seconds, order["in_flight"])
        _write({"calls": calls, "seconds": time.perf_counter() - started})


async def _async_round_trips(call: AsyncCall, seconds: float) -> list[int]:
    clock = time.perf_counter_ns
    samples: list[int] = []
    at = clock()
    end = at + int(seconds * 1e9)
    while at < end:
        await call()
        now = clock()
        samples.append(now - at)
        at = now
    return samples


async def _loops(call: AsyncCall, seconds: float, in_flight: int) -> int:
    running = True

    async def keep_calling() -> int:
        count = 0
        while running:
            await call()
            count += 1
        return count

    def stop() -> None:
        nonlocal running
        running = False

    asyncio.get_running_loop().call_later(seconds, stop)
    return sum(await asyncio.gather(*(keep_calling() for _ in range(in_flight))))
