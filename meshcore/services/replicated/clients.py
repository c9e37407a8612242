"""Clients of one replica: what they ask for, and who waits for which answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from meshcore.protocol.replication.effects import Answered, Effect, Refusal, Refused, Reply
from meshcore.protocol.replication.replica import Replica
from meshcore.protocol.replication.serving import Submitted

ATTEND_WAIT = 5.0  # seconds that a request is attended: longer than any attempt of a client
Take = Callable[[Reply, str], None]  # and a traceback where there is one


class Clients:
    """`machine` gives the replica, None where there is none yet, or no more; `perform` does what it
    wants; `tracebacks` are those of the latest failures, by their answers.
    """

    def __init__(
        self,
        machine: Callable[[], Replica | None],
        perform: Callable[[Iterable[Effect]], None],
        tracebacks: Mapping[bytes, str],
    ) -> None:
        self._machine = machine
        self._perform = perform
        self._tracebacks = tracebacks
        self._waiting: dict[int, Take] = {}
        self._last = 0

    def submit(
        self, session: int, number: int, low: int, request: bytes, read_only: bool, reply: Take
    ) -> None:
        """A call; `reply` is called with Answered or Refused."""
        ref, machine = self._add(reply), self._machine()
        if machine is None:
            self.tell(Refused(ref, Refusal.NOT_READY))
            return
        call = Submitted(ref, session, number, low, request, time.time(), read_only)
        self._perform(machine.submit(call, time.monotonic()))

    def open(self, client: str, reply: Take) -> None:
        """Open a session; `reply` is called with Opened or Refused."""
        ref, machine = self._add(reply), self._machine()
        if machine is None:
            self.tell(Refused(ref, Refusal.NOT_READY))
        else:
            self._perform(machine.open(ref, client, time.monotonic()))

    def attend(self, session: int, number: int, reply: Take) -> None:
        """Answer once that request has had its effect here."""
        ref, machine = self._add(reply), self._machine()
        if machine is None:
            self.tell(Refused(ref, Refusal.NOT_READY))
            return
        now = time.monotonic()
        self._perform(machine.attend(ref, session=session, number=number, now=now))
        asyncio.get_running_loop().call_later(ATTEND_WAIT, self._attended_long, ref)

    def _attended_long(self, ref: int) -> None:
        """Whoever asked has asked again since, or is gone: that request may never come here."""
        machine = self._machine()
        if machine is not None and ref in self._waiting:
            machine.forget(ref)
            self.tell(Refused(ref, Refusal.NOT_PRIMARY))

    def _add(self, reply: Take) -> int:
        """The number under which the machine knows who waits."""
        self._last += 1
        self._waiting[self._last] = reply
        return self._last

    def tell(self, effect: Reply) -> None:
        """Pass on a reply."""
        reply = self._waiting.pop(effect.ref, None)
        if reply is not None:
            traceback = ""
            if self._tracebacks and isinstance(effect, Answered):
                traceback = self._tracebacks.get(effect.answer, "")
            reply(effect, traceback)

    def refuse_all(self) -> None:
        """Nobody is answered any more."""
        waiting, self._waiting = self._waiting, {}
        for ref, reply in waiting.items():
            reply(Refused(ref, Refusal.STOPPED), "")
