"""What a question gives: figures per subject and round, ratios to its limit, bars met or missed.

All statistics are medians over rounds with minimum and maximum. A ratio is formed within each
round first and only then put in order: two figures of different rounds are never divided.

A `Report` is what a question fills in; `routing` and others without rounds use `figure()`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from benchmarks.machine import RoundLoad

Better = Literal["lower", "higher"]
Comparison = Literal["ratio", "difference", "value"]


@dataclass(frozen=True)
class Metric:
    """One column. `digits` after the point; `ratio`: show it as a multiple of the limit too."""

    name: str
    unit: str
    better: Better
    digits: int = 0
    ratio: bool = True


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of one value per round."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises statistics.StatisticsError for no values at all."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a subject has to reach.

    `compare`: "ratio" and "difference" are taken against the best of `against` in the same round,
    "value" looks at the figure itself. Lower metrics have to stay at or below `limit`, higher ones
    at or above; `stretch` is what would be better still.
    """

    subject: str
    metric: str
    limit: float
    against: tuple[str, ...] = ()
    compare: Comparison = "ratio"
    stretch: float | None = None
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A bar, looked at: `measured` is None where the subject or its reference is missing."""

    bar: Bar
    measured: Spread | None
    met: bool | None
    text: str


@dataclass
class Report:
    """Everything that one question found out."""

    question: str
    title: str
    quick: bool = False
    limit: str | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    rounds: list[RoundLoad] = field(default_factory=list)

    def metric(
        self, name: str, unit: str, better: Better = "lower", *, digits: int = 0, ratio: bool = True
    ) -> None:
        """Declare a column, in the order in which they are shown."""
        self.metrics[name] = Metric(name, unit, better, digits, ratio)

    def figure(self, subject: str, metric: str, value: float, unit: str = "ms") -> None:
        """Add one measured value; several for the same place become a median with its spread."""
        if metric not in self.metrics:
            self.metric(metric, unit, digits=2, ratio=False)
        self.figures.setdefault(subject, {}).setdefault(metric, []).append(value)

    def note(self, text: str) -> None:
        """Say something below the table."""
        self.notes.append(text)

    def spread(self, subject: str, metric: str) -> Spread | None:
        """Median, minimum and maximum over the rounds, or None where nothing was measured."""
        values = self.figures.get(subject, {}).get(metric)
        return Spread.of(values) if values else None

    def ratio(self, subject: str, metric: str, against: Iterable[str]) -> Spread | None:
        """The ratio to the best of `against`, formed round by round."""
        pairs = self._paired(subject, metric, against)
        return Spread.of(value / best for value, best in pairs if best) if pairs else None

    def difference(self, subject: str, metric: str, against: Iterable[str]) -> Spread | None:
        """The difference to the best of `against`, formed round by round."""
        pairs = self._paired(subject, metric, against)
        return Spread.of(value - best for value, best in pairs) if pairs else None

    def _paired(
        self, subject: str, metric: str, against: Iterable[str]
    ) -> list[tuple[float, float]]:
        own = self.figures.get(subject, {}).get(metric, [])
        others = [self.figures.get(name, {}).get(metric, []) for name in against]
        complete = [values for values in others if len(values) == len(own)]
        if not own or not complete:
            return []
        best = min if self.metrics[metric].better == "lower" else max
        return [(value, best(other)) for value, *other in zip(own, *complete, strict=True)]

    def verdicts(self) -> list[Verdict]:
        """Every bar with what was measured."""
        return [self._judge(bar) for bar in self.bars]

    def _judge(self, bar: Bar) -> Verdict:
        metric = self.metrics[bar.metric]
        if bar.compare == "value":
            measured = self.spread(bar.subject, bar.metric)
        elif bar.compare == "ratio":
            measured = self.ratio(bar.subject, bar.metric, bar.against)
        else:
            measured = self.difference(bar.subject, bar.metric, bar.against)
        sign = "≤" if metric.better == "lower" else "≥"
        times = "×" if bar.compare == "ratio" else metric.unit
        name = bar.says or f"{bar.subject}: {bar.metric}"
        wanted = f"{name} {sign} {bar.limit:g} {times}".rstrip()
        if measured is None:
            return Verdict(bar=bar, measured=None, met=None, text=f"{wanted}: not measured")
        met = _reaches(measured.median, bar.limit, metric.better)
        verdict = "met" if met else f"MISSED by {_distance(measured.median, bar, times)}"
        if met and bar.stretch is not None:
            stretched = _reaches(measured.median, bar.stretch, metric.better)
            verdict += f" (stretch {bar.stretch:g} {'met' if stretched else 'not met'})"
        spread = f"{measured.minimum:.2f}-{measured.maximum:.2f}"
        shown = f"{measured.median:.2f} ({spread}) {times}".rstrip()
        return Verdict(bar=bar, measured=measured, met=met, text=f"{wanted}: {shown}, {verdict}")

    def to_dict(self) -> dict[str, object]:
        """Everything, for the JSON file."""
        return {
            "question": self.question,
            "title": self.title,
            "quick": self.quick,
            "limit": self.limit,
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "subjects": {name: self._subject_dict(name) for name in self.figures},
            "missing": self.missing,
            "bars": [
                {
                    **asdict(verdict.bar),
                    "measured": asdict(verdict.measured) if verdict.measured else None,
                    "met": verdict.met,
                    "text": verdict.text,
                }
                for verdict in self.verdicts()
            ],
            "notes": self.notes,
            "rounds": [asdict(load) for load in self.rounds],
        }

    def _subject_dict(self, subject: str) -> Mapping[str, object]:
        document: dict[str, object] = {}
        for name, values in self.figures[subject].items():
            entry: dict[str, object] = {**asdict(Spread.of(values)), "rounds": values}
            if self.limit is not None and self.metrics[name].ratio:
                ratio = self.ratio(subject, name, (self.limit,))
                entry["ratio"] = asdict(ratio) if ratio else None
            document[name] = entry
        return document


def _reaches(value: float, limit: float, better: Better) -> bool:
    return value <= limit if better == "lower" else value >= limit


def _distance(value: float, bar: Bar, unit: str) -> str:
    by = f"{abs(value - bar.limit):.2f} {unit}".rstrip()
    return f"{by} ({abs(value / bar.limit - 1):.0%})" if bar.limit else by
