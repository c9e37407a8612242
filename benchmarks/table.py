"""One plain-text table per question: subjects down, metrics across, bars and notes below."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.results import Metric, Report


def machine_lines(machine: Mapping[str, object]) -> list[str]:
    """The machine, in two lines."""
    versions = ("python", "libzmq", "pyzmq", "uvloop", "msgpack")
    return [
        "{cpu}, {cores} cores, {memory_mib} MiB; kernel {kernel}; {date}".format(**machine),
        ", ".join(f"{name} {machine[name]}" for name in versions),
    ]


def render(report: Report) -> list[str]:
    """The whole report as lines, without trailing spaces."""
    lines = [f"== {report.question}: {report.title}", *_rounds_lines(report), ""]
    if report.figures:
        lines += [*_table(report), ""]
    lines += [f"  missing  {name}: {reason}" for name, reason in report.missing.items()]
    for verdict in report.verdicts():
        mark = {True: "met    ", False: "MISSED ", None: "-      "}[verdict.met]
        lines.append(f"  {mark}  {verdict.text}")
    lines += [f"  note     {note}" for note in report.notes]
    return [line.rstrip() for line in lines]


def _rounds_lines(report: Report) -> list[str]:
    if not report.rounds:
        return []
    foreign = ", ".join(f"{load.foreign:.0%}" for load in report.rounds)
    thrown_away = sum(load.thrown_away for load in report.rounds)
    disturbed = sum(not load.quiet for load in report.rounds)
    line = f"{len(report.rounds)} rounds; other processes used {foreign} of a core"
    line += f"; {thrown_away} rounds thrown away" if thrown_away else ""
    lines = [line]
    if disturbed:
        lines.append(f"{disturbed} of them DISTURBED and kept: figures and ratios are rough")
    if report.quick:
        lines.append("--quick: short bursts, rough figures")
    return lines


def _table(report: Report) -> list[str]:
    header = ["subject"]
    for metric in report.metrics.values():
        header += _header_cells(report, metric)
    rows = [header]
    for subject in report.figures:
        row = [subject]
        for metric in report.metrics.values():
            row += _cells(report, subject, metric)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  " + _line(row, widths) for row in rows]
    return [lines[0], "  " + "  ".join("-" * width for width in widths), *lines[1:]]


def _line(cells: list[str], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])


def _has_ratio(report: Report, metric: Metric) -> bool:
    return metric.ratio and report.limit is not None


def _header_cells(report: Report, metric: Metric) -> list[str]:
    title = f"{metric.name}, {metric.unit}" if metric.unit else metric.name
    return [title, "min-max", "× limit"] if _has_ratio(report, metric) else [title, "min-max"]


def _cells(report: Report, subject: str, metric: Metric) -> list[str]:
    width = 3 if _has_ratio(report, metric) else 2
    spread = report.spread(subject, metric.name)
    if spread is None:
        return ["-", *[""] * (width - 1)]
    digits = metric.digits
    cells = [
        f"{spread.median:,.{digits}f}",
        f"{spread.minimum:,.{digits}f}-{spread.maximum:,.{digits}f}",
    ]
    if width == 3:
        ratio = report.ratio(subject, metric.name, (report.limit or "",))
        cells.append(f"{ratio.median:.2f}" if ratio else "-")
    return cells
