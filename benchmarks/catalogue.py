"""How fast is the catalogue of a registry searched, and what does it weigh, with 100,000 records?

One process that has all that a registry has loaded, and its records twice, in the core and in the
store (`subjects/catalogue_store.py`), opened from the file that another process filled before. Each
filter is asked with each order, for the first page and for one far behind; before every search a
record has changed. A figure is what one search takes from the loop's point of view.

Bars: any filter with the first page of any order ≤ 50 ms, any page ≤ 250 ms, the process ≤ 300 MiB.
`filtered` is compared with a plain evaluation of what each filter means.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import SubjectError, Worker
from benchmarks.results import Bar, Report
from benchmarks.rounds import Options
from benchmarks.subjects.catalogue_store import FILTERS, ORDERS, QUICK_FILTERS

RECORDS = 100_000
FIRST, MEDIAN, ANY, FOUND = "first page, worst order", "median order", "page far behind", "records"
MEMORY, PEAK = "memory", "peak"
PROCESS = "the process"
FIRST_MS, ANY_MS, MEMORY_MIB = 50.0, 250.0, 300.0
ROUND_SECONDS = 120.0


def name_of(q: str) -> str:
    """A filter as a row of the table."""
    return q if q else "(no filter)"


def run(options: Options) -> Report:
    """Fill, open, search round by round."""
    title = f"a registry's catalogue, {RECORDS:,} records"
    report = Report("catalogue", title, quick=options.quick)
    for metric in (FIRST, MEDIAN, ANY):
        report.metric(metric, "ms", digits=1, ratio=False)
    report.metric(FOUND, "", ratio=False)
    report.metric(MEMORY, "MiB", ratio=False)
    report.metric(PEAK, "MiB", ratio=False)
    try:
        with tempfile.TemporaryDirectory(prefix="meshcore-bench-") as folder:
            _measure(report, options, Path(folder) / "catalogue.db")
    except SubjectError as error:
        report.missing[PROCESS] = str(error)
    return report


def _measure(report: Report, options: Options, path: Path) -> None:
    settings: dict[str, object] = {"path": str(path), "records": RECORDS, "quick": options.quick}
    filling = Worker("client", "catalogue_store", {**settings, "fill": True}, None)
    try:
        filled = filling.wait_ready(ROUND_SECONDS)
    finally:
        filling.stop()
    registry = Worker("client", "catalogue_store", {**settings, "fill": False}, None)
    try:
        ready = registry.wait_ready(ROUND_SECONDS)
        _rounds(report, options, registry, ready["wanted"])
    finally:
        registry.stop()
    report.note(
        f"heard of for the first time: found after {filled['found']:.1f} s, on disk after"
        f" {filled['written']:.1f} s; opened in {ready['open_s']:.1f} s;"
        f" file {path.stat().st_size / 2**20:.0f} MiB; the process before that"
        f" {ready['base']:.0f} MiB"
    )


def _rounds(
    report: Report, options: Options, registry: Worker, wanted: dict[str, int] | None
) -> None:
    filters = QUICK_FILTERS if options.quick else tuple(FILTERS)
    for q in filters:
        report.bars.append(_bar(name_of(q), FIRST, FIRST_MS))
        report.bars.append(_bar(name_of(q), ANY, ANY_MS))
    report.bars.append(_bar(PROCESS, PEAK, MEMORY_MIB))
    gate = options.gate()
    cells: dict[tuple[str, str], list[float]] = {}
    for number in range(1, options.rounds + 1):
        measured, load = gate.run_round(
            lambda: registry.order("search", ROUND_SECONDS),
            f"catalogue, round {number} of {options.rounds}",
        )
        report.rounds.append(load)
        _add(report, measured, cells)
        if wanted is not None and measured["filtered"] != wanted:
            raise SubjectError(f"found {measured['filtered']}, should be {wanted}")
    weight = registry.order("memory", 1.0)
    report.figure(PROCESS, MEMORY, weight["rss"])
    report.figure(PROCESS, PEAK, weight["peak"])
    for line in _matrix(filters, cells):
        report.note(line)


def _bar(subject: str, metric: str, limit: float) -> Bar:
    return Bar(subject=subject, metric=metric, compare="value", limit=limit)


def _add(report: Report, measured: Any, cells: dict[tuple[str, str], list[float]]) -> None:
    for q, times in measured["first"].items():
        report.figure(name_of(q), FIRST, max(times))
        report.figure(name_of(q), MEDIAN, statistics.median(times))
        report.figure(name_of(q), ANY, max(measured["deep"][q]))
        report.figure(name_of(q), FOUND, measured["filtered"][q])
        for by, spent in zip(ORDERS, times, strict=True):
            cells.setdefault((q, by), []).append(spent)


def _matrix(filters: tuple[str, ...], cells: dict[tuple[str, str], list[float]]) -> list[str]:
    """Medians of the first page, ms: filters down, orders across."""
    names = [by or "(default)" for by in ORDERS]
    lines = ["first page, ms, median of the rounds; orders:"]
    lines += [f"  {number:2} {name}" for number, name in enumerate(names)]
    lines.append(" ".join(f"{number:5}" for number in range(len(names))))
    for q in filters:
        medians = (statistics.median(cells[q, by]) for by in ORDERS)
        lines.append(" ".join(f"{value:5.1f}" for value in medians) + f"  {name_of(q)}")
    return lines


if __name__ == "__main__":
    from benchmarks.table import render

    print("\n".join(render(run(Options(rounds=1, quick=True)))))
