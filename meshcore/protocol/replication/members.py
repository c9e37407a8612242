"""Who is in the group: hand-over to another member, and who is replaced by whom.

The primary looks at who announces itself for the group. A member whose node shows another replica
has lost its state: it is removed. A member that is not there for `replace_after` is removed where a
spare waits. Where members are missing somebody who is there *learns*: it gets the log, and neither
votes nor counts; once it has nearly all it is made a member. One change at a time, each an entry
that is in force from when it is appended. Source: Ongaro (2014), sections 4.1, 4.2, 3.10.
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
        for learner in [name for name in self.learners if name not in outside]:
            self._dismiss(learner)
        if len(self.members) < self.size:
            self._take_in(outside, now)
        else:
            self._replace_one(outside, now)

    def _take_in(self, outside: list[str], now: float) -> None:
        for learner in list(self.learners):
            if self._is_fit(learner, now):
                del self.learners[learner]
                self._change((*self.members, learner), now)
                return
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

    def _replace_one(self, outside: list[str], now: float) -> None:
        nodes = {node_of(name) for name in outside}
        for member, since in self._absent_since.items():
            lost = node_of(member) in nodes
            if not lost and not (outside and now >= since + self.timings.replace_after):
                continue
            left = tuple(name for name in self.members if name != member)
            there = sum(name == self.own or name in self._present for name in left)
            if there >= quorum.majority(len(left)):
                self.peers.pop(member, None)
                self._change(left, now)
                return

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
