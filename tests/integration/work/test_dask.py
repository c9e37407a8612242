"""Functions and generators on a Dask cluster: a small one, for all tests of the module."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshcore.errors import ActionError, Code
from meshcore.work.job import NO_VALUE
from tests.integration import nodes
from tests.integration.nodes import pair
from tests.integration.work import process_actions as actions
from tests.unit.work.fakes import bench, eventually

pytest.importorskip("distributed")

ROOT = Path(__file__).parents[3]
CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(processes=sys.argv[1] == "processes", n_workers=1, threads_per_worker=4,
                      protocol="tcp", dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextmanager
def cluster(directory, workers):
    """A scheduler and a worker, all in one other process, or the worker in one of its own."""
    (directory / "cluster.py").write_text(CLUSTER)
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, directory / "cluster.py", workers],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # where the worker finds these tests
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the scheduler that the tests share; Dask takes a second to be imported."""
    with cluster(tmp_path_factory.mktemp("dask"), "threads") as address:
        yield address


def run(scenario):
    asyncio.run(scenario())


def where(payload, context):
    return {"thread": threading.current_thread().name, "sender": context.sender, "n": payload}


def mixed(payload):
    yield b"\0" * 10
    yield {"text": "ä"}
    raise ValueError("after two")


def test_a_function_runs_on_the_cluster(address):
    async def scenario():
        config = {"test": {"key": [1, 2]}}
        async with bench(dask=address, config=config) as b:
            (value,) = await b.values(b.add(where, executor="dask"), 5)
            assert (value["sender"], value["n"]) == ("alpha", 5)
            assert "Dask" in value["thread"]
            directive = b.add(actions.identify, executor="dask")
            deadline = asyncio.get_running_loop().time() + 100
            (value,) = await b.values(directive, deadline=deadline, attempt=3)
            assert (value["attempt"], value["config"]) == (3, {"key": [1, 2]})
            assert 0 < value["remaining"] <= 100
            directive = b.add(actions.double, executor="dask")
            assert await b.values(directive, b"x" * 300_000) == [b"x" * 600_000]
            refs = [b.start(directive, n) for n in range(20)]
            await b.outlet.end_of(*refs)
            assert [b.outlet.values[ref] for ref in refs] == [[2 * n] for n in range(20)]

    run(scenario)


def test_failures_come_back_with_their_traceback(address):
    async def scenario():
        async with bench(dask=address) as b:
            code, name, message, trace, may_have_run = await b.failure(
                b.add(actions.fail, executor="dask"), "boom"
            )
            assert (code, name, message) == (Code.ACTION_FAILED, "ValueError", "boom")
            assert may_have_run
            assert "in fail" in trace
            assert "meshcore/work" not in trace
            code, _, message, *_ = await b.failure(b.add(actions.give_set, executor="dask"))
            assert code == Code.BAD_PAYLOAD
            assert message.startswith("payload: set cannot be sent")

    run(scenario)


def test_a_generator_streams_and_its_failure_comes_after_its_values(address):
    async def scenario():
        async with bench(dask=address) as b:
            directive = b.add(actions.count, executor="dask")
            assert await b.values(directive, 100) == [*range(100), NO_VALUE]
            assert await b.values(directive, 0) == [NO_VALUE]
            refs = [b.start(directive, 3) for _ in range(40)]  # over before they are looked at
            await b.outlet.end_of(*refs)
            assert [b.outlet.values[ref] for ref in refs] == [[0, 1, 2, NO_VALUE]] * 40
            ref = b.start(b.add(mixed, executor="dask"))
            await b.outlet.end_of(ref)
            assert b.outlet.values[ref] == [b"\0" * 10, {"text": "ä"}]
            assert b.outlet.failures[ref][2] == "after two"

    run(scenario)


