"""Plain functions and generators in threads: batches, look-ahead, cancel, and no leftovers."""

from __future__ import annotations

import asyncio
import threading
import time
from queue import Empty, SimpleQueue

import pytest

from meshcore.errors import BadPayloadError, Code
from meshcore.work import threads
from meshcore.work.job import NO_VALUE
from meshcore.work.lookahead import AHEAD
from tests.unit.work.fakes import DEADLINE, bench, eventually, live_threads


def run(scenario):
    asyncio.run(scenario())
    assert live_threads() == []


def double(payload):
    return 2 * payload


def test_plain_functions_run_beside_the_loop():
    async def scenario():
        async with bench() as b:

            def where(payload):
                return threading.current_thread().name

            assert await b.values(b.add(where)) == ["meshcore-work"]
            assert (await b.values(b.add(double), 4)) == [8]

    run(scenario)


def test_what_a_function_raises_in_a_thread_is_told():
    async def scenario():
        async with bench() as b:

            def fail(payload):
                if payload:
                    raise BadPayloadError("no")
                raise KeyError("boom")

            directive = b.add(fail)
            code, name, message, trace, _ = await b.failure(directive)
            assert (code, name, message) == (Code.ACTION_FAILED, "KeyError", "'boom'")
            assert "in fail" in trace
            assert "meshcore/work" not in trace
            assert (await b.failure(directive, 1))[0] == Code.BAD_PAYLOAD
            assert (await b.failure(b.add(lambda payload: {1}, "set")))[0] == Code.BAD_PAYLOAD

    run(scenario)


def test_thousands_of_quick_functions_all_answer_whatever_the_batches():
    async def scenario():
        async with bench(max_workers=3, queue_max=5000) as b:
            directive = b.add(double)
            refs = {b.start(directive, number): number for number in range(3000)}
            await b.outlet.end_of(*refs)
            assert all(b.outlet.values[ref] == [2 * number] for ref, number in refs.items())
            await b.quiet()
            assert b.executor._threads._sent == {}

    run(scenario)


async def learn(b, directive):
    """Let the runner measure that the action is quick."""
    for _ in range(50):
        await b.values(directive, 0)
        if b.executor._threads._is_quick(b.registry.get(directive)):
            return
    raise AssertionError("never quick")


def test_the_quick_jobs_of_one_turn_share_a_slot_and_a_thread(monkeypatch):
    monkeypatch.setattr(threads, "BATCH_TIME_MAX", DEADLINE)  # also on a slow machine

    async def scenario():
        async with bench(max_workers=2) as b:

            def where(payload):
                return threading.get_ident()

            directive = b.add(where)
            await learn(b, directive)
            before = b.executor.queued
            refs = [b.start(directive) for _ in range(threads.BATCH_MAX)]
            assert b.executor.queued == before == 0
            assert b.executor._admission.free == 1  # one slot for sixteen
            await b.outlet.end_of(*refs)
            assert len({b.outlet.values[ref][0] for ref in refs}) == 1

    run(scenario)


def test_a_quick_job_does_not_overtake_what_waits_for_a_slot():
    async def scenario():
        async with bench(max_workers=1) as b:
            order = []

            async def on_loop(payload):
                order.append(payload)

            quick, other = b.add(lambda payload: order.append(payload), "quick"), b.add(on_loop)
            await learn(b, quick)
            await b.quiet()
            order.clear()
            refs = [b.start(quick, 1), b.start(other, 2), b.start(quick, 3)]
            assert b.executor.queued == 2
            await b.outlet.end_of(*refs)
            assert order == [1, 2, 3]

    run(scenario)


def test_a_thread_that_is_about_to_leave_still_takes_work_that_came_meanwhile():
    class LateQueue(SimpleQueue):
        """Its first `get` times out in the moment in which something comes."""

        first = True

        def get(self, *arguments, **options):
            item = super().get(*arguments, **options)
            if self.first:
                self.first = False
                self.put(item)
                raise Empty
            return item

    async def scenario():
        async with bench() as b:
            b.executor._threads._queue = LateQueue()
            assert await b.values(b.add(double), 1) == [2]

    run(scenario)


