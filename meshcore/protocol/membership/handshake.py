"""The handshake: what HELLO and WELCOME say of this node, and which of a peer's are refused.

The dialler says HELLO as its first message, the listener answers WELCOME or REFUSE. Here is what
can be judged from one message and our own data alone; whether the id lives elsewhere and which of
two links stays is `links.py`.

Nonces number the links of one life, growing: of two dials by one node the greater nonce is the
newer. The low bits are random, so that the address of a client is not reused after our restart.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from meshcore.protocol.wire.control import Flags, Hello, Refusal, Refuse, Welcome
from meshcore.protocol.wire.limits import REASON_CHARS_MAX, VERSION, VERSION_MIN

_RANDOM_BITS = 24


@dataclass(frozen=True, slots=True)
class Local:
    """This node as it presents itself; replaced as a whole (`Links.set_local`) when it changes.

    `description` names this process to whoever claims its id ("pid 812 on host nz-078").
    `interval` is the seconds between beats; `scale` and `born` say how old the node is, and
    `started_at` (monotonic) since when it lives.
    """

    mesh: str
    node_id: str
    incarnation: int
    life: int
    endpoints: tuple[str, ...] = ()
    news_urls: tuple[str, ...] = ()
    flags: Flags = Flags.NONE
    interval: float = 0.5
    scale: int = 0
    born: float = 0.0
    started_at: float = 0.0
    description: str = "another process"


@dataclass(frozen=True, slots=True)
class Refusing:
    """Why a HELLO is refused; `evicts_me`: the claimant of our id is the older one and stays."""

    code: Refusal
    reason: str
    evicts_me: bool = False
    known_incarnation: int = 0


class Nonces:
    """Numbers for the links of this life: each greater than all before it, below 2^64."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._count = 0

    def take(self) -> int:
        self._count += 1
        return self._count << _RANDOM_BITS | self._rng.getrandbits(_RANDOM_BITS)


def hello(local: Local, nonce: int, now: float) -> Hello:
    return Hello(
        version_min=VERSION_MIN,
        version_max=VERSION,
        mesh=local.mesh,
        node_id=local.node_id,
        incarnation=local.incarnation,
        life=local.life,
        nonce=nonce,
        endpoints=local.endpoints,
        flags=int(local.flags),
        interval=local.interval,
        scale=local.scale,
        born=local.born,
        up_time=max(0.0, now - local.started_at),
    )


def welcome(
    local: Local, nonce: int, answered: Hello, known_incarnation: int, now: float
) -> Welcome:
    return Welcome(
        version=min(VERSION, answered.version_max),
        mesh=local.mesh,
        node_id=local.node_id,
        incarnation=local.incarnation,
        life=local.life,
        nonce=nonce,
        endpoints=local.endpoints,
        flags=int(local.flags),
        interval=local.interval,
        scale=local.scale,
        born=local.born,
        up_time=max(0.0, now - local.started_at),
        known_incarnation=known_incarnation,
        news_urls=() if answered.flags & Flags.EPHEMERAL else local.news_urls,
    )


def refuse(local: Local, refusing: Refusing) -> Refuse:
    reason = refusing.reason[:REASON_CHARS_MAX]
    return Refuse(int(refusing.code), reason, local.node_id, refusing.known_incarnation)


def refusal_of(message: Hello, local: Local, now: float) -> Refusing | None:
    """Why this HELLO cannot be welcomed here, None where nothing speaks against it."""
    if message.version_max < VERSION_MIN or message.version_min > VERSION:
        spoken = f"protocol versions {message.version_min} to {message.version_max}"
        return Refusing(Refusal.VERSION, f"{spoken} are not spoken here ({VERSION_MIN}-{VERSION})")
    if message.flags & Flags.EPHEMERAL:  # it names one node by its address, whatever its mesh
        return None
    if message.mesh != local.mesh:
        return Refusing(Refusal.MESH, f"this is mesh {local.mesh!r}, not {message.mesh!r}")
    if message.node_id != local.node_id:
        return None
    if message.life == local.life:
        return Refusing(Refusal.SELF, "you dialled yourself")
    return _claim_of_my_id(message, local, now)


def flaw_of(message: Welcome, local: Local) -> str | None:
    """What is wrong with this WELCOME, None where it can be accepted."""
    if not VERSION_MIN <= message.version <= VERSION:
        return "WELCOME of a version that was not offered"
    if message.mesh != local.mesh and not local.flags & Flags.EPHEMERAL:
        return "WELCOME of another mesh"
    if message.flags & Flags.EPHEMERAL:
        return "WELCOME of an ephemeral client"
    if message.node_id == local.node_id and not local.flags & Flags.EPHEMERAL:
        return "WELCOME in my own name"
    return None


def taken(node_id: str, holder: str) -> str:
    return f"node id {node_id!r} is taken by {holder}"


def _claim_of_my_id(message: Hello, local: Local, now: float) -> Refusing:
    """Two lives of one id have met: the older stays, by the scale of ages that both are on.

    Where they are on different ones, the time that each has lived decides. So a newcomer never
    evicts, and the older of two meshes that meet keeps its node.
    """
    reason = taken(local.node_id, local.description)
    if message.scale == local.scale:
        mine, theirs = local.born, message.born
    else:
        mine, theirs = local.started_at, now - message.up_time
    if (theirs, message.life) < (mine, local.life):
        stays = f"node id {local.node_id!r} is held by an older process, which stays"
        return Refusing(Refusal.LEAVING, stays, evicts_me=True)
    if message.scale == local.scale:
        return Refusing(Refusal.EVICTED, f"{reason}, which is older and stays")
    return Refusing(Refusal.TAKEN, reason)
