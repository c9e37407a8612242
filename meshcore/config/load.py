"""Where settings come from: flags, environment, file, defaults, the first that says one wins.

Each place is read into a layer, flat keys to value and origin, without a judgement on how they fit
together; the layers are then merged and become one Config, whose own checks run once. An error
text begins with the origin of the value at fault, as in
`meshcore.toml: timings.warn = 0.5 must be greater than timings.slow = 1.0`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from meshcore.config.model import SETTINGS, Config, Timings
from meshcore.config.settings import Setting, SettingError, did_you_mean
from meshcore.errors import ConfigError

FILE_NAME = "meshcore.toml"
PREFIX = "MESHCORE_"
# Variables of the command line that are no settings of a node.
OTHER_VARIABLES = ("MESHCORE_VIA", "MESHCORE_DEBUG", "MESHCORE_JOIN")
FLAG = "flag"
_SECTIONS = ("timings",)  # tables whose keys are settings; other tables are values themselves


class Said(NamedTuple):
    """A value as one place says it; `prefix` begins error texts about it."""

    value: Any
    origin: str
    prefix: str


Layer = dict[str, Said]


def load(
    path: str | Path | None,
    *,
    env: Mapping[str, str] | None,
    overrides: Mapping[str, Any] | None,
) -> Config:
    """See `Config.load`."""
    flags = layer(overrides or {}, FLAG, named=False)
    variables = environment_layer(os.environ if env is None else env)
    layers = [flags, variables]
    if path is None:
        path = _file_in_data_dir(layers)
    if path is not None:
        layers.append(file_layer(path))
    return from_layers(layers)


def layer(values: Mapping[str, Any], origin: str, *, named: bool) -> Layer:
    """Flatten and check nested values; `named`: error texts begin with the origin."""
    prefix = f"{origin}: " if named else ""
    said: Layer = {}
    for key, value in _flat(values, prefix):
        if key not in SETTINGS:
            hint = did_you_mean(key, SETTINGS) or "; `meshctl config show` lists them all"
            raise ConfigError(f"{prefix}unknown setting '{key}'{hint}")
        if value is not None:  # as flags are that nobody gave
            said[key] = Said(_checked(SETTINGS[key], value, prefix), origin, prefix)
    return said


def file_layer(path: str | Path) -> Layer:
    """What a TOML file says; relative paths in it begin at its own directory."""
    try:
        with Path(path).open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return {
        key: said._replace(value=_anchored(said.value, Path(path).absolute().parent))
        for key, said in layer(values, str(path), named=True).items()
    }


def environment_layer(env: Mapping[str, str]) -> Layer:
    """What `MESHCORE_*` says; an empty variable says nothing."""
    known = {spec.environment: spec for spec in SETTINGS.values()}
    said: Layer = {}
    for name in sorted(env):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES or not env[name]:
            continue
        spec = known.get(name)
        if spec is None:
            hint = did_you_mean(name, [*known, *OTHER_VARIABLES])
            raise ConfigError(f"{name}: no such setting{hint}")
        prefix = f"{name}: "
        try:
            value = spec.parse(env[name])
        except SettingError as error:
            raise ConfigError(prefix + str(error)) from None
        said[spec.key] = Said(value, name, prefix)
    return said


def from_layers(layers: Sequence[Layer]) -> Config:
    """One Config of all layers; the first that says a key wins."""
    merged: Layer = {}
    for each in reversed(layers):
        merged.update(each)
    values: dict[str, Any] = {key: said.value for key, said in merged.items()}
    timings = {
        key.removeprefix("timings."): values.pop(key)
        for key in list(values)
        if key.startswith("timings.")
    }
    try:
        config = Config(timings=Timings(**timings), **values)
    except SettingError as error:
        said_by = next((merged[key] for key in error.keys if key in merged), None)
        raise ConfigError((said_by.prefix if said_by else "") + str(error)) from None
    config._sources.clear()  # it was made here: nobody else has seen it yet
    config._sources.update({key: said.origin for key, said in merged.items()})
    return config


def _file_in_data_dir(layers: Sequence[Layer]) -> Path | None:
    for each in layers:
        if "data_dir" in each:
            path = Path(each["data_dir"].value) / FILE_NAME
            return path if path.exists() else None
    return None


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if key not in _SECTIONS or value is None:
            flat.append((str(key), value))
        elif isinstance(value, Timings):
            flat.extend((f"timings.{name}", item) for name, item in vars(value).items())
        elif isinstance(value, Mapping):
            flat.extend((f"{key}.{name}", item) for name, item in value.items())
        else:
            raise ConfigError(f"{prefix}{key} = {value!r} must be a table")
    return [(key, value) for key, value in flat if key not in _SECTIONS]


def _checked(spec: Setting, value: object, prefix: str) -> Any:
    try:
        return spec.check(value)
    except SettingError as error:
        raise ConfigError(prefix + str(error)) from None


def _anchored(value: Any, directory: Path) -> Any:
    if isinstance(value, Path):
        return directory / value
    if isinstance(value, tuple):
        return tuple(_anchored(item, directory) for item in value)
    return value
