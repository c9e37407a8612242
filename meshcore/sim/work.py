"""Fake work: actions that behave in every way that delivery must cope with, and who is owed what.

The ledger stands outside of all cores. It knows each call that was made, each time that an action
started, and each response that came, and it notes at once what must never be. Whether everything
ended as it should is asked at the end (`checkers`).

Actions, by directive: `test:echo` gives its payload back, `test:items` n numbers one by one,
`test:fail` fails, `test:hang` never answers, `test:later` answers after some seconds, `test:large`
gives n bytes, `test:size` tells the size and checksum of the payload that it was given.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

from meshcore.errors import Code, MeshError
from meshcore.protocol.delivery.outputs import (
    BODY,
    CALL,
    CALL_BODY,
    CALL_CHUNK,
    CANCELLED,
    CHUNK,
    FAILED,
    ITEM,
    NO_PAYLOAD,
    VALUE,
    WRITABLE,
)
from meshcore.protocol.delivery.streams import ClientStream, ServerStream, calls_prefix

if TYPE_CHECKING:
    from meshcore.sim.process import Process

ITEM_BYTES = 32  # what a small response costs of the credit besides its payload
IDENTIFY = "mesh:identify"


@lru_cache(maxsize=32)
def pattern(size: int) -> bytes:
    """`size` bytes in which a lost, doubled or misplaced piece shows."""
    count = size // 4 + 1
    return struct.pack(f">{count}I", *range(count))[:size]


@dataclass(slots=True, eq=False)
class Call:
    """One call, from outside. Times are those of the simulation."""

    sender: Process
    recipient: str
    directive: str
    payload: Any
    ttl: float | None
    started_at: float
    message_id: str = ""
    stream: ClientStream | None = None
    values: list[Any] = field(default_factory=list)
    body: bytearray | None = None
    ended: int = 0  # how often it ended: must become 1
    ended_at: float = 0.0
    code: int | None = None  # 0, or the code of the failure
    text: str = ""
    may_have_run: bool = True
    is_void: bool = False  # its sender is dead: nobody is owed an answer

    @property
    def succeeded(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        outcome = "open" if self.code is None else f"code {self.code} {self.text!r}"
        return f"{self.directive} {self.sender.name} -> {self.recipient}: {outcome}"


@dataclass(frozen=True, slots=True)
class Execution:
    """An action that has started."""

    message_id: str
    node_id: str
    life: int
    directive: str
    at: float


class Ledger:
    """All calls and executions of a world; `problems` is what must never have been."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.executions: dict[str, list[Execution]] = {}
        self.problems: list[str] = []

    def executed(self, execution: Execution) -> None:
        before = self.executions.setdefault(execution.message_id, [])
        before.append(execution)
        if len(before) > 1:
            self.problems.append(
                f"{execution.at:.3f}: {execution.message_id} ran again on {execution.node_id}"
            )

    def open_calls(self) -> list[Call]:
        return [call for call in self.calls if not call.ended and not call.is_void]


