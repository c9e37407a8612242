"""Repair between two neighbours whose digests differ, and its bounds."""

from __future__ import annotations

import itertools
import random

import pytest

from meshcore.protocol.machine import Count, Send
from meshcore.protocol.routing.database import Effect, LinkStateDatabase
from meshcore.protocol.routing.repair import (
    DELAY_MAX,
    EARLY,
    INTERVAL_MAX,
    INTERVAL_MIN,
    OVERDUE,
    ROUND,
    contents_of,
)
from meshcore.protocol.routing.store import Held
from meshcore.protocol.wire import control
from meshcore.protocol.wire.control import BucketContents, Buckets, News, Want
from meshcore.protocol.wire.limits import FRAME_BYTES_MAX
from meshcore.protocol.wire.records import LINK_STATE, LinkState, decode_record, encode_record

LINK = 1


def raw(origin: str, sequence: int = 1) -> bytes:
    return encode_record(LinkState(origin, 1, sequence, 7))


class Pair:
    """Two databases with one link; both reach everything that they hold but `private`."""

    def __init__(self, left: list[bytes], right: list[bytes]) -> None:
        self.databases = {
            name: LinkStateDatabase(name, 1, rng=random.Random(1)) for name in ("left", "right")
        }
        self.sent: list[object] = []
        for name, records in (("left", left), ("right", right)):
            self.hold(name, records, 0.0)
            self.databases[name].on_tick(10.0)

    def hold(self, name: str, records: list[bytes], now: float) -> None:
        database = self.databases[name]
        database.on_news(99, records, now)
        database.set_reachable({decode_record(record).origin: True for record in records}, now)

    def carry(self, name: str, effects: list[Effect], now: float) -> list[Effect]:
        """Hand over what `name` sends, and all that follows; returns what else came out."""
        other = "right" if name == "left" else "left"
        rest: list[Effect] = []
        for effect in effects:
            if not isinstance(effect, Send):
                rest.append(effect)
                continue
            self.sent.append(effect.message)
            database = self.databases[other]
            match control.decode(control.encode(effect.message)):  # type: ignore[arg-type]
                case Buckets(sums):
                    answer = database.on_buckets(LINK, sums, now)
                case BucketContents() as contents:
                    answer = database.on_contents(LINK, contents, now)
                case Want(keys):
                    answer = database.on_want(LINK, keys, now)
                case News(records=records):
                    answer = database.on_news(LINK, records, now)
                    database.set_reachable(
                        {decode_record(one).origin: True for one in records}, now
                    )
                case message:
                    raise AssertionError(message)
            rest += self.carry(other, answer, now)
        return rest

    def beat(self, now: float) -> None:
        """Each tells the other its digest, and what is due after it is done."""
        for name, other in (("left", "right"), ("right", "left")):
            self.databases[name].on_beat_digest(LINK, self.databases[other].digest, now)
        for name, database in self.databases.items():
            self.carry(name, database.on_tick(now + DELAY_MAX), now + DELAY_MAX)
            deadline = database.next_deadline()
            assert deadline is None or deadline > now + DELAY_MAX

    def link(self, now: float) -> None:
        for name, other in (("right", "left"), ("left", "right")):
            database = self.databases[name]
            self.carry(name, database.on_link_up(LINK, other, now), now)

    def rounds(self) -> int:
        return sum(isinstance(message, Buckets) for message in self.sent)

    def told(self) -> list[bytes]:
        return [raw for one in self.sent if isinstance(one, News) for raw in one.records]

    def check_equal(self) -> None:
        left, right = self.databases.values()
        assert left.digest == right.digest
        left.check_invariants()
        right.check_invariants()


def linked(*records: bytes) -> Pair:
    pair = Pair(list(records), list(records))
    pair.link(20.0)
    pair.sent.clear()
    return pair


def test_a_new_link_makes_both_equal_with_one_round() -> None:
    both = [raw(f"b{number}") for number in range(300)]
    left = [raw(f"l{number}") for number in range(30)]
    right = [raw(f"r{number}") for number in range(30)]
    newer = [raw("b7", 2)]
    pair = Pair(both + left, both + right + newer)
    pair.link(20.0)
    pair.check_equal()
    assert pair.rounds() == 1
    assert sorted(pair.told()) == sorted(left + right + newer)
    assert pair.databases["left"].get("b7", LINK_STATE) == decode_record(newer[0])


