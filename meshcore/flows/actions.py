"""The actions of a node as flows: the catalogue lists both.

An action says of itself what it is (`@action(name=…, description=…, author=…, tags=…)`), by limits
of its own. It can be called whatever it says, so it is always listed: what the catalogue cannot
hold is cut or left out, and reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshcore.flows.entry import FlowError, check_tag, without_controls
from meshcore.flows.sources import Problem
from meshcore.protocol.catalogue.records import (
    ACTION,
    AUTHOR_MAX,
    DESCRIPTION_MAX,
    NAME_MAX,
    TAGS_MAX,
    Flow,
    action_url,
)


def flows_of_actions(
    node_id: str, capabilities: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Flow], list[Problem]]:
    """The actions of `node_id` as flows of the kind "action", and what was cut.

    Args:
        capabilities: directive to `name`, `description`, `author`, `tags`, as a node tells it
            (`router.node_capabilities()[node_id]["actions"]`).
    """
    flows: list[Flow] = []
    problems: list[Problem] = []
    for directive, about in capabilities.items():
        wrong: list[str] = []
        flows.append(
            Flow(
                url=action_url(node_id, directive),
                name=_cut("name", about.get("name"), NAME_MAX, wrong),
                description=_cut("description", about.get("description"), DESCRIPTION_MAX, wrong),
                author=_cut("author", about.get("author"), AUTHOR_MAX, wrong),
                tags=_tags(about.get("tags"), wrong),
                kind=ACTION,
            )
        )
        problems += [Problem(f"action {directive}", "", reason) for reason in wrong]
    return flows, problems


def _cut(field: str, value: object, maximum: int, wrong: list[str]) -> str:
    if not isinstance(value, str):
        if value is not None:
            wrong.append(f"{field} is no text and is left out")
        return ""
    text = without_controls(value, lines=field == "description")
    if text != value:
        wrong.append(f"{field} without its control characters")
    if len(text) > maximum:
        wrong.append(f"{field} is cut to {maximum} characters")
        return text[: maximum - 1] + "…"
    return text


def _tags(value: object, wrong: list[str]) -> tuple[str, ...]:
    tags: set[str] = set()
    for tag in value if isinstance(value, list | tuple) else ():
        try:
            tags.add(check_tag(tag))
        except FlowError as error:
            wrong.append(f"left out: {error}")
    if len(tags) > TAGS_MAX:
        wrong.append(f"only {TAGS_MAX} of its {len(tags)} tags")
    return tuple(sorted(tags)[:TAGS_MAX])
