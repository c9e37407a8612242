"""Who is in the group: hand-over to another member, and who is replaced by whom.

The primary looks at who announces itself for the group. A member whose node shows another replica
is *lost*, with its disk; one that is not there for `replace_after` is *absent*, and is replaced
where a spare waits. First somebody who is there *learns*: it gets the log, and neither votes nor
counts. Once it has nearly all, the members change, in two steps, the second as soon as the first is
committed: so that the group is only for a moment in need of more than it will be in the end. A lost
member leaves before the new one joins: each member more that must be there would be one more that
can fail. One that is absent may come back, and counts then: it leaves after the new one has joined.

One change at a time, each an entry that is in force from when it is appended. Source: Ongaro
(2014), sections 4.1, 4.2, 3.10.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from meshcore.protocol.replication import quorum
from meshcore.protocol.replication.core import Leadership, Role
from meshcore.protocol.replication.effects import StateChanged
from meshcore.protocol.replication.leading import AWAY, Leading
from meshcore.protocol.replication.messages import Lead
from meshcore.protocol.replication.records import Kind, node_of

NEARLY: Final = 256  # entries that a learner may lack when it is made a member


class Membership(Leading):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._present: dict[str, None] = {}
        self._absent_since: dict[str, float] = {}
        self._target: str | None = None  # who is to lead
        self._hand_over_until = 0.0
        self._told_to_lead = False
        self._tried: dict[str, None] = {}  # who did not answer as a learner
        self._aside = False  # does not stand: its service hangs

    # Hand-over -----------------------------------------------------------------------------------

    def _designate(self, replica: str, now: float) -> None:
        if replica not in self.members:
            members = ", ".join(self.members)
            raise ValueError(f"{replica} is no member of this group: {members}")
        if self.role is not Role.PRIMARY:
            raise ValueError(f"{self.own} is not the primary; that is {self.primary or 'nobody'}")
        if replica != self.own:
            self._hand_over(replica, now)

    def _hand_over(self, replica: str, now: float) -> None:
        self._target, self._told_to_lead, self._handing_over = replica, False, True
        self._hand_over_until = now + self.timings.election_max
        self._look_at_hand_over(now)

    def _step_aside(self, now: float) -> None:
        self._aside = True
        if self.role is Role.PRIMARY:
            others = self.others()
            able = [name for name in others if name in self._present] or others
            if able:
                self._hand_over(max(able, key=lambda name: (self._match_of(name), name)), now)

    def _look_at_hand_over(self, now: float) -> None:
        """Tell the one who is to lead, once it has everything; go on if it does not take over."""
        if not self._handing_over or self._target is None:
            return
        if now >= self._hand_over_until:
            self._handing_over, self._target = False, None
            if self._aside:
                self._step_down(now)  # whoever leads next, it is not us
            return
        is_done = not self._waiting or self._aside
        if is_done and not self._told_to_lead and self._match_of(self._target) == self.journal.last:
            self._told_to_lead = True
            self._send(self._target, Lead(self.term))
            if self.leadership is Leadership.LEASE:
                self._step_down(now)  # the lease is needed there

    # Members -------------------------------------------------------------------------------------

    def _set_present(self, replicas: Iterable[str], now: float) -> None:
        self._present = dict.fromkeys(sorted(replicas))
        self._note_absence(now)
        self._look_at_members(now)

    def _note_absence(self, now: float) -> None:
        self._absent_since = {
            member: self._absent_since.get(member, now)
            for member in self.others()
            if member not in self._present
        }

    def _look_at_members(self, now: float) -> None:
        """Begin the next change, if one is due and none is under way."""
        if self.role is not Role.PRIMARY or not self.ready or self._handing_over:
            return
        if self._members[-1][0] > self.commit or not self._knows_who_is_there(now):
            return
        self._note_absence(now)
        outside = [name for name in self._present if name not in self.members and name != self.own]
        surplus = len(self.members) - self.size
        lost, absent = self._who_is_lost(outside), self._is_one_absent(now)
        for learner in [name for name in self.learners if name not in outside]:
            self._dismiss(learner)
        if surplus > 0:
            self._remove(lost or self._least_there(), now)
        elif surplus < 0 or lost is not None or absent:
            fit = self._teach(outside, now)
            if fit is None:
                return
            if surplus == 0 and lost is not None:
                self._remove(lost, now)
            else:
                del self.learners[fit]
                self._change((*self.members, fit), now)
        else:
            for learner in list(self.learners):  # whom it was to replace is back
                self._dismiss(learner)

    def _commit_to(self, index: int, now: float) -> None:
        is_changed = self.commit < self._members[-1][0] <= index
        super()._commit_to(index, now)
        if is_changed:
            self._look_at_members(now)  # the other half of a replacement

    def _who_is_lost(self, outside: list[str]) -> str | None:
        """A member whose node shows another replica."""
        nodes = {node_of(name) for name in outside}
        return next((name for name in self._absent_since if node_of(name) in nodes), None)

    def _is_one_absent(self, now: float) -> bool:
        """Whether a member is away for so long that somebody else is to take its place."""
        return any(
            now >= since + self.timings.replace_after for since in self._absent_since.values()
        )

    def _least_there(self) -> str:
        """Who leaves where there is one too many: who is away, longest first, else the newest."""
        if self._absent_since:
            return min(self._absent_since, key=lambda name: self._absent_since[name])
        return self.others()[-1]

    def _teach(self, outside: list[str], now: float) -> str | None:
        """Have one of these learn; returns who has learnt enough to be a member."""
        for learner in list(self.learners):
            if self._is_fit(learner, now):
                return learner
            if now >= self.peers[learner].heard_at + AWAY:
                self._dismiss(learner)
                self._tried[learner] = None
        fresh = [name for name in outside if name not in self._tried]
        if not fresh:
            self._tried.clear()  # they may be able to by now
        if not self.learners and outside:
            learner = (fresh or outside)[0]
            self.learners[learner] = None
            self.peers[learner] = self._new_progress(now)
            self._emit(StateChanged())
        return None

    def _is_fit(self, learner: str, now: float) -> bool:
        """Whether it can be a member: it answers, and has nearly all on its disk.

        Also where the log is short: a member that never answers is worse than none.
        """
        peer = self.peers[learner]
        answers = peer.match > 0 and now < peer.heard_at + self.timings.majority
        return answers and peer.match + NEARLY >= self.journal.last

    def _dismiss(self, learner: str) -> None:
        del self.learners[learner], self.peers[learner]
        self._emit(StateChanged())

    def _remove(self, member: str, now: float) -> None:
        """Remove it, unless those who are left would be too few to decide anything."""
        left = tuple(name for name in self.members if name != member)
        there = sum(name == self.own or name in self._present for name in left)
        if there >= quorum.majority(len(left)):
            self.peers.pop(member, None)
            self._change(left, now)

    def _knows_who_is_there(self, now: float) -> bool:
        """Whether a majority has confirmed lately that this is the primary.

        One that was paused has old announcements, and old replies wait for it; if it removed
        somebody and those who are left were gone, the group could never elect anybody again. So it
        counts when the round began that was confirmed, not when the replies were read.
        """
        return now < self._confirmed_at + self.timings.election_min

    def _change(self, members: tuple[str, ...], now: float) -> None:
        self._append(Kind.MEMBERS, list(members))
        self._flush(now)
