"""Whatever peers say, in whatever order: nothing raises, and all bounds and indexes hold."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshcore.protocol.machine import CloseLink, Dial
from meshcore.protocol.membership.handshake import Local
from meshcore.protocol.membership.link_events import AskHolder, LinkDown, LinkUp
from meshcore.protocol.membership.links import Links
from meshcore.protocol.wire.control import Beat, Bye, Hello, Refuse, Welcome

NAMES = st.sampled_from(["alpha", "kilo", "mike"])  # kilo is the node under test
LIVES = st.integers(1, 3)
SMALL = st.integers(0, 3)
ENDPOINTS = st.just(("tcp://h:1",))
SELF = (st.integers(0, 1), st.just(0.5), SMALL, st.floats(-9, 9))
WHO = (st.sampled_from(["mesh", "mesh", "mesh", "x"]), NAMES, SMALL, LIVES, SMALL, ENDPOINTS)
MESSAGES = st.one_of(
    st.builds(Hello, st.integers(0, 2), st.integers(0, 2), *WHO, *SELF),
    st.builds(Welcome, st.integers(0, 2), *WHO, *SELF, SMALL, st.just(())),
    st.builds(Refuse, st.integers(0, 12), st.just(""), NAMES, SMALL),
    st.builds(Bye, st.integers(0, 12), st.just("bye")),
    st.builds(Beat, NAMES, SMALL, LIVES, SMALL, st.just(0.5), SMALL, st.just(0.0)),
)
LINK = st.integers(0, 9)
STEPS = st.one_of(
    st.tuples(st.just("message"), LINK, MESSAGES),
    st.tuples(st.just("message"), LINK, MESSAGES),
    st.tuples(st.sampled_from(["accepted", "connected", "closed", "other", "drop"]), LINK),
    st.tuples(st.sampled_from(["add", "remove", "learn"]), SMALL),
    st.tuples(st.just("holder"), NAMES, LIVES, st.booleans()),
    st.tuples(st.just("reach"), NAMES, st.none() | LIVES),
    st.tuples(st.just("wait"), st.floats(0, 7)),
    st.tuples(st.just("leave")),
)


@settings(max_examples=300, deadline=None)
@given(seed=SMALL, steps=st.lists(STEPS, max_size=60))
def test_no_history_raises_or_breaks_an_index(seed: int, steps: list[tuple[Any, ...]]) -> None:
    holders: dict[str, int] = {}
    links = Links(
        Local("mesh", "kilo", 2, 1),
        random.Random(seed),
        holder_of=holders.get,
        known_of=lambda node_id: (1, holders[node_id]) if node_id in holders else None,
    )
    now, up, open_links = 0.0, dict[int, str](), dict[int, None]()
    accepted = 1000  # above every number that a step can name
    for kind, *args in steps:
        effects: list[Any] = []
        match kind:
            case "message" if isinstance(args[1], Beat):
                effects = links.on_beat(args[0], args[1], now)
            case "message":
                effects = links.on_message(args[0], args[1], now)
            case "accepted":
                number = (
                    args[0] * 2 if args[0] * 2 not in open_links else (accepted := accepted + 2)
                )
                open_links[number] = None
                effects = links.on_accepted(number, now)
            case "connected":
                effects = links.on_connected(args[0], now)
            case "closed":
                open_links.pop(args[0], None)
                effects = links.on_closed(args[0], "lost", now)
                assert CloseLink not in map(type, effects)
            case "other":
                effects = links.on_other(args[0], now)
            case "drop":
                effects = links.drop(args[0], "dropped", now, code=6)
            case "add":
                effects = links.add_peer(f"tcp://h:{args[0] + 1}", now)
            case "remove":
                effects = links.remove_peer(f"tcp://h:{args[0] + 1}", now)
            case "learn":
                effects = links.learn("mike", (f"tcp://h:{args[0] + 1}",), now)
            case "holder":
                effects = links.on_holder(*args, "somebody", now)
            case "reach":
                holders.pop(args[0], None)
                if args[1] is not None:
                    holders[args[0]] = args[1]
            case "wait":
                now += args[0]
                effects = links.on_tick(now)
                deadline = links.next_deadline()
                assert deadline is None or deadline > now
            case "leave":
                effects = links.leave(now)
        for effect in effects:
            match effect:
                case Dial(link):
                    assert link not in open_links
                    open_links[link] = None
                case CloseLink(link):
                    del open_links[link]
                case LinkUp(link, node_id):
                    assert link not in up
                    up[link] = node_id
                case LinkDown(link, node_id):
                    assert up.pop(link) == node_id
                case AskHolder(node_id, life):
                    assert (node_id, life) != ("kilo", 1)
        links.check_invariants()
        assert {info.link for info in links.links()} == open_links.keys()
        assert {info.link for info in links.links() if info.current} == up.keys()
