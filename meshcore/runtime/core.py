"""How a node's core is made of its settings: who it is, and whatever in it is random."""

from __future__ import annotations

import random
import time

from meshcore import host
from meshcore.config import Config
from meshcore.identity import new_life
from meshcore.protocol.mesh import Identity, Mesh


def new_core(config: Config) -> Mesh:
    """A new life; its incarnation is that of a node which keeps none on disk."""
    rng = random.Random(random.SystemRandom().getrandbits(128))
    identity = Identity(
        mesh=config.mesh,
        node_id=config.node_id,
        incarnation=int(time.time() * 1000),
        life=new_life(rng),
        listed=not config.ephemeral,
        description=host.process_description(),
    )
    return Mesh(
        identity,
        timings=config.timings,
        rng=rng,
        now=time.monotonic(),
        unix_now=time.time(),
        request_timeout=config.request_timeout,
        costs=dict(config.costs),
    )