class Work:
    """Both sides of the work of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._clock = process.clock
        self._ledger = process.ledger
        self._delivery = process.mesh.delivery
        self.active: dict[ServerStream, Any] = {}  # what runs: the numbers that are still to give
        self._bodies: dict[ServerStream, bytearray] = {}

    # The calling side ------------------------------------------------------------------------

    def call(
        self,
        recipient: str,
        directive: str,
        payload: Any = None,
        *,
        ttl: float | None = 30.0,
        lane: int = 0,
        trace: bool = False,
    ) -> Call:
        """Start a call; what it raises counts as its outcome. The caller flushes."""
        process = self._process
        call = Call(process, recipient, directive, payload, ttl, self._clock.now)
        self._ledger.calls.append(call)
        try:
            stream = self._delivery.call(
                recipient,
                directive,
                payload,
                token=call,
                ttl=ttl,
                lane=lane,
                trace=trace,
                now=process.now(),
            )
        except MeshError as error:
            self._end(call, error.code, error.message, error.may_have_run)
        else:
            call.stream = stream
            call.message_id = f"{calls_prefix(process.name, process.life)}{stream.number}"
        return call

    def cancel(self, call: Call) -> None:
        if call.stream is not None and self._process.is_alive:
            code = Code.CANCELLED
            self._delivery.cancel(call.stream, code, "cancelled", self._process.now())
            self._process.flush()

    def abandon(self) -> None:
        """The process has ended: what it asked for is owed to nobody."""
        self.active.clear()
        for call in self._ledger.calls:
            if call.sender is self._process and not call.ended:
                call.is_void = True

    def ask_holder(self, node_id: str, life: int) -> None:
        """Does this life of a node still answer?"""
        if self._process.is_alive:
            call = self.call(node_id, IDENTIFY, life, ttl=1.0)
            self._process.flush()
            if call.ended:
                self._tell_holder(call)

    def _tell_holder(self, call: Call) -> None:
        answer = call.values[0] if call.succeeded else {}
        process = self._process

        def tell(now: float) -> None:
            process.mesh.on_holder(
                call.recipient,
                call.payload,
                answered=answer.get("life") == call.payload,
                description=str(answer.get("description")),
                now=now,
            )

        self._clock.after(0.0, process.input, tell)

    def _on_response(self, call: Call, output: tuple[Any, ...]) -> None:
        tag, stream, serial = output[:3]
        if call.ended:
            self._problem(f"{call}: response {serial} after its end")
            return
        size = 0
        if tag == ITEM:
            _, _, _, value, size = output
            size += ITEM_BYTES
            self._take(call, serial, value)
        elif tag == BODY:
            call.body = bytearray()
            call.values.append(None)
            if serial != len(call.values):
                self._problem(f"{call}: body {serial} in place of {len(call.values)}")
        elif tag == CHUNK:
            data, size = output[3], len(output[3])
            if call.body is None:
                self._problem(f"{call}: chunk without a body")
                return
            call.body += data
            if output[4]:
                call.values[-1], call.body = bytes(call.body), None
                if call.directive == "test:large":
                    self._end(call, 0, "", True)
        elif tag == VALUE:
            if output[3] is not NO_PAYLOAD:
                self._take(call, serial, output[3])
            elif serial != len(call.values) + 1:
                self._problem(f"{call}: end {serial} after {len(call.values)} responses")
            self._end(call, 0, "", True)
        elif tag == FAILED:
            failure = output[3]
            self._end(call, failure.code, failure.message, failure.may_have_run)
        if size:
            self._delivery.consumed(stream, size, self._process.now())

    def _take(self, call: Call, serial: int, value: Any) -> None:
        call.values.append(value)
        if serial != len(call.values):
            self._problem(f"{call}: response {serial} in place of {len(call.values)}")

    def _end(self, call: Call, code: int, text: str, may_have_run: bool) -> None:
        call.ended += 1
        call.ended_at = self._clock.now
        call.code, call.text, call.may_have_run = code, text, may_have_run
        if call.directive == IDENTIFY and call.stream is not None:
            self._tell_holder(call)

    # The answering side ----------------------------------------------------------------------

    def on_output(self, output: tuple[Any, ...]) -> None:
        """What delivery has for the application."""
        tag, stream = output[0], output[1]
        if isinstance(stream, ClientStream):
            if tag != WRITABLE:
                call: Any = stream.token
                self._on_response(call, output)
        elif tag == CALL:
            self._run(stream, output[2], output[3])
        elif tag == CALL_BODY:
            self.active[stream] = None
            self._bodies[stream] = bytearray()
        elif tag == CALL_CHUNK:
            self._on_chunk(stream, output[2], last=output[3])
        elif tag == CANCELLED:
            self.active.pop(stream, None)
            self._bodies.pop(stream, None)
        elif tag == WRITABLE and stream in self.active:
            self._give_items(stream)

    def _on_chunk(self, stream: ServerStream, data: Any, *, last: bool) -> None:
        body = self._bodies.get(stream)
        if body is None:
            return
        body += data
        self._delivery.consumed(stream, len(data), self._process.now())
        if last:
            del self._bodies[stream]
            self._run(stream, stream.directive, bytes(body))

    def _run(self, stream: ServerStream, directive: str, payload: Any) -> None:
        process, delivery = self._process, self._delivery
        self._ledger.executed(
            Execution(stream.message_id, process.name, process.life, directive, self._clock.now)
        )
        self.active.pop(stream, None)
        if directive == IDENTIFY:
            about = {"life": process.life, "description": f"life of {process.name}"}
            delivery.respond(stream, about, eof=True)
        elif directive == "test:echo":
            delivery.respond(stream, payload, eof=True)
        elif directive == "test:large":
            delivery.respond(stream, pattern(payload), eof=True)
        elif directive == "test:size":
            delivery.respond(stream, [len(payload), crc32(payload)], eof=True)
        elif directive == "test:items":
            self.active[stream] = iter(range(1, payload + 1))
            self._give_items(stream)
        elif directive == "test:later":
            self.active[stream] = None
            self._clock.after(payload, self._answer_late, stream, payload)
        elif directive == "test:hang":
            self.active[stream] = None
        else:
            code = Code.ACTION_FAILED
            delivery.fail(stream, code=code, message="as wished", name="ValueError")

    def _give_items(self, stream: ServerStream) -> None:
        for number in self.active[stream]:
            if not self._delivery.respond(stream, number, eof=False):
                return
        del self.active[stream]
        self._delivery.respond(stream, NO_PAYLOAD, eof=True)

    def _answer_late(self, stream: ServerStream, value: Any) -> None:
        def answer(now: float) -> None:
            if stream in self.active:
                del self.active[stream]
                self._delivery.respond(stream, value, eof=True)

        self._process.input(answer)

    def _problem(self, text: str) -> None:
        self._ledger.problems.append(f"{self._clock.now:.3f}: {text}")
