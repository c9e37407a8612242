"""One setting: what it may be, what it is by default, and why.

Every setting is declared once, as a field of `Config` or `Timings` made by `setting(...)`; checks,
error texts, the reference in the documentation and `meshctl config show` all read that table.

`Setting.check(value)` gives the value in its normal form or raises SettingError; `Setting.parse`
does the same for text from the environment. A SettingError carries the keys at fault, so that
whoever knows where a value came from can say so.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meshcore.errors import ConfigError
from meshcore.identity import is_node_id
from meshcore.urls import is_wildcard, parse_url

_META = "meshcore.setting"
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
MASK = "********"  # in place of what is secret, whatever its length


class SettingError(ConfigError):
    """A setting that cannot be used; `keys` are the settings at fault, the worst first."""

    def __init__(self, message: str, *, keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.keys = keys


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table of settings.

    `kind` names a row of `_KINDS`; `unit` is the unit of numbers; `minimum` and `maximum` bound
    numbers (inclusive) and the length of text; `live`: may change while the node runs;
    `reserved`: is checked already, but nothing in this version acts on it; `secret`: its value is
    shown to nobody; `files`: of a list of texts, the endings of those that are paths.
    """

    key: str
    kind: str
    default: Any
    reason: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    reserved: bool = False
    secret: bool = False
    files: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What a value must be, in words: `a number of seconds, 0.01 to 60`."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        text = _KINDS[self.kind].expected
        if self.unit:
            text += f" of {self.unit}"
        if self.kind == "text" and self.maximum is not None:
            text += f" of 1 to {_plain(self.maximum)} characters"
        elif self.minimum is not None:
            low = _plain(self.minimum)
            text += (
                f", at least {low}"
                if self.maximum is None
                else f", {low} to {_plain(self.maximum)}"
            )
        return text

    @property
    def environment(self) -> str:
        """The name of the environment variable that sets it."""
        return "MESHCORE_" + self.key.replace(".", "_").upper()

    def check(self, value: object) -> Any:
        """`value` in its normal form; None is right only where the default is None."""
        if value is None and self.default is None:
            return None
        try:
            normal = _KINDS[self.kind].check(self, value)
        except ConfigError as error:  # an address: it has its own text
            raise SettingError(str(error), keys=(self.key,)) from None
        if normal is None:
            raise self.wrong(value)
        return normal

    def parse(self, text: str) -> Any:
        """The value that `text` (of an environment variable) stands for, checked."""
        parse = _KINDS[self.kind].parse
        try:
            value = parse(text)
        except ValueError:
            raise self.wrong(text) from None
        return self.check(value)

    def wrong(self, value: object) -> SettingError:
        said = self.key if self.secret else f"{self.key} = {value!r}"
        return SettingError(f"{said} must be {self.expected}", keys=(self.key,))

    def shown(self, value: Any) -> Any:
        """`value` as people and programs may see it."""
        return MASK if self.secret and value is not None else value


def setting(default: Any, kind: str, reason: str, **more: Any) -> Any:
    """A dataclass field that holds one setting; see `Setting` for `more`."""
    metadata = {_META: {"default": default, "kind": kind, "reason": reason, **more}}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, repr=not more.get("secret", False), metadata=metadata)


