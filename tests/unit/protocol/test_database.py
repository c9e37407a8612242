"""The link-state database: versions, flooding, and our own records."""

from __future__ import annotations

import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.identity import NUMBER_MAX
from meshcore.protocol.machine import Count, Publish, Send
from meshcore.protocol.routing.database import (
    Changed,
    Effect,
    Forgotten,
    LinkStateDatabase,
    OutdoneBy,
)
from meshcore.protocol.routing.flood import ANSWERS_MAX, GATHER_MAX, GATHER_MIN
from meshcore.protocol.routing.store import PRIVATE_AGE_MAX, PRIVATE_AGE_MIN, PRIVATE_MAX
from meshcore.protocol.wire import control
from meshcore.protocol.wire.control import News
from meshcore.protocol.wire.limits import FRAME_BYTES_MAX, RECORDS_PER_NEWS_MAX
from meshcore.protocol.wire.records import (
    DETAILS,
    LINK_STATE,
    Details,
    Edge,
    LinkState,
    Record,
    content_hash,
    encode_record,
)

LINK, OTHER, THIRD = 1, 2, 3


def database_of(node_id: str = "m", *links: int, incarnation: int = 5) -> LinkStateDatabase:
    database = LinkStateDatabase(node_id, incarnation, rng=random.Random(1))
    for link in links:
        database.on_link_up(link, "a", 0.0)  # the smaller id begins, so it says nothing
    return database


def state(
    origin: str = "x", sequence: int = 1, *, incarnation: int = 1, life: int = 7
) -> LinkState:
    return LinkState(origin, incarnation, sequence, life, (Edge("q", 100),))


def raw(origin: str = "x", sequence: int = 1, *, incarnation: int = 1, life: int = 7) -> bytes:
    return encode_record(state(origin, sequence, incarnation=incarnation, life=life))


def details(origin: str = "x", sequence: int = 1, *, incarnation: int = 1, size: int = 0) -> bytes:
    return encode_record(Details(origin, incarnation, sequence, {"fill": "f" * size}))


def own(database: LinkStateDatabase, *, life: int = 7) -> None:
    def build(sequence: int) -> Record:
        return LinkState(database.node_id, database.incarnation, sequence, life)

    database.set_own(LINK_STATE, build, 0.0)


def drain(database: LinkStateDatabase, now: float = 100.0) -> list[Effect]:
    """What the database says once everything that waits is due."""
    effects = database.on_tick(now)
    deadline = database.next_deadline()
    assert deadline is None or deadline > now
    database.check_invariants()
    return effects


def published(effects: list[Effect]) -> list[bytes]:
    found: list[bytes] = []
    for effect in effects:
        if isinstance(effect, Publish):
            assert isinstance(effect.message, News)
            found += effect.message.records
    return found


# ---- versions


def test_newer_news_are_held_and_told_on_after_a_moment() -> None:
    database = database_of("m", LINK, OTHER)
    assert database.on_news(LINK, [raw()], 10.0) == [Changed("x", LINK_STATE)]
    assert database.link_state("x") == state()
    due = database.next_deadline()
    assert due is not None
    assert 10.0 + GATHER_MIN <= due <= 10.0 + GATHER_MAX
    assert database.on_tick(10.0 + GATHER_MIN / 2) == []
    assert database.on_tick(due) == [Publish(News("m", (raw(),)))]
    assert drain(database) == []


def test_equal_news_do_nothing() -> None:
    database = database_of("m", LINK, OTHER)
    database.on_news(LINK, [raw()], 10.0)
    drain(database)
    assert database.on_news(OTHER, [raw()], 101.0) == []
    assert drain(database, 102.0) == []


def test_older_news_are_answered_with_what_is_held() -> None:
    database = database_of("m", LINK, OTHER)
    database.on_news(LINK, [raw(sequence=4)], 10.0)
    drain(database)
    assert database.on_news(OTHER, [raw(sequence=3)], 101.0) == []
    assert database.link_state("x") == state(sequence=4)
    assert drain(database, 102.0) == [Send(OTHER, News("m", (raw(sequence=4),)))]


def test_one_neighbour_is_told_the_same_once_a_second() -> None:
    database = database_of("m", LINK, OTHER)
    database.on_news(LINK, [raw(sequence=4)], 10.0)
    drain(database)
    answers = 0
    for step in range(300):
        now = 101.0 + step / 100
        database.on_news(OTHER, [raw(sequence=3)], now)
        answers += len(database.on_tick(now))
    assert answers == 3


