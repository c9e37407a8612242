"""Rounds: all subjects alive at once, short bursts in turn, repeated until the machine was quiet.

Within a round the bursts of all subjects alternate four times (A B C ... A B C ...), so that a slow
second of the machine hits all of them and not one. Many short bursts, because the scheduler places
the threads of a subject in one of a few ways, two times apart in speed, and stays with it for some
tenths of a second. A subject that fails is taken out with its
reason; what it showed before is dropped, because its rounds no longer pair with the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.machine import Gate, GateSettings
from benchmarks.processes import Chain, Subject, SubjectError
from benchmarks.results import Report


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line chose. Durations in seconds."""

    rounds: int = 5
    quick: bool = False
    only: tuple[str, ...] = ()

    @property
    def latency_burst(self) -> float:
        """Length of a burst of calls one after the other."""
        return 0.08 if self.quick else 0.15

    @property
    def throughput_burst(self) -> float:
        """Length of a burst with many in flight."""
        return 0.1 if self.quick else 0.2

    @property
    def passes(self) -> int:
        """Bursts per subject and round."""
        return 2 if self.quick else 4

    def gate(self) -> Gate:
        """The gate: quick runs wait and repeat only a little."""
        return Gate(GateSettings(wait_max=10.0, repeats_max=2) if self.quick else GateSettings())

    def wants(self, name: str, *, always: Iterable[str] = ()) -> bool:
        """Whether a subject was asked for by its name or what stands before a dash in it."""
        if not self.only or name in always:
            return True
        return any(name == part or name.startswith(f"{part}-") for part in self.only)


@dataclass
class Burst:
    """What one subject showed in one round."""

    round_trips_ns: list[int]
    calls: int = 0
    call_time: float = 0.0
    relay_cpu_alone: float = 0.0
    relay_cpu_busy: float = 0.0

    def add(self, other: Burst) -> None:
        """Merge another pass of the same round."""
        self.round_trips_ns += other.round_trips_ns
        self.calls += other.calls
        self.call_time += other.call_time
        self.relay_cpu_alone += other.relay_cpu_alone
        self.relay_cpu_busy += other.relay_cpu_busy

    def quantile_us(self, share: float) -> float:
        """A quantile of the round trips in microseconds."""
        ordered = sorted(self.round_trips_ns)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e3

    @property
    def calls_per_second(self) -> float:
        """Completed calls over the time that they took."""
        return self.calls / self.call_time


Measure = Callable[[Chain], Burst]
Figures = Callable[[Burst], Mapping[str, float]]


def run_rounds(
    report: Report,
    subjects: Iterable[Subject],
    options: Options,
    measure: Measure,
    figures: Figures,
) -> None:
    """Start all subjects, measure them in turn round by round, fill in the report."""
    with ExitStack() as stack:
        chains = _start(report, subjects, stack)
        _each(report, chains, measure)  # warm-up: caches, connection pools, first imports
        gate = options.gate()
        for number in range(1, options.rounds + 1):
            bursts, load = gate.run_round(
                lambda: _one_round(report, chains, measure, options.passes),
                f"{report.question}, round {number} of {options.rounds}",
            )
            report.rounds.append(load)
            for name, burst in bursts.items():
                for metric, value in figures(burst).items():
                    report.figure(name, metric, value)
        for name in report.missing:
            report.figures.pop(name, None)


def _start(report: Report, subjects: Iterable[Subject], stack: ExitStack) -> dict[str, Chain]:
    chains: dict[str, Chain] = {}
    for subject in subjects:
        try:
            chains[subject.name] = Chain(subject)
        except SubjectError as error:
            report.missing[subject.name] = str(error)
        else:
            stack.callback(chains[subject.name].stop)
            if subject.note:
                report.note(f"{subject.name}: {subject.note}")
    return chains


def _one_round(
    report: Report, chains: dict[str, Chain], measure: Measure, passes: int
) -> dict[str, Burst]:
    total = _each(report, chains, measure)
    for _ in range(passes - 1):
        for name, burst in _each(report, chains, measure).items():
            total[name].add(burst)
    return {name: burst for name, burst in total.items() if name in chains}


def _each(report: Report, chains: dict[str, Chain], measure: Measure) -> dict[str, Burst]:
    bursts: dict[str, Burst] = {}
    for name, chain in list(chains.items()):
        try:
            bursts[name] = measure(chain)
        except SubjectError as error:
            report.missing[name] = f"failed while it was measured: {error}"
            del chains[name]
    return bursts
