"""`meshctl ping`: the way to a node and back, like ping(8)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Session, session
from meshcore.cli.failure import Reported, exit_code, one_line
from meshcore.cli.interrupts import run_async, swallow_cancel
from meshcore.cli.options import Duration, Options, examples, with_options
from meshcore.cli.render import Column
from meshcore.errors import (
    DeadlineExceededError,
    MeshError,
    UnknownNodeError,
    UnreachableError,
)

if TYPE_CHECKING:
    from meshcore import Pong

_SAMPLES_MAX = 100_000  # round trips kept for the JSON of a ping that runs for days; the newest
_ALL_AT_ONCE = 64  # nodes that --all pings at a time

_COLUMNS = (
    Column("NODE", style="bold"),
    Column("HOPS", right=True),
    Column("SENT", right=True, rank=3),
    Column("LOST", right=True),
    Column("MIN", right=True, rank=2),
    Column("AVG", right=True),
    Column("MAX", right=True, rank=1),
    Column("WHY", rank=4),
)


@dataclass
class Tally:
    """What the pings to one node came to; times in milliseconds."""

    node_id: str
    sent: int = 0
    received: int = 0
    round_trips_ms: list[float] = field(default_factory=list)
    active_work: list[Any] = field(default_factory=list)
    hops: list[tuple[str, float]] = field(default_factory=list)
    hop_count: int | None = None
    error: Exception | None = None

    def add(self, pong: Pong, start: str) -> None:
        """Count an answer; `start` is the node we hang on, where the way begins."""
        self.received += 1
        self.round_trips_ms.append(pong.round_trip * 1000)
        if len(self.round_trips_ms) > 2 * _SAMPLES_MAX:
            del self.round_trips_ms[:-_SAMPLES_MAX]
        self.active_work = render.active_work(pong.active_work)
        if pong.hops:
            self.hops = way_from(start, pong.hops)
            self.hop_count = len(self.hops)

    def as_json(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "sent": self.sent,
            "received": self.received,
            "round_trips_ms": [round(value, 3) for value in self.round_trips_ms[-_SAMPLES_MAX:]],
            "active_work": self.active_work,
            "hops": [
                {"node_id": node_id, "latency_ms": round(seconds * 1000, 3)}
                for node_id, seconds in self.hops
            ],
        }

    def outcome(self) -> Exception | None:
        """Why the command fails: None if any ping was answered, or none was sent."""
        if self.received or not self.sent or isinstance(self.error, UnknownNodeError):
            return None if self.received else self.error
        last = f"; {self.error}" if self.error is not None and self.sent > 1 else ""
        text = str(self.error) if self.sent == 1 and self.error else ""
        return DeadlineExceededError(
            text or f"{self.node_id}: none of {self.sent} pings was answered{last}",
            node_id=self.node_id,
        )


@click.command(
    epilog=examples(
        "meshctl ping gamma",
        "meshctl ping gamma --trace --count 1",
        "meshctl ping --all",
        "meshctl ping gamma --count 0 --interval 200ms",
    )
)
@click.argument("node", required=False)
@click.option(
    "--count",
    type=click.IntRange(min=0),
    default=4,
    metavar="N",
    help="How many pings; 0: until interrupted.  [default: 4]",
)
@click.option(
    "--interval",
    type=Duration(zero=True),
    default=1.0,
    metavar="DURATION",
    help="The time from one ping to the next.  [default: 1s]",
)
@click.option("--trace", is_flag=True, help="Show the way: each node with its time.")
@click.option("--all", "everyone", is_flag=True, help="Ping every node of the mesh at once.")
@with_options(timeout=5.0, timeout_help="How long to wait for each answer.")
def command(
    options: Options,
    *,
    node: str | None,
    count: int,
    interval: float,
    trace: bool,
    everyone: bool,
) -> None:
    """Measure the way to NODE and back.

    Exits with 0 if any ping was answered, 3 if there is no such node, 4 if all were lost.
    """
    if (node is None) == (not everyone):
        raise click.UsageError("name a node or say --all" if node is None else "NODE or --all")
    plan = _Plan(count, interval, trace)
    run_async(_ping_one(options, node, plan) if node is not None else _ping_all(options, plan))


@dataclass(frozen=True, slots=True)
class _Plan:
    count: int
    interval: float  # seconds
    trace: bool


async def _ping_one(options: Options, node: str, plan: _Plan) -> None:
    tally = Tally(node)

    def show(line: str) -> None:
        if not options.json:
            click.echo(line)

    async with session(options) as client:
        interrupted = await _until_cancelled(_series(client, tally, plan, show))
    if options.json and (tally.received or tally.outcome() is None):
        render.print_json(tally.as_json())
    elif tally.sent and not isinstance(tally.error, UnknownNodeError):
        show(_summary(tally))
    if (error := tally.outcome()) is not None:
        if isinstance(error, DeadlineExceededError):
            error.details = tally.as_json()  # type: ignore[attr-defined]
        raise error
    if interrupted and plan.count:
        raise Reported(130)


async def _until_cancelled(work: Any) -> bool:
    """Whether an interrupt, and not its own end, ended `work`; both are a fine end for a ping."""
    try:
        await work
    except asyncio.CancelledError:
        await swallow_cancel()
        return True
    return False


async def _series(client: Session, tally: Tally, plan: _Plan, show: Callable[[str], None]) -> None:
    """Ping until the plan is done or the node turns out to be unknown."""
    started = time.monotonic()
    for number in itertools.count(1):
        line = await _one(client, tally, plan)
        if isinstance(tally.error, UnknownNodeError) and not tally.received:
            return
        show(line)
        if number == plan.count:
            return
        await asyncio.sleep(max(0.0, started + number * plan.interval - time.monotonic()))


async def _one(client: Session, tally: Tally, plan: _Plan) -> str:
    """One ping; the line that tells of it. A failure is kept in the tally."""
    timeout = client.options.timeout or 5.0
    try:
        tally.sent += 1
        pong = await client.controller.ping(tally.node_id, timeout=timeout, trace=plan.trace)
    except asyncio.CancelledError:
        tally.sent -= 1  # it was not lost, it was given up
        raise
    except (UnreachableError, DeadlineExceededError, TimeoutError) as error:
        tally.error = error
        return one_line(str(error) or f"{tally.node_id}: no answer in {timeout:g} s")
    tally.add(pong, client.node_id)
    if tally.hop_count is None:
        tally.hop_count = await _hops_to(client, tally.node_id)
    time_ms = render.milliseconds(pong.round_trip * 1000)
    if plan.trace and tally.hops:
        return one_line(f"{trace_line(client.node_id, tally.hops)}, {time_ms} there and back")
    return one_line(f"{client.node_id} → {tally.node_id}: {_hops(tally.hop_count)}{time_ms}")


def way_from(start: str, hops: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The hops after `start`: a client's first hop only leads to the node that it hangs on."""
    return [hop for hop in hops if hop[0] != start]