def settings_of(cls: Any, prefix: str = "") -> dict[str, Setting]:
    """The settings that the fields of a dataclass declare, by key, in their order."""
    return {
        prefix + item.name: Setting(key=prefix + item.name, **item.metadata[_META])
        for item in dataclasses.fields(cls)
        if _META in item.metadata
    }


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing where nothing is close."""
    names = list(known)
    close = [name for name in names if name.endswith("." + wrong)]
    close = close or difflib.get_close_matches(wrong, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


# -- kinds: None stands for "not of this kind" -----------------------------------------------------


def _flag(spec: Setting, value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _within(spec: Setting, number: float) -> bool:
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    return low <= number <= high and math.isfinite(number)


def _integer(spec: Setting, value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if _within(spec, value) else None


def _number(spec: Setting, value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if _within(spec, value) else None


def _text(spec: Setting, value: object) -> str | None:
    if not isinstance(value, str) or not value.isprintable():
        return None
    if spec.choices:
        return value if value in spec.choices else None
    return value if 0 < len(value) <= (spec.maximum or math.inf) else None


def _name(spec: Setting, value: object) -> str | None:
    return value if isinstance(value, str) and is_node_id(value) else None


def _node_id(spec: Setting, value: object) -> str | None:
    return "" if value == "" else _name(spec, value)  # "" is replaced by a made-up name


def _path(spec: Setting, value: object) -> Path | None:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        return None
    return Path(value).expanduser()


def _strings(spec: Setting, value: object) -> tuple[str, ...] | None:
    # A lone string is iterable too; taking its letters for the list would be absurd.
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return None
    items = tuple(value)
    if not all(isinstance(item, str) and item for item in items):
        return None
    return tuple(dict.fromkeys(items))


def _paths(spec: Setting, value: object) -> tuple[Path, ...] | None:
    if isinstance(value, str | bytes | Path) or not isinstance(value, Iterable):
        return None
    paths = [_path(spec, item) for item in value]
    return None if None in paths else tuple(path for path in paths if path is not None)


def _listen_urls(spec: Setting, value: object) -> tuple[str, ...] | None:
    urls = _strings(spec, value)
    if urls is None:
        return None
    return tuple(dict.fromkeys(str(parse_url(url, key=spec.key)) for url in urls))


def _dial_urls(spec: Setting, value: object) -> tuple[str, ...] | None:
    urls = _listen_urls(spec, value)
    for text in urls or ():
        url = parse_url(text, key=spec.key)
        if is_wildcard(url) or (url.scheme == "tcp" and url.port == 0):
            raise ConfigError(f"{spec.key}: nobody can dial {text}; name a host and a port")
    return urls


def _networks(spec: Setting, value: object) -> tuple[str, ...] | None:
    texts = _strings(spec, value)
    try:
        found = [str(ipaddress.ip_network(text, strict=False)) for text in texts or ()]
    except ValueError:
        return None
    return None if texts is None else tuple(dict.fromkeys(found))


def _address(spec: Setting, value: object) -> str | None:
    if not isinstance(value, str) or "://" in value:
        return None
    port = value.rpartition(":")[2]
    url = parse_url(value, key=spec.key)
    # The default port is that of the mesh: an address of another service has to name its own.
    return str(url).removeprefix("tcp://") if str(url.port) == port else None


def _web_urls(spec: Setting, value: object) -> tuple[str, ...] | None:
    urls = _strings(spec, value)
    return None if urls is None else tuple(dict.fromkeys(_web_url(spec, url) for url in urls))


def _web_url(spec: Setting, text: str) -> str:
    """`https://host:port/path` without a slash at its end: others compare it with their own."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that cannot be
        usable = False
    else:
        usable = usable and not (parts.query or parts.fragment or parts.username is not None)
    if not usable or not text.isprintable() or " " in text:
        shown = text if "@" not in text else "…"  # it may hold a password
        raise ConfigError(f"{spec.key}: {shown!r} must have the form https://HOST[:PORT][/PATH]")
    return text.rstrip("/")


def _one_web_url(spec: Setting, value: object) -> str | None:
    text = _text(spec, value)
    return None if text is None else _web_url(spec, text)


def _costs(spec: Setting, value: object) -> dict[str, int] | None:
    if not isinstance(value, Mapping) or not all(is_node_id(key) for key in value):
        return None
    costs = {str(key): _integer(spec, cost) for key, cost in value.items()}
    return None if None in costs.values() else {k: v for k, v in costs.items() if v is not None}


def _sections(spec: Setting, value: object) -> dict[str, dict[str, Any]] | None:
    if not isinstance(value, Mapping):
        return None
    if not all(isinstance(k, str) and isinstance(v, Mapping) for k, v in value.items()):
        return None
    return {str(name): dict(section) for name, section in value.items()}


def _parse_flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in _TRUE + _FALSE:
        raise ValueError(text)
    return lowered in _TRUE


def _parse_list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _parse_costs(text: str) -> dict[str, int]:
    pairs = (item.partition("=") for item in _parse_list(text))
    return {name.strip(): int(cost) for name, _, cost in pairs}


def _no_text(text: str) -> Any:
    raise ValueError(text)


@dataclass(frozen=True, slots=True)
class _Kind:
    expected: str
    check: Callable[[Setting, object], Any]
    parse: Callable[[str], Any]


_NAME_TEXT = "1 to 64 characters out of A-Z a-z 0-9 . _ -"
_KINDS: dict[str, _Kind] = {
    "flag": _Kind("true or false", _flag, _parse_flag),
    "integer": _Kind("a whole number", _integer, int),
    "number": _Kind("a number", _number, float),
    "text": _Kind("text", _text, str),
    "name": _Kind(_NAME_TEXT, _name, str),
    "node id": _Kind(_NAME_TEXT, _node_id, str),
    "path": _Kind("a path", _path, str),
    "paths": _Kind("a list of paths", _paths, _parse_list),
    "strings": _Kind("a list of texts", _strings, _parse_list),
    "listen urls": _Kind("a list of addresses", _listen_urls, _parse_list),
    "dial urls": _Kind("a list of addresses", _dial_urls, _parse_list),
    "web urls": _Kind("a list of http(s) URLs", _web_urls, _parse_list),
    "networks": _Kind("a list of networks such as 10.0.0.0/8", _networks, _parse_list),
    "address": _Kind("HOST:PORT", _address, str),
    "web url": _Kind("http://HOST… or https://HOST…", _one_web_url, str),
    "costs": _Kind("a table of node ids and whole numbers", _costs, _parse_costs),
    "sections": _Kind("a table of tables, one for each name", _sections, _no_text),
}