def test_a_new_link_between_equals_costs_one_message() -> None:
    pair = Pair([raw("a"), raw("b")], [raw("b"), raw("a")])
    pair.link(20.0)
    assert [type(message) for message in pair.sent] == [Buckets]


def starts(database: LinkStateDatabase, now: float) -> bool:
    """Whether a round starts by then."""
    return any(isinstance(effect, Send) for effect in database.on_tick(now))


def test_two_beats_of_mismatch_start_a_round() -> None:
    pair = linked(raw("a"))
    pair.hold("right", [raw("lost"), raw("a", 2)], 30.0)
    pair.beat(35.0)
    assert pair.rounds() == 0
    pair.beat(35.5)
    pair.check_equal()
    assert sorted(pair.told()) == sorted([raw("lost"), raw("a", 2)])
    assert pair.rounds() <= 2


def test_one_beat_of_mismatch_starts_a_round_when_nothing_comes_after_it() -> None:
    pair = linked(raw("a"))
    pair.beat(29.5)
    pair.hold("right", [raw("lost")], 30.0)
    pair.beat(30.0)
    assert pair.rounds() == 0
    left, right = pair.databases.values()
    pair.carry("right", right.on_tick(31.0), 31.0)  # its own news is behind here: nothing to ask
    assert pair.rounds() == 0
    assert left.on_tick(30.0 + EARLY) == []
    pair.carry("left", left.on_tick(30.0 + EARLY + DELAY_MAX), 30.4)
    pair.check_equal()
    assert (pair.rounds(), pair.told()) == (1, [raw("lost")])


@pytest.mark.parametrize("how", ["what was told", "an equal beat", "too new a link"])
def test_one_beat_of_mismatch_is_normal_while_news_come(how: str) -> None:
    pair = linked(raw("a"))
    left, right = pair.databases.values()
    if how != "too new a link":
        pair.beat(29.5)
    pair.hold("right", [raw("b"), raw("c")], 30.0)
    left.on_beat_digest(LINK, right.digest, 30.0)
    if how == "what was told":
        pair.hold("left", [raw("b"), raw("c"), raw("d")], 30.1)
        left.on_tick(30.15)  # it tells that on
    elif how == "an equal beat":
        left.on_beat_digest(LINK, left.digest, 30.1)
    assert left.on_tick(30.15 + DELAY_MAX) == []
    assert left.on_tick(32.0) == []


def test_news_after_one_beat_of_mismatch_give_it_time_until_the_next_is_overdue() -> None:
    pair = linked(raw("a"))
    left, right = pair.databases.values()
    pair.beat(29.5)
    pair.hold("right", [raw("b"), raw("c")], 30.0)
    left.on_beat_digest(LINK, right.digest, 30.0)
    pair.hold("left", [raw("b")], 30.1)
    left.on_tick(30.15)  # it tells that on
    assert not starts(left, 30.0 + OVERDUE - 0.01)
    assert left.next_deadline() == 30.0 + OVERDUE
    assert starts(left, 30.0 + OVERDUE)


def test_a_neighbour_that_is_behind_is_left_to_ask_for_a_while() -> None:
    pair = linked(raw("a"))
    left, right = pair.databases.values()
    pair.beat(29.5)
    pair.hold("left", [raw("b")], 30.0)
    left.on_tick(30.1)
    for step in range(3):
        left.on_beat_digest(LINK, right.digest, 30.1 + step / 2)
        assert not starts(left, 30.4 + step / 2)
    left.on_beat_digest(LINK, right.digest, 31.6)  # he does not, or both have been there
    assert starts(left, 31.6 + DELAY_MAX)


def test_a_round_comes_soon_after_one_that_has_done_its_work() -> None:
    pair = linked(raw("a"))
    for number in range(10):
        now = 100.0 + 1.5 * number
        pair.beat(now - 0.5)
        pair.hold("right", [raw(f"lost{number}")], now)
        pair.beat(now)
        pair.carry("left", pair.databases["left"].on_tick(now + 0.35), now + 0.35)
        pair.check_equal()
    assert pair.rounds() == 10


