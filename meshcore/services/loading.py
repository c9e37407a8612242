"""Services that the configuration names: a class, and how to serve it.

A section of the setting `services` is the name of a group with `class = "module:Class"` and
settings of `Services.serve`. On a command line it is `GROUP=module:Class,replication=passive,
replicas=3`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from meshcore.errors import ConfigError
from meshcore.services.service import Service

# Settings of `Services.serve`, and what a text for them is.
KINDS: dict[str, type] = {
    "replication": str,
    "replicas": int,
    "members": list,
    "checkpoint_interval": float,
    "checkpoint_log_bytes": int,
    "heartbeat_interval": float,
    "hang_after": float,
    "leadership": str,
}


def load_service(group: str, section: Mapping[str, Any]) -> tuple[Service, dict[str, Any]]:
    """The service of a section, and the settings to serve it with; ConfigError names the key."""
    where = f"services.{group}"
    settings = dict(section)
    named = settings.pop("class", None)
    for key, value in settings.items():
        if key not in KINDS:
            raise ConfigError(f"{where}: unknown key {key!r}; known are class, {', '.join(KINDS)}")
        wanted = KINDS[key]
        if wanted is float and type(value) is int:
            settings[key] = float(value)
        elif type(value) is not wanted:
            raise ConfigError(f"{where}.{key} = {value!r} must be of type {wanted.__name__}")
    return _made(where, named), settings


def _made(where: str, named: Any) -> Service:
    module, colon, name = str(named).partition(":")
    if not isinstance(named, str) or not colon or not module or not name:
        raise ConfigError(f"{where}.class = {named!r} must have the form module:Class")
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigError(f"{where}.class: {named} cannot be imported: {error}") from error
    except AttributeError as error:
        raise ConfigError(f"{where}.class: {module} has no {name}") from error
    if not (isinstance(kind, type) and issubclass(kind, Service)):
        raise ConfigError(f"{where}.class: {named} is no subclass of meshcore.Service")
    try:
        made: Service = kind()
    except Exception as error:  # it is not ours: it may raise anything
        raise ConfigError(f"{where}.class: {named}() failed: {error!r}") from error
    return made


def section_of(text: str) -> tuple[str, dict[str, Any]]:
    """(group, section) of `GROUP=module:Class[,key=value]…`; ConfigError says what is wrong."""
    group, equals, rest = text.partition("=")
    named, *pairs = rest.split(",")
    if not equals or not group or not named:
        raise ConfigError(f"service {text!r} must have the form GROUP=module:Class[,key=value]…")
    section: dict[str, Any] = {"class": named}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        wanted = KINDS.get(key)
        if not equals or wanted is None:
            raise ConfigError(
                f"service {text!r}: {pair!r} must be KEY=VALUE; keys: {', '.join(KINDS)}"
            )
        try:
            section[key] = value.split("+") if wanted is list else wanted(value)
        except ValueError:
            raise ConfigError(
                f"service {text!r}: {key} = {value!r} must be of type {wanted.__name__}"
            ) from None
    return group, section
