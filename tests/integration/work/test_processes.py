"""Functions and generators in spawned processes: real processes, no orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from meshcore.errors import BadPayloadError, Code
from meshcore.payload import KIND_BYTES, Assembly, Spool
from meshcore.work import processes
from meshcore.work.job import NO_VALUE
from tests.integration.work import process_actions as actions
from tests.unit.work.fakes import DEADLINE, bench, eventually

ROOT = Path(__file__).parents[3]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def add(b, function, **options):
    return b.add(function, executor="process", **options)


def run(scenario):
    asyncio.run(scenario())


def test_a_function_runs_in_another_process_which_is_kept_for_the_next():
    async def scenario():
        config = {"test": {"key": [1, 2]}}
        async with bench(config=config) as b:
            directive = add(b, actions.identify)
            deadline = asyncio.get_running_loop().time() + 100
            ((first,), (second,)) = (
                await b.values(directive, deadline=deadline, attempt=3),
                await b.values(directive),
            )
            assert first["pid"] != os.getpid()
            assert first["parent"] == os.getpid()
            assert first["pid"] == second["pid"]
            assert (first["message_id"], first["sender"], first["attempt"]) == ("id-1", "alpha", 3)
            assert first["config"] == {"key": [1, 2]}
            assert 0 < first["remaining"] <= 100
            assert second["remaining"] is None
            assert await b.values(add(b, actions.double), b"x" * 300_000) == [b"x" * 600_000]
            assert await b.values(add(b, actions.signals)) == [True]
        assert not is_alive(first["pid"])

    run(scenario)


def test_failures_cross_the_process_boundary():
    async def scenario():
        async with bench() as b:
            code, name, message, trace, may_have_run = await b.failure(add(b, actions.fail), "boom")
            assert (code, name, message, may_have_run) == (
                Code.ACTION_FAILED,
                "ValueError",
                "boom",
                True,
            )
            assert "in fail" in trace
            assert "meshcore/work" not in trace
            code, _, message, *_ = await b.failure(add(b, actions.give_set))
            assert code == Code.BAD_PAYLOAD
            assert message.startswith("payload: set cannot be sent")
            code, _, message, _, may_have_run = await b.failure(add(b, actions.double), {1})
            assert (code, message.partition(":")[0]) == (Code.BAD_PAYLOAD, "payload")

    run(scenario)


def test_a_generator_streams_from_its_process():
    async def scenario():
        async with bench() as b:
            directive = add(b, actions.count)
            assert await b.values(directive, 500) == [*range(500), NO_VALUE]
            assert await b.values(directive, 0) == [NO_VALUE]
            assert await b.values(directive, 2) == [0, 1, NO_VALUE]  # the credit starts anew

    run(scenario)


def test_a_generator_in_a_process_stops_when_nobody_takes_its_values(tmp_path):
    async def scenario():
        async with bench() as b:
            ref, mark = 1, tmp_path / "mark"
            b.outlet.window[ref] = 3
            b.start(add(b, actions.endless), str(mark))
            await b.outlet.until(lambda: len(b.outlet.values[ref]) == 3)
            b.outlet.open(ref, 2)
            await b.outlet.until(lambda: len(b.outlet.values[ref]) == 5)
            b.executor.cancel(ref)
            await b.quiet()
            # At most what was taken, what may be ahead, and what it was about to give.
            assert int(mark.read_text()) <= 5 + 16 + 1

    run(scenario)


def test_a_stream_that_is_never_writable_again_ends_when_it_is_cancelled(tmp_path):
    async def scenario():
        async with bench() as b:
            awaited = b.outlet.never_writable()
            b.outlet.window[1] = 1
            b.start(add(b, actions.endless), str(tmp_path / "mark"))
            await eventually(awaited.is_set)
            b.executor.cancel(1)
            await b.quiet()
            assert (tmp_path / "mark").exists()

    run(scenario)


def test_a_process_whose_values_are_refused_is_not_used_again(tmp_path):
    async def scenario():
        async with bench() as b:
            respond = b.executor._respond

            def refuse(ref, value, eof):
                if value == 3:
                    raise BadPayloadError("too large")
                return respond(ref, value, eof)

            b.executor._respond = refuse
            failure = await b.failure(add(b, actions.endless), str(tmp_path / "mark"))
            assert failure[:3] == (Code.BAD_PAYLOAD, "BadPayloadError", "too large")
            assert await b.values(add(b, actions.double), 2) == [4]

    run(scenario)


def test_work_cancelled_while_its_process_starts_never_runs(tmp_path):
    async def scenario():
        async with bench() as b:
            ref = b.start(add(b, actions.poll), str(tmp_path / "mark"))
            await asyncio.sleep(0)  # the process is being started now
            b.executor.cancel(ref)
            assert b.outlet.failures[ref][4] is False
            await b.quiet()
            assert list(tmp_path.iterdir()) == []
            assert await b.values(add(b, actions.double), 2) == [4]

    run(scenario)


def test_a_cancel_reaches_the_action_in_its_process(tmp_path):
    async def scenario():
        async with bench() as b:
            mark = tmp_path / "mark"
            ref = b.start(add(b, actions.poll), str(mark))
            await eventually(lambda: Path(f"{mark}.begun").exists())
            b.executor.cancel(ref)
            assert b.outlet.failures[ref][0] == Code.CANCELLED
            await b.quiet()
            assert mark.read_text() == "cancelled"

    run(scenario)


def test_an_action_that_ignores_its_cancel_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "CANCEL_GRACE", 0.05)

    async def scenario():
        async with bench(max_workers=1) as b:
            mark = tmp_path / "mark"
            ref = b.start(add(b, actions.stuck), str(mark))
            await eventually(lambda: mark.exists() and mark.read_text())
            b.executor.cancel(ref)
            await b.quiet()
            assert not is_alive(int(mark.read_text()))
            assert await b.values(add(b, actions.double), 2) == [4]

    run(scenario)


@pytest.mark.parametrize(
    ("function", "payload", "text"),
    [
        (actions.die, int(signal.SIGKILL), "worker process died (signal 9)"),
        (actions.die, int(signal.SIGSEGV), "worker process died (signal 11)"),
        (actions.leave, 3, "worker process died (exit status 3)"),
    ],
)
def test_a_process_that_dies_fails_its_work_and_only_that(function, payload, text):
    async def scenario():
        async with bench() as b:
            code, _, message, _, may_have_run = await b.failure(add(b, function), payload)
            assert (code, message, may_have_run) == (Code.INTERNAL, text, True)
            assert await b.values(add(b, actions.double), 2) == [4]

    run(scenario)


def test_stop_leaves_no_process_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("meshcore.work.executor.CANCEL_WAIT", 0.01)

    async def scenario():
        async with bench() as b:
            mark = tmp_path / "mark"
            ref = b.start(add(b, actions.stuck), str(mark))
            await eventually(lambda: mark.exists() and mark.read_text())
            await b.executor.stop(0.0)
            assert b.outlet.failures[ref][0] == Code.CANCELLED
            assert not is_alive(int(mark.read_text()))
            assert b.executor.active() == []

    run(scenario)


def test_idle_processes_end():
    async def scenario():
        async with bench() as b:
            b.executor._processes._idle_timeout = 0.01
            ((seen,)) = (await b.values(add(b, actions.identify)),)
            await eventually(lambda: not is_alive(seen[0]["pid"]))
            assert await b.values(add(b, actions.double), 2) == [4]

    run(scenario)


def test_files_and_paths_go_to_a_process_and_come_back(tmp_path):
    async def scenario():
        spool = Spool(memory_max=0, directory=tmp_path)
        async with bench(spool=spool) as b:
            assembly = Assembly(spool, KIND_BYTES)
            assembly.feed(b"x" * 1000)
            directive = add(b, actions.size_of, payload="file")
            assert await b.values(directive, assembly.finish()) == [1000]
            assert await b.values(directive, b"x" * 10) == [10]
        del assembly
        assert list(tmp_path.iterdir()) == []

    run(scenario)


def test_a_path_is_given_back_as_a_path():
    async def scenario():
        async with bench() as b:
            seen = []
            respond = b.executor._respond

            def spy(ref, value, eof):
                seen.append(value)
                return respond(ref, None, eof)

            b.executor._respond = spy
            await b.values(add(b, actions.path_of), "/tmp/x")
            assert seen == [Path("/tmp/x")]

    run(scenario)


def test_what_an_action_prints_and_logs_does_not_mix_with_the_nodes_output(capfd, caplog):
    async def scenario():
        async with bench() as b:
            assert await b.values(add(b, actions.speak), "it") == [""]

    run(scenario)
    assert "[id-1] seen it" in caplog.text
    output = capfd.readouterr()
    assert output.out == ""


SCRIPT = """
import asyncio, sys
from meshcore.work.executor import Executor
from meshcore.work.registry import Registry

