"""How replicas that wait for each other become a group: all of its N members, or none.

A group is known by a random id. Whoever sees N candidates and is the first of them *binds* itself
to a new id with these N as its members, writes that down, and tells them; who hears it and is free
binds itself too, writes that down, and tells everyone. Who knows that all N are bound starts: the
group is formed. Everyone finds that out by itself, so it does not matter who dies on the way.

A candidate that is bound already, or does not want this, refuses the id, for good and on disk. One
refusal is enough for all who are bound to it to let go of it: the N can never be complete. So no
two groups that share a replica can both work, whatever is lost, late or restarted.

Complications: a member that is gone for good can neither bind itself nor refuse. After `GONE`, or
when its node shows another replica, the others refuse in its place, once they see that none of
them has started. Who comes to a name that has a
group already asks for its members, and joins it as a spare; the group takes it in when it needs it
(see `members`). Two groups under one name can only come from two halves of a mesh that had N
candidates each: that is told as a conflict, and never merged. Naming the nodes excludes it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from meshcore.protocol.replication.records import node_of

SETTLE = 0.5  # seconds that the candidates must have been the same before somebody binds itself
REPEAT = 0.5  # seconds after which those who have not answered are told again
PAUSE_MAX = 30.0  # seconds between attempts that others refuse
GONE = 10.0  # seconds without a sign of a member until it is taken for gone
REFUSED_MAX = 64  # ids that are remembered; older ones are of proposals that nobody repeats
GROUP_ID_BITS = 96
MEMBERS_MAX = 31

BOUND, REFUSED, ASK, FORMED = "bound", "refused", "ask", "formed"


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to another replica; it may be lost."""

    to: str
    message: list[Any]