def test_a_generator_that_waits_for_the_window_for_ever_ends_when_it_is_cancelled():
    async def scenario():
        async with bench() as b:
            closed = threading.Event()

            def count(payload):
                try:
                    yield from range(1000)
                finally:
                    closed.set()

            awaited = b.outlet.never_writable()
            b.outlet.window[1] = 1
            b.start(b.add(count))
            await eventually(awaited.is_set)
            b.executor.cancel(1)
            await b.quiet()
            assert closed.is_set()

    run(scenario)


def test_a_function_that_suddenly_blocks_does_not_hold_up_its_batch():
    async def scenario():
        async with bench(max_workers=2) as b:
            go = threading.Event()

            ran = []

            def sometimes(payload):
                if payload == "block":
                    assert go.wait(DEADLINE)
                ran.append(payload)
                return payload

            directive = b.add(sometimes)
            await learn(b, directive)
            before, held = b.start(directive, "before"), b.start(directive, "block")
            behind = [b.start(directive, number) for number in range(8)]
            assert b.executor._admission.free == 1
            await b.outlet.end_of(before, *behind)
            assert held not in b.outlet.ended
            assert ran[-8:] == list(range(8))
            assert not b.executor._threads._is_quick(b.registry.get(directive))
            go.set()
            await b.outlet.end_of(held)
            assert [b.outlet.values[ref] for ref in behind] == [[n] for n in range(8)]

    run(scenario)


def test_blocking_functions_take_a_thread_each_up_to_max_workers():
    async def scenario():
        async with bench(max_workers=3) as b:
            go, begun = threading.Event(), []

            def wait(payload):
                begun.append(payload)
                assert go.wait(DEADLINE)

            directive = b.add(wait)
            refs = [b.start(directive, number) for number in range(5)]
            await eventually(lambda: len(begun) == 3)
            assert b.executor.queued == 2
            assert len(live_threads()) == 3
            go.set()
            await b.outlet.end_of(*refs)
            assert sorted(begun) == [0, 1, 2, 3, 4]

    run(scenario)


def test_a_bounded_action_never_runs_more_than_its_bound():
    async def scenario():
        async with bench(max_workers=4, queue_max=500) as b:
            lock, running, most = threading.Lock(), [0], [0]

            def narrow(payload):
                with lock:
                    running[0] += 1
                    most[0] = max(most[0], running[0])
                time.sleep(0.0005)
                with lock:
                    running[0] -= 1

            directive = b.add(narrow, concurrency=2)
            refs = [b.start(directive) for _ in range(200)]
            await b.outlet.end_of(*refs)
            assert most[0] == 2

    run(scenario)


def test_a_generator_in_a_thread_streams_in_order():
    async def scenario():
        async with bench() as b:

            def count(payload):
                yield from range(payload)

            directive = b.add(count)
            assert await b.values(directive, 1000) == [*range(1000), NO_VALUE]
            assert await b.values(directive, 0) == [NO_VALUE]

    run(scenario)


def test_a_generator_in_a_thread_stays_within_its_look_ahead_of_the_window():
    async def scenario():
        async with bench() as b:
            produced, closed = [], threading.Event()

            def count(payload):
                try:
                    for number in range(1000):
                        produced.append(number)
                        yield number
                finally:
                    closed.set()

            ref = 1
            b.outlet.window[ref] = 3
            assert b.start(b.add(count)) == ref
            await eventually(lambda: len(produced) == 3 + AHEAD + 1)
            assert b.outlet.values[ref] == [0, 1, 2]
            b.outlet.open(ref, 2)
            await eventually(lambda: len(produced) == 5 + AHEAD + 1)
            assert b.outlet.values[ref] == [0, 1, 2, 3, 4]
            b.executor.cancel(ref)
            await b.quiet()
            assert closed.is_set()
            assert len(produced) == 5 + AHEAD + 1

    run(scenario)


def test_values_before_a_failure_are_given_first_even_where_the_window_was_full():
    async def scenario():
        async with bench() as b:

            def break_off(payload):
                yield 1
                yield 2
                raise ValueError("then")

            ref = 1
            b.outlet.window[ref] = 1
            b.start(b.add(break_off))
            await b.outlet.until(lambda: b.outlet.window[ref] == 0)
            b.outlet.open(ref, 5)
            await b.outlet.end_of(ref)
            assert b.outlet.values[ref] == [1, 2]
            assert b.outlet.failures[ref][2] == "then"
            await b.quiet()

    run(scenario)