def shout(payload):
    return payload.upper()

class Outlet:
    def respond(self, ref, value, eof):
        print(value, flush=True)
        done.set()
        return True
    def fail(self, *failure):
        print(failure, flush=True)
        done.set()

def wait(path):
    import os, time
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(1000)

async def main():
    global done
    done = asyncio.Event()
    registry = Registry()
    registry.add_function("test:shout", shout, executor="process")
    registry.add_function("test:wait", wait, executor="process")
    executor = Executor(
        registry, Outlet(), loop=asyncio.get_running_loop(), max_workers=1, queue_max=1
    )
    executor.start(1, "a", sys.argv[1], sys.argv[2], None, "id")
    await done.wait()
    await executor.stop(1)

if __name__ == "__main__":
    asyncio.run(main())
"""


def script(tmp_path, *arguments):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return subprocess.Popen(
        [sys.executable, str(path), *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_function_of_a_script_runs_in_a_process(tmp_path):
    with script(tmp_path, "test:shout", "hello") as process:
        output, _ = process.communicate(timeout=DEADLINE)
    assert output == "HELLO\n"
    assert process.returncode == 0


def test_a_process_ends_when_its_node_is_killed(tmp_path):
    mark = tmp_path / "mark"
    with script(tmp_path, "test:wait", str(mark)) as process:
        asyncio.run(eventually(lambda: mark.exists() and mark.read_text()))
        process.kill()
        process.communicate(timeout=DEADLINE)
    pid = int(mark.read_text())
    asyncio.run(eventually(lambda: not is_alive(pid) or state_of(pid) == "Z"))


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
