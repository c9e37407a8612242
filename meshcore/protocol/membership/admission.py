"""Admission: from the peer's HELLO or WELCOME to a link that has joined its pair, or a refusal.

Intuition: a message that is in order may still claim an id that lives elsewhere. So a newcomer
waits while the holder is asked; then the old life is closed as "restarted", or the newcomer is
refused and told who holds its id. Both ends do this: the dialler judges WELCOME as the listener
judges HELLO, and either may refuse.

Contract: as `links.py`, of which this is a part: called with links that are in its table, returns
effects in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from meshcore.identity import CLIENT_MARK, NUMBER_MAX
from meshcore.protocol.machine import Count, Send
from meshcore.protocol.membership import handshake
from meshcore.protocol.membership.dialling import REFUSED_DELAY, Dialling
from meshcore.protocol.membership.handshake import Local, Nonces, Refusing
from meshcore.protocol.membership.link_events import (
    AskHolder,
    Evicted,
    Handshaken,
    NewsConnect,
    TakeIncarnation,
)
from meshcore.protocol.membership.link_table import LINKS_MAX, Effects, LinkTable
from meshcore.protocol.membership.pairs import Link, LinkState, Pair
from meshcore.protocol.membership.questions import Questions
from meshcore.protocol.wire.control import Flags, Hello, Refusal, Welcome

# After these the peer is expected to take us soon; any other refusal does not heal by asking again.
HEALING = (Refusal.DUPLICATE, Refusal.LEAVING, Refusal.STALE)
LEAVING = Refusing(Refusal.LEAVING, "node is leaving")


class Admission:
    """Judges who presents itself; `local` is how we do; `leaving` admits nobody any more."""

    def __init__(
        self,
        local: Local,
        nonces: Nonces,
        table: LinkTable,
        questions: Questions,
        dialling: Dialling,
        *,
        holder_of: Callable[[str], int | None],
        known_of: Callable[[str], tuple[int, int] | None],
    ) -> None:
        self.local = local
        self.leaving = False
        self._nonces = nonces
        self._table = table
        self._questions = questions
        self._dialling = dialling
        self._holder_of = holder_of
        self._known_of = known_of

    def on_hello(self, link: Link, hello: Hello, now: float) -> Effects:
        if link.dialled:
            return self.fault(link, "HELLO from the listener", now)
        if link.state is not LinkState.SILENT:
            return self.fault(link, "second HELLO", now)
        refusing = handshake.refusal_of(hello, self.local, now)
        refusing = refusing or self._no_room_for(hello)
        if refusing is not None:
            return self.refuse(link, refusing, now)
        link.peer = hello
        link.hello_nonce = hello.nonce
        if not hello.flags & Flags.EPHEMERAL:
            return self._admit(link, hello, now)
        nonce = self._nonces.take()
        answer = handshake.welcome(self.local, nonce, hello, 0, now)
        address = f"{self.local.node_id}{CLIENT_MARK}{nonce:x}"
        return [Send(link.number, answer), *self._table.join_as_client(link, address)]

    def on_welcome(self, link: Link, welcome: Welcome, now: float) -> Effects:
        if not link.dialled:
            return self.fault(link, "WELCOME from the dialler", now)
        if link.state is not LinkState.GREETING:
            return self.fault(link, "second WELCOME", now)
        flaw = handshake.flaw_of(welcome, self.local)
        if flaw is not None:
            return self.fault(link, flaw, now)
        assert link.url is not None
        link.peer = welcome
        self._dialling.identified(link.url, welcome.node_id)
        least = self.local.incarnation + 1  # that number itself is our own record
        effects = self.take_incarnation(welcome.known_incarnation, least=least)
        return effects + self._admit(link, welcome, now)

    def _no_room_for(self, hello: Hello) -> Refusing | None:
        if self.leaving:
            return LEAVING
        if self.local.flags & Flags.EPHEMERAL:
            return Refusing(Refusal.FULL, "an ephemeral client accepts nobody")
        # A pair that exists may be replaced: its old link goes as soon as the new one is up.
        is_client = hello.flags & Flags.EPHEMERAL
        replaces = not is_client and hello.node_id in self._table.pairs
        if self._table.admitted >= LINKS_MAX and not replaces:
            return Refusing(Refusal.FULL, f"node has {LINKS_MAX} links")
        return None

    def _admit(self, link: Link, peer: Hello | Welcome, now: float) -> Effects:
        """Let a peer in whose message is in order, unless its id may live elsewhere."""
        pair = self._table.pairs.get(peer.node_id)
        if pair is not None and pair.life == peer.life:
            return self._greet(link, peer, now)
        holder = self._holder_of(peer.node_id) if pair is None else pair.life
        if self._must_ask(peer, holder, now):
            assert holder is not None
            return self._ask(link, peer.node_id, holder, now)
        newer = self._newer_life(peer, pair)
        if newer is not None:
            # What is silent is not over for an older one: HELLO may have waited in a dead socket.
            reason = f"incarnation {peer.incarnation} is not newer than {newer}, known here"
            stale = Refusing(Refusal.STALE, reason, known_incarnation=newer)
            return self.refuse(link, stale, now)
        effects = [] if pair is None else self._table.end_life(pair, now)
        return effects + self._greet(link, peer, now)

    def _newer_life(self, peer: Hello | Welcome, pair: Pair | None) -> int | None:
        """The greatest incarnation of another life of this id, unless the peer's is greater."""
        known = self._known_of(peer.node_id)
        others = [] if known is None or known[1] == peer.life else [known[0]]
        if pair is not None:
            others.append(pair.incarnation)
        newest = max(others, default=-1)
        return newest if newest >= peer.incarnation else None

    def _must_ask(self, peer: Hello | Welcome, holder: int | None, now: float) -> bool:
        if holder is None or holder == peer.life:
            return False
        if self.local.flags & Flags.EPHEMERAL:
            return False  # a client takes its one node as it is, and has no route to ask by
        return not self._questions.is_over(peer.node_id, holder, now)

    def _ask(self, link: Link, node_id: str, holder: int, now: float) -> Effects:
        if link.state is not LinkState.ASKING:  # it may have waited for another life before
            link.become(LinkState.ASKING)
        is_new = self._questions.ask(node_id, holder, link.number, now)
        return [AskHolder(node_id, holder)] if is_new else []

    def on_holder_answered(self, node_id: str, life: int, description: str, now: float) -> Effects:
        """The old life goes on: those who waited are refused and told where it is."""
        refusing = Refusing(Refusal.TAKEN, handshake.taken(node_id, description))
        effects: Effects = []
        for number in self._questions.close(node_id, life):
            effects += self.refuse(self._table.links[number], refusing, now)
        return effects

    def on_holder_silent(self, node_id: str, life: int, now: float) -> Effects:
        """The old life is over; those who waited are judged again, in the order they came."""
        self._questions.remember_over(node_id, life, now)
        effects: Effects = []
        for number in self._questions.close(node_id, life):
            link = self._table.links[number]
            assert link.peer is not None
            effects += self._admit(link, link.peer, now)
        return effects

    def _greet(self, link: Link, peer: Hello | Welcome, now: float) -> Effects:
        """HELLO and WELCOME pass with this: the link joins its pair."""
        pair = self._table.pair_for(link)
        if pair is None:
            return self.fault(link, "nonce used twice", now)
        if link.dialled and pair.current is not None and pair.current.dialled:
            return self._table.close(link, "duplicate", now, bye=Refusal.DUPLICATE, orderly=True)
        self._table.join(pair, link)
        self._questions.forget_over(peer.node_id, peer.life)
        effects: Effects = []
        if isinstance(peer, Hello):
            known = self._known_of(peer.node_id)
            nonce, incarnation = self._nonces.take(), 0 if known is None else known[0]
            answer = handshake.welcome(self.local, nonce, peer, incarnation, now)
            effects.append(Send(link.number, answer))
        elif self.local.flags & Flags.EPHEMERAL:
            link.client_address = f"{peer.node_id}{CLIENT_MARK}{peer.nonce:x}"
            return self._table.heard(pair, link, now)
        effects.append(Handshaken(link.number, peer.node_id, peer.life, link.dialled))
        if isinstance(peer, Welcome) and peer.news_urls:
            effects.append(NewsConnect(link.number, peer.news_urls))
        if link.beat_turn:  # it came while we asked about its sender
            link.beat_turn = self._table.turn
            effects += self._table.heard(pair, link, now)
        return effects

    # -- refusals ---------------------------------------------------------------------------------

    def take_incarnation(self, known: int, *, least: int) -> Effects:
        """Be newer than the life of our id that a peer has heard of, if that is `least` or more."""
        if not least <= known < NUMBER_MAX - 1:
            return []
        self.local = replace(self.local, incarnation=known + 1)
        return [TakeIncarnation(known + 1)]

    def refuse(self, link: Link, refusing: Refusing, now: float) -> Effects:
        effects: Effects = [
            Send(link.number, handshake.refuse(self.local, refusing)),
            Count(f"refused: {refusing.code.name.lower()}"),
        ]
        if refusing.evicts_me:
            effects.append(Evicted("an older process holds this node id", self.local.node_id))
        delay = None if refusing.code in HEALING else REFUSED_DELAY
        return effects + self._table.close(
            link, f"refused: {refusing.reason}", now, orderly=True, delay=delay
        )

    def fault(self, link: Link, what: str, now: float) -> Effects:
        reason = f"protocol: {what}"
        return [Count(reason), *self._table.close(link, reason, now, delay=REFUSED_DELAY)]
