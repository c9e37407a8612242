"""Client sessions: which requests of a client had their effect, and what was answered.

A client numbers its requests and has at most `WINDOW` of them open. Answers are kept until it says
that it has them (`low`), so that a request which comes again, at whichever replica leads by then,
is answered as before and has no second effect. The table is part of the replicated state: it
changes only as entries are applied, and is equal on all replicas after the same entry.

Source: Ongaro (2014), section 6.3.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

WINDOW: Final = 64  # requests of a session that may be open
SESSION_BYTES: Final = 320  # what a session takes beside its answers, for bounds
ANSWER_BYTES: Final = 16
SESSIONS_MAX: Final = 4096  # beyond it the least recently used are evicted


class Session:
    __slots__ = ("answers", "client", "low", "used")

    def __init__(self, client: str, used: int) -> None:
        self.client = client
        self.used = used  # index of the last entry of this session
        self.low = 0  # every request below had its answer
        self.answers: dict[int, bytes] = {}


class Sessions:
    def __init__(self, plain: list[Any] | None = None) -> None:
        self._open: dict[int, Session] = {}
        for number, client, used, low, answers in plain or ():
            session = self._open[number] = Session(client, used)
            session.low = low
            session.answers = dict(answers)

    def __len__(self) -> int:
        return len(self._open)

    def plain(self) -> list[Any]:
        """The table as plain values, in an order that is the same everywhere."""
        return [
            [number, held.client, held.used, held.low, [list(i) for i in held.answers.items()]]
            for number, held in self._open.items()
        ]

    def get(self, session: int) -> Session | None:
        return self._open.get(session)

    def open(self, session: int, client: str) -> None:
        self._open[session] = Session(client, session)

    def evict(self, sessions: list[int]) -> None:
        for session in sessions:
            self._open.pop(session, None)

    def is_new(self, session: int, number: int) -> bool:
        """Whether a request has yet to have its effect; not if its session is gone."""
        held = self._open.get(session)
        return held is not None and number >= held.low and number not in held.answers

    def record(self, session: int, number: int, low: int, answer: bytes, index: int) -> None:
        """A request has had its effect, in the entry `index`."""
        held = self._open.pop(session)
        self._open[session] = held  # the least recently used are first
        held.used = index
        held.answers[number] = answer
        if low > held.low:
            held.low = low
            # From the oldest on: one that came out of turn is dropped when those before it are.
            answers = held.answers
            while (oldest := next(iter(answers), low)) < low:
                del answers[oldest]

    def victims(self) -> list[int]:
        """The sessions to evict, least recently used first, where there are too many."""
        spare = len(self._open) - SESSIONS_MAX
        if spare <= 0:
            return []
        return list(islice(self._open, spare))


def plain_size(session: list[Any]) -> int:
    """About how many bytes a session of the plain table takes."""
    return SESSION_BYTES + sum(ANSWER_BYTES + len(answer) for _, answer in session[4])
