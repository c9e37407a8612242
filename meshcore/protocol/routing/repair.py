"""Repair: what two neighbours do when their digests say that they hold different records.

Every beat carries a digest. One that differs is normal while news are on their way; two in a row
start a round: the starter sends the sums of its 256 buckets, the other answers with the versions it
holds in the buckets that differ, and the starter asks for what is newer there, sends what is newer
here, and names the versions of what was not named at all, for the other to ask. That makes both
equal, whatever was lost.

Who lacks something asks: a digest that was our own a moment ago says that the neighbour is behind,
which counts half. And it need not wait for the second beat, which may be lost as well: where the
link was in order and the digest told was never ours, it waits until nothing has come for a moment,
or until the second beat is overdue. What was on its way has come by then.

Contract: rounds of one link start at least 1 s apart, doubling to 60 s while they are fruitless. A
round bears fruit when it moves what had been held for more than 1 s (what is younger was on its way
anyway), or when it moves anything and an equal digest follows; four equal digests put the link in
order too. An early round that is fruitless doubles nothing: it needs quiet on both sides of a beat,
and so it is rare where change is steady. What a peer can make us send is bounded by the bytes
allowed for each round.

Complications: both ends see the same mismatch; a round started by either delays both, and a start
is delayed a little by chance, so that seldom both do it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from meshcore.protocol.routing.store import Held, Store
from meshcore.protocol.wire.control import BucketContents, News
from meshcore.protocol.wire.limits import FRAME_BYTES_MAX, RECORDS_PER_NEWS_MAX

AHEAD, BEHIND = 2, 1  # what a digest counts that never was ours, and one that was
DOUBT = 4  # of beats in a row, which starts a round
EARLY = 0.15  # seconds without news after which one beat is enough: what gathers takes 0.05
OVERDUE = 0.6  # seconds after which one beat is enough in any case
WAIT_MAX = 0.5  # for the time of a round; until then the next beat says how it is
MATCHES = 4  # beats in a row after which the link is in order again
INTERVAL_MIN, INTERVAL_MAX = 1.0, 60.0
FIRST_INTERVAL = 1.5
ANSWER_INTERVAL = 0.75  # rounds that a peer may start; less than it waits, for delays vary
ROUND = 30.0  # answers of a peer are taken this long after a round began
OLD = 1.0  # what was held this long and was missing there had been lost
ROUND_BYTES_MAX = 16 * 1024 * 1024
DELAY_MAX = 0.1
_HEAD_BYTES = 256  # of a message, and of the names in it
_RECORD_HEAD_BYTES = 5
_VERSION_BYTES = 100  # an id of 64 characters, three numbers of 9 bytes, and their heads
_VERSIONS_MAX = (FRAME_BYTES_MAX - 4 * _HEAD_BYTES) // _VERSION_BYTES
_Version: TypeAlias = tuple[str, int, int, int, int]


class LinkRepair:
    """The pace of the rounds on one link."""

    __slots__ = (
        "allowed_bytes", "answered_at", "began_at", "doubt", "early", "fruitful", "interval",
        "matches", "moved", "next_at", "overdue_at", "since",
    )  # fmt: skip

    def __init__(self) -> None:
        self.doubt = 0
        self.early: tuple[int, int] | None = None  # digests, told and ours: an early round waits
        self.overdue_at = float("-inf")  # when it waits no longer
        self.matches = 0
        self.moved = False  # the last round moved something
        self.interval = INTERVAL_MIN
        self.fruitful = True
        self.next_at = float("-inf")
        self.began_at = float("-inf")
        self.answered_at = float("-inf")
        self.allowed_bytes = 0
        self.since = float("-inf")  # the link is up

    def is_young(self, now: float) -> bool:
        return now < self.since + FIRST_INTERVAL

    def on_digest(self, told: int, store: Store, now: float) -> float | None:
        """A beat's digest; in how many seconds a round should start, None where none should."""
        if told == store.digest:
            self.doubt, self.early = 0, None
            self.matches += 1
            if self.moved or self.matches == MATCHES:
                self._in_order()
            return None
        was_equal, self.matches = self.matches > 0, 0
        behind = store.had(told)
        self.doubt += BEHIND if behind else AHEAD
        wait = max(0.0, self.next_at - now)
        if wait > WAIT_MAX:
            return None
        if self.doubt >= DOUBT:
            self.early = None
            return wait
        if was_equal and not behind:
            self.early, self.overdue_at = (told, store.digest), now + OVERDUE
            return max(wait, EARLY)
        return None

    def begin_first(self, now: float) -> None:
        """The round of a new link; a second one may soon be needed, for what is being learnt."""
        self.next_at = now + FIRST_INTERVAL
        self.open(now)

    def start(self, store: Store, now: float) -> bool:
        """A round is due; False: not now, or not any more (`early` says which)."""
        early, self.early = self.early, None
        if early is None:
            self.interval = INTERVAL_MIN if self.fruitful else min(2 * self.interval, INTERVAL_MAX)
            self.fruitful = False
            self.next_at = now + self.interval
            self.open(now)
            return True
        told, ours = early
        if store.had(told):
            return False
        if store.digest != ours and now < self.overdue_at:
            self.early = early
            return False
        self.answer(now)
        return True

    def answer(self, now: float) -> None:
        """A round of the peer begins, or an early one of ours: neither makes ours any rarer."""
        self.next_at = max(self.next_at, now + INTERVAL_MIN)
        self.open(now)

    def open(self, now: float) -> None:
        """Allow the traffic of a round."""
        self.doubt, self.early, self.moved = 0, None, False
        self.began_at = now
        self.allowed_bytes = ROUND_BYTES_MAX

    def is_open(self, now: float) -> bool:
        return now <= self.began_at + ROUND

    def spend(self, held: Held, now: float) -> bool:
        """Whether this record may still be sent in this round."""
        if len(held.raw) > self.allowed_bytes:
            return False
        self.allowed_bytes -= len(held.raw)
        self.moved = True
        if not self.fruitful and held.at < now - OLD:
            self._in_order()
        return True

    def _in_order(self) -> None:
        self.fruitful, self.moved = True, False
        self.interval = INTERVAL_MIN
        self.next_at = min(self.next_at, self.began_at + INTERVAL_MIN)


