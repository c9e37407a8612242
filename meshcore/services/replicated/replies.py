"""Who waits for which request at this replica."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meshcore.protocol.replication.effects import Answered, Opened, Refusal, Refused

Reply = Callable[[Answered | Opened | Refused, str], None]  # and a traceback where there is one


class Replies:
    """`tracebacks` holds those of the latest failures, by their answers."""

    def __init__(self, tracebacks: Mapping[bytes, str]) -> None:
        self._tracebacks = tracebacks
        self._waiting: dict[int, Reply] = {}
        self._last = 0

    def add(self, reply: Reply) -> int:
        """The number under which the machine knows who waits."""
        self._last += 1
        self._waiting[self._last] = reply
        return self._last

    def tell(self, effect: Answered | Opened | Refused) -> None:
        """Pass on a reply."""
        reply = self._waiting.pop(effect.ref, None)
        if reply is not None:
            traceback = ""
            if self._tracebacks and isinstance(effect, Answered):
                traceback = self._tracebacks.get(effect.answer, "")
            reply(effect, traceback)

    def is_waiting(self, ref: int) -> bool:
        return ref in self._waiting

    def refuse_all(self) -> None:
        """Nobody is answered any more."""
        waiting, self._waiting = self._waiting, {}
        for ref, reply in waiting.items():
            reply(Refused(ref, Refusal.STOPPED), "")
