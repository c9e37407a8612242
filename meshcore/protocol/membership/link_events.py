"""What the link machine tells the rest of the node, beside the common effects of `machine.py`.

`Handshaken` comes once per link between nodes, `LinkUp` when it is the link of its pair that
serves, `LinkDown` once for every `LinkUp`. Where one link replaces another, `LinkUp` of the new one
comes first: a node whose `LinkDown` says `last=False` never ceased to be a neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Handshaken:
    """HELLO and WELCOME have passed: send a beat on lane `c` of this link at once."""

    link: int
    node_id: str
    life: int
    dialled: bool


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link serves. `url`: what was dialled, None where the peer dialled.

    `client_address`: `node~nonce` where one end is an ephemeral client, else None.
    `replaces`: the link to the same life that goes down right after, or None.
    """

    link: int
    node_id: str
    life: int
    incarnation: int
    endpoints: tuple[str, ...]
    flags: int
    interval: float
    scale: int
    born: float
    dialled: bool
    url: str | None
    client_address: str | None = None
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A link that was up serves no more.

    `orderly`: one end closed it on purpose. `last`: no other link to that life serves.
    """

    link: int
    node_id: str
    life: int
    reason: str
    orderly: bool
    last: bool


@dataclass(frozen=True, slots=True)
class AskHolder:
    """Ping this life of `node_id` over any route, 1 s; the answer comes back by `on_holder`."""

    node_id: str
    life: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Our node id lives elsewhere: this process must not go on under it."""

    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Evicted:
    """Another life of our node id stays, and this one has to end."""

    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class TakeIncarnation:
    """Adopt (and store) this incarnation before any later effect is performed."""

    number: int


@dataclass(frozen=True, slots=True)
class NewsConnect:
    """Connect a SUB and a PUB of a dialled link to the listener's XPUB and SUB."""

    link: int
    urls: tuple[str, ...]
