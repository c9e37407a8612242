"""Files of flows: TOML and YAML, read into entries with the line where each begins.

Both hold `flows`, a list of entries or a table of them by URL::

    [[flows]]                          flows:
    url = "https://a.example/x"          - url: https://a.example/x
    name = "X"                             name: X

A YAML file may also be that list or table itself. The line of an entry is what its author looks
for: YAML tells it; of TOML it is that of the header, where the headers can be counted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

KEY = "flows"
FILE_BYTES_MAX = 64 * 2**20
_KEY_SHOWN_MAX = 120  # characters
_YAML = (".yaml", ".yml")
_SUFFIXES = (".toml", *_YAML)
_LIST_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*flows[ \t]*\]\]", re.MULTILINE)
_TABLE_HEADER = re.compile(r"^[ \t]*\[[ \t]*flows[ \t]*\.", re.MULTILINE)


class DocumentError(Exception):
    """The file cannot be read at all; the text says why, without naming it."""


class Found(NamedTuple):
    """One entry: where it stands, its URL where it stands under one, and what it says."""

    where: str
    url: str | None
    entry: Any


@dataclass(slots=True)
class Document:
    """What a file says, and what else there is in it: (where, reason)."""

    entries: list[Found] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def is_document(source: str) -> bool:
    """Whether a text ends as the name of a file of flows does."""
    return source.lower().endswith(_SUFFIXES)


def read_document(path: Path) -> Document:
    """The entries of a file. Raises DocumentError where it cannot be read or parsed."""
    if not is_document(path.name):
        raise DocumentError("must be a file .toml, .yaml or .yml, or module:callable")
    text = _text_of(path)
    return _yaml(text) if path.suffix.lower() in _YAML else _toml(text)


def place(prefix: str, key: object, line: int | None = None) -> str:
    """`flows[2], line 14`."""
    shown = str(key) if isinstance(key, int) else repr(key)
    if len(shown) > _KEY_SHOWN_MAX:
        shown = shown[: _KEY_SHOWN_MAX - 1] + "…"
    return f"{prefix}[{shown}]" + ("" if line is None else f", line {line}")


def by_url(where: str, url: object, entry: Any) -> Found:
    """An entry that stands under its URL; one that is empty has nothing but that URL."""
    return Found(where, str(url), {} if entry is None else entry)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise DocumentError("no such file" if missing else str(error.strerror)) from error
    except ValueError as error:  # a path that no file can have
        raise DocumentError(str(error)) from error
    if len(content) > FILE_BYTES_MAX:
        raise DocumentError(f"has more than {FILE_BYTES_MAX // 2**20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8: {error.reason} at byte {error.start}") from error


def _unknown_key(key: object) -> str:
    close = get_close_matches(str(key)[:_KEY_SHOWN_MAX], (KEY,), n=1)
    return "unknown key" + (f"; did you mean {KEY}?" if close else f"; it is all in {KEY!r}")


# -- TOML ------------------------------------------------------------------------------------------


def _toml(text: str) -> Document:
    try:
        said = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DocumentError(f"not TOML: {error}") from error
    document = Document()
    document.problems += [(place("", key), _unknown_key(key)) for key in said if key != KEY]
    flows = said.get(KEY)
    if isinstance(flows, list):
        lines = _lines(text, _LIST_HEADER, len(flows))
        for index, entry in enumerate(flows):
            document.entries.append(Found(place(KEY, index, lines[index]), None, entry))
    elif isinstance(flows, Mapping):
        lines = _lines(text, _TABLE_HEADER, len(flows))
        for index, (url, entry) in enumerate(flows.items()):
            document.entries.append(by_url(place(KEY, url, lines[index]), url, entry))
    elif flows is not None or not said:
        document.problems.append(("", f"must hold {KEY}: [[{KEY}]], each with a url"))
    return document


def _lines(text: str, header: re.Pattern[str], count: int) -> list[int | None]:
    """The lines of `count` headers; unknown where there are more or fewer of them."""
    starts = [match.start() for match in header.finditer(text)]
    if len(starts) != count:
        return [None] * count
    lines: list[int | None] = []
    line, before = 1, 0
    for start in starts:
        line += len(text[before:start].split("\n")) - 1
        before = start
        lines.append(line)
    return lines


# -- YAML ------------------------------------------------------------------------------------------


def _yaml(text: str) -> Document:
    try:
        import yaml
    except ImportError as error:
        raise DocumentError(
            "YAML needs one more package: pip install meshcore-runtime[yaml]"
        ) from error
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            return _yaml_document(loader, loader.get_single_node())
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError) as error:
        raise DocumentError(f"not YAML: {_yaml_error(error)}") from error


def _yaml_document(loader: Any, root: Any) -> Document:
    document = Document()
    prefix, flows = "", root
    if root is not None and root.id == "mapping":
        pairs = [(_yaml_value(loader, key)[0], value) for key, value in root.value]
        keyed = [value for key, value in pairs if key == KEY]
        if keyed or not any("://" in str(key) for key, _ in pairs):
            others = [(place("", key), _unknown_key(key)) for key, _ in pairs if key != KEY]
            document.problems += others
            prefix, flows = KEY, keyed[-1] if keyed else None
            if others and not keyed:
                return document
    if flows is None or flows.id == "scalar":
        document.problems.append(("", f"must hold {KEY}: a list of tables, each with a url"))
        return document
    for where, url, node in _yaml_items(loader, prefix, flows):
        entry, wrong = _yaml_value(loader, node)
        if wrong:
            document.problems.append((where, wrong))
        else:
            document.entries.append(
                Found(where, None, entry) if url is None else by_url(where, url, entry)
            )
    return document


def _yaml_items(loader: Any, prefix: str, flows: Any) -> Iterator[tuple[str, str | None, Any]]:
    if flows.id == "sequence":
        for index, node in enumerate(flows.value):
            yield place(prefix, index, node.start_mark.line + 1), None, node
    else:
        # Pair by pair: a table would keep only the last of two that stand under one URL.
        for key, node in flows.value:
            url = str(_yaml_value(loader, key)[0])
            yield place(prefix, url, key.start_mark.line + 1), url, node


def _yaml_value(loader: Any, node: Any) -> tuple[Any, str]:
    """What a node stands for, or why it stands for nothing."""
    import yaml

    try:
        return loader.construct_document(node), ""
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        return None, _yaml_error(error)


def _yaml_error(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error) or type(error).__name__
    return text if mark is None else f"{text} in line {mark.line + 1}"