@dataclass(frozen=True, slots=True)
class Save:
    """Write `record` down, then call `on_saved(token)`."""

    token: int
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Formed:
    """The group is formed; it was saved before. Whoever is no member is a spare."""

    gid: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two groups have this name, or nodes want different things; it is told once."""

    text: str


Effect: TypeAlias = Tell | Save | Formed | Conflict


class Formation:
    """Of one group name at one replica.

    Args:
        own: the id of this replica.
        replicas: how many members the group has.
        named: the nodes that are to be its members; None: the first that are there.
        record: what was saved last; None on a fresh disk.
    """

    def __init__(
        self,
        own: str,
        *,
        replicas: int,
        named: tuple[str, ...] | None,
        record: Mapping[str, Any] | None,
        rng: random.Random,
    ) -> None:
        self.own = own
        self._replicas = replicas
        self._named = None if named is None else frozenset(named)
        self._rng = rng
        record = record or {}
        self.gid: str | None = record.get("gid")  # bound to, or formed
        self.members: tuple[str, ...] = tuple(record.get("members") or ())
        self.formed: bool = bool(record.get("formed"))
        self._refused: dict[str, None] = dict.fromkeys(record.get("refused") or ())
        self._bound: dict[str, None] = {}  # members that are bound to our id, as we know
        self._seen: dict[str, str | None] = {}  # replicas that are there, and the ids they show
        self._seen_at: dict[str, float] = {}
        self._changed_at = 0.0  # when the candidates last changed
        self._repeat_at: float | None = None
        self._after: dict[int, Callable[[float], list[Effect]]] = {}
        self._token = 0
        self._failures = 0
        self._told: str | None = None

    # Inputs --------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Effect]:
        """Once; a group that was formed before goes on at once."""
        self._changed_at = now
        self._repeat_at = now + SETTLE
        if self.formed and self.gid is not None:
            return [Formed(self.gid, self.members)]
        if self.gid is not None:
            self._bound = {self.own: None}
            self._seen_at = dict.fromkeys(self.members, now)
            return self._tell_bound()
        return []

    def set_seen(self, seen: Mapping[str, str | None], now: float) -> list[Effect]:
        """Which other replicas of this name are there, and the ids of the groups they are in."""
        before, self._seen = self._seen, dict(sorted(seen.items()))
        there = {**before, **self._seen}  # who has just gone was there until now
        kept = {m: at for m, at in self._seen_at.items() if m in self.members}
        self._seen_at = {**kept, **dict.fromkeys(there, now)}
        if before != self._seen:
            self._changed_at = now
        effects = self._check_conflict()
        if self.gid is not None and not self.formed and self.gid in self._seen.values():
            effects += self._form()  # somebody knows that all of us are bound
        return effects

    def on_message(self, sender: str, message: Any, now: float) -> list[Effect]:
        """Whatever another replica of this name says; what makes no sense is ignored."""
        told = _parsed(message)
        if told is None:
            return []
        what, gid, members = told
        if sender in self._seen_at:
            self._seen_at[sender] = now
        if what == ASK:
            return [self._formed_to(sender)] if self.formed else []
        if what == BOUND:
            return self._on_bound(sender, gid, members, now)
        if what == REFUSED:
            return self._on_refused(sender, gid, now)
        return self._on_formed(gid, members)

    def on_saved(self, token: int, now: float) -> list[Effect]:
        """What was to be written is on disk."""
        then = self._after.pop(token, None)
        return [] if then is None else then(now)

    def on_tick(self, now: float) -> list[Effect]:
        """Bind, repeat, or give up, if it is time."""
        if self.formed or self._repeat_at is None or now < self._repeat_at:
            return []
        self._repeat_at = now + REPEAT * self._rng.uniform(0.8, 1.2)
        if self._after:
            return []  # the disk is slow: nothing can be said yet
        if self.gid is not None:
            return self._let_go(self.gid, now) if self._is_hopeless(now) else self._tell_bound()
        known = {gid for gid in self._seen.values() if gid is not None}
        if known:
            formed = [replica for replica, gid in self._seen.items() if gid is not None]
            return [Tell(self._rng.choice(formed), [ASK])] if len(known) == 1 else []
        chosen = self._chosen()
        if not chosen or chosen[0] != self.own or now < self._changed_at + SETTLE:
            return []
        return self._bind(f"{self._rng.getrandbits(GROUP_ID_BITS):024x}", chosen)

    def next_deadline(self) -> float | None:
        return None if self.formed else self._repeat_at

    # Decisions -----------------------------------------------------------------------------------

    def _chosen(self) -> tuple[str, ...]:
        """The members that a group would have now; empty where there are too few candidates."""
        free = sorted([self.own, *(r for r, gid in self._seen.items() if gid is None)])
        if self._named is not None:
            free = [replica for replica in free if node_of(replica) in self._named]
        return tuple(free[: self._replicas]) if len(free) >= self._replicas else ()

    def _wants(self, gid: str, members: tuple[str, ...]) -> bool:
        """Whether this replica may bind itself to that."""
        return (
            self.gid is None
            and gid not in self._refused
            and self.own in members
            and len(members) == self._replicas
            and (self._named is None or all(node_of(m) in self._named for m in members))
        )

    def _is_hopeless(self, now: float) -> bool:
        """Whether a member is gone before all were bound, as far as those who are left know."""
        gone = [m for m in self.members if self._is_gone(m, now)]
        left = [m for m in self.members if m not in gone and m != self.own]
        return any(m not in self._bound for m in gone) and all(m in self._seen for m in left)

    def _is_gone(self, member: str, now: float) -> bool:
        if member in self._seen or member == self.own:
            return False
        if any(node_of(replica) == node_of(member) for replica in self._seen):
            return True  # its node has another state now
        return now >= self._seen_at.get(member, now) + GONE

    # What they say -------------------------------------------------------------------------------

    def _on_bound(
        self, sender: str, gid: str, members: tuple[str, ...], now: float
    ) -> list[Effect]:
        if gid == self.gid:
            if self.formed:
                return [self._formed_to(sender)]
            if self._after or sender not in self.members:
                return []
            self._bound[sender] = None
            return self._form() if len(self._bound) == len(self.members) else []
        if sender not in members or self.own not in members:
            return []
        if self._wants(gid, members):
            return self._bind(gid, members, sender)
        if gid in self._refused:
            return [Tell(sender, [REFUSED, gid])]
        effects = self._check_wish(sender, members)
        self._remember_refused(gid)
        return [*effects, self._save(lambda at: [Tell(sender, [REFUSED, gid])])]

    def _on_refused(self, sender: str, gid: str, now: float) -> list[Effect]:
        if gid != self.gid or self.formed or sender not in self.members:
            return []
        return self._let_go(gid, now)

    def _on_formed(self, gid: str, members: tuple[str, ...]) -> list[Effect]:
        if self.formed or (self.gid is not None and self.gid != gid):
            return []  # whoever is bound elsewhere may be counted there
        self.gid, self.members = gid, members
        return self._form()

    # Steps ---------------------------------------------------------------------------------------

    def _bind(self, gid: str, members: tuple[str, ...], *known: str) -> list[Effect]:
        self.gid, self.members = gid, members
        self._bound = dict.fromkeys((self.own, *known))

        def then(now: float) -> list[Effect]:
            if self.gid != gid:
                return []  # it has been refused meanwhile
            for member in members:
                self._seen_at.setdefault(member, now)
            told = self._tell_bound()
            return told + self._form() if len(self._bound) == len(members) else told

        return [self._save(then)]

    def _form(self) -> list[Effect]:
        self.formed = True
        gid, members = self.gid, self.members
        assert gid is not None

        def then(now: float) -> list[Effect]:
            others = [m for m in members if m != self.own and self.own in members]
            return [*(self._formed_to(m) for m in others), Formed(gid, members)]

        return [self._save(then)]

    def _let_go(self, gid: str, now: float) -> list[Effect]:
        """The members of this id will never be complete."""
        others = [member for member in self.members if member != self.own]
        self.gid, self.members, self._bound = None, (), {}
        self._remember_refused(gid)
        self._failures += 1
        pause = min(SETTLE * 2 ** min(self._failures, 10), PAUSE_MAX)
        self._changed_at = now + pause * self._rng.uniform(0.5, 1.0)  # not all again at once
        return [self._save(lambda at: [Tell(member, [REFUSED, gid]) for member in others])]

    def _tell_bound(self) -> list[Effect]:
        message = [BOUND, self.gid, list(self.members)]
        return [Tell(member, message) for member in self.members if member != self.own]

    def _formed_to(self, to: str) -> Tell:
        return Tell(to, [FORMED, self.gid, list(self.members)])

    def _remember_refused(self, gid: str) -> None:
        self._refused[gid] = None
        while len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]

    def _save(self, then: Callable[[float], list[Effect]]) -> Save:
        self._token += 1
        self._after[self._token] = then
        return Save(self._token, self.record())

    def record(self) -> dict[str, Any]:
        """What has to be on disk."""
        return {
            "gid": self.gid,
            "members": list(self.members),
            "formed": self.formed,
            "refused": list(self._refused),
        }

    # Conflicts -----------------------------------------------------------------------------------

    def _check_conflict(self) -> list[Effect]:
        known = sorted({gid for gid in self._seen.values() if gid is not None})
        if self.formed and self.gid is not None:
            known = sorted({self.gid, *known})
        if len(known) < 2:
            return []
        where = [f"{gid} at {', '.join(self._nodes_of(gid))}" for gid in known]
        return self._conflict(
            f"{len(known)} groups have this name: {'; '.join(where)}. They are never merged:"
            " stop the nodes of one and delete its state"
        )

    def _check_wish(self, sender: str, members: tuple[str, ...]) -> list[Effect]:
        if len(members) == self._replicas:
            return []
        return self._conflict(
            f"{node_of(sender)} wants {len(members)} replicas, this node {self._replicas}"
        )

    def _conflict(self, text: str) -> list[Effect]:
        if text == self._told:
            return []
        self._told = text
        return [Conflict(text)]

    def _nodes_of(self, gid: str) -> list[str]:
        nodes = [node_of(replica) for replica, of in self._seen.items() if of == gid]
        return sorted([*nodes, node_of(self.own)] if self.gid == gid else nodes)


def _parsed(message: Any) -> tuple[str, str, tuple[str, ...]] | None:
    """(what, id, members) of a message as it should be."""
    if not isinstance(message, list | tuple) or not message:
        return None
    what, rest = message[0], list(message[1:])
    if what == ASK and not rest:
        return ASK, "", ()
    if not rest or not isinstance(rest[0], str) or not 1 <= len(rest[0]) <= 64:
        return None
    if what == REFUSED and len(rest) == 1:
        return REFUSED, rest[0], ()
    if what not in (BOUND, FORMED) or len(rest) != 2 or not isinstance(rest[1], list | tuple):
        return None
    members = tuple(rest[1])
    if not 1 <= len(members) <= MEMBERS_MAX or len(set(members)) != len(members):
        return None
    if not all(isinstance(m, str) and 0 < len(m) <= 256 for m in members):
        return None
    return what, rest[0], members
