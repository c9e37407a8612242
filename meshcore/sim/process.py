"""One life of one node: a whole core and a fake shell around it, without sockets or a loop.

The shell does what the real driver does, in its order: an input goes into the core, what it yields
is performed until nothing more comes, `flush` sends what gathered, and one timer is armed for the
next deadline. Its clock is as far from the others' as clocks of different machines are, and as
fast as its host's oscillator makes it.

A process may be *paused* (SIGSTOP: its connections go silent too) or *slow*: its loop is busy with
something else for a while at a time, inputs wait meanwhile, and its connections live on.

It also checks the contract of the core at every step: the time asked for after a tick lies ahead,
the list of outputs is taken empty, and (every `check_every` steps) all invariants hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from meshcore.protocol.delivery.outputs import COUNT, SEND
from meshcore.protocol.membership.timings import Timings
from meshcore.protocol.mesh import LOOPBACK, Identity, Mesh
from meshcore.sim.clock import Clock
from meshcore.sim.codecs import Codecs
from meshcore.sim.effects import Effects
from meshcore.sim.hostclock import HostClock
from meshcore.sim.network import Network
from meshcore.sim.traffic import Traffic
from meshcore.sim.work import Ledger, Work

LEAVE_WAIT = 0.5  # seconds for one neighbour to acknowledge that we leave
NEWS_WAITING_MAX = 1000  # published messages that wait for a process; what comes beyond is dropped
NEVER = float("inf")
EARLY = 1e-6  # seconds by which a timer may fire early by the arithmetic of clock rates


@dataclass(frozen=True, slots=True)
class Started:
    """A process has started (an event of the simulation, not of a core)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process has ended; `silent`: nobody was told, its whole machine is off."""

    silent: bool


Observer: TypeAlias = Callable[["Process", object], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes of a world share. `observers` see every event that a core tells."""

    clock: Clock
    network: Network
    ledger: Ledger
    check_every: int  # steps of a process between two looks at its invariants; 0 = never
    request_timeout: float = 30.0
    codecs: Codecs = field(default_factory=Codecs)
    keep_events: bool = True
    observers: list[Observer] = field(default_factory=list)
    auto_connect: int = 0


