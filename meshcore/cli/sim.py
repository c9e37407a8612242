"""`meshctl sim`: a mesh that does not exist yet, simulated, and what its operator should expect.

Whole cores run in virtual time in this process; nothing touches the network. The same seed gives
the same report, so that whatever is found can be had again.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from meshcore.cli import render, sim_replicas
from meshcore.cli.failure import FAILED, INTERRUPTED, Reported, did_you_mean
from meshcore.cli.options import Duration, examples, json_option
from meshcore.cli.render import Column
from meshcore.errors import ConfigError

NODES_MAX = 2000
SHAPES = ("chain", "ring", "star", "tree", "full", "random")
PROBLEMS_SHOWN = 10
_TIMES = (
    Column("WHAT", style="bold"),
    Column("MEASURED", right=True),
    Column("MEDIAN", right=True),
    Column("95 %", right=True),
    Column("MAX", right=True),
)
_LOADS = (
    Column("A NODE, EACH SECOND", style="bold"),
    Column("SENDS", right=True),
    Column("BYTES", right=True),
    Column("RECEIVES", right=True),
    Column("BYTES", right=True),
)


@click.command(
    epilog=examples(
        "meshctl sim --nodes 50 --degree 6 --faults churn,loss",
        "meshctl sim --nodes 9 --topology chain --faults partition,pause --duration 5m --seed 7",
        "meshctl sim --nodes 1000 --faults churn --duration 60s --json",
        "meshctl sim --faults all --timings dead=3,remove=6 --plot detection.png",
        "meshctl sim --replicas both --many 100",
    )
)
@click.option("--nodes", type=click.IntRange(2, NODES_MAX), default=20, show_default=True)
@click.option("--topology", type=click.Choice(SHAPES), default="random", show_default=True)
@click.option(
    "--degree", type=click.FloatRange(1, 64), help="Links of a node, if random.  [default: 6]"
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--duration",
    type=Duration(),
    default=60.0,
    metavar="DURATION",
    help="Virtual time in which faults strike.  [default: 60s]",
)
@click.option(
    "--faults",
    metavar="LIST",
    default="churn",
    show_default=True,
    help="What may happen, by comma (see above); all, or none.",
)
@click.option(
    "--every",
    type=Duration(),
    default=10.0,
    metavar="DURATION",
    help="Mean time between two faults, churn apart.  [default: 10s]",
)
@click.option(
    "--churn",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Percent of the nodes that die, and are made good, each minute.",
)
@click.option("--timings", metavar="LIST", help="Of every node: slow=1,warn=2,dead=5,remove=10.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the times to a PNG file."
)
@click.option(
    "--replicas",
    type=click.Choice(sim_replicas.KINDS),
    help="Instead of a mesh: one replicated group of this kind.",
)
@click.option(
    "--many",
    type=click.IntRange(1, sim_replicas.MANY_MAX),
    help="With --replicas: so many seeds, from --seed on.  [default: 1]",
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    json: bool,
    plot: Path | None,
    replicas: str | None,
    many: int | None,
    **options: Any,
) -> None:
    """Simulate a mesh under faults, and report what to expect of it.

    It starts converged. After the faults all is healed, and the mesh must agree and be quiet. The
    report has the times until everybody knew of deaths and joins, what a node sends and receives,
    and false deaths: running nodes that somebody called DEAD though links led to them.

    Faults: crash, silent-crash (the machine is off), forget (a crash that loses the data), leave,
    churn, cut, one-way-cut, partition, pause, slow, clock-jump, clock-rate.

    Weather: delay, loss (5 % of beats and news), reorder, packet-loss, duplication, no-news,
    narrow.

    With --replicas: a replicated group and its clients, elected and with leases, with the usual
    limits and with tight ones; its processes are killed, paused and cut off, and lose their disks.
    It is checked that no call is lost, doubled or answered wrongly, and that all comes to rest.

    The same seed gives the same report. Exit code 1: a checker found something wrong.
    """
    if replicas is not None:
        _refuse_others(context)
        sim_replicas.simulate(replicas, seed=options["seed"], many=many or 1, json=json)
        return
    if many is not None:
        raise click.UsageError("--many is for --replicas; bin/sim --many runs many meshes")
    if plot is not None:
        _matplotlib()
        if not plot.parent.is_dir():
            raise click.UsageError(f"--plot: there is no directory {plot.parent}")
    plan = _plan(**options)
    from meshcore.sim.simulation import Simulation

    simulation = Simulation(plan)
    interrupted = False
    try:
        with _progress(plan) as progress:
            simulation.run(progress)
    except KeyboardInterrupt:
        interrupted = True
    except AssertionError as error:  # the core broke its own contract
        simulation.problems.append(f"{error} {' '.join(getattr(error, '__notes__', ()))}".strip())
    _show(simulation, json=json)
    if plot is not None:
        _draw(simulation, plot)
    if interrupted:
        raise Reported(INTERRUPTED)
    if simulation.report()["problems"]:
        raise Reported(FAILED)


def _refuse_others(context: click.Context) -> None:
    """What a mesh has, a group of replicas has not."""
    for name in context.params:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("replicas", "many", "seed", "json"):
            raise click.UsageError(f"--{name} is for a mesh, not for --replicas")


def _plan(
    *,
    nodes: int,
    topology: str,
    degree: float | None,
    seed: int,
    duration: float,
    faults: str,
    every: float,
    churn: float,
    timings: str | None,
) -> Any:
    from meshcore.sim.simulation import LINKS_MAX, Plan, link_count

    if degree is not None and topology != "random":
        raise click.UsageError(f"--degree is for --topology random; {topology} has its own")
    wanted = min(6.0, nodes - 1.0) if degree is None else degree
    if wanted > nodes - 1:
        raise click.UsageError(f"--degree {wanted:g}: {nodes} nodes have at most {nodes - 1} links")
    links = link_count(topology, nodes, wanted)
    if links > LINKS_MAX:
        raise click.UsageError(
            f"{nodes} nodes in {topology} are {links:,} links; at most {LINKS_MAX:,} are simulated"
        )
    return Plan(
        nodes=nodes,
        topology=topology,
        degree=wanted,
        seed=seed,
        duration=duration,
        faults=_faults(faults),
        every=every,
        churn=churn / 100,
        timings=_timings(timings),
    )


def _faults(text: str) -> tuple[str, ...]:
    from meshcore.sim.faults import FAULTS, WEATHER

    known = (*FAULTS, *WEATHER)
    if text in ("all", "none"):
        return known if text == "all" else ()
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise click.UsageError(f"--faults: there is no {name!r}{hint}")
    if not names:
        raise click.UsageError("--faults: name some, or say none")
    return tuple(name for name in known if name in names)


def _timings(text: str | None) -> Any:
    from meshcore.sim.simulation import Timings

    values: dict[str, float] = {}
    for part in (text or "").split(","):
        name, _, value = part.strip().partition("=")
        if not name:
            continue
        if name not in Timings.__slots__:
            hint = did_you_mean(name, Timings.__slots__)
            raise click.UsageError(f"--timings: there is no {name!r}{hint}")
        try:
            values[name] = Duration().convert(value, None, None)
        except click.BadParameter as error:
            raise click.UsageError(f"--timings: {name}: {error.message}") from None
    try:
        return Timings(**values)
    except ValueError as error:
        raise click.UsageError(f"--timings: {str(error).partition(':')[0]}") from None


@contextmanager
def _progress(plan: Any) -> Iterator[Callable[[float], object]]:
    """A bar on the terminal, if there is one."""
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{plan.nodes} nodes", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def again(plan: Any) -> str:
    """The command line that gives the same run."""
    words = ["meshctl", "sim", "--nodes", str(plan.nodes), "--topology", plan.topology]
    if plan.topology == "random":
        words += ["--degree", f"{plan.degree:g}"]
    words += ["--seed", str(plan.seed), "--duration", f"{plan.duration:g}s"]
    words += ["--faults", ",".join(plan.faults) or "none"]
    words += ["--every", f"{plan.every:g}s", "--churn", f"{100 * plan.churn:g}"]
    names = type(plan.timings).__slots__
    changed = [
        f"{name}={getattr(plan.timings, name):g}"
        for name in names
        if getattr(plan.timings, name) != getattr(type(plan.timings)(), name)
    ]
    if changed:
        words += ["--timings", ",".join(changed)]
    return shlex.join(words)


def _show(simulation: Any, *, json: bool) -> None:
    report = simulation.report()
    report["again"] = again(simulation.plan)
    if json:
        render.print_json(report)
        return
    plan = simulation.plan
    shape = f"degree {plan.degree:g}" if plan.topology == "random" else plan.topology
    click.echo(
        f"{plan.nodes} nodes, {shape}, {report['links']} links, seed {plan.seed}; "
        f"{report['measured_s']:g} s with {', '.join(plan.faults) or 'no faults'}"
        + ("" if report["complete"] else " (not run to its end)")
        + "\n"
    )
    if "deaths" in report:
        render.print_table(_TIMES, _time_rows(report))
        click.echo(f"\nfalse deaths: {report['false_deaths']}\n")
        render.print_table(_LOADS, _load_rows(report))
    for problem in report["problems"][:PROBLEMS_SHOWN]:
        click.echo(f"WRONG: {problem}", err=True)
    if report["problems"]:
        more = len(report["problems"]) - PROBLEMS_SHOWN
        click.echo(
            (f"and {more} more; " if more > 0 else "")
            + f"seed {plan.seed} found this; again: {report['again']}",
            err=True,
        )


def _time_rows(report: dict[str, Any]) -> list[list[str]]:
    deaths, joins, heals = report["deaths"], report["joins"], report["heals"]
    rows = (
        ("death known to the first", f"{deaths['known_by_all']}", deaths["first_s"]),
        (
            "death known everywhere",
            f"{deaths['known_by_all']} of {deaths['count']}",
            deaths["everywhere_s"],
        ),
        (
            "join known everywhere",
            f"{joins['known_by_all']} of {joins['count']}",
            joins["everywhere_s"],
        ),
        ("healed mesh agrees", f"{heals['agreed']} of {heals['count']}", heals["agreed_s"]),
    )
    return [
        [what, measured, *(_seconds(times[key]) for key in ("median", "p95", "max"))]
        for what, measured, times in rows
    ]


def _seconds(value: float | None) -> str:
    return render.UNKNOWN if value is None else f"{value:.2f} s"


def _load_rows(report: dict[str, Any]) -> list[list[str]]:
    keys = ("messages_sent", "bytes_sent", "messages_received", "bytes_received")
    rows = [
        [kind, *(f"{load[key]:,.1f}" for key in keys)]
        for kind, load in report["load"].items()
        if load["messages_sent"] or kind in ("beats", "news", "repair")
    ]
    total = [sum(load[key] for load in report["load"].values()) for key in keys]
    return [*rows, ["all", *(f"{value:,.1f}" for value in total)]]


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("--plot needs matplotlib: pip install 'meshcore-runtime[plot]'") from None
    matplotlib.use("Agg")
    return matplotlib


def _draw(simulation: Any, path: Path) -> None:
    """How many of the deaths, joins and healings everybody knew of after how many seconds."""
    _matplotlib()
    from matplotlib.figure import Figure

    plan, found = simulation.plan, simulation.detections()
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    titles = {"death": "deaths known", "join": "joins known", "heal": "healed meshes agree"}
    for kind, times in found.items():
        if times:
            steps = sorted(times)
            shares = [100 * (at + 1) / len(steps) for at in range(len(steps))]
            axes.step(
                [0, *steps], [0, *shares], where="post", label=f"{titles[kind]} ({len(steps)})"
            )
    axes.set_xlabel("seconds until everybody knows")
    axes.set_ylabel("% of all")
    axes.set_title(f"{plan.nodes} nodes, {plan.topology}, seed {plan.seed}")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    if any(found.values()):
        axes.legend(loc="lower right")
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise ConfigError(f"--plot: {path}: {error.strerror or error}") from error