def test_fruitless_early_rounds_make_the_others_no_rarer() -> None:
    pair = linked(raw("a"))
    left = pair.databases["left"]
    for number in range(10):
        now = 100.0 + 2 * number
        left.on_beat_digest(LINK, left.digest, now)
        left.on_beat_digest(LINK, 1 + number, now + 0.5)
        assert starts(left, now + 0.5 + EARLY + DELAY_MAX)
    for now in (119.5, 120.0):
        left.on_beat_digest(LINK, 1, now)
    assert starts(left, 120.0 + DELAY_MAX)


def test_early_rounds_keep_the_distance_of_rounds() -> None:
    left = linked(raw("a")).databases["left"]
    begun = []
    for step in range(200):
        now = 100.0 + step / 10
        left.on_beat_digest(LINK, left.digest if step % 2 else 1, now)
        begun += [now] if starts(left, now + 0.09) else []
        if step % 2 == 0:  # beats that come in bursts, and then none
            begun += [now] if starts(left, now + EARLY + DELAY_MAX) else []
    assert min(end - start for start, end in itertools.pairwise(begun)) >= INTERVAL_MIN - 0.5


def test_an_equal_beat_between_two_mismatches_starts_nothing() -> None:
    pair = linked(raw("a"))
    database = pair.databases["left"]
    for now, digest in ((30.0, 1), (30.5, database.digest), (31.0, 1), (31.5, database.digest)):
        database.on_beat_digest(LINK, digest, now)
        assert database.on_tick(now + DELAY_MAX) == []


def test_rounds_that_bring_nothing_grow_rare_and_come_back() -> None:
    pair = linked(raw("a"))
    database = pair.databases["left"]
    starts = []
    for step in range(800):
        now = 100.0 + step / 2
        database.on_beat_digest(LINK, 1, now)
        starts += [now for effect in database.on_tick(now + DELAY_MAX) if isinstance(effect, Send)]
    gaps = [end - start for start, end in itertools.pairwise(starts)]
    assert gaps[:6] == [1.5, 2.5, 4.5, 8.5, 16.5, 32.5]  # it is looked at every half second
    assert set(gaps[6:]) == {INTERVAL_MAX + 0.5}
    begun = starts[-1]
    for step in range(4):  # in order for two seconds
        database.on_beat_digest(LINK, database.digest, begun + 3 + step / 2)
    for step in range(3):
        database.on_beat_digest(LINK, 1, begun + 5 + step / 2)
    assert [type(effect) for effect in database.on_tick(begun + 7)] == [Send]


def test_rounds_that_bring_what_was_lost_stay_frequent() -> None:
    pair = linked(raw("a"))
    for number in range(10):
        now = 100.0 + 3 * number
        pair.hold("right", [raw(f"lost{number}")], now - 1.5)
        pair.beat(now)
        pair.beat(now + 0.5)
        pair.check_equal()
        pair.beat(now + 1.0)


def test_a_round_of_either_side_counts_for_both() -> None:
    pair = linked(raw("a"))
    pair.hold("right", [raw("lost")], 30.0)
    left, right = pair.databases.values()
    for now in (35.0, 35.5):
        left.on_beat_digest(LINK, 1, now)
        right.on_beat_digest(LINK, 2, now)
    pair.carry("left", left.on_tick(35.5 + DELAY_MAX), 35.6)
    pair.carry("right", right.on_tick(35.5 + DELAY_MAX), 35.6)
    assert pair.rounds() == 1


def test_what_is_private_is_not_offered_but_corrects_what_is_older() -> None:
    pair = Pair([raw("x", 5), raw("y", 5)], [raw("x", 4)])
    pair.databases["left"].set_reachable({"x": False, "y": False}, 15.0)
    pair.link(20.0)
    assert pair.told() == [raw("x", 5)]
    assert pair.databases["right"].get("y", LINK_STATE) is None


def test_what_the_other_holds_privately_is_not_sent_again() -> None:
    pair = Pair([raw("x", 5)], [raw("x", 5)])
    pair.databases["right"].set_reachable({"x": False}, 15.0)
    pair.link(20.0)
    assert pair.told() == []


