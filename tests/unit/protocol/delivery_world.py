"""A few deliveries in virtual time, with a wire between them that does what the test says.

`World` holds the ends and the clock; `wire` decides what becomes of each packet; an `End` is one
node with an application that answers in the ways its directives name, and that notes what ran, what
was cancelled and how every call ended. Ends that have no direct wire go over a relay.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from meshcore.protocol.delivery.bodies import Fed
from meshcore.protocol.delivery.delivery import Delivery
from meshcore.protocol.delivery.outputs import (
    BODY,
    CALL,
    CALL_BODY,
    CALL_CHUNK,
    CANCELLED,
    CHUNK,
    COUNT,
    FAILED,
    ITEM,
    NO_PAYLOAD,
    SEND,
    WRITABLE,
    Failure,
)
from meshcore.protocol.delivery.streams import ClientStream, ServerStream
from meshcore.protocol.forwarding import Forwarding
from meshcore.protocol.wire import packet

DELAY = 0.001  # seconds from end to end of one wire
ITEM_COST = 32
FED_PIECE = 100_000

Wire = Callable[["Frame"], Iterable[float]]  # the delays of its copies; none: it is lost


@dataclass(frozen=True)
class Frame:
    """One packet on one wire."""

    source: str
    target: str
    lane: int
    frames: list[Any]

    @property
    def key(self) -> bytes:
        return packet.key_of(self.frames[0])

    @property
    def part(self) -> list[Any]:
        return packet.end_to_end(self.frames[0], self.key)[0]

    @property
    def number(self) -> int:
        return self.part[1]

    @property
    def kinds(self) -> list[int]:
        """The kinds of its messages; [] for a bare ack and for hints."""
        if self.frames[0][1] != packet.PACKET:
            return []
        return [message[0] for message in self.part[3:] if type(message) is list]

    def has(self, kind: int) -> bool:
        return kind in self.kinds


@dataclass(eq=False)
class Call:
    """A call and what came back; it is its own token."""

    directive: str
    stream: ClientStream = None  # type: ignore[assignment]
    serials: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    failure: Failure | None = None
    ended: int = 0  # times
    at: float = 0.0
    writable: int = 0

    @property
    def code(self) -> int:
        return 0 if self.failure is None else self.failure.code

    @property
    def value(self) -> Any:
        assert self.ended == 1, self
        assert self.failure is None, self.failure
        return self.values[-1]

    def assert_failed(self, code: int, *, may_have_run: bool) -> None:
        assert self.ended == 1
        assert self.failure is not None
        assert (self.failure.code, self.failure.may_have_run) == (int(code), may_have_run)


class End:
    """One node: its delivery, its relay, and its application."""

    def __init__(self, world: World, name: str, life: int) -> None:
        self.world, self.name, self.life = world, name, life
        self.routes: dict[str, str] = {}  # owner -> neighbour
        self.counts: Counter[str] = Counter()
        self.ran: Counter[str] = Counter()  # by message id
        self.cancelled: list[tuple[str, int]] = []
        self.streams: dict[str, ServerStream] = {}  # by message id, those that wait
        self.calls: list[Call] = []
        self.taking = True  # the application takes what comes
        self.untaken: list[tuple[Any, int]] = []
        self.traces: list[Any] = []
        self._generators: dict[ServerStream, Any] = {}
        self._bodies: dict[ServerStream, tuple[str, bytearray]] = {}
        rng = random.Random(life)
        self.delivery = Delivery(address=name, life=life, rng=rng, link_of=self.link_of)
        self.forwarding = Forwarding(
            node_id=name, life=life, link_of=self.link_of, emit=self.delivery.emit
        )

    def link_of(self, address: str) -> int:
        neighbour = self.routes.get(address.partition("~")[0])
        return 0 if neighbour is None else self.world.link_number(neighbour)

    # Inputs ----------------------------------------------------------------------------------

    def call(
        self,
        recipient: str,
        directive: str,
        payload: Any = None,
        *,
        ttl: float | None = 30.0,
        lane: int = 0,
        trace: bool = False,
        flush: bool = True,
    ) -> Call:
        """Start a call; raises where it cannot be started."""
        call = Call(directive)
        call.stream = self.delivery.call(
            recipient,
            directive,
            payload,
            token=call,
            ttl=ttl,
            lane=lane,
            trace=trace,
            now=self.world.now,
        )
        self.calls.append(call)
        if flush:
            self.settle()
        return call

    def cancel(self, call: Call, code: int = 6) -> bool:
        cancelled = self.delivery.cancel(call.stream, code, "cancelled", self.world.now)
        self.settle()
        return cancelled

    def feed(self, call: Call, data: bytes, *, last: bool = False) -> bool:
        room = self.delivery.feed(call.stream, data, last=last)
        self.settle()
        return room

    def peer(self, node_id: str, life: int, *, reachable: bool = True, dead: str = "") -> None:
        self.delivery.on_peer(node_id, life, reachable=reachable, dead=dead, now=self.world.now)
        self.settle()

    def route(self, owner: str, neighbour: str | None) -> None:
        if neighbour is None:
            self.routes.pop(owner, None)
        else:
            self.routes[owner] = neighbour
        self.forwarding.on_routes_changed()
        self.delivery.on_routes_changed(self.world.now)
        self.settle()

    def on_frames(self, frames: list[Any], lane: int = 0) -> None:
        frame, body = frames[0], frames[1] if len(frames) > 1 else None
        key = packet.key_of(frame)
        destination = packet.read_key(key)[3]
        if destination != self.delivery.address:
            self.forwarding.forward(frame, key, body, self.world.now, index=lane)
        elif frame[1] == packet.HINT:
            self.delivery.on_hint(frame, key, self.world.now)
        else:
            self.delivery.on_packet(frame, key, body, self.world.now)
        self.settle()

    def tick(self) -> None:
        self.delivery.on_tick(self.world.now)
        deadline = self.delivery.next_deadline()
        self.settle()
        assert deadline is None or deadline > self.world.now, "due after its own tick"

    def settle(self) -> None:
        """The end of a turn: perform what is wanted until nothing is."""
        for _ in range(100_000):
            outputs = self.delivery.take()
            if not outputs:
                self.delivery.flush(self.world.now)
                outputs = self.delivery.take()
                if not outputs:
                    break
            for output in outputs:
                self._perform(output)
        else:
            raise AssertionError("it does not come to rest")
        self.delivery.check_invariants()

    # Outputs ---------------------------------------------------------------------------------

    def _perform(self, output: tuple[Any, ...]) -> None:
        tag = output[0]
        if tag == SEND:
            self.world.send(self.name, output[1], output[2], output[3])
        elif tag == COUNT:
            self.counts[output[1]] += 1
        elif tag == CALL:
            self._on_call(output[1], output[2], output[3], output[5])
        elif tag == CALL_BODY:
            self._bodies[output[1]] = (output[2], bytearray())
        elif tag == CALL_CHUNK:
            self._on_call_chunk(*output[1:])
        elif tag == CANCELLED:
            self.cancelled.append((output[1].message_id, output[2]))
            self.streams.pop(output[1].message_id, None)
            self._generators.pop(output[1], None)
            self._bodies.pop(output[1], None)
        elif tag == WRITABLE:
            self._on_writable(output[1])
        else:
            self._on_response(output)

    def _on_response(self, output: tuple[Any, ...]) -> None:
        tag, stream, serial = output[:3]
        call = stream.token
        assert not call.ended, f"{call.directive}: {output} after its end"
        if tag == BODY:
            call.final = output[5]
        elif tag == CHUNK:
            call.body += output[3]
            self._take(stream, len(output[3]))
            if output[4]:
                call.serials.append(serial)
                call.values.append(bytes(call.body))
                call.body.clear()
                if call.final:
                    self._end(call)
        elif tag == FAILED:
            call.serials.append(serial)
            call.failure = output[3]
            self._end(call)
        else:
            call.serials.append(serial)
            call.values.append(output[3])
            if tag == ITEM:
                self._take(stream, output[4] + ITEM_COST)
            else:
                self._end(call)

    def _end(self, call: Call) -> None:
        call.ended += 1
        call.at = self.world.now

    def _take(self, stream: Any, size: int) -> None:
        if self.taking:
            self.delivery.consumed(stream, size, self.world.now)
        else:
            self.untaken.append((stream, size))

    def take_all(self) -> None:
        """The application takes what it had left, and from now on everything at once."""
        self.taking = True
        untaken, self.untaken = self.untaken, []
        for stream, size in untaken:
            self.delivery.consumed(stream, size, self.world.now)
        self.settle()

    # The application -------------------------------------------------------------------------

    def _on_call_chunk(self, stream: ServerStream, data: Any, last: bool) -> None:
        directive, gathered = self._bodies[stream]
        gathered += data
        self._take(stream, len(data))
        if last:
            del self._bodies[stream]
            self._on_call(stream, directive, bytes(gathered), None)

    def _on_call(self, stream: ServerStream, directive: str, payload: Any, trace: Any) -> None:
        self.ran[stream.message_id] += 1
        self.traces.append(trace)
        delivery = self.delivery
        match directive:
            case "t:echo":
                delivery.respond(stream, payload, eof=True)
            case "t:fail":
                delivery.fail(stream, code=1, message="no", name="ValueError", traceback="tb")
            case "t:items":
                self._generate(stream, iter(range(payload)))
            case "t:mixed":  # every third response is a body
                self._generate(
                    stream,
                    (n.to_bytes(4, "big") * 25_000 if n % 3 == 0 else n for n in range(payload)),
                )
            case "t:fed":
                self._feed(stream, payload, fail=False)
            case "t:torn":
                self._feed(stream, payload, fail=True)
            case _:
                self.streams[stream.message_id] = stream

    def _generate(self, stream: ServerStream, values: Any) -> None:
        self._generators[stream] = values
        for value in values:
            if not self.delivery.respond(stream, value, eof=False):
                return
        del self._generators[stream]
        self.delivery.respond(stream, NO_PAYLOAD, eof=True)

    def _feed(self, stream: ServerStream, size: int, *, fail: bool) -> None:
        def pieces() -> Any:
            for offset in range(0, size, FED_PIECE):
                yield bytes(min(FED_PIECE, size - offset))

        self.delivery.respond(stream, Fed(0, size), eof=True)
        self._feeding(stream, pieces(), fail)

    def _feeding(self, stream: ServerStream, pieces: Any, fail: bool) -> None:
        self._generators[stream] = (pieces, fail)
        for piece in pieces:
            if not self.delivery.feed(stream, piece, last=False):
                return
        del self._generators[stream]
        if fail:
            self.delivery.fail(stream, code=1, message="torn")
        else:
            self.delivery.feed(stream, b"", last=True)

    def _on_writable(self, stream: Any) -> None:
        if isinstance(stream, ClientStream):
            stream.token.writable += 1  # type: ignore[attr-defined]
            return
        waiting = self._generators.get(stream)
        if type(waiting) is tuple:
            self._feeding(stream, *waiting)
        elif waiting is not None:
            self._generate(stream, waiting)

    def answer(self, value: Any = "late") -> None:
        """Answer everything that waits for it (directives that nobody knows)."""
        for stream in list(self.streams.values()):
            self.delivery.respond(stream, value, eof=True)
        self.streams.clear()
        self.settle()

    @property
    def in_flight(self) -> int:
        return sum(
            len(lane.in_flight)
            for channel in self.delivery._board.by_key.values()
            for lane in channel.lanes
        )


class World:
    """`World("alpha", "beta")` are neighbours; with `over`, every way leads over that relay."""

    def __init__(self, *names: str, over: str | None = None, known: bool = True) -> None:
        self.now = 100.0
        self.wire: Wire = lambda frame: (DELAY,)
        self.sent: list[tuple[float, Frame]] = []
        self._names = [*names, over] if over else list(names)
        self._order = itertools.count()
        self._events: list[tuple[float, int, Frame]] = []
        self.ends = {name: End(self, name, 1000 + n) for n, name in enumerate(self._names)}
        for name, end in self.ends.items():
            for other in self._names:
                if other != name:
                    end.routes[other] = over if over and over != name else other
            end.routes[name] = name
        if known:
            self.introduce()

    def __getitem__(self, name: str) -> End:
        return self.ends[name]

    def introduce(self) -> None:
        """Everybody knows of everybody."""
        for end in self.ends.values():
            end.delivery.on_first_link(self.now)
            for other in self.ends.values():
                end.peer(other.name, other.life)

    def restart(self, name: str, *, told: bool = True) -> End:
        """A new life of a node; what is on the wire to the old one reaches the new one."""
        fresh = End(self, name, self.ends[name].life + 500)
        fresh.routes = self.ends[name].routes
        self.ends[name] = fresh
        fresh.delivery.on_first_link(self.now)
        for other in self.ends.values():
            fresh.peer(other.name, other.life)
            if told and other is not fresh:
                other.peer(name, fresh.life)
        return fresh

    def link_number(self, neighbour: str) -> int:
        return self._names.index(neighbour) + 1

    def send(self, source: str, link: int, lane: int, frames: list[Any]) -> None:
        # What the sender does to its buffers later must not matter.
        copies = [bytes(each) for each in frames]
        frame = Frame(source, self._names[link - 1], lane, copies)
        self.sent.append((self.now, frame))
        for delay in self.wire(frame):
            heapq.heappush(self._events, (self.now + delay, next(self._order), frame))

    def frames(self, kind: int | None = None, source: str | None = None) -> list[Frame]:
        """What was sent so far, of one kind and by one end."""
        return [
            frame
            for _, frame in self.sent
            if (kind is None or frame.has(kind)) and source in (None, frame.source)
        ]

    def step(self, until: float) -> bool:
        """The next thing that happens; False if nothing does before `until`."""
        deadlines = [(end.delivery.next_deadline(), end) for end in self.ends.values()]
        due = min((at for at, _ in deadlines if at is not None), default=float("inf"))
        arrival = self._events[0][0] if self._events else float("inf")
        at = max(self.now, min(due, arrival))
        if at > until:
            self.now = until
            return False
        self.now = at
        if arrival <= due:
            frame = heapq.heappop(self._events)[2]
            self.ends[frame.target].on_frames(frame.frames, frame.lane)
        else:
            next(end for deadline, end in deadlines if deadline == due).tick()
        return True

    def run(self, duration: float) -> None:
        until = self.now + duration
        while self.step(until):
            pass

    def run_until(self, condition: Callable[[], bool], within: float = 10.0) -> float:
        """Returns how many seconds it took."""
        start = self.now
        while not condition():
            assert self.step(start + within), f"not within {within} s"
        return self.now - start


def lose(kind: int, times: int = 1, then: float = DELAY) -> Wire:
    """A wire that loses the first packets with a message of this kind."""
    left = itertools.count(times, -1)

    def wire(frame: Frame) -> Iterable[float]:
        return () if frame.has(kind) and next(left) > 0 else (then,)

    return wire


def pair(**options: Any) -> tuple[World, End, End]:
    world = World("alpha", "beta", **options)
    return world, world["alpha"], world["beta"]


def opened(**options: Any) -> tuple[World, End, End]:
    """A pair with an open channel from alpha to beta, and quiet."""
    world, alpha, beta = pair(**options)
    call = alpha.call("beta", "t:echo", 0)
    world.run(0.5)
    assert call.value == 0
    world.sent.clear()
    return world, alpha, beta
