"""Ratios, bars and tables of a benchmark report."""

from __future__ import annotations

import json

import pytest

from benchmarks import table
from benchmarks.machine import RoundLoad
from benchmarks.results import Bar, Report, Spread


def report_with(figures: dict[str, dict[str, list[float]]], *bars: Bar) -> Report:
    report = Report("call", "an echo", limit="limit")
    report.metric("round trip", "µs")
    report.metric("calls", "calls/s", "higher")
    report.figures = figures
    report.bars += bars
    return report


def test_a_ratio_is_formed_within_each_round_and_not_of_medians() -> None:
    report = report_with(
        {"limit": {"round trip": [100, 400, 200]}, "mesh": {"round trip": [150, 400, 500]}}
    )
    # The medians are 200 and 400: their quotient 2.0 pairs figures of different rounds.
    assert report.ratio("mesh", "round trip", ["limit"]) == Spread(1.5, 1.0, 2.5)


def test_the_best_of_several_references_is_the_lowest_time_and_the_highest_rate() -> None:
    report = report_with(
        {
            "a": {"round trip": [100], "calls": [10]},
            "b": {"round trip": [50], "calls": [40]},
            "mesh": {"round trip": [100], "calls": [20]},
        }
    )
    time_ratio = report.ratio("mesh", "round trip", ["a", "b", "absent"])
    rate_ratio = report.ratio("mesh", "calls", ["a", "b", "absent"])
    assert time_ratio is not None
    assert rate_ratio is not None
    assert (time_ratio.median, rate_ratio.median) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("metric", "value", "met"),
    [
        ("round trip", 150, True),
        ("round trip", 151, False),
        ("calls", 150, True),
        ("calls", 149, False),
    ],
)
def test_a_bar_is_met_up_to_its_very_limit(metric: str, value: float, met: bool) -> None:
    bar = Bar(subject="mesh", metric=metric, against=("limit",), limit=1.5)
    report = report_with({"limit": {metric: [100]}, "mesh": {metric: [value]}}, bar)
    (verdict,) = report.verdicts()
    assert verdict.met is met
    assert ("MISSED by" in verdict.text) is not met


def test_a_missed_bar_says_by_how_much() -> None:
    bar = Bar(subject="mesh", metric="round trip", against=("limit",), limit=1.5)
    report = report_with({"limit": {"round trip": [100]}, "mesh": {"round trip": [180]}}, bar)
    assert report.verdicts()[0].text.endswith("MISSED by 0.30 × (20%)")


def test_a_bar_whose_subject_is_missing_is_neither_met_nor_missed() -> None:
    bar = Bar(subject="mesh", metric="round trip", against=("limit",), limit=1.5)
    report = report_with({"limit": {"round trip": [100]}}, bar)
    (verdict,) = report.verdicts()
    assert verdict.met is None
    assert verdict.text.endswith("not measured")


@pytest.mark.parametrize(("compare", "measured"), [("value", 0.5), ("difference", 0.2)])
def test_a_bar_may_look_at_the_value_or_at_a_difference(compare: str, measured: float) -> None:
    bar = Bar(
        subject="mesh",
        metric="round trip",
        against=("limit",),
        limit=0.6,
        compare=compare,  # type: ignore[arg-type]
    )
    report = report_with({"limit": {"round trip": [0.3]}, "mesh": {"round trip": [0.5]}}, bar)
    spread = report.verdicts()[0].measured
    assert spread is not None
    assert spread.median == pytest.approx(measured)


def test_the_table_names_what_is_missing_and_which_rounds_were_disturbed() -> None:
    report = report_with({"limit": {"round trip": [100.0, 120.0]}})
    report.missing["nats"] = "nats-server is not installed"
    report.rounds = [
        RoundLoad(foreign=0.02, quiet=True, thrown_away=1),
        RoundLoad(foreign=0.5, quiet=False, thrown_away=0),
    ]
    text = "\n".join(table.render(report))
    assert "missing  nats: nats-server is not installed" in text
    assert "1 rounds thrown away" in text
    assert "1 of them DISTURBED" in text
    assert "100-120" in text


def test_the_report_becomes_one_json_document_with_every_round() -> None:
    report = report_with(
        {"limit": {"round trip": [100.0, 200.0]}, "mesh": {"round trip": [150.0, 300.0]}},
        Bar(subject="mesh", metric="round trip", against=("limit",), limit=1.4),
    )
    document = json.loads(json.dumps(report.to_dict()))
    entry = document["subjects"]["mesh"]["round trip"]
    assert entry["rounds"] == [150.0, 300.0]
    assert entry["ratio"]["median"] == 1.5
    assert document["bars"][0]["met"] is False


def test_a_bar_of_nothing_is_met_by_nothing_and_missed_by_anything() -> None:
    bar = Bar(subject="mesh", metric="round trip", compare="value", limit=0.0)
    for deaths, met in ((0.0, True), (2.0, False)):
        (verdict,) = report_with({"mesh": {"round trip": [deaths]}}, bar).verdicts()
        assert verdict.met is met
        assert ("MISSED by 2.00" in verdict.text) is not met
