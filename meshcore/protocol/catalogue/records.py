"""What a node offers: flows and actions, as the catalogue keeps them.

A *flow* is a service with a URL that a node announces; an *action* is what it can be called for,
and has a URL too (`mesh://NODE/DIRECTIVE`). Both are described by a `Flow`. The one who offers it
(its *origin*: a node of a mesh, or a program outside that has registered) gives each of its flows a
version when it adds, changes or removes it, counting up through each of its lives. So (incarnation,
version) says everywhere in the same way which of two descriptions is newer, and no clock is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

FLOW, ACTION = "flow", "action"  # kinds
OUTSIDE = ""  # the mesh of a program that has registered

URL_MAX = 2048  # characters, each
NAME_MAX = 256
AUTHOR_MAX = 256
ORGANIZATION_MAX = 64
DESCRIPTION_MAX = 4096
TAG_MAX = 64
TAGS_MAX = 32


class Origin(NamedTuple):
    """Who offers something: a node id, unique in its mesh, or the URL of a program outside."""

    mesh: str
    node: str


@dataclass(frozen=True, slots=True)
class Flow:
    """What is offered, as its origin says; texts may be empty, tags are sorted, each once."""

    url: str
    name: str = ""
    description: str = ""
    author: str = ""
    tags: tuple[str, ...] = ()
    kind: str = FLOW


def action_url(node_id: str, directive: str) -> str:
    """The URL by which the catalogue lists an action of a node."""
    return f"mesh://{node_id}/{directive}"
