"""One simulated process with a replica: its disk, its service, its timer, its pauses.

The disk writes one thing after the other and takes its time; what is not written when the process
dies is lost. The service runs one call at a time. While the process is paused everything that comes
waits, and is then handled late, at the time it has become.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meshcore.protocol.replication import effects
from meshcore.protocol.replication.plain import (
    checkpoint_of,
    decode,
    encode,
    entry_of,
    plain_checkpoint,
    plain_entry,
)  # fmt: skip
from meshcore.protocol.replication.records import Checkpoint, Entry, Stored
from meshcore.protocol.replication.replica import Replica
from meshcore.sim.replicas.service import Counter

if TYPE_CHECKING:
    from meshcore.sim.replicas.world import World


# What a stopped replica may still say: it answers nobody, and gives back a lease that comes late.
STILL = (effects.Refused, effects.ReleaseLease)


class Disk:
    """What would be read after a crash."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.term = 0
        self.voted_for: str | None = None
        self.checkpoint = plain_checkpoint(Checkpoint(0, 0, members, [], None))
        self.entries: dict[int, list[Any]] = {}

    def write(self, effect: effects.Persist) -> None:
        if effect.term is not None:
            self.term, self.voted_for = effect.term, effect.voted_for
        if effect.checkpoint is not None:
            self.checkpoint = plain_checkpoint(effect.checkpoint)
            if effect.reset:
                self.entries.clear()
            for index in [index for index in self.entries if index < effect.keep_from]:
                del self.entries[index]
        if effect.entries:
            first = effect.entries[0].index
            for index in [index for index in self.entries if index >= first]:
                del self.entries[index]
            for entry in effect.entries:
                self.entries[entry.index] = plain_entry(entry)

    def read(self) -> Stored:
        entries: list[Entry] = [entry_of(self.entries[index]) for index in sorted(self.entries)]
        return Stored(self.term, self.voted_for, checkpoint_of(self.checkpoint), tuple(entries))


