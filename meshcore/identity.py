"""Who a node is: its id, its incarnation and its life.

`node_id` is a name, unique in the mesh. `incarnation` numbers the lives of one id so that news of
an older life loses to news of a newer one; `life` is 64 random bits of the same life, so that two
processes which claim one id can be told apart.
"""

from __future__ import annotations

import random
import re
import string

from meshcore.errors import ConfigError

NODE_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
# An ephemeral client is addressed as `node~nonce`: routes look only at the part before the mark.
CLIENT_MARK = "~"
DIRECTIVE_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}:[A-Za-z0-9._-]{1,64}\Z")
NUMBER_MAX = 2**63  # incarnations and sequences above it are refused on the wire


def is_node_id(value: object) -> bool:
    """Whether `value` is a valid node id (1-64 characters of `[A-Za-z0-9._-]`)."""
    return isinstance(value, str) and NODE_ID_PATTERN.match(value) is not None


def check_node_id(value: str) -> str:
    """`value` itself; raises ConfigError where it is no node id."""
    if not is_node_id(value):
        raise ConfigError(f"node id {value!r} must be 1 to 64 characters out of A-Z a-z 0-9 . _ -")
    return value


def is_directive(value: object) -> bool:
    """Whether `value` has the form `namespace:action`."""
    return isinstance(value, str) and DIRECTIVE_PATTERN.match(value) is not None


def owner_of(address: str) -> str:
    """The node that an address leads to: `alpha` of `alpha~x7f3`, and of `alpha` itself."""
    return address.partition(CLIENT_MARK)[0]


def new_life(rng: random.Random) -> int:
    """64 random bits, never 0 (0 means "any life" in a hop header)."""
    return rng.getrandbits(64) or 1


def new_node_id(host: str, rng: random.Random) -> str:
    """`<host>-<4 letters>`, with what a node id may not contain replaced by `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", host.partition(".")[0])[:59] or "node"
    return name + "-" + "".join(rng.choice(string.ascii_lowercase) for _ in range(4))