def test_answers_to_older_news_are_bounded() -> None:
    database = database_of("m", LINK, OTHER)
    news = [raw(f"x{number}", 4) for number in range(ANSWERS_MAX + 10)]
    database.on_news(LINK, news, 10.0)
    drain(database)
    older = [raw(f"x{number}", 3) for number in range(ANSWERS_MAX + 10)]
    first = database.on_news(OTHER, older, 101.0)
    again = database.on_news(OTHER, older, 101.0)
    assert first == [Count("answer to older news spared")] * 10
    assert len(again) == ANSWERS_MAX + 10
    sent = [effect for effect in drain(database, 101.5) if isinstance(effect, Send)]
    assert sum(len(one.message.records) for one in sent if isinstance(one.message, News)) == (
        ANSWERS_MAX
    )
    assert database.on_news(OTHER, older[:5], 103.0) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (raw(sequence=9), raw(sequence=10)),
        (raw(sequence=9), raw(sequence=1, incarnation=2)),
        tuple(sorted([raw(life=1), raw(life=2)], key=content_hash)),
    ],
    ids=["sequence", "incarnation first", "content hash last"],
)
def test_the_greater_version_wins_in_either_order(first: bytes, second: bytes) -> None:
    forward, backward = database_of("m", LINK), database_of("m", LINK)
    forward.on_news(LINK, [first, second], 10.0)
    backward.on_news(LINK, [second, first], 10.0)
    forward.set_reachable({"x": True}, 10.0)
    backward.set_reachable({"x": True}, 10.0)
    assert forward.digest == backward.digest
    assert encode_record(forward.get("x", LINK_STATE) or state()) == second
    assert forward.get("x", LINK_STATE) == backward.get("x", LINK_STATE)


def test_a_new_life_ends_the_other_record_of_the_older_one() -> None:
    database = database_of("m", LINK, OTHER)
    database.on_news(LINK, [raw(), details()], 10.0)
    effects = database.on_news(LINK, [raw(incarnation=2)], 10.1)
    assert effects == [Changed("x", LINK_STATE), Changed("x", DETAILS)]
    assert database.get("x", DETAILS) is None
    assert published(drain(database)) == [raw(incarnation=2)]
    assert database.on_news(LINK, [details(sequence=99)], 101.0) == []
    assert database.get("x", DETAILS) is None
    assert drain(database, 102.0) == [Send(LINK, News("m", (raw(incarnation=2),)))]
    assert database.incarnation_of("x") == 2


def test_a_bad_record_is_counted_and_spoils_no_other() -> None:
    database = database_of("m", LINK)
    effects = database.on_news(LINK, [b"junk", raw(), b""], 10.0)
    assert effects == [Count("bad record"), Changed("x", LINK_STATE), Count("bad record")]


@given(st.lists(st.binary(max_size=80) | st.builds(lambda n: raw()[:n], st.integers(0, 60))))
def test_no_bytes_make_it_raise(records: list[bytes]) -> None:
    database = database_of("m", LINK)
    database.on_news(LINK, records, 10.0)
    database.check_invariants()


def test_more_origins_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshcore.protocol.routing.database.NODES_MAX", 3)
    database = database_of("m", LINK)
    effects = database.on_news(LINK, [raw(f"x{number}") for number in range(5)], 10.0)
    assert effects[3:] == [Count("database full")] * 2
    assert database.on_news(LINK, [raw("x1", 2)], 11.0) == [Changed("x1", LINK_STATE)]


# ---- flooding


def test_nothing_is_told_to_those_who_have_it() -> None:
    database = database_of("m", LINK, OTHER)
    database.on_news(LINK, [raw()], 10.0)
    database.on_news(OTHER, [raw()], 10.01)
    assert drain(database) == []


def test_a_leaf_tells_nothing_back() -> None:
    database = database_of("m", LINK)
    database.on_news(LINK, [raw()], 10.0)
    assert drain(database) == []


def test_news_gather_into_one_message() -> None:
    database = database_of("m", LINK, OTHER)
    for number in range(4):
        database.on_news(LINK, [raw(f"x{number}"), details(f"x{number}")], 10.0 + number / 1000)
    effects = drain(database)
    assert len(effects) == 1
    assert len(published(effects)) == 8