def test_a_generator_waits_for_its_taker_and_ends_when_cancelled(address, tmp_path):
    async def scenario():
        async with bench(dask=address) as b:
            ref, mark = 1, tmp_path / "mark"
            b.outlet.window[ref] = 3
            b.start(b.add(actions.endless, executor="dask"), str(mark))
            await b.outlet.until(lambda: len(b.outlet.values[ref]) == 3)
            b.outlet.open(ref, 2)
            await b.outlet.until(lambda: len(b.outlet.values[ref]) == 5)
            b.executor.cancel(ref)
            await eventually(mark.exists)
            await eventually(lambda: mark.read_text() != "")
            # At most what was taken, what may be ahead, and what it was about to give.
            assert int(mark.read_text()) <= 5 + 16 + 1
            await b.quiet()

    run(scenario)


def test_a_cancel_reaches_the_function(address, tmp_path):
    async def scenario():
        async with bench(dask=address) as b:
            path = tmp_path / "mark"
            ref = b.start(b.add(actions.poll, executor="dask"), str(path))
            await eventually((tmp_path / "mark.begun").exists)
            b.executor.cancel(ref)
            assert b.outlet.failures[ref][0] == Code.CANCELLED
            await eventually(path.exists)
            await b.quiet()

    run(scenario)


def test_what_does_not_end_is_given_up_and_frees_its_slot(address, tmp_path):
    async def scenario():
        begun, release = tmp_path / "begun", tmp_path / "release"
        async with bench(dask=address) as b:
            ref = b.start(b.add(stubborn, executor="dask"), [str(begun), str(release)])
            await eventually(begun.exists)
            b.executor.cancel(ref)
            await b.quiet()
            release.touch()

    run(scenario)


def stubborn(paths):
    """Does not ask whether it is cancelled."""
    begun, release = map(Path, paths)
    begun.touch()
    until = time.monotonic() + 20
    while not release.exists() and time.monotonic() < until:
        time.sleep(0.01)


def test_a_task_is_not_started_a_second_time(address):
    """Dask starts a task again whose worker died; that must not have its effects twice."""
    from distributed import Client, Event

    from meshcore.work.dask_task import name_of_began, perform

    with Client(address, set_as_default=False) as client:
        Event(name_of_began("again"), client=client).set()
        last = client.submit(perform, "again", len, (0, b""), {}, False, pure=False).result()
        Event(name_of_began("again"), client=client).clear()
    assert last[:2] == ["failure", int(Code.INTERNAL)]
    assert "worker died" in last[3]


def die(payload):
    """As the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_fails_its_action_and_the_next_one_runs(tmp_path):
    async def scenario():
        async with bench(dask=address) as b:
            code, _, message, _, may_have_run = await b.failure(b.add(die, executor="dask"))
            assert code == Code.INTERNAL
            assert "its Dask worker died" in message
            assert may_have_run
            assert await b.values(b.add(actions.double, executor="dask"), 4) == [8]

    with cluster(tmp_path, "processes") as address:
        run(scenario)


def test_without_a_cluster_the_error_says_what_is_missing():
    async def scenario():
        async with bench() as b:
            code, name, message, _, may_have_run = await b.failure(
                b.add(actions.double, executor="dask"), 1
            )
            assert (code, name, may_have_run) == (Code.ACTION_FAILED, "ConfigError", False)
            assert "needs the setting dask" in message
        async with bench(dask="nonsense://x") as b:
            _, name, message, *_ = await b.failure(b.add(actions.double, executor="dask"), 1)
            assert name == "ConfigError"
            assert "no address of a scheduler" in message

    run(scenario)


def test_callers_of_a_node_get_what_its_cluster_works_out(address):
    async def scenario():
        async with pair(dask=address) as (oscar, alpha):
            alpha.action("far:double", executor="dask")(actions.double)
            alpha.action("far:count", executor="dask")(actions.count)
            alpha.action("far:fail", executor="dask")(actions.fail)
            assert await oscar.call("alpha", "far:double", 21) == 42
            async with oscar.stream("alpha", "far:count", 30) as responses:
                values = [m.payload.value async for m in responses if not m.header.eof]
            assert values == [*range(30)]
            with pytest.raises(ActionError) as caught:
                await oscar.call("alpha", "far:fail", "boom")
            assert caught.value.remote_type == "ValueError"
            assert "in fail" in caught.value.remote_traceback

    nodes.run(scenario)
