"""Real child processes: started, ordered, measured, stopped."""

from __future__ import annotations

import statistics

import psutil
import pytest

from benchmarks import __main__ as command
from benchmarks.machine import Gate, GateSettings
from benchmarks.processes import Chain, Subject, SubjectError
from benchmarks.relay import main_thread_time
from benchmarks.results import Report
from benchmarks.rounds import Burst, Options, run_rounds


class OpenGate(Options):
    """Rounds that never wait for a quiet machine."""

    def gate(self) -> Gate:
        return Gate(GateSettings(share_max=1000.0, sample=0.01, wait_max=0.01))


def measure(chain: Chain) -> Burst:
    burst = Burst(chain.round_trips_ns(0.05))
    burst.calls, burst.call_time = chain.calls(0.05, 16)
    return burst


@pytest.mark.parametrize("module", ["limit", "zmq_asyncio", "sketch"])
def test_a_subject_answers_both_orders_again_and_again(module: str) -> None:
    chain = Chain(Subject(name=module, module=module))
    try:
        for _ in range(2):
            assert 1_000 < statistics.median(chain.round_trips_ns(0.05)) < 1e9
            calls, elapsed = chain.calls(0.05, 16)
            assert calls >= 16
            assert 0.04 < elapsed < 10
    finally:
        chain.stop()


def test_stopping_a_chain_ends_all_its_processes() -> None:
    chain = Chain(Subject(name="limit", module="limit", relays=1))
    processes = psutil.Process().children(recursive=True)
    assert len(processes) == 3
    chain.stop()
    assert not any(process.is_running() for process in processes)


@pytest.mark.timeout(20)
def test_a_child_that_hangs_is_ended_as_well() -> None:
    chain = Chain(Subject(name="limit", module="limit"))
    processes = psutil.Process().children(recursive=True)
    processes[0].suspend()
    chain.stop()
    assert not any(process.is_running() for process in processes)


def test_the_cpu_time_of_a_relay_grows_with_what_it_forwards() -> None:
    chain = Chain(Subject(name="limit", module="limit", relays=1))
    try:
        before = main_thread_time(chain.relays[0].pid)
        chain.calls(0.3, 16)
        assert main_thread_time(chain.relays[0].pid) - before > 0.01
    finally:
        chain.stop()


def test_a_peer_that_is_not_installed_is_named_with_the_reason() -> None:
    with pytest.raises(SubjectError, match=r"No module named .*absent"):
        Chain(Subject(name="absent", module="absent"))


def test_rounds_keep_going_without_a_missing_subject() -> None:
    report = Report("call", "an echo", limit="limit")
    report.metric("round trip", "µs")
    run_rounds(
        report,
        [Subject(name="limit", module="limit"), Subject(name="absent", module="absent")],
        OpenGate(rounds=2, quick=True),
        measure,
        lambda burst: {"round trip": burst.quantile_us(0.5)},
    )
    assert len(report.figures["limit"]["round trip"]) == 2
    assert list(report.missing) == ["absent"]


def test_a_subject_that_fails_half_way_is_dropped_with_its_reason() -> None:
    report = Report("call", "an echo")
    report.metric("round trip", "µs")
    measured: list[str] = []

    def fail_in_the_second_round(chain: Chain) -> Burst:
        measured.append(chain.subject.name)
        # The warm-up and the two passes of the first round are over.
        if chain.subject.name == "b" and measured.count("b") > 3:
            raise SubjectError("it broke")
        return Burst([1000])

    run_rounds(
        report,
        [Subject(name="a", module="limit"), Subject(name="b", module="limit")],
        OpenGate(rounds=2, quick=True),
        fail_in_the_second_round,
        lambda burst: {"round trip": burst.quantile_us(0.5)},
    )
    assert [len(figures["round trip"]) for figures in report.figures.values()] == [2]
    assert list(report.figures) == ["a"]
    assert report.missing == {"b": "failed while it was measured: it broke"}


def test_a_question_whose_module_cannot_be_imported_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(command.QUESTIONS, "absent", "nothing")
    report = command.run_question("absent", Options())
    assert report.missing["absent"].startswith("not runnable yet")


def test_an_unknown_question_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["cal"])
    assert stopped.value.code == 2
    assert "there are call, relay, start, idle, detection, routing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("meshcore", True), ("meshcore-threads", True), ("limit", True), ("rpyc", False)],
)
def test_only_takes_a_subject_its_variants_and_the_limit(name: str, wanted: bool) -> None:
    assert Options(only=("meshcore",)).wants(name, always=("limit",)) is wanted