def test_of_one_origin_five_news_go_out_in_a_second_and_then_its_last_state() -> None:
    database = database_of("m", LINK, OTHER)
    told: list[tuple[float, bytes]] = []
    now = 0.0
    for sequence in range(1, 501):  # five seconds of a storm
        now = 10.0 + sequence / 100
        database.on_news(LINK, [raw(sequence=sequence), details(sequence=sequence)], now)
        told += [(now, record) for record in published(database.on_tick(now))]
    told += [(now + 2, record) for record in published(drain(database, now + 2))]
    times = sorted({at for at, _ in told})
    gaps = [end - start for start, end in itertools.pairwise(times)]
    assert max(gaps[:2]) < 2 * GATHER_MAX  # the first news are quick
    assert max(gaps[:-1]) < 0.5  # and it is never silent for long
    assert 17 <= len(times) <= 25
    for start, end in zip(times, times[5:], strict=False):
        assert end - start >= 1.0
    assert {told[-1][1], told[-2][1]} == {raw(sequence=500), details(sequence=500)}


def test_a_storm_of_one_origin_delays_no_other() -> None:
    database = database_of("m", LINK, OTHER)
    for step in range(30):
        database.on_news(LINK, [raw(sequence=step)], 10.0 + step / 20)
        database.on_tick(10.0 + step / 20)
    database.on_news(LINK, [raw("calm")], 11.5)
    assert raw("calm") in published(database.on_tick(11.5 + GATHER_MAX))


def test_news_are_split_so_that_every_frame_fits() -> None:
    database = database_of("m" * 64, LINK, OTHER)
    large = [details(f"x{number}", size=60_000) for number in range(20)]
    small = [raw(f"y{number}") for number in range(2 * RECORDS_PER_NEWS_MAX)]
    database.on_news(LINK, large + small, 10.0)
    effects = drain(database)
    frames = [control.encode(one.message) for one in effects if isinstance(one, Publish)]  # type: ignore[arg-type]
    assert len(frames) == len(effects) > 3
    assert max(map(len, frames)) <= FRAME_BYTES_MAX
    assert all(control.decode(frame) for frame in frames)
    assert published(effects) == large + small


def test_without_neighbours_nothing_is_said() -> None:
    database = database_of("m")
    own(database)
    assert drain(database) == []


def test_a_link_that_is_down_hears_no_answers() -> None:
    database = database_of("m", LINK, OTHER)
    database.on_news(LINK, [raw(sequence=4)], 10.0)
    drain(database)
    database.on_news(OTHER, [raw(sequence=3)], 101.0)
    database.on_link_down(OTHER)
    database.on_link_down(OTHER)
    assert drain(database, 102.0) == []
    assert database.on_news(OTHER, [raw(sequence=3)], 103.0) == []
    assert drain(database, 104.0) == []


# ---- our own records


def test_own_records_count_up_and_are_flooded() -> None:
    database = database_of("m", LINK)
    own(database)
    own(database)
    held = database.link_state("m")
    assert held is not None
    assert (held.incarnation, held.sequence) == (5, 2)
    assert published(drain(database)) == [encode_record(held)]


def test_a_newer_record_of_our_own_life_is_outbid() -> None:
    database = database_of("m", LINK)
    own(database)
    drain(database)
    effects = database.on_news(LINK, [raw("m", 41, incarnation=5)], 101.0)
    assert effects == [Changed("m", LINK_STATE)]
    held = database.link_state("m")
    assert held is not None
    assert held.sequence == 42
    assert published(drain(database, 102.0)) == [encode_record(held)]


def test_an_older_record_of_our_own_is_answered() -> None:
    database = database_of("m", LINK)
    own(database)
    drain(database)
    assert database.on_news(LINK, [raw("m", 99, incarnation=4)], 101.0) == []
    assert [type(effect) for effect in drain(database, 102.0)] == [Send]


@pytest.mark.parametrize(
    ("record", "outdone"),
    [
        (raw("m", 1, incarnation=6, life=8), OutdoneBy(6, 8)),
        (details("m", 1, incarnation=6), OutdoneBy(6, 0)),
        (raw("m", 1, incarnation=5, life=8), OutdoneBy(5, 8)),
        (raw("m", NUMBER_MAX - 1, incarnation=5), OutdoneBy(5, 7)),
    ],
    ids=["greater incarnation", "in details", "another life", "the last number"],
)
def test_what_cannot_be_outbid_is_told_to_membership(record: bytes, outdone: OutdoneBy) -> None:
    database = database_of("m", LINK)
    own(database)
    before = database.link_state("m")
    assert database.on_news(LINK, [record], 101.0) == [outdone]
    assert database.link_state("m") == before
    effects = database.set_incarnation(7, 102.0)
    assert effects == [Changed("m", LINK_STATE)]
    held = database.link_state("m")
    assert held is not None
    assert held.incarnation == 7