def test_buckets_may_come_before_the_link_is_up_here() -> None:
    pair = Pair([], [raw("x")])
    pair.carry("left", pair.databases["left"].on_link_up(LINK, "right", 20.0), 20.0)
    pair.check_equal()
    assert pair.told() == [raw("x")]


def test_links_that_never_come_up_are_no_neighbours_and_take_no_room() -> None:
    database = linked(raw("a")).databases["left"]
    for link in range(100, 1000):
        assert [type(one) for one in database.on_buckets(link, (1,) * 256, 30.0)] == [Send]
    assert database.stats()["links"] == 1
    assert database.on_want(100, [("a", LINK_STATE)], 30.0) == [Count("bad repair")]
    assert [type(one) for one in database.on_want(999, [("a", LINK_STATE)], 30.0)] == [Send]
    database.on_link_down(999)
    assert database.on_want(999, [("a", LINK_STATE)], 30.0) == [Count("bad repair")]


@pytest.mark.parametrize("sums", [(), (0,) * 255])
def test_buckets_of_a_wrong_number_are_counted(sums: tuple[int, ...]) -> None:
    database = linked().databases["left"]
    assert database.on_buckets(LINK, sums, 30.0) == [Count("bad repair")]


def test_a_peer_that_starts_rounds_too_often_is_not_answered() -> None:
    database = linked(raw("a")).databases["left"]
    assert [type(one) for one in database.on_buckets(LINK, (1,) * 256, 30.0)] == [Send]
    assert database.on_buckets(LINK, (1,) * 256, 30.5) == [Count("repair too often")]
    assert [type(one) for one in database.on_buckets(LINK, (1,) * 256, 31.5)] == [Send]


@pytest.mark.parametrize("link", [LINK, 77])
def test_answers_that_nobody_asked_for_are_counted(link: int) -> None:
    database = linked(raw("a")).databases["left"]
    now = 25.0 + ROUND
    assert database.on_want(link, [("a", LINK_STATE)], now) == [Count("bad repair")]
    message = BucketContents((1,), (("z", LINK_STATE, 1, 1, 1),))
    assert database.on_contents(link, message, now) == [Count("bad repair")]


def test_what_a_peer_can_make_us_send_in_a_round_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshcore.protocol.routing.repair.ROUND_BYTES_MAX", 10 * len(raw("a00")))
    names = [f"a{number:02d}" for number in range(30)]
    database = linked(*map(raw, names)).databases["left"]
    database.on_buckets(LINK, (1,) * 256, 30.0)
    keys = [(name, LINK_STATE) for name in names for _ in range(5)]
    news, count = database.on_want(LINK, [*keys, ("nobody", 1), ("a00", 2)], 30.0)
    assert isinstance(news, Send)
    assert isinstance(news.message, News)
    assert news.message.records == tuple(raw(name) for name in names[:10])
    assert count == Count("repair cut short")
    assert database.on_want(LINK, keys[-3:], 30.1) == [Count("repair cut short")]


def test_a_large_database_crosses_a_new_link_in_frames_that_fit() -> None:
    records = [raw("x" * 55 + f"{number:05d}") for number in range(6000)]
    pair = Pair(records, [])
    pair.databases["left"].on_tick(31.0)
    pair.link(32.0)
    assert len(pair.told()) == 6000
    contents = [one for one in pair.sent if isinstance(one, BucketContents)]
    assert len(contents) > 1
    assert max(len(control.encode(one)) for one in contents) <= FRAME_BYTES_MAX  # type: ignore[arg-type]


def test_a_bucket_that_fits_no_frame_is_cut_short() -> None:
    name = "x" * 59
    held = [
        Held(raw(f"{name}{number:05d}"), state(f"{name}{number:05d}"), 0.0)
        for number in range(9000)
    ]
    messages = contents_of([3, 4, 5], [(4, one) for one in held])
    assert [one.buckets for one in messages] == [(3,), (4, 5)]
    assert all(len(control.encode(one)) <= FRAME_BYTES_MAX for one in messages)


def state(origin: str) -> LinkState:
    return LinkState(origin, 2**63 - 1, 2**63 - 1, 2**64 - 1)
