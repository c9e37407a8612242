"""What one source says: its entries in order, each with the place where it stands.

A source is a file (`….toml`, `….yaml`, `….yml`), `module:callable`, or a callable. A callable is
called without arguments and gives, or yields, entries (tables or Flow objects); or one table of
entries by URL; or one entry. Files hold the same: `flows`, a list of entries or a table of them by
URL. A source that cannot be read at all is one Problem; where it breaks off, what came before
counts.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from meshcore.flows.documents import (
    DocumentError,
    Found,
    by_url,
    is_document,
    place,
    read_document,
)
from meshcore.protocol.catalogue.records import Flow
from meshcore.work.actions import MARK

Source: TypeAlias = str | Path | Callable[[], Any]
ENTRIES_MAX = 100_000  # of one source: a generator may have no end
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a source that is not used as it stands there; `str` is one line.

    `source` is the source as it was named; `where` the place in it (`flows[2], line 14`), or "";
    `reason` says what is wrong, and what was expected.
    """

    source: str
    where: str
    reason: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.source, self.where, self.reason) if part)
        return " ".join(text.split())


@dataclass(slots=True)
class Said:
    """All that one source says."""

    source: str
    entries: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def report(self, reason: str, where: str = "") -> None:
        self.problems.append(Problem(self.source, where, reason))


def name_of(source: Source) -> str:
    """How error texts call a source."""
    if isinstance(source, str | Path):
        return str(source)
    module = getattr(source, "__module__", None) or type(source).__module__
    name = getattr(source, "__qualname__", None) or type(source).__qualname__
    return f"{module}:{name}"


def is_file(source: str) -> bool:
    """Whether a text names a file rather than `module:callable`."""
    return is_document(source) or _CALLABLE.match(source) is None


def read(source: Source) -> Said:
    """What `source` says. Never raises: what goes wrong is a problem of it."""
    said = Said(name_of(source))
    try:
        if callable(source):
            _call(source, said)
        elif is_file(str(source)):
            _read_file(Path(str(source)), said)
        else:
            _call(_imported(str(source)), said)
    except (DocumentError, _Unusable) as error:
        said.report(str(error))
    return said


class _Unusable(Exception):
    """The source cannot be used; the text says why."""


# -- files -----------------------------------------------------------------------------------------


def _read_file(path: Path, said: Said) -> None:
    document = read_document(path)
    for where, reason in document.problems:
        said.report(reason, where)
    _gather(iter(document.entries), said)


# -- functions -------------------------------------------------------------------------------------


def _imported(name: str) -> Callable[[], Any]:
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise _Unusable(f"{module_name} cannot be imported: {_in_words(error)}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise _Unusable(str(error)) from error
    if not callable(found):
        raise _Unusable(f"is no function but a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _call(function: Callable[[], Any], said: Said) -> None:
    if hasattr(function, MARK):
        raise _Unusable(
            "is an action: offer it as a plugin (--plugin), and the catalogue lists it by itself"
        )
    try:
        value = function()
    except (Exception, SystemExit) as error:  # whatever it is, it is the function's
        raise _Unusable(f"raised {_in_words(error)}") from error
    if inspect.isawaitable(value) or hasattr(value, "__aiter__"):
        if inspect.iscoroutine(value):
            value.close()
        raise _Unusable("is asynchronous; flows come from plain functions and generators")
    if isinstance(value, str | bytes) or not isinstance(value, Iterable | Flow):
        raise _Unusable(f"gave a {type(value).__name__}, expected flows or a table of them by URL")
    _gather(_entries_of(value), said)


def _gather(entries: Iterator[Found], said: Said) -> None:
    try:
        for entry in entries:
            if len(said.entries) >= ENTRIES_MAX:
                raise _Unusable(f"more than {ENTRIES_MAX:,} flows; the rest is left out")
            if isinstance(entry.entry, Mapping):  # one of the user's may raise when it is read
                entry = entry._replace(entry=dict(entry.entry))
            said.entries.append(entry)
    except _Unusable:
        raise
    except (Exception, SystemExit) as error:  # a generator of the user
        text = f"raised {_in_words(error)} after {len(said.entries)} flows; they are used"
        raise _Unusable(text) from error


def _entries_of(value: Any) -> Iterator[Found]:
    if isinstance(value, Flow) or (isinstance(value, Mapping) and "url" in value):
        yield Found("", None, value)
    elif isinstance(value, Mapping):
        for url, entry in value.items():
            yield by_url(place("", url), url, entry)
    else:
        for index, entry in enumerate(value):
            yield Found(place("", index), None, entry)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
