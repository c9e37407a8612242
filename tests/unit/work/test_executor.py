"""Work on the loop: outcomes, bounds, order, cancel, stop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from meshcore.errors import (
    BadPayloadError,
    Code,
    DeadlineExceededError,
    UnreachableError,
    WorkCancelledError,
)
from meshcore.payload import KIND_BYTES, KIND_VALUE, Assembly, LivePayload, Payload, Spool
from meshcore.work.job import NO_VALUE
from tests.unit.work.fakes import DEADLINE, bench, eventually


def run(scenario):
    asyncio.run(scenario())


class Gate:
    """An action that waits until it is let go, and tells what happened to it."""

    def __init__(self):
        self.go = asyncio.Event()
        self.begun = []
        self.ended = []

    async def wait(self, payload, context):
        self.begun.append(payload)
        try:
            await self.go.wait()
        finally:
            self.ended.append((payload, context.cancelled))
        return payload


@pytest.mark.parametrize("eager", [True, False])
def test_one_value_is_one_response_with_eof(eager):
    async def scenario():
        async with bench() as b:

            async def echo(payload):
                return payload

            directive = b.add(echo, eager=eager)
            for value in (b"x", None, 0, {"a": [1]}):
                assert await b.values(directive, value) == [value]

    run(scenario)


def test_an_eager_action_that_does_not_wait_is_answered_before_start_returns():
    async def scenario():
        async with bench() as b:

            async def echo(payload, context):
                return [payload, context.sender, context.message_id, context.attempt]

            ref = b.start(b.add(echo, eager=True), 7, attempt=2)
            assert b.outlet.values[ref] == [[7, "alpha", f"id-{ref}", 2]]
            assert b.executor.active() == []

    run(scenario)


def test_an_eager_action_that_waits_is_carried_on():
    async def scenario():
        async with bench() as b:

            async def several(payload, context):
                await asyncio.sleep(0)
                future = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(future.set_result, 5)
                first = await future
                async with asyncio.timeout(10):  # works after the first wait
                    await asyncio.sleep(0)
                try:
                    await failing()
                except KeyError:
                    return first + payload

            async def failing():
                await asyncio.sleep(0)
                raise KeyError

            directive = b.add(several, eager=True)
            ref = b.start(directive, 1)
            assert ref not in b.outlet.ended
            assert [work["directive"] for work in b.executor.active()] == [directive]
            await b.outlet.end_of(ref)
            assert b.outlet.values[ref] == [6]
            await b.quiet()

    run(scenario)


def test_an_async_generator_gives_its_values_then_eof_without_payload():
    async def scenario():
        async with bench() as b:

            async def count(payload):
                for number in range(payload):
                    yield number

            directive = b.add(count)
            assert await b.values(directive, 200) == [*range(200), NO_VALUE]
            assert await b.values(directive, 0) == [NO_VALUE]

    run(scenario)


def test_a_plain_function_may_run_on_the_loop():
    async def scenario():
        async with bench(max_workers=1) as b:
            gate = Gate()
            directive = b.add(lambda payload: payload + 1, "plus", executor="loop")
            ref = b.start(directive, 1)
            assert b.outlet.values[ref] == [2]
            b.start(b.add(gate.wait))
            waiting = b.start(directive, 2)  # no slot is free: it waits like any other
            assert waiting not in b.outlet.ended
            gate.go.set()
            await b.outlet.end_of(waiting)
            assert b.outlet.values[waiting] == [3]

            def stop_iteration(payload):
                raise StopIteration(5)

            failure = await b.failure(b.add(stop_iteration, executor="loop"))
            assert failure[:2] == (Code.ACTION_FAILED, "StopIteration")

    run(scenario)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("waits", [True, False])
def test_what_an_action_raises_is_told_with_its_own_frames_only(eager, waits):
    async def scenario():
        async with bench() as b:

            async def fail(payload):
                if waits:
                    await asyncio.sleep(0)
                raise ValueError(payload)

            code, name, message, trace, may_have_run = await b.failure(
                b.add(fail, eager=eager), "boom"
            )
            assert (code, name, message, may_have_run) == (
                Code.ACTION_FAILED,
                "ValueError",
                "boom",
                True,
            )
            assert "in fail" in trace
            assert trace.endswith("ValueError: boom\n")
            assert "meshcore/work" not in trace
            await b.quiet()

    run(scenario)


def test_huge_and_broken_texts_of_exceptions_are_bounded_and_valid():
    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError

    async def scenario():
        async with bench() as b:

            async def fail(payload):
                raise {"big": ValueError("x" * 10**6), "lone": ValueError("\ud800")}.get(
                    payload, BrokenError()
                )

            directive = b.add(fail)
            for payload in ("big", "lone", "broken"):
                _, _, message, trace, _ = await b.failure(directive, payload)
                assert len(message.encode()) <= 4096
                assert len(trace.encode()) <= 16 * 1024
                assert message

    run(scenario)


def test_even_system_exit_in_an_action_only_fails_its_work():
    async def scenario():
        async with bench() as b:

            async def leave(payload):
                if payload:
                    await asyncio.sleep(0)
                raise SystemExit(3)

            for eager in (True, False):
                directive = b.add(leave, f"leave-{eager}", eager=eager)
                for payload in (0, 1):
                    failure = await b.failure(directive, payload)
                    assert failure[:3] == (Code.ACTION_FAILED, "SystemExit", "3")

    run(scenario)


def test_a_refused_payload_and_a_result_that_cannot_be_sent_are_bad_payloads():
    async def scenario():
        async with bench() as b:

            async def refuse(payload):
                raise BadPayloadError("a number, please")

            async def give_set(payload):
                return {1}

            async def give_sets(payload):
                yield 1
                yield {1}

            for eager in (True, False):
                directive = b.add(refuse, f"refuse-{eager}", eager=eager)
                assert (await b.failure(directive))[:3] == (
                    Code.BAD_PAYLOAD,
                    "BadPayloadError",
                    "a number, please",
                )
                code, _, message, *_ = await b.failure(b.add(give_set, f"set-{eager}", eager=eager))
                assert code == Code.BAD_PAYLOAD
                assert "set cannot be sent" in message
            assert (await b.failure(b.add(give_sets)))[0] == Code.BAD_PAYLOAD

    run(scenario)


def test_an_error_from_another_node_is_the_actions_failure_not_a_verdict_on_its_payload():
    async def scenario():
        async with bench() as b:

            async def ask(payload):
                raise BadPayloadError("there", node_id="gamma")

            assert (await b.failure(b.add(ask)))[0] == Code.ACTION_FAILED

    run(scenario)


def test_an_unknown_directive_is_refused_with_what_is_close():
    async def scenario():
        async with bench() as b:
            b.registry.add_function("demo:echo", lambda payload: payload)
            code, _, message, _, may_have_run = await b.failure("demo:eko")
            assert code == Code.UNKNOWN_DIRECTIVE
            assert message == (
                "beta offers no 'demo:eko'; did you mean demo:echo? (meshctl actions beta)"
            )
            assert may_have_run is False
            assert (await b.failure("zzz:zzz"))[2] == (
                "beta offers no 'zzz:zzz' (meshctl actions beta)"
            )

    run(scenario)


def test_work_beyond_max_workers_waits_in_order_and_beyond_the_queue_is_busy():
    async def scenario():
        async with bench(max_workers=2, queue_max=3) as b:
            gate = Gate()
            directive = b.add(gate.wait)
            refs = [b.start(directive, number) for number in range(5)]
            assert b.executor.queued == 3
            refused = b.start(directive, 5)
            code, _, message, _, may_have_run = b.outlet.failures[refused]
            assert (code, may_have_run) == (Code.BUSY, False)
            assert message == "beta is busy: 2 at work, 3 waiting"
            await asyncio.sleep(0)
            assert gate.begun == [0, 1]
            assert len(b.executor.active()) == 2
            gate.go.set()
            await b.outlet.end_of(*refs)
            assert gate.begun == [0, 1, 2, 3, 4]
            await b.quiet()
            assert b.executor.counters["work_busy"] == 1

    run(scenario)


def test_an_eager_action_waits_its_turn_when_no_slot_is_free():
    async def scenario():
        async with bench(max_workers=1) as b:
            gate = Gate()
            b.start(b.add(gate.wait))

            async def echo(payload):
                return payload

            ref = b.start(b.add(echo, eager=True), 3)
            assert ref not in b.outlet.ended
            gate.go.set()
            await b.outlet.end_of(ref)
            assert b.outlet.values[ref] == [3]

    run(scenario)


def test_the_bound_of_one_action_does_not_hold_up_the_others():
    async def scenario():
        async with bench(max_workers=3, queue_max=10) as b:
            gate, other = Gate(), Gate()
            narrow = b.add(gate.wait, "narrow", concurrency=1)
            wide = b.add(other.wait, "wide")
            refs = [b.start(narrow, number) for number in range(3)]
            refs += [b.start(wide, number) for number in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert gate.begun == [0]
            assert other.begun == [0, 1]
            assert b.executor.queued == 3
            b.executor._admission.check_invariants()
            gate.go.set()
            other.go.set()
            await b.outlet.end_of(*refs)
            assert gate.begun == [0, 1, 2]
            await b.quiet()

    run(scenario)


def test_work_whose_deadline_passes_in_the_queue_is_never_started():
    async def scenario():
        now = [100.0]
        async with bench(max_workers=1, clock=lambda: now[0]) as b:
            gate = Gate()
            directive = b.add(gate.wait)
            b.start(directive, "first")
            late = b.start(directive, "late", deadline=101.0)
            good = b.start(directive, "good", deadline=200.0)
            now[0] = 150.0
            gate.go.set()
            await b.outlet.end_of(late, good)
            assert b.outlet.failures[late][0] == Code.DEADLINE
            assert b.outlet.failures[late][4] is False
            assert gate.begun == ["first", "good"]

    run(scenario)


@pytest.mark.parametrize("eager", [True, False])
def test_cancel_is_told_at_once_and_reaches_the_action(eager):
    async def scenario():
        async with bench() as b:
            gate = Gate()
            directive = b.add(gate.wait, eager=eager)
            ref = b.start(directive, "x")
            await eventually(lambda: gate.begun)
            b.executor.cancel(ref, Code.DEADLINE)
            code, _, message, _, may_have_run = b.outlet.failures[ref]
            assert (code, may_have_run) == (Code.DEADLINE, True)
            assert message == "test:wait did not end before its deadline"
            await b.quiet()
            assert gate.ended == [("x", True)]
            b.executor.cancel(ref)  # it has ended: nothing happens

    run(scenario)


def test_an_eager_action_cancelled_before_its_task_runs_still_gets_its_cancellation():
    async def scenario():
        async with bench() as b:
            gate = Gate()
            ref = b.start(b.add(gate.wait, eager=True), "x")
            b.executor.cancel(ref)  # in the same turn
            await b.quiet()
            assert gate.ended == [("x", True)]

    run(scenario)


def test_work_cancelled_before_its_first_step_never_runs():
    async def scenario():
        async with bench(max_workers=1) as b:
            gate = Gate()
            directive = b.add(gate.wait)
            first, queued = b.start(directive, 1), b.start(directive, 2)
            b.executor.cancel(first)
            b.executor.cancel(queued)
            assert b.outlet.failures[first][4] is False
            assert b.outlet.failures[queued][4] is False
            await b.quiet()
            assert gate.begun == []

    run(scenario)


def test_queued_work_that_is_cancelled_leaves_the_queue():
    async def scenario():
        async with bench(max_workers=1, queue_max=2) as b:
            gate = Gate()
            directive = b.add(gate.wait, concurrency=1)
            b.start(directive, "runs")
            for _ in range(1000):
                b.executor.cancel(b.start(directive, "never"))
            assert b.executor.queued == 0
            assert b.executor.counters["work_busy"] == 0

    run(scenario)


def test_an_action_that_swallows_its_cancellation_keeps_its_slot_and_says_nothing_more():
    async def scenario():
        async with bench(max_workers=1) as b:
            gate = Gate()

            async def stubborn(payload):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await gate.go.wait()
                return "too late"

            ref = b.start(b.add(stubborn))
            await asyncio.sleep(0)
            b.executor.cancel(ref)
            await asyncio.sleep(0)
            assert len(b.executor.active()) == 1
            gate.go.set()
            await b.quiet()
            assert b.outlet.values[ref] == []

    run(scenario)


def test_an_async_generator_waits_for_the_window_and_is_closed_when_cancelled():
    async def scenario():
        async with bench() as b:
            produced, closed = [], []

            async def count(payload):
                try:
                    for number in range(100):
                        produced.append(number)
                        yield number
                finally:
                    closed.append(True)

            directive = b.add(count)
            ref = 1
            b.outlet.window[ref] = 3
            assert b.start(directive) == ref
            await b.outlet.until(lambda: b.outlet.window[ref] == 0)
            for _ in range(10):
                await asyncio.sleep(0)
            assert produced == [0, 1, 2]
            b.outlet.open(ref, 2)
            await b.outlet.until(lambda: b.outlet.window[ref] == 0)
            assert b.outlet.values[ref] == [0, 1, 2, 3, 4]
            b.executor.cancel(ref)
            await b.quiet()
            assert closed == [True]
            assert len(produced) == 5

    run(scenario)


def test_a_generator_that_never_waits_lets_the_loop_run():
    async def scenario():
        async with bench() as b:

            async def endless(payload):
                while True:
                    yield 0

            ref = b.start(b.add(endless))
            await b.outlet.until(lambda: len(b.outlet.values[ref]) > 100)
            assert len(b.outlet.values[ref]) < 1000  # the loop had its turn soon
            b.executor.cancel(ref)
            await b.quiet()

    run(scenario)


def test_active_work_is_listed_with_its_start():
    async def scenario():
        async with bench() as b:
            gate = Gate()
            before = time.time()
            ref = b.start(b.add(gate.wait), sender="gamma")
            (work,) = b.executor.active()
            assert (work["id"], work["directive"], work["sender"]) == (
                f"id-{ref}",
                "test:wait",
                "gamma",
            )
            assert before - 1 <= work["started"].timestamp() <= time.time() + 1
            assert work["started"].utcoffset().total_seconds() == 0

    run(scenario)


def test_stop_waits_for_what_runs_and_drops_what_waits():
    async def scenario():
        async with bench(max_workers=1) as b:
            gate = Gate()
            directive = b.add(gate.wait)
            running, queued = b.start(directive, 1), b.start(directive, 2)
            await asyncio.sleep(0)
            stopping = asyncio.create_task(b.executor.stop(10.0))
            await b.outlet.end_of(queued)
            assert b.outlet.failures[queued][0] == Code.CANCELLED
            assert b.outlet.failures[queued][4] is False
            for eager in (True, False):
                refused = b.start(b.add(gate.wait, f"wait-{eager}", eager=eager), 3)
                assert b.outlet.failures[refused][0] == Code.BUSY
                assert b.outlet.failures[refused][4] is False
            assert not stopping.done()
            gate.go.set()
            assert await stopping == []
            assert b.outlet.values[running] == [1]

    run(scenario)


def test_after_stop_not_even_what_would_answer_at_once_is_taken():
    async def scenario():
        async with bench() as b:
            ran = []

            async def note(payload):
                ran.append(payload)

            directive = b.add(note, eager=True)
            await b.executor.stop(0.0)
            assert (await b.failure(directive))[2] == "beta stops"
            assert ran == []

    run(scenario)


def test_stop_cancels_what_does_not_end_within_its_grace():
    async def scenario():
        async with bench() as b:
            gate = Gate()
            ref = b.start(b.add(gate.wait), 1)
            await asyncio.sleep(0)
            assert await b.executor.stop(0.01) == []
            assert b.outlet.failures[ref][0] == Code.CANCELLED
            assert gate.ended == [(1, True)]

    run(scenario)


def test_a_context_calls_other_nodes_with_the_time_that_is_left():
    async def scenario():
        calls = []

        async def call(recipient, directive, payload, *, timeout):
            calls.append((recipient, directive, payload, timeout))
            return "answer"

        now = [100.0]
        async with bench(call=call, clock=lambda: now[0], config={"test": {"key": 1}}) as b:

            async def ask(payload, context):
                now[0] += 2.0
                return [await context.call("gamma", "x:y", 5), context.config, context.deadline]

            async def ask_late(payload, context):
                now[0] += 20.0
                await context.call("gamma", "x:y")

            directive = b.add(ask)
            assert await b.values(directive, deadline=107.5) == [["answer", {"key": 1}, 107.5]]
            assert await b.values(directive) == [["answer", {"key": 1}, None]]
            assert calls == [("gamma", "x:y", 5, 5.5), ("gamma", "x:y", 5, None)]
            failure = await b.failure(b.add(ask_late), deadline=107.5)
            assert failure[:2] == (Code.ACTION_FAILED, DeadlineExceededError.__name__)

    run(scenario)


def test_the_log_of_a_context_carries_the_message_id(caplog):
    async def scenario():
        async with bench() as b:

            async def tell(payload, context):
                context.log.warning("seen %s", payload)

            ref = b.start(b.add(tell), "it")
            await b.outlet.end_of(ref)
            assert f"[id-{ref}] seen it" in caplog.text

    run(scenario)


def large(tmp_path, data=b"x" * 10, kind=KIND_BYTES):
    assembly = Assembly(Spool(memory_max=0, directory=tmp_path), kind)
    assembly.feed(data)
    return assembly.finish()


@pytest.mark.parametrize("executor", ["loop", "thread"])
def test_payloads_come_in_the_declared_form(tmp_path, executor):
    async def scenario():
        spool = Spool(directory=tmp_path)
        async with bench(spool=spool) as b:
            seen = []

            def value(payload):
                return payload

            def size_of(path):
                seen.append(path)
                return [path.read_bytes(), oct(path.stat().st_mode & 0o777)]

            as_value = b.add(value, executor=executor)
            as_bytes = b.add(value, "bytes", payload="bytes", executor=executor)
            as_file = b.add(size_of, payload="file", executor=executor)
            assert await b.values(as_value, large(tmp_path)) == [b"x" * 10]
            assert await b.values(as_value, large(tmp_path, b"\x93\1\2\3", KIND_VALUE)) == [
                [1, 2, 3]
            ]
            assert await b.values(as_bytes, b"raw") == [b"raw"]
            assert await b.values(as_bytes, "ü") == ["ü".encode()]
            assert await b.values(as_bytes, large(tmp_path)) == [b"x" * 10]
            failure = await b.failure(as_bytes, [1])
            assert failure[0] == Code.BAD_PAYLOAD
            assert failure[2] == "test:bytes takes bytes or text, not list"
            assert await b.values(as_file, "text") == [[b"text", "0o600"]]
            assert await b.values(as_file, large(tmp_path)) == [[b"x" * 10, "0o600"]]
            await b.quiet()
            assert len(seen) == 2
        assert list(tmp_path.iterdir()) == []

    run(scenario)


@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_is_read_on_the_loop_and_in_a_thread(whole):
    async def scenario():
        async with bench() as b:

            async def on_loop(chunks):
                return [chunk async for chunk in chunks]

            def in_thread(chunks):
                return list(chunks)

            for function in (on_loop, in_thread):
                directive = b.add(function, payload="stream")
                if whole:
                    assert await b.values(directive, b"all") == [[b"all"]]
                    assert await b.values(directive, Payload.of(b"all")) == [[b"all"]]
                    continue
                live = LivePayload(KIND_BYTES)
                ref = b.start(directive, live)
                for chunk in (b"a", b"b"):
                    live.feed(chunk)
                    await asyncio.sleep(0)
                live.finish()
                await b.outlet.end_of(ref)
                assert b"".join(b.outlet.values[ref][0]) == b"ab"

    run(scenario)


def test_a_thread_that_waits_for_a_stream_or_a_call_is_woken_by_its_cancel():
    async def scenario():
        async def call(recipient, directive, payload, *, timeout):
            await asyncio.Event().wait()

        async with bench(call=call) as b:
            begun, outcomes = [], []

            def read(chunks):
                begun.append(1)
                try:
                    return list(chunks)
                except Exception as error:
                    outcomes.append(type(error).__name__)
                    raise

            def ask(payload, context):
                begun.append(1)
                try:
                    context.call_blocking("gamma", "x:y")
                except Exception as error:
                    outcomes.append(type(error).__name__)
                    raise

            refs = [
                b.start(b.add(read, payload="stream"), LivePayload(KIND_BYTES)),
                b.start(b.add(ask)),
            ]
            await eventually(lambda: len(begun) == 2)
            for ref in refs:
                b.executor.cancel(ref)
            await b.quiet()
            assert outcomes == ["WorkCancelledError", "WorkCancelledError"]

    run(scenario)


def test_a_thread_that_asks_for_more_of_a_stream_after_its_cancel_does_not_wait_for_it():
    async def scenario():
        async with bench() as b:
            begun, cancelled, outcomes = threading.Event(), threading.Event(), []

            def read(chunks):
                begun.set()
                assert cancelled.wait(DEADLINE)
                try:
                    next(chunks)
                except WorkCancelledError:
                    outcomes.append("cancelled")

            ref = b.start(b.add(read, payload="stream"), LivePayload(KIND_BYTES))
            await eventually(begun.is_set)
            b.executor.cancel(ref)
            cancelled.set()
            await b.quiet()
            assert outcomes == ["cancelled"]

    run(scenario)


def test_call_blocking_gives_the_answer_and_raises_its_errors():
    async def scenario():
        async def call(recipient, directive, payload, *, timeout):
            if recipient == "gone":
                raise UnreachableError("no way")
            return [recipient, payload]

        async with bench(call=call) as b:

            def ask(payload, context):
                return context.call_blocking(payload, "x:y", 1)

            directive = b.add(ask)
            assert await b.values(directive, "gamma") == [["gamma", 1]]
            failure = await b.failure(directive, "gone")
            assert failure[:3] == (Code.ACTION_FAILED, "UnreachableError", "no way")

    run(scenario)