class Host:
    def __init__(self, world: World, node: str) -> None:
        self.world = world
        self.node = node
        self.own = ""
        self.disk = Disk(("",))
        self.up = False
        self.life = 0  # counts the starts: what belongs to another is dropped
        self.paused_until = 0.0
        self.machine: Replica
        self.service = Counter()
        self.stopped = ""
        self.disk_failed = False
        self._write_fails = False

    # Life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        self.up = True
        self.life += 1
        self.paused_until = 0.0
        self.service = Counter()
        self._inbox: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._work: deque[effects.Effect] = deque()
        self._working = False
        self._writing: deque[effects.Persist] = deque()
        self._disk_busy = False
        self._tick_at: float | None = None
        self._flushing = False
        self.members_seen: tuple[str, ...] = ()
        self.stopped, self.disk_failed, self._write_fails = "", False, False
        self.machine = self.world.new_replica(self.own, self.disk.read())
        self.feed(self.machine.begin)

    def kill(self) -> None:
        self.up = False
        self.life += 1

    def fail_disk(self) -> None:
        """The next write fails."""
        self._write_fails = True

    def pause(self, seconds: float) -> None:
        self.paused_until = max(self.paused_until, self.world.now + seconds)
        self.later(self.paused_until - self.world.now, self._wake)

    @property
    def is_paused(self) -> bool:
        return self.world.now < self.paused_until

    def _wake(self) -> None:
        while self._inbox and not self.is_paused and self.up:
            method, arguments = self._inbox.popleft()
            self._do(method, *arguments)

    def later(self, delay: float, method: Callable[..., Any], *arguments: Any) -> None:
        """Do this after a while, if it is the same life then."""
        self.world.after(delay, self._if_alive, self.life, method, arguments)

    def _if_alive(self, life: int, method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self.up and life == self.life:
            method(*arguments)

    # Inputs --------------------------------------------------------------------------------------

    def feed(self, method: Callable[..., list[effects.Effect]], *arguments: Any) -> None:
        """An input of the machine; it waits while the process is paused."""
        if not self.up:
            return
        if self.is_paused or self._inbox:
            self._inbox.append((method, arguments))
        else:
            self._do(method, *arguments)

    def _do(self, method: Callable[..., list[effects.Effect]], *arguments: Any) -> None:
        world = self.world
        if method.__name__ in world.WITHOUT_TIME:
            produced = method(*arguments) or []
        else:
            produced = method(*arguments, now=world.now)
        was_stopped = self.stopped
        for effect in produced:
            assert not was_stopped or isinstance(effect, STILL), (
                f"{self.own} has stopped ({was_stopped}) and wants {effect}"
            )
            self._perform(effect)
        world.look_at(self)
        if not self._flushing:
            self._flushing = True
            self.later(world.rng.uniform(0.0, 0.002), self._flush)
        self._arm()

    def _flush(self) -> None:
        if self.is_paused:
            self.later(self.paused_until - self.world.now, self._flush)
            return
        self._flushing = False
        for effect in self.machine.flush(self.world.now):
            self._perform(effect)
        self.world.look_at(self)
        self._arm()

    def _arm(self) -> None:
        at = self.machine.next_deadline()
        if at is not None and (self._tick_at is None or at < self._tick_at):
            self._tick_at = at
            self.later(max(0.0, at - self.world.now), self._tick, at)

    def _tick(self, at: float) -> None:
        if at != self._tick_at:
            return
        self._tick_at = None
        due = self.machine.next_deadline()
        if due is None or due > self.world.now:
            self._arm()
        else:
            self.feed(self._on_tick)

    def _on_tick(self, now: float) -> list[effects.Effect]:
        produced = self.machine.on_tick(now)
        due = self.machine.next_deadline()
        assert due is None or due > now, f"{self.own} has a deadline in the past after a tick"
        return produced

    def receive(self, sender: str, plain: list[Any]) -> None:
        self.feed(self.machine.on_message, sender, decode(plain))

    # Effects -------------------------------------------------------------------------------------

    def _perform(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Send):
            self.world.network.send(self.own, effect.to, encode(effect.message))
        elif isinstance(effect, effects.Persist):
            self._writing.append(effect)
            self._write()
        elif isinstance(effect, effects.Restore):
            self._work.clear()
            self._work.append(effect)
            self._work_on()
        elif isinstance(effect, effects.Execute | effects.Capture):
            self._work.append(effect)
            self._work_on()
        elif isinstance(effect, effects.Answered | effects.Opened | effects.Refused):
            self.world.on_reply(self, effect)
        elif isinstance(effect, effects.WantLease):
            self.world.lease.want(self)
        elif isinstance(effect, effects.ReleaseLease):
            self.world.lease.release(self)
        elif isinstance(effect, effects.Stopped):
            self.stopped = effect.reason

    def _write(self) -> None:
        if self._disk_busy or not self._writing:
            return
        self._disk_busy = True
        rng = self.world.rng
        slow = rng.random() < 0.02
        self.later(rng.uniform(0.05, 0.4) if slow else rng.uniform(0.0, 0.004), self._written)

    def _written(self) -> None:
        """What was waiting is on disk: sometimes several things in one go."""
        self._disk_busy = False
        if self._write_fails:
            self._fail()
            return
        many = self.world.rng.randint(1, len(self._writing))
        for _ in range(many):
            effect = self._writing.popleft()
            self.disk.write(effect)
        self.feed(self.machine.on_persisted, effect.token)
        self._write()

    def _fail(self) -> None:
        """Nothing is written any more: the replica stops, until it is restarted."""
        self._write_fails, self.disk_failed, self._disk_busy = False, True, True
        token = self._writing[0].token
        self.feed(self.machine.on_persist_failed, token, "no space left")
        self.later(self.world.rng.uniform(0.1, 1.0), self.world.restart, self)

    def _work_on(self) -> None:
        if not self._working and self._work:
            self._working = True
            rng = self.world.rng
            slow = rng.random() < 0.005
            self.later(rng.uniform(0.0, 0.3) if slow else rng.uniform(0.0, 0.002), self._worked)

    def _worked(self) -> None:
        if self.is_paused:
            self.later(self.paused_until - self.world.now, self._worked)
            return
        self._working = False
        if self._work:
            effect = self._work.popleft()
            if isinstance(effect, effects.Execute):
                answer = self.service.run(effect.request, effect.time, effect.seed)
                self.feed(self.machine.on_executed, effect.epoch, [(effect.token, answer)])
            elif isinstance(effect, effects.Restore):
                self.service.restore(effect.state)
            elif isinstance(effect, effects.Capture):
                state = self.service.capture()
                self.feed(self.machine.on_captured, effect.epoch, effect.index, state)
        self._work_on()
