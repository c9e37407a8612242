"""Bugs to plant in the replicas, to see that the simulator finds each of them.

A planted bug breaks one rule, in one place. `with planted(name):` breaks it until the block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from meshcore.protocol.replication import effects, quorum
from meshcore.protocol.replication.applying import Applying
from meshcore.protocol.replication.leading import Leading
from meshcore.protocol.replication.serving import Serving
from meshcore.protocol.replication.sessions import Sessions
from meshcore.protocol.replication.voting import Voting
from meshcore.sim.replicas.host import Host

_perform = Host._perform


def _acknowledged_before_disk(host: Host, effect: effects.Effect) -> None:
    _perform(host, effect)
    if isinstance(effect, effects.Persist):
        host.later(0.0001, host.feed, host.machine.on_persisted, effect.token)


def _forgets_its_vote(machine: Voting, sender: str, message: Any) -> bool:
    return (
        message.term == machine.term
        and machine.role.value == "replica"
        and machine._is_new_enough(message.last_term, message.last_index)
    )


def _counts_older_terms(machine: Leading, now: float) -> None:
    if machine.role.value == "primary":
        index = machine._on_disk_at_most()
        if index > machine.commit:
            machine._commit_to(index, now)


# name: (what it breaks, in words; where; the broken rule)
PLANTED: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "majority": (
        "a majority is one less than more than half",
        quorum, "majority", lambda count: max(1, count // 2),
    ),
    "log-check": (
        "votes for logs that lack what we have",
        Voting, "_is_new_enough", lambda machine, last_term, last_index: True,
    ),
    "vote-twice": ("votes more than once in a term", Voting, "_may_vote", _forgets_its_vote),
    "disk": (
        "says that something is on disk before it is",
        Host, "_perform", _acknowledged_before_disk,
    ),
    "commit": (
        "answers when the primary alone has the entry",
        Leading, "_on_disk_at_most", lambda machine: machine._durable,
    ),
    "older-terms": ("commits entries of older terms by counting", Leading, "_count",
                    _counts_older_terms),
    "checkpoint": (
        "keeps a state whose effects are not committed",
        Applying, "_may_keep", lambda machine, index: True,
    ),
    "sessions": (
        "a request that comes again has another effect",
        Sessions, "record", lambda table, session, number, low, answer, index: None,
    ),
    "reads": (
        "reads without asking whether it still leads",
        Serving, "_may_read", lambda machine, read: True,
    ),
}  # fmt: skip


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Break that rule until the block ends."""
    _, where, attribute, broken = PLANTED[name]
    whole = getattr(where, attribute)
    setattr(where, attribute, broken)
    try:
        yield
    finally:
        setattr(where, attribute, whole)