def test_one_message_tells_only_once_that_we_are_outdone() -> None:
    database = database_of("m", LINK)
    own(database)
    both = [raw("m", 3, incarnation=8), details("m", 9, incarnation=8), raw("m", 3, incarnation=7)]
    assert database.on_news(LINK, both, 101.0) == [OutdoneBy(8, 7)]
    assert database.set_incarnation(9, 102.0) == [Changed("m", LINK_STATE)]
    assert database.set_incarnation(9, 102.0) == []


def test_an_own_incarnation_that_nothing_exceeds_is_counted() -> None:
    database = database_of("m", LINK)
    own(database)
    effects = database.on_news(LINK, [raw("m", 1, incarnation=NUMBER_MAX - 1)], 101.0)
    assert effects == [Count("own incarnation beyond all numbers")]


def test_a_record_of_ours_that_we_have_not_written_yet_sets_the_sequence() -> None:
    database = database_of("m", LINK)
    assert database.on_news(LINK, [raw("m", 41, incarnation=5)], 1.0) == []
    own(database)
    held = database.link_state("m")
    assert held is not None
    assert held.sequence == 42


def test_an_own_record_that_peers_would_refuse_raises() -> None:
    database = database_of("m")
    with pytest.raises(ValueError, match="exceeds"):
        database.set_own(DETAILS, lambda n: Details("m", 5, n, {"fill": "f" * 70_000}), 0.0)
    database.check_invariants()
    database.set_own(DETAILS, lambda n: Details("m", 5, n, {}), 0.0)
    database.check_invariants()


def test_the_last_word_goes_out_at_once_on_every_link() -> None:
    database = database_of("m", LINK, OTHER)
    assert database.announce(1.0) == []
    own(database)
    held = database.link_state("m")
    assert held is not None
    news = News("m", (encode_record(held),))
    assert database.announce(1.0) == [Send(LINK, news), Send(OTHER, news)]


# ---- digest and private records


def term(kind: int, record: bytes, origin: str, incarnation: int, sequence: int) -> int:
    """As another implementation would write it."""
    numbers = b"".join(
        number.to_bytes(8, "big") for number in (incarnation, sequence, content_hash(record))
    )
    data = origin.encode() + bytes([0, kind]) + numbers
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def test_the_digest_is_the_sum_over_what_can_be_reached() -> None:
    database = database_of("m", LINK)
    assert database.digest == 0
    database.on_news(LINK, [raw("x"), details("x", 3), raw("y")], 10.0)
    assert database.digest == 0
    database.set_reachable({"x": True, "never heard of": True}, 10.0)
    x = term(LINK_STATE, raw("x"), "x", 1, 1) + term(DETAILS, details("x", 3), "x", 1, 3)
    assert database.digest == x % 2**64
    database.set_reachable({"y": True}, 10.0)
    database.on_news(LINK, [raw("y", 2)], 10.0)
    assert database.digest == (x + term(LINK_STATE, raw("y", 2), "y", 1, 2)) % 2**64
    database.remove("y", 11.0)
    database.remove("y", 11.0)
    assert database.digest == x % 2**64
    database.check_invariants()


def test_unreachable_origins_are_kept_for_an_hour_to_refuse_what_is_older() -> None:
    database = database_of("m", LINK, OTHER)
    database.on_news(LINK, [raw(sequence=4)], 10.0)
    database.set_reachable({"x": True}, 10.0)
    drain(database)
    database.set_reachable({"x": False}, 200.0)
    assert database.on_news(OTHER, [raw(sequence=3)], 201.0) == []
    assert database.link_state("x") == state(sequence=4)
    drain(database, 202.0)
    assert database.next_deadline() == 200.0 + PRIVATE_AGE_MAX
    assert drain(database, 200.0 + PRIVATE_AGE_MAX) == [Forgotten("x")]
    assert database.origins() == []
    assert database.incarnation_of("x") is None


def test_too_many_unreachable_origins_are_forgotten_the_oldest_first() -> None:
    database = database_of("m", LINK)
    records = [raw(f"x{number}") for number in range(PRIVATE_MAX + 3)]
    database.on_news(LINK, records, 10.0)
    drain(database, 11.0)
    assert len(database.origins()) == PRIVATE_MAX + 3  # a joiner may yet reach them
    database.set_reachable({"x0": True}, 12.0)
    effects = drain(database, 10.0 + PRIVATE_AGE_MIN)
    assert effects == [Forgotten("x1"), Forgotten("x2")]
    assert database.stats()["private"] == PRIVATE_MAX
