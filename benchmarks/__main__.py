"""`python -m benchmarks [QUESTION ...]`: one table per question, one JSON file for all."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks import machine, table
from benchmarks.results import Report
from benchmarks.rounds import Options

# The order in which they run when none is named.
QUESTIONS = {
    "call": "round trip and calls/s to the next node, against plain ZeroMQ and the peers",
    "relay": "what a hop in between adds, and what forwarding costs",
    "start": "how long a node and a command take to start",
    "idle": "what a node with nothing to do costs in a mesh of 10, 100 and 1,000",
    "detection": "how soon everybody knows that a node was killed, froze, woke or left",
    "routing": "shortest paths over the whole graph and after one change",
    "catalogue": "searches in a registry's 100,000 records: every filter with every order, memory",
    "services": "calls of replicated groups of three, active and passive, logs on disk",
    "simulator": "meshes of 10, 100 and 1,000 simulated nodes: detection, load, joins, speed",
}
# They run no processes: they report lines, not figures per subject.
LINES_ALONE = ("routing", "simulator")
RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """0 when everything was measured; 1 with --assert and a bar missed; 2 for a wrong argument."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    options = Options(
        rounds=chosen.rounds or (3 if chosen.quick else 5),
        quick=chosen.quick,
        only=tuple(name.strip() for name in chosen.only.split(",") if name.strip()),
    )
    facts = machine.describe()
    print("\n".join(table.machine_lines(facts)), flush=True)
    reports = []
    for question in chosen.questions or list(QUESTIONS):
        report = run_question(question, options)
        reports.append(report)
        print("\n" + "\n".join(table.render(report)), flush=True)
    path = chosen.json or RESULTS / time.strftime("%Y-%m-%dT%H-%M-%S.json")
    write_json(path, facts, reports)
    print(f"\nwritten to {path}")
    failed = any(verdict.met is not True for report in reports for verdict in report.verdicts())
    return 1 if chosen.check and failed else 0


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:9} {says}" for name, says in QUESTIONS.items())
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure meshcore against plain ZeroMQ and its peers.",
        epilog=f"questions (all where none is named):\n{listed}\n\nSee benchmarks/README.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", type=_question)
    parser.add_argument("--rounds", type=int, help="rounds that count (default 5; 3 with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON file goes")
    parser.add_argument("--quick", action="store_true", help="short bursts, hardly any waiting")
    parser.add_argument(
        "--only", default="", metavar="SUBJECT,...", help="these subjects and the limit"
    )
    parser.add_argument(
        "--assert", dest="check", action="store_true", help="exit 1 unless every bar is met"
    )
    return parser


def _question(name: str) -> str:
    if name not in QUESTIONS:
        raise argparse.ArgumentTypeError(f"no question {name!r}; there are {', '.join(QUESTIONS)}")
    return name


def run_question(name: str, options: Options) -> Report:
    """One question; where its module or what it measures cannot be imported, the reason."""
    try:
        module = importlib.import_module(f"benchmarks.{name}")
        if name not in LINES_ALONE:
            return module.run(options)  # type: ignore[no-any-return]
        report = Report(name, QUESTIONS[name], quick=options.quick)
        if name == "simulator":
            module.run(report.note, quick=options.quick)
        else:
            module.run(report.note)
    except ImportError as error:
        report = Report(name, QUESTIONS[name], quick=options.quick)
        report.missing[name] = f"not runnable yet: {error}"
    return report


def write_json(path: Path, facts: dict[str, object], reports: list[Report]) -> None:
    """Everything that was measured, with every round, in one document."""
    document = {"machine": facts, "questions": [report.to_dict() for report in reports]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