def trace_line(start: str, hops: list[tuple[str, float]]) -> str:
    """`alpha ─ beta 0.3 ms ─ gamma 0.7 ms`."""
    steps = [f"{node_id} {render.milliseconds(seconds * 1000)}" for node_id, seconds in hops]
    return " ─ ".join([start, *steps])


async def _hops_to(client: Session, node_id: str) -> int | None:
    """How many hops lead there, for people only: a mesh in motion may not say."""
    try:
        return len((await client.ask("mesh:route", node_id))["path"]) - 1
    except MeshError:
        return None


def _hops(count: int | None) -> str:
    if count is None or count < 0:
        return ""
    return f"{count} hop{'' if count == 1 else 's'}, "


def _summary(tally: Tally) -> str:
    lost = tally.sent - tally.received
    text = f"{tally.sent} sent, {tally.received} received, {100 * lost / tally.sent:.0f} % lost"
    times = tally.round_trips_ms
    if times:
        few = [render.milliseconds(value) for value in (min(times), _mean(times), max(times))]
        text += f"; min/avg/max {' / '.join(few)}"
    return one_line(text)


def _mean(times: list[float]) -> float:
    return sum(times) / len(times)


async def _ping_all(options: Options, plan: _Plan) -> None:
    async with session(options) as client:
        rows = await client.ask("mesh:nodes")
        tallies = [Tally(row["node_id"], hop_count=row.get("hops")) for row in rows]
        places = asyncio.Semaphore(_ALL_AT_ONCE)

        async def series(tally: Tally) -> None:
            async with places:
                await _series(client, tally, plan, lambda line: None)

        interrupted = await _until_cancelled(asyncio.gather(*(series(each) for each in tallies)))
    if options.json:
        render.print_json([tally.as_json() for tally in tallies])
    else:
        render.print_table(_COLUMNS, [_cells(tally) for tally in tallies])
    if interrupted and plan.count:
        raise Reported(130)
    failures = [error for tally in tallies if (error := tally.outcome()) is not None]
    if failures and len(failures) == len(tallies):
        raise Reported(exit_code(failures[0]))


def _cells(tally: Tally) -> list[str]:
    times = tally.round_trips_ms
    low, mean, high = (min(times), _mean(times), max(times)) if times else (None, None, None)
    return [
        tally.node_id,
        render.known(tally.hop_count),
        str(tally.sent),
        str(tally.sent - tally.received),
        *(render.milliseconds(value) for value in (low, mean, high)),
        str(tally.error) if tally.error is not None else "",
    ]
