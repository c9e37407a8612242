"""Calls of a replicated group: each has one effect, whoever leads while it is under way.

A client opens a session and numbers its calls. A call goes to the primary, as far as is known, and
again, with the same number, to whoever leads next, until it is answered or its time is over. The
group knows the number: it is not done twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from meshcore.errors import (
    AccessDeniedError,
    BadPayloadError,
    BusyError,
    DeadlineExceededError,
    MeshError,
    RPCConnectionError,
    RPCError,
    RPCNotFoundError,
    RPCTimeoutError,
    UnknownDirectiveError,
)  # fmt: skip
from meshcore.payload.values import decode_value
from meshcore.protocol.replication.effects import Refusal
from meshcore.protocol.replication.records import node_of
from meshcore.protocol.replication.sessions import WINDOW
from meshcore.services.directory import Offer
from meshcore.services.outcome import encode_request, outcome_of
from meshcore.services.replicated.carrier import Post
from meshcore.services.replicated.hedging import FLAGS, Hedging, has_failed

SUBMIT = "mesh:submit"
SESSION = "mesh:session"
TRY = 0.5  # seconds for one attempt, then somebody else is asked; longer each time
TRY_MAX = 4.0
PAUSE, PAUSE_MAX = 0.02, 0.2  # seconds between attempts
SUSPECT = 2.0  # seconds that a node which did not answer is asked last
SESSIONS_MAX = 4
WAITING_MAX = 4096


class _Session:
    """One session: the numbers that are under way."""

    def __init__(self, session: int) -> None:
        self.session = session
        self._next = 1
        self.open: dict[int, None] = {}  # in rising order
        self.gone = False

    @property
    def low(self) -> int:
        """Every call below has its answer, or nobody waits for it."""
        return next(iter(self.open), self._next)

    def has_room(self) -> bool:
        return not self.gone and self._next < self.low + WINDOW

    def take(self) -> int:
        number = self._next
        self._next += 1
        self.open[number] = None
        return number


class ReplicatedClient:
    """Calls `group` through `post`; `offers` tells who serves it now."""

    def __init__(
        self,
        group: str,
        *,
        client: str,
        post: Post,
        offers: Callable[[], Sequence[Offer]],
        refresh: Callable[[], Any],
    ) -> None:
        self.group = group
        self._client = client
        self._post = post
        self._hedging = Hedging(post)
        self._offers = offers
        self._refresh = refresh
        self._sessions: list[_Session] = []
        self._opening: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._unopened = ""  # why there is no session
        self._primary: str | None = None
        self._suspects: dict[str, float] = {}
        self._turn = 0
        self._known: Sequence[Offer] | None = None  # what the next was found out of
        self._attending: list[str] = []  # members of an active group

    async def call(
        self, method: str, args: Any, kwargs: dict[str, Any], *, timeout: float, read_only: bool
    ) -> Any:
        """The value; see `Group.call` for the errors."""
        request = encode_request(method, args, kwargs)
        deadline = time.monotonic() + timeout
        session = self._session_with_room() or await self._room(deadline)
        number = session.take()
        flags = 1 if read_only else 0
        asked: list[str] = []  # who may have done it

        def payload() -> list[Any]:
            return [self.group, session.session, number, session.low, request, flags]

        try:
            node, reply = await self._ask(SUBMIT, payload, deadline, asked)
        finally:
            session.open.pop(number, None)
            if self._waiting:
                self._give_room()
        if reply[0] == 0:
            outcome = decode_value(reply[1])
            if len(outcome) == 1:
                return outcome[0]
            if len(reply) > 2:
                outcome[1]["traceback"] = reply[2]
            return outcome_of(outcome, node_id=node, directive=f"{self.group}.{method}")
        may_have_run = bool(asked)  # an earlier attempt, of which nothing more was heard
        if reply[0] == Refusal.EVICTED:
            self._drop(session)
            raise RPCError(
                f"{self.group} has forgotten this client's session: whether {method} had its effect"
                " is not known",
                may_have_run=may_have_run,
            )
        raise BusyError(f"{self.group} has too much to do ({reply[0]})", may_have_run=may_have_run)

    async def _ask(
        self,
        directive: str,
        payload: Callable[[], list[Any]],
        deadline: float,
        asked: list[str],
    ) -> tuple[str, list[Any]]:
        """Ask until somebody gives a last word: an answer, or that it will never be one."""
        pause, patience, last = PAUSE, TRY, ""
        late: _Late | None = None
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._timed_out(last, asked)
            node = self._choose()
            if node is None:
                last = "nobody who serves it can be reached"
                await self._refresh()
            else:
                try:
                    reply = await self._send(node, directive, payload(), min(left, patience))
                except DeadlineExceededError as error:
                    last = f"{node} does not answer"
                    if error.may_have_run:
                        asked.append(node)
                    self._suspect(node)
                    patience = min(patience * 1.5, TRY_MAX)
                    left = deadline - time.monotonic()
                    if late is None and left > 0:
                        again = self._post(node, directive, payload(), timeout=min(left, TRY_MAX))
                        late = _Late(node, again)
                    continue
                except MeshError as error:
                    last = str(error)
                    if error.may_have_run and not isinstance(error, _NOT_RUN):
                        asked.append(node)
                    self._suspect(node)
                    reply = None
                if reply is not None:
                    if reply[0] == 0 or _is_last_word(reply[0], asked):
                        self._primary = node
                        return node, reply
                    last = f"{node}: {reply[0]}"
                    if reply[0] in (Refusal.DEMOTED, Refusal.STOPPED):
                        asked.append(node)
                    hint = None if reply[1] is None else node_of(reply[1])
                    known = hint is not None and hint not in self._suspects
                    self._primary = hint if known else None
                    if known and hint != node:
                        continue  # it knows who leads
            seconds = min(pause, max(0.0, deadline - time.monotonic()))
            pause = min(pause * 2, PAUSE_MAX)
            if late is None:
                await asyncio.sleep(seconds)
            elif await late.is_done(seconds):
                reply = late.reply()
                if reply is not None and (reply[0] == 0 or _is_last_word(reply[0], asked)):
                    self._suspects.pop(late.node, None)
                    self._primary = late.node
                    return late.node, reply
                late = None

    def _send(
        self, node: str, directive: str, payload: list[Any], timeout: float
    ) -> asyncio.Future[Any]:
        """One attempt; in an active group the first answer of two counts."""
        offers = self._offers()
        if offers is not self._known:
            self._known = offers
            active = [o.node for o in offers if o.replication == "active" and o.is_member]
            self._attending = active if len(active) > 1 else []
        if directive is SUBMIT and self._attending and not payload[FLAGS]:
            other = self._attending[self._attending[0] == node]
            first = self._post(node, directive, payload, timeout=timeout)
            self._hedging.watch(first, other, directive, payload, timeout)
            return first
        return self._post(node, directive, payload, timeout=timeout)

    def _timed_out(self, last: str, asked: list[str]) -> RPCError:
        text = f"{self.group}: no answer in time" + (f"; {last}" if last else "")
        if asked:
            return RPCTimeoutError(text, may_have_run=True)
        return RPCConnectionError(text, may_have_run=False)

    # Who to ask ----------------------------------------------------------------------------------

    def _choose(self) -> str | None:
        """The primary as far as it is known, else anybody, suspects last."""
        if self._primary is not None and not self._suspects:
            return self._primary  # whoever is wrong about that learns it from the answer
        offers = [offer for offer in self._offers() if offer.alive]
        nodes = {offer.node for offer in offers}
        now = time.monotonic()
        self._suspects = {node: until for node, until in self._suspects.items() if until > now}
        if self._primary in nodes and self._primary not in self._suspects:
            return self._primary
        leads = [offer for offer in offers if offer.role == "primary"]
        leads = [offer for offer in leads if offer.node not in self._suspects]
        if leads:
            return max(leads, key=lambda offer: offer.term).node
        able = sorted(nodes - self._suspects.keys()) or sorted(nodes)
        if not able:
            return None
        self._turn += 1
        return able[self._turn % len(able)]

    def _suspect(self, node: str) -> None:
        self._suspects[node] = time.monotonic() + SUSPECT
        if self._primary == node:
            self._primary = None

    # Sessions ------------------------------------------------------------------------------------

    def _session_with_room(self) -> _Session | None:
        for session in self._sessions:
            if session.has_room():
                return session
        return None

    async def _room(self, deadline: float) -> _Session:
        """Wait for a session with room for a call."""
        while (session := self._session_with_room()) is None:
            if len(self._waiting) >= WAITING_MAX:
                raise BusyError(
                    f"{WAITING_MAX} calls of {self.group} wait here", may_have_run=False
                )
            if len(self._sessions) < SESSIONS_MAX and self._opening is None:
                task = asyncio.get_running_loop().create_task(self._open(deadline))
                self._opening = task
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await waiter
            except TimeoutError:
                why = f"; {self._unopened}" if self._unopened else ""
                raise RPCConnectionError(
                    f"{self.group}: no answer in time; no session could be opened{why}",
                    may_have_run=False,
                ) from None
        return session

    async def _open(self, deadline: float) -> None:
        try:
            _, reply = await self._ask(SESSION, lambda: [self.group, self._client], deadline, [])
        except MeshError as error:  # the time of the call that began this is over
            self._unopened = str(error)
            self._opening = None
            self._give_room(len(self._waiting))  # those that have more time try again
            return
        self._unopened = ""
        self._opening = None
        if reply[0] == 0:
            self._sessions.append(_Session(reply[1]))
        self._give_room(WINDOW)

    def _give_room(self, count: int = 1) -> None:
        while self._waiting and count:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _drop(self, session: _Session) -> None:
        session.gone = True
        if session in self._sessions:
            self._sessions.remove(session)


class _Late:
    """One who did not answer in time is asked again, beside the others: it may only be slow.

    Or all calls would wait for as long as it is a suspect where its disk stood still for a moment,
    and everybody else names it as the one who leads.
    """

    def __init__(self, node: str, future: asyncio.Future[Any]) -> None:
        self.node = node
        self._future = future
        future.add_done_callback(has_failed)  # nobody may be left to look at it

    async def is_done(self, seconds: float) -> bool:
        """Whether it has answered, or never will, within so many seconds."""
        await asyncio.wait([self._future], timeout=seconds)
        return self._future.done()

    def reply(self) -> list[Any] | None:
        """What it said; None where it said nothing."""
        return None if has_failed(self._future) else self._future.result()


def _is_last_word(word: Any, asked: list[str]) -> bool:
    """Whether to ask on is of no use.

    A full queue is, for a call that cannot have run. One that may be in the log already has its
    answer there, or soon: it goes on asking.
    """
    if word == Refusal.BUSY:
        return not asked
    return word in (Refusal.EVICTED, Refusal.WINDOW)


# What a node says that did not take the call to its replica.
_NOT_RUN = (AccessDeniedError, BadPayloadError, BusyError, RPCNotFoundError, UnknownDirectiveError)
