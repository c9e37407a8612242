"""A simulated client: it opens a session, calls, and calls again with the same number elsewhere.

It gives a call up after a while, without knowing whether it had its effect, and goes on with the
next; if its session is gone it opens another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.records import Replication, node_of
from meshcore.protocol.replication.serving import Submitted
from meshcore.sim.replicas.history import MODULUS, READ, Called
from meshcore.sim.replicas.service import answer, request

if TYPE_CHECKING:
    from meshcore.sim.replicas.host import Host
    from meshcore.sim.replicas.world import World

Effects = list[effects.Effect]

TRY = 0.7  # seconds for one attempt
GIVE_UP = 5.0
OPEN_AT_ONCE = 3


@dataclass(slots=True)
class Pending:
    """A call under way, or (number 0) the opening of a session."""

    number: int
    called: Called | None
    attempt: int = 0


class Client:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.session: int | None = None
        self._number = 0
        self._open: dict[int, Pending] = {}
        self._target: str | None = None
        self._count = 0

    def begin(self) -> None:
        self._next()

    @property
    def idle(self) -> bool:
        return all(pending.called is None for pending in self._open.values())

    @property
    def low(self) -> int:
        return min((number for number in self._open if number), default=self._number + 1)

    def _next(self) -> None:
        """Call once more, after a while."""
        world = self.world
        if world.now < world.calls_until:
            world.after(world.rng.expovariate(1 / world.pause), self._next)
            if self.session is None:
                if 0 not in self._open:
                    self._open[0] = Pending(0, None)
                    self._try(self._open[0])
            elif len(self._open) < OPEN_AT_ONCE:
                self._call()

    def _call(self) -> None:
        world, rng = self.world, self.world.rng
        self._count += 1
        self._number += 1
        operation = rng.choice(("add", "minus", "multiply", "add", READ))
        called = Called(
            f"{self.name}-{self._count}", operation, rng.randrange(2, MODULUS), world.now
        )
        world.calls.append(called)
        pending = self._open[self._number] = Pending(self._number, called)
        # Now and then at once: then a copy that is on its way comes after later calls.
        world.after(GIVE_UP if rng.random() < 0.95 else 0.01, self._give_up, pending)
        self._try(pending)

    def _give_up(self, pending: Pending) -> None:
        if self._open.get(pending.number) is pending:
            del self._open[pending.number]

    # Attempts ------------------------------------------------------------------------------------

    def _try(self, pending: Pending) -> None:
        if self._open.get(pending.number) is not pending:
            return
        pending.attempt += 1
        world = self.world
        world.after(TRY, self._again, pending, pending.attempt)
        target = self._target or world.rng.choice(sorted(world.hosts))
        attend = (
            world.replication is Replication.ACTIVE
            and pending.number > 0
            and world.rng.random() < 0.1
        )
        if attend:
            target = world.rng.choice(sorted(world.hosts))
        delay = world.network.delay()
        if delay is not None and world.network.passes(self.name, target):
            # What `low` says is of now: a copy that comes late says what is no longer so.
            sent = pending, pending.attempt, self.session, self.low
            world.after(delay, self._arrive, target, attend, *sent)

    def _again(self, pending: Pending, attempt: int) -> None:
        if pending.attempt == attempt:
            self._target = None
            self._try(pending)

    def _arrive(
        self,
        target: str,
        attend: bool,
        pending: Pending,
        attempt: int,
        session: int | None,
        low: int,
    ) -> None:
        """It arrives, also where the client has given the call up meanwhile."""
        host = self.world.hosts[target]
        if not host.up:
            return
        ref = self.world.new_ref(self, pending, attempt)
        called = pending.called
        if called is None:
            host.feed(host.machine.open, ref, self.name)
            return
        if session is None:
            return
        if attend and called.operation != READ:
            host.feed(_with(host.machine.attend, session=session, number=pending.number), ref)
            return
        wanted = request(called.id, called.operation, called.argument)
        submitted = Submitted(
            ref, session, pending.number, low, wanted, 1e9 + self.world.now,
            called.operation == READ,
        )  # fmt: skip
        host.feed(host.machine.submit, submitted)

    # Replies -------------------------------------------------------------------------------------

    def on_reply(self, host: Host, effect: effects.Effect, pending: Pending, attempt: int) -> None:
        """A reply leaves; it may get lost."""
        delay = self.world.network.delay()
        if delay is not None and self.world.network.passes(host.node, self.name):
            self.world.after(delay, self._hear, effect, pending, attempt, host.node)

    def _hear(self, effect: effects.Effect, pending: Pending, attempt: int, node: str) -> None:
        if self._open.get(pending.number) is not pending:
            return
        world = self.world
        if isinstance(effect, effects.Answered):
            assert pending.called is not None
            pending.called.end, pending.called.answer = world.now, answer(effect.answer)
            del self._open[pending.number]
            self._target = node
        elif isinstance(effect, effects.Opened):
            del self._open[0]
            self._open.clear()
            self.session, self._number, self._target = effect.session, 0, node
        elif isinstance(effect, effects.Refused):
            self._refused(effect, pending, attempt)

    def _refused(self, effect: effects.Refused, pending: Pending, attempt: int) -> None:
        if effect.reason is effects.Refusal.EVICTED:
            self.session = None
            self._open.clear()
            return
        if effect.reason is effects.Refusal.WINDOW:
            del self._open[pending.number]
            return
        self._target = None if effect.primary is None else node_of(effect.primary)
        if pending.attempt == attempt:
            pending.attempt += 1  # the timer of this attempt is void
            self.world.after(self.world.rng.uniform(0.01, 0.1), self._try, pending)


def _with(method: Callable[..., Effects], **settings: Any) -> Callable[[int, float], Effects]:
    """`method` with these arguments."""

    def call(ref: int, now: float) -> Effects:
        return method(ref, now=now, **settings)

    return call
