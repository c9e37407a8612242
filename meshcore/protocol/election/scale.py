"""Scale: how old every node is, as numbers that the whole mesh shares without sharing a clock.

A scale is an axis of seconds with a random name. A node is `born` somewhere on it, and is always at
`born + its own uptime` now. Who joins a mesh takes its scale: it is born where the neighbour that
says so is at that moment. So everybody reads the same number for the age of a node, although no two
clocks agree (comparing uptimes that each reports for itself gives two masters for good, for they
are never reported at one moment).

A node that has never had a neighbour counts on a *provisional* scale of its own (the top bit of its
name is set). Of two that meet, the smaller name counts:

    provisional  meets  settled         takes the settled one
    provisional  meets  a smaller one   takes that, as settled
    provisional  meets  a greater one   its own is settled from now on
    settled      meets  a smaller one   takes that: two meshes have met
    settled      meets  anything else   stays

Every step makes the name smaller, so it ends, everywhere with the same one. Contract: `meet` with
what each beat of a neighbour says; where it returns True, tell others at once.

The numbers are as good as the way of one beat is short: a second, where the sender's loop is stuck.
That may swap nodes that are as good as equally old, for everybody alike. A beat that waited longer,
because our own process did not run, makes us look older than we are, never younger: so for a while
after a scale was taken a later beat is believed that says that we are younger, by more than that.
"""

from __future__ import annotations

import random

PROVISIONAL = 1 << 63
CORRECTED_FOR = 10.0  # seconds after a scale was taken: clocks that run apart hardly matter in them
TOLERANCE = 1.0  # seconds


class Scale:
    """Where this node stands: `name` of its scale, `born` on it in seconds."""

    def __init__(self, rng: random.Random, now: float) -> None:
        self.name = rng.getrandbits(63) | PROVISIONAL
        self.born = 0.0
        self._started_at = now
        self._taken_at = float("-inf")

    def begin(self, now: float) -> None:
        """The node starts only now; until it has a neighbour nobody has heard of its age."""
        assert self.name & PROVISIONAL
        self._started_at = now

    def up_time(self, now: float) -> float:
        """Seconds since this node started."""
        return max(0.0, now - self._started_at)

    def position(self, now: float) -> float:
        """Where this node is on its scale now."""
        return self.born + self.up_time(now)

    def meet(self, name: int, position: float, now: float) -> bool:
        """A neighbour is at `position` of the scale `name` now; True where ours has changed."""
        born = position - self.up_time(now)
        young = now < self._taken_at + CORRECTED_FOR
        if name == self.name and young and born > self.born + TOLERANCE:
            self.born = born
            return True
        if name >= self.name:
            if not self.name & PROVISIONAL or name == self.name:
                return False
            self.name &= ~PROVISIONAL
            return True
        if name & PROVISIONAL:  # smaller than ours, so ours is provisional too
            self._take(name & ~PROVISIONAL, position, now)
            return True
        self._take(name, position, now)
        return True

    def _take(self, name: int, position: float, now: float) -> None:
        self.name = name
        self._taken_at = now
        self.born = position - self.up_time(now)
