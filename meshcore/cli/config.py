"""`meshctl config`: what a node would run with, and whether a file can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.home import resolve
from meshcore.cli.options import examples, json_option
from meshcore.cli.render import Column
from meshcore.config import SETTINGS, Config

_COLUMNS = (
    Column("SETTING", style="bold"),
    Column("VALUE", wraps=True),
    Column("UNIT", rank=2),
    Column("FROM", wraps=True),
)


@click.group(no_args_is_help=True)
def command() -> None:
    """Show or check the settings of a node.

    Flags come first, then MESHCORE_* in the environment (lists by comma), then the file, then the
    defaults.
    """


@command.command(
    "show",
    short_help="Show every value with its source.",
    epilog=examples("meshctl config show", "meshctl config show --config alpha.toml --json"),
)
@click.option("--config", "path", type=click.Path(path_type=Path), help="The file to read.")
@click.option("--id", "node_id", metavar="ID", help="As for meshctl run.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As for meshctl run.")
@json_option
def show(*, path: Path | None, node_id: str | None, data_dir: Path | None, json: bool) -> None:
    """Show every value that meshctl run would take, with its source."""
    home = resolve({"node_id": node_id, "data_dir": data_dir}, file=path, keep=False)
    values = _values(home.config)
    if json:
        render.print_json(
            {key: {"value": values[key], "source": home.sources[key]} for key in SETTINGS}
        )
        return
    render.print_table(
        _COLUMNS,
        [[key, _text(values[key]), SETTINGS[key].unit, home.sources[key]] for key in SETTINGS],
    )


@command.command(
    "check",
    short_help="Check a file.",
    epilog=examples("meshctl config check alpha.toml"),
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@json_option
def check(*, path: Path, json: bool) -> None:
    """Check FILE without starting anything; exits with 2 if it cannot be used."""
    config = Config.load(path, env={})
    said = [key for key, source in config.sources().items() if source != "default"]
    reserved = list(config.reserved_in_use())
    if json:
        render.print_json({"file": str(path), "settings": said, "without_effect": reserved})
        return
    click.echo(f"{path}: {len(said)} setting{'' if len(said) == 1 else 's'}, all fine")
    for key in reserved:
        click.echo(f"{path}: {key} has no effect in this version yet", err=True)


def _values(config: Config) -> dict[str, Any]:
    """The values by flat key, as plain as `to_dict` makes them; what is secret is masked."""
    nested = config.to_dict()
    values = {}
    for key in SETTINGS:
        value: Any = nested
        for part in key.split("."):
            value = value[part]
        values[key] = SETTINGS[key].shown(value)
    return values


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return render.UNKNOWN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