class Process:
    """A node from its start to its end."""

    def __init__(
        self,
        around: Surroundings,
        name: str,
        *,
        incarnation: int,
        rng: random.Random,
        url: str | None,
        host_clock: HostClock,
        timings: Timings | None = None,
        host: str | None = None,
    ) -> None:
        self.name, self.url = name, url
        self.host = host or name  # the machine: a second process of an id has its own
        self.around = around
        self.clock, self.network, self.ledger = around.clock, around.network, around.ledger
        self.host_clock = host_clock
        self.is_alive, self.is_paused, self.is_leaving = True, False, False
        self.paused_at = 0.0
        self.troubled_at = float("-inf")  # it was paused or slow last, in true time
        self.started_at = around.clock.now
        self.ended_at: float | None = None
        self.wires: dict[int, Any] = {}
        self.dialling: dict[int, None] = {}
        self.counters: dict[str, int] = {}
        self.traffic = Traffic()
        self.events: list[object] = []  # what the application was told
        self.fatal: list[str] = []
        self.slowness = 0.0  # seconds for which its loop is busy at a time
        self.is_busy = False
        self.waiting_bytes = 0  # of frames that have arrived and were not read
        self._slow_until = 0.0
        self._news_waiting = 0
        self._check_every, self._steps = around.check_every, 0
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._next_link = 2
        self._timer_at = NEVER
        self._latest = 0.0
        self._performing = False
        self._leave_until = 0.0
        life = rng.getrandbits(64) or 1
        identity = Identity("sim", name, incarnation, life, description=f"life of {name}")
        self.mesh = Mesh(
            identity,
            timings=timings or Timings(),
            rng=random.Random(rng.getrandbits(64)),
            now=self.now(),
            request_timeout=around.request_timeout,
            auto_connect=around.auto_connect,
        )
        self.mesh.share_decoders(around.codecs.decode, around.codecs.decode_record)
        self.work = Work(self)
        self._effects = Effects(self)
        self._performers = self._effects.performers
        self.mesh.set_endpoints(() if url is None else (url,), (), self.now())
        self.mesh.set_details({"name": name, "actions": {}}, self.now())
        self.flush()

    @property
    def life(self) -> int:
        return self.mesh.identity.life

    @property
    def incarnation(self) -> int:
        return self.mesh.identity.incarnation

    @property
    def control_sent(self) -> dict[str, int]:
        """Control messages by kind, a publication counted once."""
        return self._effects.sent

    @property
    def is_sound(self) -> bool:
        """It runs, and nothing keeps it from doing what is due."""
        return self.is_alive and not self.is_paused and not self.slowness and not self.is_leaving

    def now(self) -> float:
        """The time of this process's own monotonic clock, which never goes back."""
        self._latest = max(self._latest, self.host_clock.monotonic(self.clock.now))
        return self._latest

    def wall(self) -> float:
        """Unix seconds on the wall clock of its host, which may be wrong and jump."""
        return self.host_clock.wall(self.clock.now)

    # Inputs ----------------------------------------------------------------------------------

    def on_frames(self, link: int, lane: int, frames: list[Any]) -> None:
        body = frames[1] if len(frames) > 1 else None
        if self.is_paused or self.is_busy:
            self._wait_for(self._read_late, (link, lane, frames), sum(map(len, frames)))
            return
        self.input(self.mesh.on_frames, link, lane, frames[0], body)

    def _read_late(self, link: int, lane: int, frames: list[Any], now: float) -> None:
        self.waiting_bytes -= sum(map(len, frames))
        self.mesh.on_frames(link, lane, frames[0], frames[1] if len(frames) > 1 else None, now)

    def on_news(self, link: int, data: bytes) -> None:
        if self.is_paused or self.is_busy:
            if self._news_waiting < NEWS_WAITING_MAX:  # as the high-water mark of a socket has it
                self._news_waiting += 1
                self._wait_for(self._read_news_late, (link, data), 0)
            else:
                self.count("published message dropped by a full queue")
            return
        if self.is_alive:
            self.mesh.on_news(link, data, self.now())
            if self.mesh.is_touched():  # mostly it is one more beat
                self.flush()

    def _read_news_late(self, link: int, data: bytes, now: float) -> None:
        self._news_waiting -= 1
        self.mesh.on_news(link, data, now)

    def on_accepted(self, link: int, *, local: bool) -> None:
        def accepted(link: int, now: float) -> None:
            self.mesh.on_accepted(link, local=local, now=now)

        self.input(accepted, link)

    def on_connected(self, link: int) -> None:
        self.input(self.mesh.on_connected, link)

    def on_dial_failed(self, link: int, reason: str) -> None:
        self.input(self.mesh.on_dial_failed, link, reason)

    def on_closed(self, link: int, reason: str) -> None:
        self.input(self.mesh.on_closed, link, reason)

    def input(self, method: Callable[..., Any], *args: Any) -> None:
        """Call a method of the core with the time, unless the process does not run now."""
        if not self.is_alive:
            return
        if self.is_paused or self.is_busy:
            self._inbox.append((method, args))
            return
        method(*args, self.now())
        self.flush()

    def _wait_for(self, method: Callable[..., None], args: tuple[Any, ...], size: int) -> None:
        if self.is_alive:
            self.waiting_bytes += size
            self._inbox.append((method, args))

    def _on_timer(self, armed_for: float) -> None:
        if armed_for != self._timer_at or not self.is_alive:
            return  # an earlier timer has taken its place
        if self.is_paused or self.is_busy:  # `_read_inbox` ticks
            return
        if self.now() < armed_for - EARLY:  # the oscillator was slowed down meanwhile
            self._arm()
            return
        self.tick()

    def tick(self) -> None:
        due, self._timer_at = self._timer_at, NEVER
        now = self.now()
        if due - EARLY <= now < due:  # the arithmetic of clocks may round to just before it
            now = self._latest = due
        self.mesh.on_tick(now)
        self.flush(ticked_at=now)

    # The turn --------------------------------------------------------------------------------

    def flush(self, *, ticked_at: float | None = None) -> None:
        """Send what waits, perform what follows, and arm the timer."""
        if self._performing:
            return
        self._perform()
        if self.mesh.is_flush_due():
            self.mesh.flush(self.now())
            self._perform()
        self._steps += 1
        if self._check_every and self._steps % self._check_every == 0:
            self.mesh.check_invariants()
        deadline = self.mesh.next_deadline()
        if ticked_at is not None:
            assert deadline is None or deadline > ticked_at, (
                f"{self.name}: after a tick at {ticked_at} the next is due at {deadline}"
            )
        if deadline is not None and deadline < self._timer_at and self.is_alive:
            self._timer_at = deadline
            self._arm()
        if self._leave_until and self.mesh.leave_acked:
            self._close()

    def _arm(self) -> None:
        self.clock.at(self.host_clock.instant(self._timer_at), self._on_timer, self._timer_at)

    def _perform(self) -> None:
        self._performing = True
        performers = self._performers
        while outputs := self.mesh.take():
            for output in outputs:
                if type(output) is tuple:
                    self._perform_work(output)
                else:
                    performers[type(output)](output)
        self._performing = False

    def _perform_work(self, output: tuple[Any, ...]) -> None:
        tag = output[0]
        if tag == SEND:
            _, link, lane, frames = output
            if link == LOOPBACK:
                self.clock.after(0.0, self.on_frames, LOOPBACK, lane, frames)
            elif not self.network.send(self, link, lane, frames):
                self.mesh.on_send_failed(frames[0], self.now())
        elif tag == COUNT:
            self.count(output[1])
        else:
            self.work.on_output(output)

    def count(self, reason: str) -> None:
        self.counters[reason] = self.counters.get(reason, 0) + 1

    def on_event(self, event: object) -> None:
        """The core tells the application something."""
        if self.around.keep_events:
            self.events.append(event)
        self.tell(event)

    def tell(self, event: object) -> None:
        """Whoever looks on at the world hears of an event."""
        for observer in self.around.observers:
            observer(self, event)

    def on_fatal(self, reason: str) -> None:
        """Another process has this id: this one ends."""
        self.fatal.append(reason)
        self.clock.after(0.0, self.kill)

    # Life ------------------------------------------------------------------------------------

    def new_link(self) -> int:
        """The number of a link that was accepted."""
        number = self._next_link
        self._next_link += 2
        return number

    def add_peer(self, url: str) -> None:
        self.input(self.mesh.add_peer, url)

    def kill(self, *, silent: bool = False) -> None:
        """As by kill -9; `silent`: the whole machine is off, and nothing says so."""
        if self.is_alive:
            self.is_alive = False
            self.ended_at = self.clock.now
            self.dialling.clear()
            self._inbox.clear()
            self.network.host_down(self.host, silent=silent)
            self.work.abandon()
            self.tell(Ended(silent))

    def stop(self) -> None:
        """Leave in good order: the calls end, the last word is said, the links close."""
        if self.is_alive and not self.is_leaving:
            self.is_leaving = True
            self.mesh.delivery.close_calls(f"{self.name} stops", self.now())
            self.flush()
            self.mesh.leave(self.now())
            self._leave_until = self.clock.now + LEAVE_WAIT
            self.clock.after(LEAVE_WAIT, self._close)
            self.flush()

    def _close(self) -> None:
        if self.is_alive and self._leave_until:
            self._leave_until = 0.0
            self.mesh.close_links(self.now())
            self.flush()
            self.kill()

    # Pauses and slowness ---------------------------------------------------------------------

    def pause(self) -> None:
        """As by SIGSTOP."""
        if self.is_alive and not self.is_paused:
            self.is_paused, self.paused_at = True, self.clock.now
            self.network.suspect(self.host)

    def resume(self) -> None:
        """What has arrived is read first, then it is looked at the time."""
        if not self.is_paused or not self.is_alive:
            return
        self.is_paused, self.troubled_at = False, self.clock.now
        if not self.is_busy:
            self._read_inbox()

    def slow_down(self, busy: float, seconds: float) -> None:
        """For some seconds its loop is busy with something else, for `busy` seconds at a time."""
        self._slow_until = max(self._slow_until, self.clock.now + seconds)
        if self.is_alive and not self.slowness:
            self.slowness, self.is_busy = busy, True
            self.clock.after(busy, self._look_up)

    def _look_up(self) -> None:
        """It has a moment for what waits; then it is busy again, or slow no more."""
        if not self.is_alive:
            return
        self.is_busy, self.troubled_at = False, self.clock.now
        if not self.is_paused:
            self._read_inbox()
        if self.clock.now < self._slow_until:
            self.is_busy = True
            self.clock.after(self.slowness, self._look_up)
        else:
            self.slowness = 0.0

    def _read_inbox(self) -> None:
        inbox, self._inbox = self._inbox, []
        for method, args in inbox:
            self.input(method, *args)
        if self.is_alive:
            self.tick()

    def set_rate(self, rate: float) -> None:
        """Its oscillator runs at another rate from now on."""
        self.host_clock.set_rate(rate, self.clock.now)
        if self.is_alive and self._timer_at != NEVER:
            self._arm()