def test_a_generator_value_that_cannot_be_sent_ends_the_generator():
    async def scenario():
        async with bench() as b:
            closed = threading.Event()

            def sets(payload):
                try:
                    while True:
                        yield {1}
                finally:
                    closed.set()

            assert (await b.failure(b.add(sets)))[0] == Code.BAD_PAYLOAD
            await b.quiet()
            assert closed.is_set()

    run(scenario)


def test_cancel_reaches_a_function_that_asks_for_it():
    async def scenario():
        async with bench() as b:
            begun, seen = threading.Event(), []

            def poll(payload, context):
                begun.set()
                try:
                    while True:
                        context.check_cancelled()
                finally:
                    seen.append(context.cancelled)

            ref = b.start(b.add(poll))
            await eventually(begun.is_set)
            b.executor.cancel(ref)
            assert b.outlet.failures[ref][0] == Code.CANCELLED
            assert b.outlet.failures[ref][4] is True
            await b.quiet()
            assert seen == [True]

    run(scenario)


def test_what_is_said_not_to_have_run_has_not_run():
    async def scenario():
        async with bench(max_workers=2, queue_max=1000) as b:
            ran = []
            directive = b.add(lambda payload: ran.append(payload), "note")
            await learn(b, directive)
            ran.clear()
            for _ in range(50):
                refs = [b.start(directive, number) for number in range(20)]
                await asyncio.sleep(0)
                for ref in refs:
                    b.executor.cancel(ref)
                await b.quiet()
                certain = [
                    number
                    for number, ref in enumerate(refs)
                    if ref in b.outlet.failures and not b.outlet.failures[ref][4]
                ]
                assert not set(certain) & set(ran)
                ran.clear()

    run(scenario)


def test_idle_threads_end():
    async def scenario():
        async with bench() as b:
            b.executor._threads._idle_timeout = 0.001
            assert await b.values(b.add(double), 1) == [2]
            await eventually(lambda: not live_threads())
            assert await b.values("test:double", 2) == [4]

    run(scenario)


def test_threads_come_and_go_without_losing_work():
    async def scenario():
        async with bench(max_workers=2) as b:
            b.executor._threads._idle_timeout = 0.0001
            directive = b.add(double)
            for number in range(300):
                assert await b.values(directive, number) == [2 * number]

    run(scenario)


def test_stop_names_what_would_not_end_and_returns_in_time(monkeypatch):
    monkeypatch.setattr("meshcore.work.executor.CANCEL_WAIT", 0.01)
    go = threading.Event()

    async def scenario():
        async with bench() as b:

            def stuck(payload):
                go.wait(DEADLINE)

            ref = b.start(b.add(stuck))
            await eventually(lambda: live_threads())
            started = time.monotonic()
            assert await b.executor.stop(0.01) == ["test:stuck"]
            assert time.monotonic() - started < 5
            assert b.outlet.failures[ref][0] == Code.CANCELLED
            assert all(thread.daemon for thread in live_threads())
            go.set()
            await b.quiet()

    run(scenario)


def test_work_that_outlives_the_loop_ends_quietly(monkeypatch):
    monkeypatch.setattr("meshcore.work.executor.CANCEL_WAIT", 0.01)
    go = threading.Event()

    async def scenario():
        async with bench() as b:
            b.start(b.add(lambda payload: go.wait(DEADLINE), "stuck"))
            await eventually(lambda: live_threads())

    asyncio.run(scenario())
    (thread,) = live_threads()
    go.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("rounds", [30])
def test_many_streams_in_few_threads_all_end(rounds):
    async def scenario():
        async with bench(max_workers=3, queue_max=100) as b:

            def count(payload):
                yield from range(payload)

            directive = b.add(count)
            refs = [b.start(directive, 50) for _ in range(rounds)]
            for ref in refs[::3]:
                await asyncio.sleep(0)
                b.executor.cancel(ref)
            await b.outlet.end_of(*refs)
            for ref in refs:
                if ref not in b.outlet.failures:
                    assert b.outlet.values[ref] == [*range(50), NO_VALUE]

    run(scenario)
