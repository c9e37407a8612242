"""What registries say to each other, as plain values: the same in MessagePack and in JSON.

A message has one shape, whoever sends it and over whatever::

    {"url", "mesh", "life", "organization", "feed", "nodes": [NODE, …]}
    NODE: {"mesh", "node", "organization", "incarnation", "version", "complete", "alive", "age",
           "distance", "since", "flows": [FLOW, …] | None, "refused"?: True}
    FLOW: {"url", "name", "description", "author", "tags", "kind", "version", "deleted"}

A NODE without flows says how much the sender holds of it, one with flows tells the changes after
`since` up to there. `life` is drawn at the sender's start: another one means that what it was told
before may be forgotten. `age` is the seconds since a node that does not live was heard of;
`distance` how many registries have passed on whether it lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshcore.protocol.catalogue import records
from meshcore.protocol.catalogue.holding import Change, Delta, Head, size_of
from meshcore.protocol.catalogue.records import ACTION, FLOW, Flow, Origin

NODES_MAX = 5000  # in one message
FLOWS_MAX = 20_000  # of one node in one message
NUMBER_MAX = 2**63 - 1
AGE_MAX = 10.0**9
_ENTRY_BYTES = 160  # beside its texts and flows


class BadMessageError(ValueError):
    """A message that is not as it should be; the text names the field."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a message says of one origin."""

    origin: Origin
    organization: str
    head: Head
    alive: bool
    age: float
    distance: int = 0
    delta: Delta | None = None
    refused: bool = False

    @property
    def size(self) -> int:
        """About how many bytes it takes in a message."""
        size = _ENTRY_BYTES + len(self.origin.node.encode()) + len(self.organization.encode())
        changes = () if self.delta is None else self.delta.changes
        return size + sum(size_of(change.flow) for change in changes)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A message; `url` is where a registry is reached over HTTP, empty where it is not."""

    url: str
    mesh: str
    life: int
    organization: str
    feed: bool
    entries: tuple[Entry, ...]


def encode(message: Exchange) -> dict[str, Any]:
    """The plain values of a message."""
    return {
        "url": message.url,
        "mesh": message.mesh,
        "life": message.life,
        "organization": message.organization,
        "feed": message.feed,
        "nodes": [_entry(entry) for entry in message.entries],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    delta = entry.delta
    told: dict[str, Any] = {
        "mesh": entry.origin.mesh,
        "node": entry.origin.node,
        "organization": entry.organization,
        "incarnation": entry.head.incarnation,
        "version": entry.head.version,
        "complete": entry.head.complete,
        "alive": entry.alive,
        "age": entry.age,
        "distance": entry.distance,
        "since": 0 if delta is None else delta.since,
        "flows": None if delta is None else [_change(change) for change in delta.changes],
    }
    if entry.refused:
        told["refused"] = True
    return told


def _change(change: Change) -> dict[str, Any]:
    flow = change.flow
    return {
        "url": flow.url,
        "name": flow.name,
        "description": flow.description,
        "author": flow.author,
        "tags": list(flow.tags),
        "kind": flow.kind,
        "version": change.version,
        "deleted": change.deleted,
    }


def decode(value: object) -> Exchange:
    """A message from plain values.

    Raises:
        BadMessageError: naming the field and what was expected; nothing of it counts then.
    """
    about = _mapping(value, "message")
    nodes = _list(about, "nodes", "", NODES_MAX)
    return Exchange(
        url=_text(about, "url", "", records.URL_MAX),
        mesh=_text(about, "mesh", "", 64),
        life=_number(about, "life", ""),
        organization=_text(about, "organization", "", records.ORGANIZATION_MAX),
        feed=_flag(about, "feed", ""),
        entries=tuple(_read_entry(node, f"nodes[{at}]") for at, node in enumerate(nodes)),
    )


def _read_entry(value: object, where: str) -> Entry:
    node = _mapping(value, where)
    dot = where + "."
    head = Head(
        _number(node, "incarnation", dot),
        _number(node, "version", dot),
        _flag(node, "complete", dot),
    )
    delta = None
    if node.get("flows") is not None:
        flows = _list(node, "flows", dot, FLOWS_MAX)
        changes = tuple(_read_change(flow, f"{dot}flows[{at}]") for at, flow in enumerate(flows))
        delta = Delta(_number(node, "since", dot), head, changes)
        versions = [delta.since, *(change.version for change in changes)]
        if versions != sorted(set(versions)) or versions[-1] > head.version:
            raise BadMessageError(
                f"{dot}flows must have versions that rise from since to version: {versions[:4]}"
            )
    return Entry(
        origin=Origin(_text(node, "mesh", dot, 64), _text(node, "node", dot, records.URL_MAX, 1)),
        organization=_text(node, "organization", dot, records.ORGANIZATION_MAX),
        head=head,
        alive=_flag(node, "alive", dot),
        age=_age(node, dot),
        distance=_number(node, "distance", dot) if "distance" in node else 0,
        delta=delta,
        refused=node.get("refused") is True,
    )


def _read_change(value: object, where: str) -> Change:
    flow = _mapping(value, where)
    dot = where + "."
    kind = flow.get("kind", FLOW)
    if kind not in (FLOW, ACTION):
        raise BadMessageError(f"{dot}kind = {kind!r} must be {FLOW!r} or {ACTION!r}")
    tags = _list(flow, "tags", dot, records.TAGS_MAX)
    for tag in tags:
        if not isinstance(tag, str) or not 0 < len(tag) <= records.TAG_MAX:
            raise BadMessageError(f"{dot}tags must be texts of 1 to {records.TAG_MAX} characters")
    described = Flow(
        url=_text(flow, "url", dot, records.URL_MAX, 1),
        name=_text(flow, "name", dot, records.NAME_MAX),
        description=_text(flow, "description", dot, records.DESCRIPTION_MAX),
        author=_text(flow, "author", dot, records.AUTHOR_MAX),
        tags=tuple(sorted(set(tags))),
        kind=kind,
    )
    return Change(_number(flow, "version", dot), _flag(flow, "deleted", dot), described)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadMessageError(f"{where} must be an object, not {type(value).__name__}")
    return value


def _list(about: Mapping[str, Any], key: str, dot: str, maximum: int) -> list[Any]:
    value = about.get(key)
    if not isinstance(value, list | tuple) or len(value) > maximum:
        raise BadMessageError(f"{dot}{key} must be a list of at most {maximum}")
    return list(value)


def _text(about: Mapping[str, Any], key: str, dot: str, maximum: int, minimum: int = 0) -> str:
    value = about.get(key)
    if not isinstance(value, str) or not minimum <= len(value) <= maximum:
        raise BadMessageError(f"{dot}{key} must be a text of {minimum} to {maximum} characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadMessageError(f"{dot}{key} must be Unicode without lone surrogates") from None
    return value


def _number(about: Mapping[str, Any], key: str, dot: str) -> int:
    value = about.get(key)
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise BadMessageError(f"{dot}{key} = {value!r:.40} must be a whole number from 0 to 2^63-1")
    return value


def _flag(about: Mapping[str, Any], key: str, dot: str) -> bool:
    value = about.get(key)
    if not isinstance(value, bool):
        raise BadMessageError(f"{dot}{key} = {value!r:.40} must be true or false")
    return value


def _age(about: Mapping[str, Any], dot: str) -> float:
    value = about.get("age", 0)
    if type(value) not in (int, float) or not 0 <= value <= AGE_MAX:
        raise BadMessageError(f"{dot}age = {value!r:.40} must be a number of seconds")
    return float(value)
