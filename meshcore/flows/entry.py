"""One flow as people and programs write it: checked, and in its normal form.

An entry is a table of texts: `url` (needed), `name`, `description`, `author`, and `tags`, a list.
The limits are those of the catalogue's records. Whoever reads the catalogue shows these texts to
people and follows the URLs, so a URL that would run something where it is clicked is refused, and
so is one that carries a password: it would be told to everybody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from meshcore.errors import ConfigError
from meshcore.protocol.catalogue.records import (
    ACTION,
    AUTHOR_MAX,
    DESCRIPTION_MAX,
    FLOW,
    NAME_MAX,
    TAG_MAX,
    TAGS_MAX,
    URL_MAX,
    Flow,
)

FIELDS = ("url", "name", "description", "author", "tags")
ACTION_SCHEME = "mesh"
_SHOWN_MAX = 80  # characters of a value at fault
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
# What these hold runs, or is shown, in the place of the page that links to it.
_REFUSED_SCHEMES = ("javascript", "data", "vbscript", "blob", "about", "view-source", "file")


class FlowError(ConfigError):
    """An entry that cannot be used; `field` is the name of the field at fault, "" for all of it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def flow_from(
    entry: Mapping[str, Any] | Flow,
    *,
    url: str | None = None,
    kinds: tuple[str, ...] = (FLOW,),
    extra: bool = False,
) -> Flow:
    """The flow that an entry describes.

    Args:
        entry: a table of fields, or a Flow, which is checked as well. Fields other than `url` may
            be missing or None, which is the same as an empty text.
        url: of an entry that stands under its URL; the field `url` may then be left out.
        kinds: which values the field `kind` may have; left out it is "flow".
        extra: whether fields that no flow has are passed over; otherwise they are an error.

    Raises:
        FlowError: a ValueError that names the field and what was expected.
    """
    if isinstance(entry, Flow):
        fields: Mapping[Any, Any] = {name: getattr(entry, name) for name in (*FIELDS, "kind")}
    elif isinstance(entry, Mapping):
        fields = entry
    else:
        raise FlowError("", f"{_shown(entry)} must be a table of {', '.join(FIELDS)}")
    if not extra:
        _refuse_unknown(fields)
    kind = fields.get("kind")
    if kind is None:
        kind = FLOW
    if kind not in kinds:
        raise FlowError("kind", f"kind = {_shown(kind)} must be {' or '.join(kinds)}")
    return Flow(
        url=_url_of(fields.get("url"), url, kind),
        name=_text("name", fields.get("name"), NAME_MAX),
        description=_text("description", fields.get("description"), DESCRIPTION_MAX, lines=True),
        author=_text("author", fields.get("author"), AUTHOR_MAX),
        tags=_tags(fields.get("tags")),
        kind=kind,
    )


def check_url(value: object) -> str:
    """`value` itself, where it is a URL that the catalogue may list; else FlowError."""
    if not isinstance(value, str) or not 0 < len(value) <= URL_MAX:
        raise FlowError("url", f"url = {_shown(value)} must be a text of 1 to {URL_MAX} characters")
    scheme, separator, _ = value.partition(":")
    if separator and scheme.lower() in _REFUSED_SCHEMES:
        raise FlowError("url", f"url = {_shown(value)}: {scheme.lower()}: is not allowed")
    if not value.isprintable() or any(char in ' "<>\\' for char in value):
        raise FlowError("url", f'url = {_shown(value)} must not contain spaces or any of " < > \\')
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise FlowError("url", f"url = {_shown(value)}: {error}") from None
    if not _SCHEME.match(scheme) or not value[len(scheme) :].startswith("://") or not host:
        raise FlowError(
            "url", f"url = {_shown(value)} must have a scheme and a host: http://HOST/…"
        )
    if parts.password is not None:
        raise FlowError("url", f"url of {host}: a password in it would be told to everybody")
    return value


def _url_of(said: object, key: str | None, kind: str) -> str:
    if said is None:
        said = key
    elif key is not None and said != key:
        raise FlowError("url", f"url = {_shown(said)} stands under another URL, {_shown(key)}")
    if said is None:
        raise FlowError("url", "url is missing")
    url = check_url(said)
    if (urlsplit(url).scheme == ACTION_SCHEME) != (kind == ACTION):
        raise FlowError("url", f"url = {_shown(url)}: mesh://NODE/… stands for an action of a node")
    return url


def _text(field: str, value: object, maximum: int, *, lines: bool = False) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > maximum:
        raise FlowError(
            field, f"{field} = {_shown(value)} must be a text of at most {maximum} characters"
        )
    if without_controls(value, lines=lines) != value:
        what = "control characters" if lines else "line breaks or other control characters"
        raise FlowError(field, f"{field} = {_shown(value)} must not contain {what}")
    return value


def _tags(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple | set | frozenset):
        raise FlowError("tags", f"tags = {_shown(value)} must be a list of texts")
    tags: set[str] = set()
    for tag in value:
        tags.add(check_tag(tag))
        if len(tags) > TAGS_MAX:
            raise FlowError("tags", f"tags: at most {TAGS_MAX} of them")
    return tuple(sorted(tags))


def check_tag(tag: object) -> str:
    """`tag` itself, where it can be one; else FlowError."""
    if not isinstance(tag, str) or not 0 < len(tag) <= TAG_MAX or not tag.strip():
        raise FlowError("tags", f"tag {_shown(tag)} must be a text of 1 to {TAG_MAX} characters")
    if without_controls(tag) != tag:
        raise FlowError("tags", f"tag {_shown(tag)} must not contain control characters")
    return tag


def without_controls(text: str, *, lines: bool = False) -> str:
    """`text` without what is no character to show, or cannot be sent at all; `lines` may stay.

    Not by `isprintable`: that is against no-break spaces and the joiners that many scripts need.
    """
    if text.isprintable() and text.isascii():
        return text
    allowed = "\n\r\t" if lines else ""
    return "".join(
        char
        for char in text
        if char in allowed or unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
    )


def _refuse_unknown(fields: Mapping[Any, Any]) -> None:
    for field in fields:
        if field not in FIELDS and field != "kind":
            close = get_close_matches(str(field)[:_SHOWN_MAX], FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FIELDS)}"
            raise FlowError(str(field)[:_SHOWN_MAX], f"unknown field {_shown(field)}; {hint}")


def _shown(value: object) -> str:
    """A value as an error text shows it: on one line, and not all of it where it is long."""
    try:
        if isinstance(value, str | bytes):
            text = repr(value[: _SHOWN_MAX + 1])  # before repr: it may be megabytes
        elif isinstance(value, int | float | None):
            text = repr(value)
        else:
            text = f"a {type(value).__name__}"
    except ValueError:  # an integer of more digits than Python prints
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"
