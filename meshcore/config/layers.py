"""Where settings come from: flags, environment, file, defaults, the first that says one wins.

Each place is read into a layer, flat keys to value and origin, without a judgement on how they fit
together. The layers are then merged and become one Config, whose own checks run once; an error text
begins with the origin of the value at fault, as in
`meshcore.toml: timings.warn = 0.5 must be greater than timings.slow = 1.0`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
Settings = Mapping[str, Setting]


def read(
    settings: Settings,
    path: str | Path | None,
    *,
    env: Mapping[str, str] | None,
    overrides: Mapping[str, Any] | None,
) -> list[Layer]:
    """All that is said, the strongest first; for the arguments see `Config.load`."""
    found = [
        layer(settings, overrides or {}, FLAG, named=False),
        environment_layer(settings, os.environ if env is None else env),
    ]
    if path is None:
        path = _file_in_data_dir(found)
    if path is not None:
        found.append(file_layer(settings, path))
    return found


def layer(settings: Settings, values: Mapping[str, Any], origin: str, *, named: bool) -> Layer:
    """Flatten and check nested values; `named`: error texts begin with the origin."""
    prefix = f"{origin}: " if named else ""
    said: Layer = {}
    for key, value in _flat(values, prefix):
        if key not in settings:
            hint = did_you_mean(key, settings) or "; `meshctl config show` lists them all"
            raise ConfigError(f"{prefix}unknown setting '{key}'{hint}")
        if value is not None:  # as flags are that nobody gave
            said[key] = Said(_checked(settings[key], value, prefix), origin, prefix)
    return said


def file_layer(settings: Settings, path: str | Path) -> Layer:
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
        key: said._replace(
            value=_anchored(said.value, Path(path).absolute().parent, settings[key].files)
        )
        for key, said in layer(settings, values, str(path), named=True).items()
    }


def environment_layer(settings: Settings, env: Mapping[str, str]) -> Layer:
    """What `MESHCORE_*` says; an empty variable says nothing."""
    known = {spec.environment: spec for spec in settings.values()}
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


def merged(strongest_first: Sequence[Layer]) -> Layer:
    """One layer of all of them; the first that says a key wins."""
    result: Layer = {}
    for each in reversed(strongest_first):
        result.update(each)
    return result


def with_origin(error: SettingError, said: Layer) -> ConfigError:
    """The same error, naming the place that said the value at fault."""
    culprit = next((said[key] for key in error.keys if key in said), None)
    return ConfigError((culprit.prefix if culprit else "") + str(error))


def _file_in_data_dir(strongest_first: Sequence[Layer]) -> Path | None:
    for each in strongest_first:
        if "data_dir" in each:
            path = Path(each["data_dir"].value) / FILE_NAME
            return path if path.exists() else None
    return None


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if key not in _SECTIONS or value is None:
            flat.append((str(key), value))
        elif isinstance(value, Mapping):
            flat.extend((f"{key}.{name}", item) for name, item in value.items())
        else:
            raise ConfigError(f"{prefix}{key} = {value!r} must be a table")
    return [(key, value) for key, value in flat if key not in _SECTIONS]  # one that was None


def _checked(spec: Setting, value: object, prefix: str) -> Any:
    try:
        return spec.check(value)
    except SettingError as error:
        raise ConfigError(prefix + str(error)) from None


def _anchored(value: Any, directory: Path, files: tuple[str, ...]) -> Any:
    if isinstance(value, Path):
        return directory / value
    if isinstance(value, tuple):
        return tuple(_anchored(item, directory, files) for item in value)
    if files and isinstance(value, str) and value.lower().endswith(files):
        return str(directory / value)
    return value
