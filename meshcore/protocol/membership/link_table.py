"""The table of links: which there are, which one serves each pair, and how one ends.

Intuition: `links.py` holds the conversation of the handshake; here is what it acts upon. A link
enters by `add`, joins its pair (or the clients) when its handshake has passed, and leaves by
`close` (we end it) or `forget` (it has ended). The rules of `pairs.py` are applied here: on every
beat, and when a link that served is gone.

Contract: every method that changes something returns effects, in order; `turn` is advanced by the
owner once per input. The table tells `Dialling` what became of each dialled URL, exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from meshcore.protocol.machine import CloseLink, Count, Dial, Send, Timers
from meshcore.protocol.membership.dialling import Dialling
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
from meshcore.protocol.membership.pairs import Link, LinkState, Pair
from meshcore.protocol.membership.questions import Questions
from meshcore.protocol.wire.control import Bye, Refusal

LINKS_MAX = 1024
PENDING_MAX = 128  # accepted links whose handshake has not passed

LinkEffect: TypeAlias = (
    Dial | Send | CloseLink | Count | Handshaken | LinkUp | LinkDown | AskHolder
    | Refused | Evicted | TakeIncarnation | NewsConnect
)  # fmt: skip
Effects: TypeAlias = list[LinkEffect]


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """One link for status; `current`: it serves its pair, or an attached client."""

    link: int
    node_id: str | None
    dialled: bool
    url: str | None
    since: float
    state: LinkState
    current: bool
    client_address: str | None


class LinkTable:
    """Links by number, pairs by node id, attached clients by address, handshakes by deadline."""

    def __init__(self, node_id: str, dialling: Dialling, questions: Questions) -> None:
        self.turn = 0
        self.links: dict[int, Link] = {}
        self.pending: dict[int, None] = {}  # accepted, not admitted, oldest first
        self.pairs: dict[str, Pair] = {}
        self.clients: dict[str, int] = {}
        self.deadlines: Timers[int] = Timers()
        self.admitted = 0
        self._node_id = node_id
        self._dialling = dialling
        self._questions = questions

    # -- a link's way in --------------------------------------------------------------------------

    def add(self, link: Link, deadline: float) -> None:
        assert link.number not in self.links, f"link {link.number} exists"
        self.links[link.number] = link
        self.deadlines.set(link.number, deadline)
        if not link.dialled:
            self.pending[link.number] = None

    def oldest_silent(self) -> Link | None:
        """The accepted link that has waited longest without a word."""
        waiting = (self.links[number] for number in self.pending)
        return next((link for link in waiting if link.state is LinkState.SILENT), None)

    def pair_for(self, link: Link) -> Pair | None:
        """The pair that this link may join; None where its nonce was used by another link."""
        assert link.peer is not None
        node_id = link.peer.node_id
        pair = self.pairs.get(node_id)
        if pair is None:
            return Pair(node_id, link.peer.life, smaller_dials=self._node_id < node_id)
        return None if pair.has_nonce(link) else pair

    def join(self, pair: Pair, link: Link) -> None:
        self.pairs[pair.node_id] = pair
        pair.links[link.number] = link
        self._admit(link)

    def join_as_client(self, link: Link, address: str) -> Effects:
        """An ephemeral client attaches: it is up without a beat, and no pair."""
        self._admit(link)
        self._become_up(link)
        link.client_address = address
        self.clients[address] = link.number
        return [_link_up(link, None)]

    # -- one link per pair ------------------------------------------------------------------------

    def heard(self, pair: Pair, link: Link, now: float) -> Effects:
        """A beat came: the best link that is heard serves, what it makes superfluous goes."""
        if link.state is LinkState.GREETED:
            self._become_up(link)
        elif len(pair.links) == 1:
            return []
        best = pair.best_heard()
        assert best is not None
        effects: Effects = []
        old = pair.current
        if best is not old:
            effects += self._serve(pair, best, None if old is None else old.number, now)
            if old is not None:
                effects += self._retire(old, now)
                effects.append(_link_down(old, "duplicate", orderly=True, last=False))
        for loser in pair.losers(best):
            effects += self._retire(loser, now)
        return effects

    def is_linked(self, node_id: str, life: int) -> bool:
        """Whether a handshake with this very life has passed on some link."""
        pair = self.pairs.get(node_id)
        return pair is not None and pair.life == life

    def end_life(self, pair: Pair, now: float) -> Effects:
        """Close all links to a life that is over; should it only sleep, BYE tells it."""
        spare = [link for link in pair.links.values() if link is not pair.current]
        effects: Effects = []
        for link in [*spare, *([pair.current] if pair.current else [])]:
            effects += self.close(link, "restarted", now, bye=Refusal.EVICTED)
        return effects

    # -- a link's way out -------------------------------------------------------------------------

    def close(
        self,
        link: Link,
        reason: str,
        now: float,
        *,
        bye: int | None = None,
        orderly: bool = False,
        promote: bool = False,
        delay: float | None = None,
    ) -> Effects:
        """End a link, with a BYE of the code `bye` where one is given; see `forget`."""
        effects: Effects = []
        if bye is not None and link.state not in (LinkState.CONNECTING, LinkState.SILENT):
            effects.append(Send(link.number, Bye(int(bye), reason)))
        effects.append(CloseLink(link.number, reason))
        return effects + self.forget(
            link, reason, now, orderly=orderly, promote=promote, delay=delay
        )

    def forget(
        self,
        link: Link,
        reason: str,
        now: float,
        *,
        orderly: bool = False,
        promote: bool = False,
        delay: float | None = None,
    ) -> Effects:
        """A link has ended: another of its pair takes over where it served.

        Args:
            orderly: one end meant it.
            promote: the peer is known to have heard us on another link of the pair, so the best
                one takes over although no beat was heard on it here.
            delay: seconds until its URL is dialled again, instead of the usual back-off.
        """
        del self.links[link.number]
        self.deadlines.cancel(link.number)
        self.pending.pop(link.number, None)
        if link.state is LinkState.ASKING:
            self._questions.forget_link(link.number)
        effects: Effects = []
        served = False
        if link.is_admitted:
            self.admitted -= 1
            if link.is_client:
                assert link.client_address is not None
                del self.clients[link.client_address]
                effects.append(_link_down(link, reason, orderly=orderly, last=True))
            else:
                served, effects = self._leave_pair(
                    link, reason, now, orderly=orderly, promote=promote
                )
        self._tell_dialling(link, reason, now, served=served, delay=delay)
        return effects

    # -- reads ------------------------------------------------------------------------------------

    def info(self) -> tuple[LinkInfo, ...]:
        return tuple(
            LinkInfo(
                link=link.number,
                node_id=None if link.peer is None else link.peer.node_id,
                dialled=link.dialled,
                url=link.url,
                since=link.since,
                state=link.state,
                current=link.is_client or self._serves(link),
                client_address=link.client_address,
            )
            for link in self.links.values()
        )

    def check_invariants(self) -> None:
        admitted = {number for number, link in self.links.items() if link.is_admitted}
        assert len(admitted) == self.admitted
        pending = {n for n, one in self.links.items() if not one.dialled and n not in admitted}
        assert pending == self.pending.keys()
        assert len(pending) <= PENDING_MAX
        asking = {n for n, one in self.links.items() if one.state is LinkState.ASKING}
        assert asking == self._questions.waiting_links().keys()
        for number, link in self.links.items():
            assert number == link.number
            assert (number in self.deadlines) == (link.state is not LinkState.UP)
        paired: set[int] = set()
        for node_id, pair in self.pairs.items():
            assert pair.links
            assert node_id == pair.node_id
            paired |= pair.links.keys()
            for number, link in pair.links.items():
                assert link is self.links[number]
                assert link.peer is not None
                assert (link.peer.node_id, link.peer.life) == (node_id, pair.life)
            if pair.current is None:
                assert pair.best_heard() is None
            else:
                assert pair.links[pair.current.number].state is LinkState.UP
        assert paired.isdisjoint(self.clients.values())
        assert paired | set(self.clients.values()) == admitted

    # -- inside -----------------------------------------------------------------------------------

    def _admit(self, link: Link) -> None:
        link.become(LinkState.GREETED)
        link.greeted_turn = self.turn
        self.pending.pop(link.number, None)
        self.admitted += 1

    def _become_up(self, link: Link) -> None:
        link.become(LinkState.UP)
        self.deadlines.cancel(link.number)

    def _serve(self, pair: Pair, link: Link, replaces: int | None, now: float) -> Effects:
        pair.current = link
        self._dialling.node_up(pair.node_id)
        if link.url is not None:
            self._dialling.linked(link.url, pair.node_id, now)
        return [_link_up(link, replaces)]

    def _retire(self, link: Link, now: float) -> Effects:
        return self.close(link, "duplicate", now, bye=Refusal.DUPLICATE, orderly=True)

    def _serves(self, link: Link) -> bool:
        pair = None if link.peer is None else self.pairs.get(link.peer.node_id)
        return pair is not None and pair.current is link

    def _leave_pair(
        self, link: Link, reason: str, now: float, *, orderly: bool, promote: bool
    ) -> tuple[bool, Effects]:
        """Take a link out of its pair; returns whether it served, and what follows."""
        assert link.peer is not None
        pair = self.pairs[link.peer.node_id]
        served = pair.current is link
        del pair.links[link.number]
        effects: Effects = []
        if served:
            pair.current = None
            heir = pair.best() if promote else pair.best_heard()
            if heir is None:
                self._dialling.node_down(pair.node_id, now)
            else:
                if heir.state is LinkState.GREETED:
                    self._become_up(heir)
                effects += self._serve(pair, heir, link.number, now)
            effects.append(_link_down(link, reason, orderly=orderly, last=heir is None))
        if not pair.links:
            del self.pairs[pair.node_id]
        self._questions.recheck_soon(pair.node_id, now)
        return served, effects

    def _tell_dialling(
        self, link: Link, reason: str, now: float, *, served: bool, delay: float | None
    ) -> None:
        if link.url is None:
            return
        pair = None if link.peer is None else self.pairs.get(link.peer.node_id)
        if pair is not None and pair.current is not None:
            self._dialling.park(link.url, pair.node_id)
        elif served and delay is None:
            self._dialling.closed(link.url, reason, now)
        else:
            self._dialling.failed(link.url, reason, now, delay=delay)


def _link_up(link: Link, replaces: int | None) -> LinkUp:
    peer = link.peer
    assert peer is not None
    return LinkUp(
        link=link.number,
        node_id=peer.node_id,
        life=peer.life,
        incarnation=peer.incarnation,
        endpoints=peer.endpoints,
        flags=peer.flags,
        interval=peer.interval,
        scale=peer.scale,
        born=peer.born,
        dialled=link.dialled,
        url=link.url,
        client_address=link.client_address,
        replaces=replaces,
    )


def _link_down(link: Link, reason: str, *, orderly: bool, last: bool) -> LinkDown:
    assert link.peer is not None
    return LinkDown(link.number, link.peer.node_id, link.peer.life, reason, orderly, last)
