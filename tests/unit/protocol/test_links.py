"""Links: each state with each input, who is refused, which link of a pair stays."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from meshcore.errors import ConfigError
from meshcore.identity import NUMBER_MAX
from meshcore.protocol.machine import CloseLink, Count, Dial, Send
from meshcore.protocol.membership import dialling
from meshcore.protocol.membership.dialling import DialState
from meshcore.protocol.membership.handshake import Local
from meshcore.protocol.membership.link_events import (
    AskHolder,
    Evicted,
    Handshaken,
    LinkDown,
    LinkUp,
    NewsConnect,
    Refused,
    TakeIncarnation,
)
from meshcore.protocol.membership.link_table import LINKS_MAX, PENDING_MAX
from meshcore.protocol.membership.links import Links
from meshcore.protocol.membership.pairs import LinkState
from meshcore.protocol.wire.control import Beat, Bye, Flags, Hello, Refusal, Refuse, Welcome

URL, OTHER_URL = "tcp://10.0.0.2:7323", "tcp://10.0.0.3:7323"
MY_LIFE, LIFE, LATER_LIFE = 11, 22, 33
HELLO = Hello(1, 1, "mesh", "mike", 5, LIFE, 100, ("tcp://h:1",), 0, 0.5, 7, 1.5, 0.25)
WELCOME = Welcome(
    1, "mesh", "mike", 5, LIFE, 200, ("tcp://h:1",), 0, 0.5, 7, 1.5, 0.25, 0, ("tcp://h:2",)
)
BEAT = Beat("mike", 5, LIFE, 1, 0.5, 0, 0.0, 7, 1.75)
REFUSE = Refuse(Refusal.MESH, "this is mesh 'x', not 'mesh'", "mike", 0)
BYE = Bye(Refusal.LEAVING, "leaving")


class Rig:
    """A node `kilo` (so that `mike` is greater and `alpha` smaller) with a settable topology."""

    def __init__(self, **local: Any) -> None:
        self.holders: dict[str, int] = {}
        self.known: dict[str, tuple[int, int]] = {}
        presented = Local("mesh", "kilo", 50, MY_LIFE, description="pid 812 on host nz-078")
        self.links = Links(
            replace(presented, **local),
            random.Random(1),
            holder_of=self.holders.get,
            known_of=self.known.get,
        )

    def __getattr__(self, name: str) -> Any:
        """Any method of the machine, checked after each step."""
        method = getattr(self.links, name)

        def checked(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.links.check_invariants()
            return result

        return checked

    def dial(self, url: str = URL, now: float = 0.0) -> int:
        (effect,) = self.add_peer(url, now)
        self.on_connected(effect.link, now)
        number: int = effect.link
        return number

    def accept(self, link: int, hello: Hello = HELLO, now: float = 0.0) -> list[Any]:
        self.on_accepted(link, now)
        effects: list[Any] = self.on_message(link, hello, now)
        return effects

    def up(self, link: int, hello: Hello = HELLO, now: float = 0.0) -> list[Any]:
        self.accept(link, hello, now)
        beat = replace(BEAT, node_id=hello.node_id, life=hello.life)
        effects: list[Any] = self.on_beat(link, beat, now)
        return effects

    def state(self, link: int) -> LinkState | None:
        return next((one.state for one in self.links.links() if one.link == link), None)

    def bring_to(self, state: LinkState, *, dialled: bool) -> int:
        link = 2
        if dialled:
            (effect,) = self.add_peer(URL, 0.0)
            link = effect.link
        else:
            self.on_accepted(link, 0.0)
        if state in (LinkState.CONNECTING, LinkState.SILENT):
            return link
        if dialled:
            self.on_connected(link, 0.0)
        if state is LinkState.GREETING:
            return link
        if state is LinkState.ASKING:
            self.holders["mike"] = LATER_LIFE
        self.on_message(link, WELCOME if dialled else HELLO, 0.0)
        if state is LinkState.UP:
            self.on_beat(link, BEAT, 0.0)
        assert self.state(link) is state
        return link


def closed(effects: list[Any]) -> list[str]:
    return [effect.reason for effect in effects if isinstance(effect, CloseLink)]


def sent(effects: list[Any]) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def refusal(effects: list[Any]) -> Refusal:
    (message,) = sent(effects)
    assert isinstance(message, Refuse)
    return Refusal(message.code)


# -- every state with every input -----------------------------------------------------------------

STAYS, ENDS = "stays", "ends"
ACCEPTED, DIALLED = False, True
INPUTS = ("hello", "welcome", "refuse", "bye", "beat", "other", "connected")
# What each input makes of a link: its new state, STAYS, ENDS, or the protocol fault that ends it.
TABLE = {
    (DIALLED, LinkState.CONNECTING): (
        "message before the connection",
        "message before the connection",
        "message before the connection",
        "message before the connection",
        "beat before the handshake",
        "message before the handshake",
        LinkState.GREETING,
    ),
    (DIALLED, LinkState.GREETING): (
        "HELLO from the listener",
        LinkState.GREETED,
        ENDS,
        ENDS,
        "beat before the handshake",
        "message before the handshake",
        STAYS,
    ),
    (DIALLED, LinkState.ASKING): (
        "HELLO from the listener",
        "second WELCOME",
        ENDS,
        ENDS,
        STAYS,
        STAYS,
        STAYS,
    ),
    (DIALLED, LinkState.GREETED): (
        "HELLO from the listener",
        "second WELCOME",
        ENDS,
        ENDS,
        LinkState.UP,
        STAYS,
        STAYS,
    ),
    (DIALLED, LinkState.UP): (
        "HELLO from the listener",
        "second WELCOME",
        ENDS,
        ENDS,
        STAYS,
        STAYS,
        STAYS,
    ),
    (ACCEPTED, LinkState.SILENT): (
        LinkState.GREETED,
        "WELCOME from the dialler",
        "first message is not HELLO",
        "first message is not HELLO",
        "beat before the handshake",
        "message before the handshake",
        STAYS,
    ),
    (ACCEPTED, LinkState.ASKING): (
        "second HELLO",
        "WELCOME from the dialler",
        ENDS,
        ENDS,
        STAYS,
        STAYS,
        STAYS,
    ),
    (ACCEPTED, LinkState.GREETED): (
        "second HELLO",
        "WELCOME from the dialler",
        ENDS,
        ENDS,
        LinkState.UP,
        STAYS,
        STAYS,
    ),
    (ACCEPTED, LinkState.UP): (
        "second HELLO",
        "WELCOME from the dialler",
        ENDS,
        ENDS,
        STAYS,
        STAYS,
        STAYS,
    ),
}
CASES = [
    (dialled, state, given, outcome)
    for (dialled, state), outcomes in TABLE.items()
    for given, outcome in zip(INPUTS, outcomes, strict=True)
]


@pytest.mark.parametrize(("dialled", "state", "given", "outcome"), CASES)
def test_every_state_with_every_input(
    dialled: bool, state: LinkState, given: str, outcome: str | LinkState
) -> None:
    rig = Rig()
    link = rig.bring_to(state, dialled=dialled)
    messages = {"hello": HELLO, "welcome": WELCOME, "refuse": REFUSE, "bye": BYE}
    if given in messages:
        effects = rig.on_message(link, messages[given], 1.0)
    elif given == "beat":
        effects = rig.on_beat(link, BEAT, 1.0)
    elif given == "other":
        effects = rig.on_other(link, 1.0)
    else:
        effects = rig.on_connected(link, 1.0)
    if isinstance(outcome, LinkState):
        assert rig.state(link) is outcome
        return
    if outcome == STAYS:
        assert (effects, rig.state(link)) == ([], state)
        return
    assert rig.state(link) is None
    assert len(closed(effects)) == 1
    downs = [effect for effect in effects if isinstance(effect, LinkDown)]
    assert len(downs) == (state is LinkState.UP)
    if outcome != ENDS:
        assert closed(effects) == [f"protocol: {outcome}"]
        assert Count(f"protocol: {outcome}") in effects


@pytest.mark.parametrize(
    ("dialled", "state", "timeout", "reason"),
    [
        (True, LinkState.CONNECTING, 3.0, "no connection within 3 s"),
        (True, LinkState.GREETING, 5.0, "no WELCOME within 5 s"),
        (True, LinkState.GREETED, 5.0, "no beat within 5 s"),
        (False, LinkState.SILENT, 5.0, "no HELLO within 5 s"),
        (False, LinkState.GREETED, 5.0, "no beat within 5 s"),
    ],
)
def test_a_handshake_that_stops_halfway_is_closed_in_time(
    dialled: bool, state: LinkState, timeout: float, reason: str
) -> None:
    rig = Rig()
    link = rig.bring_to(state, dialled=dialled)
    assert rig.next_deadline() == timeout
    assert rig.on_tick(timeout - 0.01) == []
    assert closed(rig.on_tick(timeout)) == [reason]
    assert rig.state(link) is None


@pytest.mark.parametrize(("dialled", "state"), list(TABLE))
def test_a_connection_may_be_lost_in_every_state(dialled: bool, state: LinkState) -> None:
    rig = Rig()
    link = rig.bring_to(state, dialled=dialled)
    lost = rig.on_closed(link, "connection lost", 2.0)
    expected = [LinkDown(link, "mike", LIFE, "connection lost", orderly=False, last=True)]
    assert lost == (expected if state is LinkState.UP else [])
    assert rig.on_closed(link, "again", 2.0) == []
    if dialled:
        (dial,) = rig.dials(2.0)
        assert (dial.state, dial.last_error) == (DialState.WAITING, "connection lost")
        assert 2.0 < rig.next_deadline() < 2.3


@pytest.mark.parametrize(("dialled", "state"), list(TABLE))
def test_leaving_ends_all_but_what_is_up_and_refuses_the_rest(
    dialled: bool, state: LinkState
) -> None:
    rig = Rig()
    link = rig.bring_to(state, dialled=dialled)
    effects = rig.leave(1.0)
    kept = state in (LinkState.UP, LinkState.SILENT)
    assert (rig.state(link) is not None) == kept
    assert len(closed(effects)) == (not kept)
    assert refusal(rig.accept(8, now=1.0)) is Refusal.LEAVING
    assert rig.add_peer(OTHER_URL, 1.0) == []
    assert [one for one in rig.on_tick(100.0) if isinstance(one, Dial)] == []


# -- handshake ------------------------------------------------------------------------------------


def test_the_dialler_says_hello_first_then_is_greeted_and_up_with_the_first_beat() -> None:
    rig = Rig(endpoints=("tcp://me:1",), interval=0.25, scale=3, born=2.0)
    assert rig.add_peer(URL, 0.0) == [Dial(1, URL)]
    (hello,) = sent(rig.on_connected(1, 0.1))
    assert replace(hello, nonce=0) == Hello(
        1, 1, "mesh", "kilo", 50, MY_LIFE, 0, ("tcp://me:1",), 0, 0.25, 3, 2.0, 0.1
    )
    assert rig.on_message(1, WELCOME, 0.2) == [
        Handshaken(1, "mike", LIFE, dialled=True),
        NewsConnect(1, ("tcp://h:2",)),
    ]
    assert rig.link_to("mike") is None
    assert rig.node_of(1) == "mike"
    assert rig.beat_links() == (1,)
    assert rig.on_beat(1, BEAT, 0.3) == [
        LinkUp(1, "mike", LIFE, 5, ("tcp://h:1",), 0, 0.5, 7, 1.5, True, URL)
    ]
    assert rig.link_to("mike") == 1
    assert rig.dials(0.3)[0].state is DialState.LINKED
    assert rig.next_deadline() is None


def test_the_listener_answers_welcome_and_is_up_with_the_first_beat() -> None:
    rig = Rig(news_urls=("tcp://me:2", "tcp://me:3"))
    rig.known["mike"] = (5, LIFE)
    welcome, handshaken = rig.accept(2)
    assert (welcome.message.known_incarnation, welcome.message.news_urls) == (
        5,
        ("tcp://me:2", "tcp://me:3"),
    )
    assert handshaken == Handshaken(2, "mike", LIFE, dialled=False)
    (link_up,) = rig.on_beat(2, BEAT, 0.1)
    assert (link_up.dialled, link_up.url, link_up.client_address) == (False, None, None)
    assert not rig.is_client(2)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"version_min": 2, "version_max": 3}, Refusal.VERSION, "2 to 3"),
        ({"version_min": 0, "version_max": 0}, Refusal.VERSION, "0 to 0"),
        ({"mesh": "other"}, Refusal.MESH, "this is mesh 'mesh', not 'other'"),
        ({"node_id": "kilo", "life": MY_LIFE}, Refusal.SELF, "yourself"),
        (
            {"node_id": "kilo", "up_time": 0.0},
            Refusal.TAKEN,
            "node id 'kilo' is taken by pid 812 on host nz-078",
        ),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_with_a_reason(
    change: dict[str, Any], code: Refusal, words: str
) -> None:
    rig = Rig()
    effects = rig.accept(2, replace(HELLO, **change))
    assert refusal(effects) is code
    assert words in sent(effects)[0].reason
    assert Count(f"refused: {code.name.lower()}") in effects
    assert rig.state(2) is None


def test_a_wider_range_of_versions_settles_on_ours() -> None:
    rig = Rig()
    effects = rig.accept(2, replace(HELLO, version_min=0, version_max=9))
    assert sent(effects)[0].version == 1


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"mesh": "other"}, {"node_id": "kilo"}, {"flags": int(Flags.EPHEMERAL)}],
)
def test_a_welcome_that_does_not_fit_ends_the_dial(change: dict[str, Any]) -> None:
    rig = Rig()
    link = rig.dial()
    (reason,) = closed(rig.on_message(link, replace(WELCOME, **change), 0.0))
    assert reason.startswith("protocol: WELCOME")
    assert rig.next_deadline() == dialling.REFUSED_DELAY


def test_a_url_that_leads_to_myself_is_dropped_quietly() -> None:
    rig = Rig()
    link = rig.dial()
    effects = rig.on_message(link, Refuse(Refusal.SELF, "you dialled yourself", "kilo", 0), 0.0)
    assert len(closed(effects)) == len(effects) == 1
    assert rig.dials(0.0) == ()
    assert rig.next_deadline() is None


def test_nobody_else_can_make_us_drop_a_url_as_myself() -> None:
    rig = Rig()
    link = rig.dial()
    rig.on_message(link, Refuse(Refusal.SELF, "", "mike", 0), 0.0)
    assert rig.dials(0.0)[0].next_in == dialling.REFUSED_DELAY


@pytest.mark.parametrize(
    ("code", "soon"),
    [
        (Refusal.MESH, False),
        (Refusal.VERSION, False),
        (Refusal.FULL, False),
        (99, False),
        (Refusal.LEAVING, True),
        (Refusal.DUPLICATE, True),
        (Refusal.STALE, True),
    ],
)
def test_a_refused_url_backs_off_and_shows_why(code: int, soon: bool) -> None:
    rig = Rig()
    link = rig.dial()
    rig.on_message(link, Refuse(code, "no", "mike", 3), 0.0)
    (dial,) = rig.dials(0.0)
    assert dial.last_error == "refused: no"
    assert (dial.next_in == dialling.REFUSED_DELAY) != soon
    assert soon == (dial.next_in < 0.3)


def test_a_beat_of_another_node_ends_the_link() -> None:
    rig = Rig()
    rig.up(2)
    effects = rig.on_beat(2, replace(BEAT, life=LATER_LIFE), 1.0)
    assert closed(effects) == ["protocol: beat of another node"]


def test_what_is_said_of_a_forgotten_link_yields_nothing() -> None:
    rig = Rig()
    for effects in (
        rig.on_message(9, HELLO, 0.0),
        rig.on_beat(9, BEAT, 0.0),
        rig.on_other(9, 0.0),
        rig.on_connected(9, 0.0),
        rig.on_dial_failed(9, "refused", 0.0),
        rig.drop(9, "x", 0.0),
        rig.on_holder("mike", LIFE, True, "x", 0.0),
    ):
        assert effects == []
    assert (rig.node_of(9), rig.link_to("mike"), rig.is_client(9)) == (None, None, False)


# -- bounds ---------------------------------------------------------------------------------------


def test_pending_handshakes_are_bounded_and_the_oldest_silent_one_gives_way() -> None:
    rig = Rig()
    for number in range(PENDING_MAX):
        rig.links.on_accepted(2 + 2 * number, 0.0)
    effects = rig.on_accepted(5000, 1.0)
    assert effects == [Count("too many handshakes"), CloseLink(2, "too many handshakes")]
    assert rig.state(5000) is LinkState.SILENT


def test_links_are_bounded_but_a_pair_may_replace_its_link() -> None:
    rig = Rig()
    for number in range(LINKS_MAX):
        hello = replace(HELLO, node_id=f"n{number}", life=1000 + number)
        rig.links.on_accepted(2 + 2 * number, 0.0)
        rig.links.on_message(2 + 2 * number, hello, 0.0)
    assert refusal(rig.accept(5000)) is Refusal.FULL
    again = replace(HELLO, node_id="n7", life=1007, nonce=101)
    assert isinstance(sent(rig.accept(5002, again))[0], Welcome)


def test_too_many_peers_are_misuse() -> None:
    rig = Rig()
    for number in range(dialling.CONFIGURED_MAX):
        rig.links.add_peer(f"ipc:///{number}", 0.0)
    with pytest.raises(ConfigError):
        rig.add_peer(URL, 0.0)


# -- one link per pair ----------------------------------------------------------------------------


def test_the_dial_of_the_smaller_id_replaces_the_other_and_parks_its_url() -> None:
    rig = Rig()  # kilo dials alpha, alpha (smaller) dials kilo
    link = rig.dial()
    rig.on_message(link, replace(WELCOME, node_id="alpha"), 0.0)
    rig.on_beat(link, replace(BEAT, node_id="alpha"), 0.0)
    effects = rig.up(2, replace(HELLO, node_id="alpha"))
    link_up, bye, close, link_down = effects
    assert (link_up.link, link_up.replaces) == (2, link)
    assert bye == Send(link, Bye(Refusal.DUPLICATE, "duplicate"))
    assert close == CloseLink(link, "duplicate")
    assert link_down == LinkDown(link, "alpha", LIFE, "duplicate", orderly=True, last=False)
    assert rig.dials(0.0)[0].state is DialState.PARKED
    rig.on_closed(2, "lost", 5.0)
    assert rig.dials(5.0)[0].state is DialState.WAITING


def test_the_dial_of_the_greater_id_is_closed_by_a_later_beat_on_the_one_that_stays() -> None:
    rig = Rig()  # kilo (smaller) dialled mike; mike dials kilo
    link = rig.dial()
    rig.on_message(link, WELCOME, 0.0)
    rig.on_beat(link, BEAT, 0.0)
    assert rig.up(2) == [], "no event for a spare link, and no end of it yet"
    assert closed(rig.on_beat(link, BEAT, 0.0)) == ["duplicate"]
    assert rig.state(2) is None
    assert rig.link_to("mike") == link


def test_a_spare_link_takes_over_without_a_gap_when_the_better_one_was_dead() -> None:
    rig = Rig()
    link = rig.dial()
    rig.on_message(link, WELCOME, 0.0)
    rig.on_beat(link, BEAT, 0.0)
    rig.up(2)
    link_up, link_down = rig.on_closed(link, "lost", 3.0)
    assert (link_up.link, link_up.replaces, link_down.last) == (2, link, False)
    assert rig.link_to("mike") == 2


def test_a_newer_nonce_of_the_same_dialler_replaces_a_half_open_link() -> None:
    rig = Rig()
    rig.up(2)
    link_up, *_, link_down = rig.up(4, replace(HELLO, nonce=101), now=1.0)
    assert (link_up.link, link_up.replaces) == (4, 2)
    assert (link_down.link, link_down.last) == (2, False)


def test_an_older_nonce_that_comes_late_does_not_replace() -> None:
    rig = Rig()
    rig.up(2, replace(HELLO, nonce=101))
    assert rig.up(4) == []
    assert closed(rig.on_beat(2, BEAT, 1.0)) == ["duplicate"]
    assert rig.state(4) is None


def test_a_nonce_used_twice_is_a_fault() -> None:
    rig = Rig()
    rig.up(2)
    assert closed(rig.accept(4)) == ["protocol: nonce used twice"]
    assert rig.link_to("mike") == 2


def test_a_second_url_of_a_node_that_we_dialled_is_parked_and_moves_nothing() -> None:
    rig = Rig()
    first, second = rig.dial(URL), rig.dial(OTHER_URL)
    rig.on_message(first, WELCOME, 0.0)
    rig.on_beat(first, BEAT, 0.0)
    effects = rig.on_message(second, replace(WELCOME, nonce=201), 0.0)
    assert sent(effects) == [Bye(Refusal.DUPLICATE, "duplicate")]
    assert rig.link_to("mike") == first
    assert [dial.state for dial in rig.dials(0.0)] == [DialState.LINKED, DialState.PARKED]


def test_a_bye_of_a_duplicate_goes_over_to_the_link_that_the_peer_has_heard_us_on() -> None:
    rig = Rig()
    rig.up(2)
    rig.accept(4, replace(HELLO, nonce=101))
    _close, link_up, link_down = rig.on_message(2, Bye(Refusal.DUPLICATE, "duplicate"), 1.0)
    assert (link_up.link, link_up.replaces) == (4, 2)
    assert (link_down.link, link_down.orderly, link_down.last) == (2, True, False)


def test_a_bye_for_another_reason_does_not_trust_an_unheard_link() -> None:
    rig = Rig()
    rig.up(2)
    rig.accept(4, replace(HELLO, nonce=101))
    _close, link_down = rig.on_message(2, BYE, 1.0)
    assert link_down == LinkDown(2, "mike", LIFE, "leaving", orderly=True, last=True)


# -- ids and lives --------------------------------------------------------------------------------


def test_a_restarted_peer_is_taken_at_once_when_its_old_link_has_closed() -> None:
    rig = Rig()
    rig.up(2)
    rig.on_closed(2, "lost", 1.0)
    effects = rig.accept(4, replace(HELLO, life=LATER_LIFE, incarnation=6), 1.1)
    assert isinstance(sent(effects)[0], Welcome)


def test_a_new_life_waits_while_the_old_one_is_asked_and_replaces_it_when_silent() -> None:
    rig = Rig()
    rig.up(2)
    newcomer = replace(HELLO, life=LATER_LIFE, incarnation=6, nonce=7)
    assert rig.accept(4, newcomer, 1.0) == [AskHolder("mike", LIFE)]
    assert rig.accept(6, replace(newcomer, nonce=8), 1.0) == [], "one question for both"
    assert rig.on_tick(1.1) == []
    effects = rig.on_holder("mike", LIFE, False, "", 2.0)
    bye, close, link_down, welcome, handshaken, *_ = effects
    assert bye == Send(2, Bye(Refusal.EVICTED, "restarted"))
    assert close == CloseLink(2, "restarted")
    assert link_down == LinkDown(2, "mike", LIFE, "restarted", orderly=False, last=True)
    assert isinstance(welcome.message, Welcome)
    assert handshaken == Handshaken(4, "mike", LATER_LIFE, dialled=False)
    assert rig.state(6) is LinkState.GREETED


def test_a_taken_id_is_refused_naming_its_holder() -> None:
    rig = Rig()
    rig.holders["mike"] = LIFE
    assert rig.accept(2, replace(HELLO, life=LATER_LIFE)) == [AskHolder("mike", LIFE)]
    effects = rig.on_holder("mike", LIFE, True, "pid 1 on host nz, reached over beta", 0.5)
    assert refusal(effects) is Refusal.TAKEN
    reason = "node id 'mike' is taken by pid 1 on host nz, reached over beta"
    assert sent(effects)[0].reason == reason


def test_a_taken_id_is_refused_to_a_listener_too() -> None:
    rig = Rig()
    rig.holders["mike"] = LATER_LIFE
    link = rig.dial()
    assert rig.on_message(link, WELCOME, 0.0) == [AskHolder("mike", LATER_LIFE)]
    effects = rig.on_holder("mike", LATER_LIFE, True, "pid 1", 0.5)
    assert refusal(effects) is Refusal.TAKEN
    assert rig.next_deadline() == 0.5 + dialling.REFUSED_DELAY


def test_a_question_ends_when_the_holder_becomes_unreachable() -> None:
    rig = Rig()
    rig.holders["mike"] = LIFE
    rig.accept(2, replace(HELLO, life=LATER_LIFE))
    assert rig.next_deadline() == 0.1
    assert rig.on_tick(0.1) == []
    del rig.holders["mike"]
    assert isinstance(sent(rig.on_tick(0.2))[0], Welcome)


def test_a_question_ends_at_once_when_our_own_link_to_the_holder_is_lost() -> None:
    rig = Rig()
    rig.up(2)
    rig.accept(4, replace(HELLO, life=LATER_LIFE, incarnation=6), 1.0)
    rig.on_closed(2, "lost", 1.02)
    assert rig.next_deadline() == 1.02
    assert isinstance(sent(rig.on_tick(1.02))[0], Welcome)


def test_a_life_that_speaks_again_after_a_verdict_is_asked_again() -> None:
    rig = Rig()
    rig.holders["mike"] = LIFE
    newcomer = replace(HELLO, life=LATER_LIFE, incarnation=6)
    rig.accept(2, newcomer, 0.0)
    rig.on_closed(2, "lost", 0.5)
    rig.accept(2, newcomer, 0.5)
    rig.on_holder("mike", LIFE, False, "", 1.0)
    rig.on_closed(2, "lost", 1.1)
    rig.accept(4, now=1.2)
    assert rig.accept(6, newcomer, 1.3) == [AskHolder("mike", LIFE)]


def test_a_beat_takes_a_verdict_back() -> None:
    rig = Rig()
    rig.up(2)
    rig.accept(4, replace(HELLO, life=LATER_LIFE, incarnation=4))
    rig.on_holder("mike", LIFE, False, "", 1.0)
    rig.on_beat(2, BEAT, 1.1)
    newcomer = replace(HELLO, life=LATER_LIFE, incarnation=6)
    assert rig.accept(6, newcomer, 1.2) == [AskHolder("mike", LIFE)]


def test_a_question_that_is_never_answered_ends_for_the_newcomer() -> None:
    rig = Rig()
    rig.holders["mike"] = LIFE
    rig.accept(2, replace(HELLO, life=LATER_LIFE))
    now, effects = 0.0, []
    while not effects:
        deadline = rig.next_deadline()
        assert now < deadline <= 1.5
        now = deadline
        effects = rig.on_tick(now)
    assert isinstance(sent(effects)[0], Welcome)


def test_the_verdict_spares_the_next_link_of_the_newcomer_a_question() -> None:
    rig = Rig()
    rig.holders["mike"] = LIFE
    newcomer = replace(HELLO, life=LATER_LIFE)
    rig.accept(2, newcomer)
    rig.on_holder("mike", LIFE, False, "", 1.0)
    rig.on_closed(2, "lost", 1.1)
    assert isinstance(sent(rig.accept(4, newcomer, 1.2))[0], Welcome)
    rig.on_closed(4, "lost", 1.3)
    assert rig.accept(6, newcomer, 12.0) == [AskHolder("mike", LIFE)], "it is not kept for ever"


def test_a_newcomer_that_goes_while_we_ask_leaves_nothing_behind() -> None:
    rig = Rig()
    rig.holders["mike"] = LIFE
    rig.accept(2, replace(HELLO, life=LATER_LIFE))
    rig.on_closed(2, "lost", 0.1)
    assert rig.on_holder("mike", LIFE, False, "", 1.0) == []
    assert rig.next_deadline() is None


def test_a_beat_that_comes_while_we_ask_counts_when_the_answer_is_there() -> None:
    rig = Rig()
    link = rig.bring_to(LinkState.ASKING, dialled=True)
    rig.on_beat(link, BEAT, 0.1)
    effects = rig.on_holder("mike", LATER_LIFE, False, "", 1.0)
    assert isinstance(effects[-1], LinkUp)


def test_an_incarnation_that_is_not_newer_is_refused_with_the_known_one() -> None:
    rig = Rig()
    rig.known["mike"] = (5, LATER_LIFE)
    effects = rig.accept(2)
    assert refusal(effects) is Refusal.STALE
    assert sent(effects)[0].known_incarnation == 5
    assert isinstance(sent(rig.accept(4, replace(HELLO, incarnation=6)))[0], Welcome)


def test_an_older_life_never_ends_a_newer_one_however_silent() -> None:
    rig = Rig()
    rig.up(2)
    rig.accept(4, replace(HELLO, life=LATER_LIFE, incarnation=4))
    assert refusal(rig.on_holder("mike", LIFE, False, "", 1.0)) is Refusal.STALE
    assert rig.link_to("mike") == 2


@pytest.mark.parametrize(
    ("known", "taken"), [(49, None), (50, 51), (80, 81), (NUMBER_MAX - 1, None)]
)
def test_a_stale_refusal_makes_us_newer_once(known: int, taken: int | None) -> None:
    rig = Rig()
    link = rig.dial()
    effects = rig.on_message(link, Refuse(Refusal.STALE, "", "mike", known), 0.0)
    expected = [] if taken is None else [TakeIncarnation(taken)]
    assert [one for one in effects if isinstance(one, TakeIncarnation)] == expected
    assert rig.links.local.incarnation == (taken or 50)
    (dial,) = [one for one in rig.on_tick(0.3) if isinstance(one, Dial)]
    (hello,) = sent(rig.on_connected(dial.link, 0.3))
    assert hello.incarnation == (taken or 50)


def test_a_welcome_that_knows_a_greater_incarnation_makes_us_newer() -> None:
    rig = Rig()
    link = rig.dial()
    effects = rig.on_message(link, replace(WELCOME, known_incarnation=90), 0.0)
    assert effects[0] == TakeIncarnation(91)


def test_refusals_of_our_id_are_fatal_and_say_why() -> None:
    rig = Rig()
    link = rig.dial()
    effects = rig.on_message(link, Refuse(Refusal.TAKEN, "taken by pid 1", "mike", 0), 0.0)
    assert effects[0] == Refused("taken by pid 1", "mike")
    rig.up(2)
    effects = rig.on_message(2, Refuse(Refusal.EVICTED, "older stays", "mike", 0), 0.0)
    assert effects[0] == Evicted("older stays", "mike")
    rig.up(4)
    effects = rig.on_message(4, Bye(Refusal.EVICTED, "older stays"), 0.0)
    assert effects[0] == Evicted("older stays", "mike")


@pytest.mark.parametrize(
    ("scale", "born", "up_time", "evicts"),
    [
        (7, 1.0, 0.0, True),  # on one scale the older stays, whatever the uptimes say
        (7, 3.0, 99.0, False),
        (8, 1.0, 4.0, False),  # on different ones who has lived longer: we have lived 5 s
        (8, 3.0, 6.0, True),
    ],
)
def test_of_two_lives_of_our_id_the_older_stays(
    scale: int, born: float, up_time: float, evicts: bool
) -> None:
    rig = Rig(scale=7, born=2.0, started_at=0.0)
    hello = replace(HELLO, node_id="kilo", scale=scale, born=born, up_time=up_time)
    effects = rig.accept(2, hello, now=5.0)
    assert any(isinstance(effect, Evicted) for effect in effects) == evicts
    fatal = refusal(effects) in (Refusal.TAKEN, Refusal.EVICTED)
    assert fatal != evicts


# -- ephemeral clients ----------------------------------------------------------------------------

CLIENT = replace(HELLO, node_id="cli-1", flags=int(Flags.EPHEMERAL))


def test_a_client_is_up_with_its_welcome_and_has_an_address_of_its_own() -> None:
    rig = Rig(news_urls=("tcp://me:2",))
    welcome, link_up = rig.accept(2, CLIENT)
    assert welcome.message.news_urls == ()
    assert link_up.client_address == f"kilo~{welcome.message.nonce:x}"
    assert rig.is_client(2)
    assert rig.link_of_client(link_up.client_address) == 2
    assert rig.link_to("cli-1") is None
    assert rig.beat_links() == ()
    _, second = rig.accept(4, CLIENT)
    assert second.client_address != link_up.client_address
    assert rig.on_beat(2, replace(BEAT, node_id="cli-1"), 1.0) == []
    assert rig.on_closed(2, "lost", 1.0) == [
        LinkDown(2, "cli-1", LIFE, "lost", orderly=False, last=True)
    ]
    assert rig.link_of_client(link_up.client_address) is None


def test_a_client_may_carry_any_id_even_ours() -> None:
    rig = Rig()
    effects = rig.accept(2, replace(CLIENT, node_id="kilo"))
    assert isinstance(sent(effects)[0], Welcome)


def test_a_client_attaches_to_the_node_that_it_names_whatever_its_mesh() -> None:
    rig = Rig()
    effects = rig.accept(2, replace(CLIENT, mesh="other"))
    assert isinstance(sent(effects)[0], Welcome)
    client = Rig(flags=Flags.EPHEMERAL)
    link = client.dial()
    (link_up,) = client.on_message(link, replace(WELCOME, mesh="other", news_urls=()), 0.0)
    assert link_up.client_address is not None


def test_at_the_client_the_link_is_up_with_welcome_and_follows_a_restart() -> None:
    rig = Rig(flags=Flags.EPHEMERAL)
    rig.holders["mike"] = LATER_LIFE
    link = rig.dial()
    (link_up,) = rig.on_message(link, replace(WELCOME, news_urls=()), 0.0)
    assert link_up.client_address == f"mike~{200:x}"
    assert rig.link_to("mike") == link
    assert refusal(rig.accept(2)) is Refusal.FULL


# -- peers at run time ----------------------------------------------------------------------------


def test_removing_a_peer_closes_its_link_and_dials_no_more() -> None:
    rig = Rig()
    link = rig.dial()
    rig.on_message(link, WELCOME, 0.0)
    rig.on_beat(link, BEAT, 0.0)
    effects = rig.remove_peer(URL, 1.0)
    assert closed(effects) == ["peer removed"]
    assert sent(effects) == [Bye(0, "peer removed")]
    assert LinkDown(link, "mike", LIFE, "peer removed", orderly=True, last=True) in effects
    assert rig.next_deadline() is None


def test_learnt_urls_are_dialled_but_never_our_own() -> None:
    rig = Rig()
    assert rig.learn("kilo", (URL,), 0.0) == []
    assert rig.learn("mike", (URL,), 0.0) == [Dial(1, URL)]


def test_a_learnt_url_that_is_taken_back_leaves_its_link_alone() -> None:
    rig = Rig()
    rig.learn("mike", (URL,), 0.0)
    rig.on_connected(1, 0.0)
    rig.on_message(1, WELCOME, 0.0)
    rig.on_beat(1, BEAT, 0.0)
    assert not rig.is_in_vain("mike")
    rig.unlearn((URL, "tcp://unknown:1"))
    assert rig.link_to("mike") == 1
    rig.on_closed(1, "reset", 5.0)
    assert rig.next_deadline() is None, "nobody dials it again"


def test_a_dropped_link_says_bye_where_told_so() -> None:
    rig = Rig()
    rig.up(2)
    assert rig.drop(2, "leaving", 1.0, code=Refusal.LEAVING) == [
        Send(2, Bye(Refusal.LEAVING, "leaving")),
        CloseLink(2, "leaving"),
        LinkDown(2, "mike", LIFE, "leaving", orderly=True, last=True),
    ]
    rig.up(4, replace(HELLO, nonce=300))
    assert sent(rig.drop(4, "flooding", 1.0)) == []
