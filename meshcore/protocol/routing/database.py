"""Link-state database: the newest that every origin says of itself, the same at all nodes.

A node writes only its own records. Whoever gets a newer one keeps it and tells its neighbours, so
that news cross the mesh once over each link; whoever gets an older one answers with what it holds.
What is lost on the way is found by comparing digests in the beats (`repair`). No record is ever
refreshed or times out on the wire: one counts until its origin says something newer.

Contract, by method; all but the queries return effects, to be performed in order:

- `set_own` writes an own record; `on_news` takes records of neighbours; `on_link_up` and
  `on_link_down` follow the links; `on_beat_digest`, `on_buckets`, `on_contents` and `on_want` are
  the repair; `on_tick` when `next_deadline` has come.
- Effects: `Changed` (ask `get` for the record; None: it was of an older life), `Forgotten` (an
  unreachable origin was kept long enough), `OutdoneBy` (somebody holds a record of our own id that
  we cannot outbid), and the common `Send`, `Publish`, `Count`.
- The owner tells by `set_reachable` whom it can reach; the digest covers those.
- Who comes back may be unchanged, and then nothing new is heard of it: keep the link states of
  unreachable nodes in the graph until `Forgotten`.

Complications: news of our own id. The same life and newer than what we said (a restored or lost
sequence): we outbid it. A greater incarnation, or the same with another life: membership decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from meshcore.errors import ProtocolError
from meshcore.identity import NUMBER_MAX
from meshcore.protocol.machine import Count, Publish, Send, Timers
from meshcore.protocol.routing.changes import Changed as Changed
from meshcore.protocol.routing.changes import Forgotten as Forgotten
from meshcore.protocol.routing.changes import OutdoneBy as OutdoneBy
from meshcore.protocol.routing.changes import outdone_by
from meshcore.protocol.routing.flood import Flood
from meshcore.protocol.routing.repair import (
    ANSWER_INTERVAL,
    DELAY_MAX,
    LinkRepair,
    compare,
    contents_of,
    news_of,
    offers_of,
)
from meshcore.protocol.routing.store import Held, Store
from meshcore.protocol.wire.control import BUCKETS, BucketContents, Buckets, Want
from meshcore.protocol.wire.limits import DETAILS_BYTES_MAX, NODES_MAX, RECORD_BYTES_MAX
from meshcore.protocol.wire.records import (
    DETAILS,
    LINK_STATE,
    LinkState,
    Record,
    decode_record,
    encode_record,
    kind_of,
)

EARLY_MAX = 64
OUTBID_BYTES = 16  # by which a record may grow when a greater sequence is all that changes


Effect: TypeAlias = Send | Publish | Count | Changed | Forgotten | OutdoneBy
Build: TypeAlias = Callable[[int], Record]


class LinkStateDatabase:
    """The records that `node_id` holds, and how they are kept equal with its neighbours'.

    `decode` can be replaced by a cached one where many nodes share a process.
    """

    def __init__(
        self,
        node_id: str,
        incarnation: int,
        *,
        rng: random.Random,
        decode: Callable[[bytes], Record] = decode_record,
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self._rng = rng
        self._decode = decode
        self._store = Store(node_id)
        self._flood = Flood(rng)
        self._links: dict[int, LinkRepair] = {}
        self._early: dict[int, LinkRepair] = {}  # links that the peer alone sees up as yet
        self._rounds: Timers[int] = Timers()
        self._builders: dict[int, Build] = {}
        self._sequences = {LINK_STATE: 0, DETAILS: 0}

    def share_decoder(self, decode: Callable[[bytes], Record]) -> None:  # see the constructor
        self._decode = decode

    # ---- our own records

    def set_own(self, kind: int, build: Build, now: float) -> list[Effect]:
        """Write our own record with the next sequence, and have it flooded.

        `build` is kept: it writes the record again when somebody holds a newer one of ours. Raises
        ValueError where the record exceeds what peers accept.
        """
        sequence = self._sequences[kind] + 1
        record = build(sequence)
        assert (record.origin, kind_of(record)) == (self.node_id, kind)
        assert (record.incarnation, record.sequence) == (self.incarnation, sequence)
        raw = encode_record(record)
        most = (DETAILS_BYTES_MAX if kind == DETAILS else RECORD_BYTES_MAX) - OUTBID_BYTES
        if len(raw) > most:
            raise ValueError(f"own record of {len(raw)} bytes exceeds {most}")
        self._builders[kind] = build
        self._sequences[kind] = sequence
        return self._hold(Held(raw, record, now), None, now)

    def adopt(self, records: Iterable[Held]) -> None:
        """Hold the records of all others as if they were known for long: nothing is told on.

        For who starts many nodes at once in one process, which then share what they hold; the owner
        feeds what follows for routing.
        """
        for held in records:
            if self._store.compare(held.origin, held.kind, held.version) > 0:
                self._store.put(held)
        self._flood.clear()
        for repair in self._links.values():
            repair.since = float("-inf")  # no link is young: nobody has missed anything

    def set_incarnation(self, incarnation: int, now: float) -> list[Effect]:
        """Begin a greater incarnation: all own records are written anew; no greater: nothing."""
        if incarnation <= self.incarnation:
            return []
        self.incarnation = incarnation
        effects: list[Effect] = []
        for kind, build in list(self._builders.items()):
            effects += self.set_own(kind, build, now)
        return effects

    def announce(self, now: float) -> list[Effect]:
        """Send our link state on every link at once: the last word of a node that leaves."""
        held = self._store.get(self.node_id, LINK_STATE)
        return [] if held is None else [self._tell(link, [held.raw])[0] for link in self._links]

    # ---- news

    def on_news(self, link: int, records: Iterable[bytes], now: float) -> list[Effect]:
        """Records that a neighbour tells."""
        effects: list[Effect] = []
        outdone: OutdoneBy | None = None  # link state and details may both say it: told once
        for raw in records:
            same = self._store.same(raw)
            if same is not None:
                self._flood.has(same.origin, same.kind, link)
                continue
            try:
                record = self._decode(raw)
            except ProtocolError:
                effects.append(Count("bad record"))
                continue
            held = Held(raw, record, now)
            if held.origin != self.node_id:
                effects += self._on_foreign_news(link, held, now)
            elif held.incarnation >= NUMBER_MAX - 1:
                effects.append(Count("own incarnation beyond all numbers"))
            elif (by := outdone_by(held, self._store, self.incarnation)) is None:
                effects += self._on_own_news(link, held, now)
            elif outdone is None or (by.incarnation, by.life) > (outdone.incarnation, outdone.life):
                outdone = by
        return effects if outdone is None else [*effects, outdone]

    def _on_foreign_news(self, link: int, held: Held, now: float) -> list[Effect]:
        order = self._store.compare(held.origin, held.kind, held.version)
        if order < 0:
            return self._answer(link, held, now)
        if order == 0:
            return []
        if len(self._store) >= NODES_MAX and held.origin not in self._store:
            return [Count("database full")]
        return self._hold(held, link, now)

    def _on_own_news(self, link: int, held: Held, now: float) -> list[Effect]:
        own = self._store.get(self.node_id, held.kind)
        newer = own is None or held.version > own.version
        if held.incarnation < self.incarnation or not newer:
            return self._answer(link, held, now)
        self._sequences[held.kind] = max(self._sequences[held.kind], held.sequence)
        build = self._builders.get(held.kind)
        return [] if build is None else self.set_own(held.kind, build, now)

    def _hold(self, held: Held, link: int | None, now: float) -> list[Effect]:
        ended = self._store.put(held)
        self._flood.add(held.origin, held.kind, link, now)
        return [Changed(held.origin, kind) for kind in (held.kind, *ended)]

    def _answer(self, link: int, held: Held, now: float) -> list[Effect]:
        """Somebody told something older than we hold."""
        if link not in self._links:
            return []
        # Of another life we may hold only the other kind; any record of it makes the point.
        ours = self._store.get(held.origin, held.kind) or next(
            iter(self._store.all_of(held.origin)), None
        )
        if ours is not None and not self._flood.answer(link, ours.origin, ours.kind, now):
            return [Count("answer to older news spared")]
        return []

    # ---- links and repair

    def on_link_up(self, link: int, peer: str, now: float) -> list[Effect]:
        """A link is up: one end starts a round at once, the smaller id."""
        early = self._early.pop(link, None)
        repair = self._links[link] = LinkRepair() if early is None else early
        repair.since = now
        if self.node_id > peer:
            return []
        repair.begin_first(now)
        return [Send(link, Buckets(self._store.sums()))]

    def on_link_down(self, link: int) -> None:
        """A link is closed, whether it had been up or not; nothing may come over it any more."""
        self._links.pop(link, None)
        self._early.pop(link, None)
        self._rounds.cancel(link)
        self._flood.forget_link(link)

    def on_beat_digest(self, link: int, digest: int, now: float) -> bool:
        """The digest in a neighbour's beat; True: it starts a round, a little later."""
        repair = self._links.get(link)
        if repair is None:
            return False
        wait = repair.on_digest(digest, self._store, now)
        if wait is not None:
            self._rounds.set_earlier(link, now + wait + self._rng.uniform(0.0, DELAY_MAX))
        elif repair.matches:
            self._rounds.cancel(link)
        return wait is not None

    def on_buckets(self, link: int, sums: Sequence[int], now: float) -> list[Effect]:
        """A neighbour starts a round; it may see the link up before we do."""
        if len(sums) != BUCKETS:
            return [Count("bad repair")]
        repair = self._repair(link)
        if repair is None:
            repair = self._early[link] = LinkRepair()
            if len(self._early) > EARLY_MAX:
                del self._early[next(iter(self._early))]
        if now < repair.answered_at + ANSWER_INTERVAL:
            return [Count("repair too often")]
        repair.answered_at = now
        repair.answer(now)
        self._rounds.cancel(link)
        ours = self._store.sums()
        differ = [number for number in range(BUCKETS) if sums[number] != ours[number]]
        contents = contents_of(differ, self._store.shared(frozenset(differ)))
        return [Send(link, message) for message in contents]

    def on_contents(self, link: int, message: BucketContents, now: float) -> list[Effect]:
        """What a neighbour holds in the buckets that differ."""
        repair = self._repair(link)
        if repair is None or not repair.is_open(now):
            return [Count("bad repair")]
        wanted, newer, unnamed = compare(self._store, message)
        repair.moved = repair.moved or bool(wanted)
        effects = self._send_held(link, repair, newer, now)
        # What it does not name it may hold privately: so we name it too, and it asks or does not.
        effects += [Send(link, offer) for offer in offers_of(unnamed)]
        return [Send(link, Want(tuple(wanted))), *effects] if wanted else effects

    def on_want(self, link: int, keys: Sequence[tuple[str, int]], now: float) -> list[Effect]:
        """A neighbour asks for records that we have named."""
        repair = self._repair(link)
        if repair is None or not repair.is_open(now):
            return [Count("bad repair")]
        held = [self._store.get(origin, kind) for origin, kind in dict.fromkeys(keys)]
        return self._send_held(link, repair, [one for one in held if one is not None], now)

    def _repair(self, link: int) -> LinkRepair | None:
        return self._links.get(link) or self._early.get(link)

    def _send_held(
        self, link: int, repair: LinkRepair, records: Iterable[Held], now: float
    ) -> list[Effect]:
        allowed: list[bytes] = []
        for held in records:
            if not repair.spend(held, now):
                return [*self._tell(link, allowed), Count("repair cut short")]
            allowed.append(held.raw)
        return self._tell(link, allowed)

    def _tell(self, link: int, records: Iterable[bytes]) -> list[Effect]:
        return [Send(link, news) for news in news_of(self.node_id, records)]

    # ---- reachability

    def set_reachable(self, changes: Mapping[str, bool], now: float) -> None:
        """These origins have become reachable, or have ceased to be."""
        young = [(link, one.since) for link, one in self._links.items() if one.is_young(now)]
        for origin, reachable in changes.items():
            if self._store.share(origin, reachable, now) and reachable:
                # The round of a young link left out what was not shared yet, and it was told on
                # before that link came: without this it waits for the next round.
                for link, since in young:
                    for held in self._store.all_of(origin):
                        if held.at <= since:
                            self._flood.answer(link, held.origin, held.kind, now)

    def remove(self, origin: str, now: float) -> None:
        """The roster has removed a node: its records stay, privately, to refuse what is older."""
        self._store.share(origin, False, now)

    # ---- time

    def next_deadline(self) -> float | None:
        times = (self._flood.deadline, self._rounds.next_deadline(), self._store.next_expiry())
        return min((at for at in times if at is not None), default=None)

    def on_tick(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self._flood.deadline is not None and self._flood.deadline <= now:
            effects += self._tell_on(now)
        for link in self._rounds.pop_due(now):
            repair = self._links[link]
            if repair.start(self._store, now):
                effects.append(Send(link, Buckets(self._store.sums())))
            elif repair.early is not None:
                self._rounds.set(link, repair.overdue_at)
        for origin in self._store.expire(now):
            self._flood.withdraw(origin)
            effects.append(Forgotten(origin))
        return effects

    def _tell_on(self, now: float) -> list[Effect]:
        waiting, answers = self._flood.take(now)
        records = []
        for origin, kind, informed in waiting:
            held = self._store.get(origin, kind)
            if held is not None and not self._links.keys() <= informed:
                records.append(held.raw)
        effects: list[Effect] = [Publish(news) for news in news_of(self.node_id, records)]
        for link, keys in answers:
            held_ones = [self._store.get(origin, kind) for origin, kind in keys]
            effects += self._tell(link, [one.raw for one in held_ones if one is not None])
        return effects

    # ---- queries

    @property
    def digest(self) -> int:
        """What our next beat says; equal digests mean equal records."""
        return self._store.digest

    @property
    def tells_at(self) -> float | None:  # when something that waits is told on
        return self._flood.deadline

    def own_records(self) -> list[Held]:
        """What this node says of itself."""
        return self._store.all_of(self.node_id)

    def get(self, origin: str, kind: int) -> Record | None:
        held = self._store.get(origin, kind)
        return None if held is None else held.record

    def link_state(self, origin: str) -> LinkState | None:
        record = self.get(origin, LINK_STATE)
        return record if isinstance(record, LinkState) else None

    def told_at(self, origin: str) -> float:
        """When the link state that is held of an origin came; 0 where none is."""
        return 0.0 if (held := self._store.get(origin, LINK_STATE)) is None else held.at

    def incarnation_of(self, origin: str) -> int | None:
        """The greatest incarnation heard of; a smaller one of that id is over."""
        return self._store.incarnation(origin) if origin in self._store else None

    def origins(self) -> list[str]:
        """Everybody of whom something is held, reachable or not."""
        return self._store.origins()

    def stats(self) -> dict[str, int]:
        return {
            "origins": len(self._store),
            "private": self._store.private_count,
            "waiting": len(self._flood),
            "links": len(self._links),
        }

    def check_invariants(self) -> None:
        """Re-derive the indexes and the digest."""
        self._store.check_invariants()
        assert (len(self._flood) == 0) or self._flood.deadline is not None
        for kind in self._builders:
            held = self._store.get(self.node_id, kind)
            assert held is not None
            assert (held.incarnation, held.sequence) == (self.incarnation, self._sequences[kind])
