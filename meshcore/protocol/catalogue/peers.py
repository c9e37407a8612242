"""What is known of one registry that we tell: how far it is, what it lacks, when to go on."""

from __future__ import annotations

import random
from collections.abc import Iterable

from meshcore.protocol.catalogue.holding import Head
from meshcore.protocol.catalogue.records import Origin

RETRY_MIN, RETRY_MAX = 0.5, 30.0  # seconds; doubling
SILENCE = 60.0  # seconds after which a registry outside is asked for the difference
LOST_AFTER = 90.0  # seconds after the last word of a registry outside that we do not reach
GIVE_UP = 3  # failures after which nothing counts as under way with it


class Peer:
    """A registry of our mesh (`key`: its node id), or outside of it (its URL).

    `heads` is how far it is, as far as we know; `uncompared` the origins of which we do not;
    `dirty` those of which it lacks something. One request at a time is under way.
    """

    __slots__ = (
        "asked", "contact_at", "dirty", "failures", "heads", "incarnation", "key", "life",
        "not_before", "outside", "reached", "token", "uncompared", "welcomed",
    )  # fmt: skip

    def __init__(
        self, key: str, origins: Iterable[Origin], *, outside: bool, incarnation: int, now: float
    ) -> None:
        self.key = key
        self.outside = outside
        self.incarnation = incarnation
        self.life: int | None = None
        self.heads: dict[Origin, Head] = {}
        self.uncompared: dict[Origin, None] = dict.fromkeys(origins)
        self.dirty: dict[Origin, bool] = {}  # True: whether it lives has changed
        self.asked: dict[Origin, tuple[Head | None, Head]] | None = None  # before, told
        self.token = 0
        self.failures = 0
        self.not_before = now
        self.contact_at: float | None = None
        self.reached = False  # it has answered us
        self.welcomed = False  # of a registry outside: it has heard who we are

    def begin_life(self, life: int, origins: Iterable[Origin]) -> bool:
        """It says which life it is in; True where that is another one: what it knew is unknown."""
        if self.life == life:
            return False
        known, self.life = self.life is not None, life
        if known:
            self.compare_all(origins)
        return known

    def compare_all(self, origins: Iterable[Origin]) -> None:
        self.heads.clear()
        self.dirty.clear()
        self.uncompared = dict.fromkeys(origins)
        self.welcomed = False

    def learn(self, origin: Origin, head: Head) -> None:
        self.heads[origin] = head
        self.uncompared.pop(origin, None)

    def mark(self, origin: Origin, *, life: bool = False) -> None:
        """Something of this origin has changed."""
        if origin not in self.uncompared:
            self.dirty[origin] = life or self.dirty.get(origin, False)

    def forget(self, origin: Origin) -> None:
        self.heads.pop(origin, None)
        self.dirty.pop(origin, None)
        self.uncompared.pop(origin, None)

    def ask(self, told: dict[Origin, tuple[Head | None, Head]]) -> int:
        """A request goes out; the number of it."""
        self.token += 1
        self.asked = told
        return self.token

    def answered(self, now: float) -> dict[Origin, tuple[Head | None, Head]]:
        """Its answer is there; what it was told."""
        told, self.asked = self.asked or {}, None
        self.failures = 0
        self.not_before = now
        self.contact_at = now
        self.reached = True
        return told

    def failed(self, now: float, rng: random.Random) -> None:
        """No answer: what it took is not known, and the next try comes later."""
        for origin in self.asked or {}:
            self.heads.pop(origin, None)
            self.dirty.pop(origin, None)
            self.uncompared[origin] = None
        self.asked = None
        self.hold_off(now, rng)

    def is_lost(self, now: float) -> bool:
        """Whether a registry outside, which has just not answered again, counts as gone.

        One that has never answered may still reach us: it asks after a silence at the latest.
        """
        heard = self.contact_at is not None and now < self.contact_at + LOST_AFTER
        return self.outside and self.failures >= GIVE_UP and (self.reached or not heard)

    def hold_off(self, now: float, rng: random.Random) -> None:
        self.failures += 1
        delay = min(RETRY_MIN * 2 ** min(self.failures - 1, 10), RETRY_MAX)
        self.not_before = now + delay * rng.uniform(0.5, 1.0)

    def wait_until(self, at: float) -> None:
        """The next request comes then at the earliest."""
        self.not_before = max(self.not_before, at)

    @property
    def has_something(self) -> bool:
        return bool(self.dirty or self.uncompared or (self.outside and not self.welcomed))

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, or it has not answered for so long that nobody waits for it."""
        return self.asked is None and (not self.has_something or self.failures >= GIVE_UP)

    def next_at(self) -> float | None:
        if self.asked is not None:
            return None
        if self.has_something:
            return self.not_before
        if self.outside and self.contact_at is not None:
            return self.contact_at + SILENCE
        return None
