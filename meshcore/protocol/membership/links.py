"""Links: dialling, HELLO/WELCOME, who may come in, and exactly one link per pair of nodes.

Intuition: every connection bundle has a number and goes through the states of `pairs.LinkState`.
A link between nodes is up when HELLO and WELCOME have passed and a beat was heard on it; the other
end learns the same from our beat. Ephemeral clients need HELLO and WELCOME only.

Contract: inputs are `on_*` methods, each with the time, each returning effects to be performed in
order: Dial, Send, CloseLink, Count of `machine.py` and those of `link_events.py`. Accepted links
have numbers given by the transport (even), dialled ones are numbered here (odd). A link is
forgotten as soon as CloseLink is returned: what is still reported of it yields nothing. Whatever a
peer says wrong closes its link with a reason that starts with "protocol: ".

The owner sends a beat at once on `Handshaken`, then at its interval on `beat_links()`; it feeds
beats to `on_beat`, all other messages to `on_other` first, and uses them where `node_of` names
their sender.

Complications:
- An id that is reachable with another life is not taken over before its holder was asked
  (`questions.py`); a life that is over has its links closed as "restarted" before the new life gets
  its WELCOME. A holder to whom only our own link leads is asked too: the ping takes that link.
- Of several links to one life one stays (`pairs.py`). A second dial of our own to a node that we
  have dialled already is given up before its first beat, so that an alias URL moves nothing.
- A Bye(DUPLICATE) proves that the sender has heard our beat on another link of the pair: where we
  have not heard its own beat there yet, we go over at once instead of being without a link.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from meshcore.protocol.machine import CloseLink, Count, Send
from meshcore.protocol.membership import handshake
from meshcore.protocol.membership.admission import HEALING, LEAVING, Admission
from meshcore.protocol.membership.dialling import REFUSED_DELAY, Dialling, DialStatus
from meshcore.protocol.membership.handshake import Local, Nonces
from meshcore.protocol.membership.link_events import Evicted, Refused
from meshcore.protocol.membership.link_table import PENDING_MAX, Effects, LinkInfo, LinkTable
from meshcore.protocol.membership.pairs import Link, LinkState
from meshcore.protocol.membership.questions import Questions
from meshcore.protocol.wire.control import Beat, Bye, Hello, Refusal, Refuse, Welcome

CONNECT_TIMEOUT = 3.0
HANDSHAKE_TIMEOUT = 5.0  # from the connection to the first beat, the question included

_TIMED_OUT = {
    LinkState.CONNECTING: f"no connection within {CONNECT_TIMEOUT:g} s",
    LinkState.GREETING: f"no WELCOME within {HANDSHAKE_TIMEOUT:g} s",
    LinkState.SILENT: f"no HELLO within {HANDSHAKE_TIMEOUT:g} s",
    LinkState.ASKING: f"handshake not complete within {HANDSHAKE_TIMEOUT:g} s",
    LinkState.GREETED: f"no beat within {HANDSHAKE_TIMEOUT:g} s",
}
_FATAL_BYES = (Refusal.TAKEN, Refusal.EVICTED)


class Links:
    """All links of this node and the URLs that it dials.

    Args:
        local: how this node presents itself; `set_local` replaces it.
        rng: of jitter and nonces.
        holder_of: the life with which a node id is reachable by any route, or None.
        known_of: (greatest known incarnation, its life) of a node id, or None.
    """

    def __init__(
        self,
        local: Local,
        rng: random.Random,
        *,
        holder_of: Callable[[str], int | None],
        known_of: Callable[[str], tuple[int, int] | None],
    ) -> None:
        self._nonces = Nonces(rng)
        self._dialling = Dialling(rng, reachable=lambda node_id: holder_of(node_id) is not None)
        self._questions = Questions(holder_of)
        self._table = LinkTable(local.node_id, self._dialling, self._questions)
        self._admission = Admission(
            local,
            self._nonces,
            self._table,
            self._questions,
            self._dialling,
            holder_of=holder_of,
            known_of=known_of,
        )

    # -- commands of the node ---------------------------------------------------------------------

    @property
    def local(self) -> Local:
        return self._admission.local

    def set_local(self, local: Local) -> None:
        """Present ourselves like this from the next HELLO or WELCOME on."""
        assert (local.node_id, local.life) == (self.local.node_id, self.local.life)
        self._admission.local = local

    def add_peer(self, url: str, now: float) -> Effects:
        """Dial a configured URL until it leads to a link; ConfigError if there are too many."""
        self._dialling.add(url, now)
        return self._start_dials(now)

    def learn(self, node_id: str, urls: tuple[str, ...], now: float) -> Effects:
        """Dial the advertised URLs of a node; what is beyond the bound is not taken."""
        if node_id != self.local.node_id:
            for url in urls:
                self._dialling.learn(url, node_id, now)
        return self._start_dials(now)

    def unlearn(self, urls: tuple[str, ...]) -> None:
        """Dial these learnt URLs no more; what they led to stays linked."""
        for url in urls:
            self._dialling.unlearn(url)

    def is_in_vain(self, node_id: str) -> bool:
        """Whether every URL that was learnt for a node has failed or led elsewhere."""
        return self._dialling.in_vain(node_id)

    def remove_peer(self, url: str, now: float) -> Effects:
        """Dial a URL no more and close the link that was dialled under it."""
        self._dialling.remove(url)
        effects: Effects = []
        for link in [one for one in self._table.links.values() if one.url == url]:
            effects += self._table.close(link, "peer removed", now, bye=0, orderly=True)
        return effects

    def drop(self, number: int, reason: str, now: float, *, code: int | None = None) -> Effects:
        """Close a link on our own account; with `code`, a BYE tells the peer (orderly)."""
        link = self._table.links.get(number)
        if link is None:
            return []
        return self._table.close(link, reason, now, bye=code, orderly=code is not None)

    def leave(self, now: float) -> Effects:
        """Dial nobody and admit nobody from now on; links that are up stay until dropped."""
        self._admission.leaving = True
        self._dialling.stop()
        effects: Effects = []
        for link in list(self._table.links.values()):
            if link.state is LinkState.ASKING and not link.dialled:
                effects += self._admission.refuse(link, LEAVING, now)
            elif link.state not in (LinkState.SILENT, LinkState.UP):
                effects += self._table.close(link, "leaving", now, bye=Refusal.LEAVING)
        return effects

    # -- inputs -----------------------------------------------------------------------------------

    def on_tick(self, now: float) -> Effects:
        self._table.turn += 1
        effects: Effects = []
        for number in self._table.deadlines.pop_due(now):
            link = self._table.links[number]
            reason = _TIMED_OUT[link.state]
            effects += [Count(reason), *self._table.close(link, reason, now)]
        # One verdict may close links to another holder, whose question then is due at once too.
        while silent := self._questions.settled(now, self._table.is_linked):
            for node_id, life in silent:
                effects += self._admission.on_holder_silent(node_id, life, now)
        return effects + self._start_dials(now)

    def on_accepted(self, number: int, now: float) -> Effects:
        """The transport has accepted a link; its HELLO is awaited."""
        self._table.turn += 1
        effects: Effects = []
        if len(self._table.pending) >= PENDING_MAX:
            # Who has said nothing for longest makes room: others must get through a flood.
            oldest = self._table.oldest_silent()
            effects.append(Count("too many handshakes"))
            if oldest is None:
                return [*effects, CloseLink(number, "too many handshakes")]
            effects += self._table.close(oldest, "too many handshakes", now)
        link = Link(number, dialled=False, url=None, state=LinkState.SILENT, since=now)
        self._table.add(link, now + HANDSHAKE_TIMEOUT)
        return effects

    def on_connected(self, number: int, now: float) -> Effects:
        """A dialled link has its connections: HELLO goes first."""
        self._table.turn += 1
        link = self._table.links.get(number)
        if link is None or link.state is not LinkState.CONNECTING:
            return []
        link.become(LinkState.GREETING)
        link.hello_nonce = self._nonces.take()
        self._table.deadlines.set(number, now + HANDSHAKE_TIMEOUT)
        return [Send(number, handshake.hello(self.local, link.hello_nonce, now))]

    def on_dial_failed(self, number: int, reason: str, now: float) -> Effects:
        return self.on_closed(number, reason, now)

    def on_closed(self, number: int, reason: str, now: float) -> Effects:
        """The transport has lost a link."""
        self._table.turn += 1
        link = self._table.links.get(number)
        return [] if link is None else self._table.forget(link, reason, now)

    def on_message(
        self, number: int, message: Hello | Welcome | Refuse | Bye, now: float
    ) -> Effects:
        self._table.turn += 1
        link = self._table.links.get(number)
        if link is None:
            return []
        if link.state is LinkState.CONNECTING:
            return self._admission.fault(link, "message before the connection", now)
        match message:
            case Hello():
                return self._admission.on_hello(link, message, now)
            case Welcome():
                return self._admission.on_welcome(link, message, now)
            case Refuse():
                return self._on_refuse(link, message, now)
            case Bye():
                return self._on_bye(link, message, now)

    def on_beat(self, number: int, beat: Beat, now: float) -> Effects:
        """A beat was heard on this link, on whichever of its lanes."""
        self._table.turn += 1
        link = self._table.links.get(number)
        if link is None:
            return []
        if link.peer is None:
            return self._admission.fault(link, "beat before the handshake", now)
        if (beat.node_id, beat.life) != (link.peer.node_id, link.peer.life):
            return self._admission.fault(link, "beat of another node", now)
        link.beat_turn = self._table.turn
        if not link.is_admitted or link.client_address is not None:
            return []
        self._questions.forget_over(beat.node_id, beat.life)
        return self._table.heard(self._table.pairs[link.peer.node_id], link, now)

    def on_other(self, number: int, now: float) -> Effects:
        """A message of any other kind came: a fault before the handshake."""
        link = self._table.links.get(number)
        if link is None or link.peer is not None:
            return []
        return self._admission.fault(link, "message before the handshake", now)

    def on_holder(
        self, node_id: str, life: int, answered: bool, description: str, now: float
    ) -> Effects:
        """The holder of an id has answered `AskHolder`, or was silent for 1 s."""
        self._table.turn += 1
        if not self._questions.is_open(node_id, life):
            return []
        if answered:
            return self._admission.on_holder_answered(node_id, life, description, now)
        return self._admission.on_holder_silent(node_id, life, now)

    def next_deadline(self) -> float | None:
        deadlines = (
            self._table.deadlines.next_deadline(),
            self._questions.next_deadline(),
            self._dialling.next_deadline(),
        )
        return min((one for one in deadlines if one is not None), default=None)

    # -- reads ------------------------------------------------------------------------------------

    def links(self) -> tuple[LinkInfo, ...]:
        return self._table.info()

    def dials(self, now: float) -> tuple[DialStatus, ...]:
        return self._dialling.snapshot(now)

    def link_to(self, node_id: str, life: int | None = None) -> int | None:
        """The link that serves the pair with this node (with this life of it), None without one."""
        pair = self._table.pairs.get(node_id)
        if pair is None or pair.current is None or life not in (None, pair.life):
            return None
        return pair.current.number

    def link_of_client(self, address: str) -> int | None:
        """The link of an ephemeral client that is attached here (`node~nonce`)."""
        return self._table.clients.get(address)

    def node_of(self, number: int) -> str | None:
        """Who is at the other end, None before the handshake has passed."""
        link = self._table.links.get(number)
        return link.peer.node_id if link and link.peer and link.is_admitted else None

    def is_client(self, number: int) -> bool:
        """Whether an ephemeral client is attached by this link."""
        link = self._table.links.get(number)
        return link is not None and link.is_client

    def beat_links(self) -> tuple[int, ...]:
        """The links between nodes on which beats are due, spare ones included."""
        return tuple(
            link.number
            for link in self._table.links.values()
            if link.is_admitted and link.client_address is None
        )

    def check_invariants(self) -> None:
        self._table.check_invariants()
        self._questions.check_invariants()
        self._dialling.check_invariants()

    # -- handshake --------------------------------------------------------------------------------

    def _start_dials(self, now: float) -> Effects:
        effects: Effects = []
        for dial in self._dialling.start_due(now):
            link = Link(dial.link, True, dial.url, LinkState.CONNECTING, now)
            self._table.add(link, now + CONNECT_TIMEOUT)
            effects.append(dial)
        return effects

    # -- endings ----------------------------------------------------------------------------------

    def _on_refuse(self, link: Link, refuse: Refuse, now: float) -> Effects:
        if link.state is LinkState.SILENT:
            return self._admission.fault(link, "first message is not HELLO", now)
        reason = refuse.reason or f"code {refuse.code}"
        effects: Effects = []
        if refuse.code == Refusal.SELF and refuse.node_id == self.local.node_id:
            if link.url is not None:
                self._dialling.remove(link.url)
        elif refuse.code == Refusal.STALE:
            least = self.local.incarnation  # another life may have this very number
            effects += self._admission.take_incarnation(refuse.known_incarnation, least=least)
        elif refuse.code == Refusal.TAKEN:
            effects.append(Refused(reason, refuse.node_id))
        elif refuse.code == Refusal.EVICTED:
            effects.append(Evicted(reason, refuse.node_id))
        delay = None if refuse.code in HEALING else REFUSED_DELAY
        return effects + self._table.close(
            link, f"refused: {reason}", now, orderly=True, delay=delay
        )

    def _on_bye(self, link: Link, bye: Bye, now: float) -> Effects:
        if link.state is LinkState.SILENT:
            return self._admission.fault(link, "first message is not HELLO", now)
        reason = bye.reason or f"code {bye.code}"
        effects: Effects = []
        if bye.code in _FATAL_BYES:
            effects.append(Evicted(reason, "" if link.peer is None else link.peer.node_id))
        return effects + self._table.close(
            link, reason, now, orderly=True, promote=bye.code == Refusal.DUPLICATE
        )
