"""Election: the one master that every node computes for itself, without a message.

Intuition: nobody is asked and nobody votes. The master is a function of what is known anyway: who
lives, how old each one is, and who was forced. Nodes with the same view have the same master; in a
partition each side has one. It is a best-effort view and no lock: two nodes may take themselves for
the master for a moment, or for as long as they cannot reach each other.

    forced on, one     that one
    forced on, several the oldest of them, and `Contested`, so that somebody puts it right
    forced on, none    the oldest of those that are not forced off
    nobody left        None

Age is (scale, born), see `scale.py`; nodes on a smaller scale count as older until both have the
same one, and equals go by id. A view flickers while a mesh forms or heals, so the answer must have
been the same for `HOLD` before it counts. Only a node's own setter acts at once, on itself.

Contract: `update` for each node whose candidacy may have changed (None: it is dead, removed or
unknown), `on_tick` when `next_deadline` has come; both return MasterChanged and Contested. Each
update costs the same however many nodes there are, but for the loss of the best (one look at all).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

HOLD = 0.75  # seconds: all agree within one second of a stable view, timers included


class Candidate(NamedTuple):
    """What one node says about its age and its will; `forced` None: it is neutral."""

    scale: int
    born: float
    forced: bool | None = None


@dataclass(frozen=True, slots=True)
class MasterChanged:
    """Another node is master; None: there is no candidate."""

    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Contested:
    """Several nodes are forced on, the oldest first; empty: no longer."""

    node_ids: tuple[str, ...]


Effect: TypeAlias = MasterChanged | Contested
_Age: TypeAlias = tuple[int, float, str]


class Election:
    """Chooses among the candidates that one node knows. `node_id`: its own."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self.master: str | None = None
        self.contested: tuple[str, ...] = ()
        self._candidates: dict[str, Candidate] = {}
        self._neutral: dict[str, _Age] = {}
        self._forced_on: dict[str, _Age] = {}
        self._oldest: str | None = None  # of the neutral
        self._answer: tuple[str | None, tuple[str, ...]] = (None, ())
        self._due: float | None = None  # when the answer will have held

    def update(
        self, node_id: str, candidate: Candidate | None, now: float, *, at_once: bool = False
    ) -> list[Effect]:
        """A node's candidacy; `at_once`: it counts without having to hold (our own setter)."""
        if self._candidates.get(node_id) != candidate:
            self._take(node_id, candidate)
            self._compute(now)
        return self._settle() if at_once else []

    def on_tick(self, now: float) -> list[Effect]:
        return self._settle() if self._due is not None and now >= self._due else []

    def next_deadline(self) -> float | None:
        return self._due

    def check_invariants(self) -> None:
        ages = {node_id: _age(node_id, one) for node_id, one in self._candidates.items()}
        neutral = [age for one, age in ages.items() if self._candidates[one].forced is None]
        forced = sorted(age for one, age in ages.items() if self._candidates[one].forced)
        best = min(forced or neutral, default=None)
        assert self._answer[0] == (None if best is None else best[2])
        assert self._answer[1] == (tuple(age[2] for age in forced) if len(forced) > 1 else ())
        settled = self._answer == (self.master, self.contested)
        assert settled == (self._due is None)

    def _take(self, node_id: str, candidate: Candidate | None) -> None:
        self._neutral.pop(node_id, None)
        self._forced_on.pop(node_id, None)
        if candidate is None:
            del self._candidates[node_id]
        else:
            self._candidates[node_id] = candidate
            age = _age(node_id, candidate)
            if candidate.forced is None:
                self._neutral[node_id] = age
            elif candidate.forced:
                self._forced_on[node_id] = age
        oldest = None if self._oldest is None else self._neutral.get(self._oldest)
        if node_id == self._oldest or oldest is None:
            self._oldest = min(self._neutral.values())[2] if self._neutral else None
        elif node_id in self._neutral and self._neutral[node_id] < oldest:
            self._oldest = node_id

    def _compute(self, now: float) -> None:
        forced = tuple(age[2] for age in sorted(self._forced_on.values()))
        answer = (forced[0] if forced else self._oldest, forced if len(forced) > 1 else ())
        if answer == (self.master, self.contested):
            self._due = None
        elif answer != self._answer or self._due is None:
            self._due = now + HOLD
        self._answer = answer

    def _settle(self) -> list[Effect]:
        self._due = None
        master, contested = self._answer
        effects: list[Effect] = []
        if master != self.master:
            effects.append(MasterChanged(self.master, master))
        if contested != self.contested:
            effects.append(Contested(contested))
        self.master, self.contested = master, contested
        return effects


def _age(node_id: str, candidate: Candidate) -> _Age:
    return (candidate.scale, candidate.born, node_id)