def news_of(node_id: str, records: Iterable[bytes]) -> Iterator[News]:
    """The records in messages that fit a frame."""
    batch: list[bytes] = []
    room = FRAME_BYTES_MAX - _HEAD_BYTES
    for raw in records:
        size = len(raw) + _RECORD_HEAD_BYTES
        if batch and (size > room or len(batch) == RECORDS_PER_NEWS_MAX):
            yield News(node_id, tuple(batch))
            batch, room = [], FRAME_BYTES_MAX - _HEAD_BYTES
        batch.append(raw)
        room -= size
    if batch:
        yield News(node_id, tuple(batch))


def contents_of(buckets: Sequence[int], held: Iterable[tuple[int, Held]]) -> list[BucketContents]:
    """The versions in these buckets, given as (bucket, record), in messages that fit a frame.

    A bucket is never split: who reads a bucket may conclude that what it does not name is missing.
    One that would not fit alone is cut short; the peer then sends what we hold already.
    """
    versions: dict[int, list[_Version]] = {number: [] for number in buckets}
    for bucket, one in held:
        versions[bucket].append((one.origin, one.kind, *one.version))
    messages: list[BucketContents] = []
    named: list[int] = []
    listed: list[_Version] = []
    for number, entries in versions.items():
        if named and len(listed) + len(entries) > _VERSIONS_MAX:
            messages.append(BucketContents(tuple(named), tuple(listed)))
            named, listed = [], []
        named.append(number)
        listed += entries[:_VERSIONS_MAX]
    if named:
        messages.append(BucketContents(tuple(named), tuple(listed)))
    return messages


def offers_of(held: Sequence[Held]) -> Iterator[BucketContents]:
    """The versions of these records, in messages that say nothing about what they do not name."""
    for start in range(0, len(held), _VERSIONS_MAX):
        some = held[start : start + _VERSIONS_MAX]
        yield BucketContents((), tuple([(one.origin, one.kind, *one.version) for one in some]))


def compare(
    store: Store, theirs: BucketContents
) -> tuple[list[tuple[str, int]], list[Held], list[Held]]:
    """What is newer there (its keys), what is newer here, and what of ours was not named."""
    wanted: list[tuple[str, int]] = []
    newer: dict[tuple[str, int], Held] = {}
    named: dict[tuple[str, int], None] = {}
    for origin, kind, incarnation, sequence, content in theirs.versions:
        named[origin, kind] = None
        order = store.compare(origin, kind, (incarnation, sequence, content))
        if order > 0:
            wanted.append((origin, kind))
        elif order < 0:
            ours = store.get(origin, kind)  # None: of our newer life we hold the other kind
            for one in store.all_of(origin) if ours is None else [ours]:
                newer[one.origin, one.kind] = one
    shared = store.shared(frozenset(theirs.buckets))
    unnamed = [held for _, held in shared if (held.origin, held.kind) not in named]
    return wanted, list(newer.values()), unnamed
