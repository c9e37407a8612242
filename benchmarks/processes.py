"""The child processes of a subject, seen from the parent: start, order, measure, stop.

A `Chain` is a server, any number of relays and a client, each its own process, connected in that
order; all chains of a question stay alive at once. Each child leads its own session, so that
stopping it takes what it started (nats-server) along. Waits are bounded: a child that does not
announce itself or answer in time is a `SubjectError` with the end of its stderr, which the table
shows as the reason why the subject is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 20.0
ANSWER_TIMEOUT = 15.0


class SubjectError(Exception):
    """This subject cannot be measured here; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What to start: a module of `benchmarks.subjects`, its options, and how many relays."""

    name: str
    module: str
    options: dict[str, object] = field(default_factory=dict)
    relays: int = 0
    relay_module: str | None = None
    note: str = ""


class Worker:
    """One child process and its two pipes."""

    def __init__(self, role: str, module: str, options: dict[str, object], address: object) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        command = [sys.executable, "-m", "benchmarks.worker", role, module, json.dumps(options)]
        if role != "server":
            command.append(json.dumps(address))
        self._label = f"{module} {role}"
        self._buffer = b""
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self, timeout: float = START_TIMEOUT) -> Any:
        """The address that it announces. Raises SubjectError where it cannot run."""
        message = self._read(timeout)
        if "unavailable" in message:
            raise SubjectError(message["unavailable"])
        return message["ready"]

    def order(self, op: str, seconds: float, in_flight: int = 1) -> dict[str, Any]:
        """Give one order and wait for its answer."""
        order = {"op": op, "seconds": seconds, "in_flight": in_flight}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SubjectError(self._why("ended")) from None
        return self._read(seconds + ANSWER_TIMEOUT)

    def _read(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise SubjectError(self._why(f"did not answer in {timeout:.0f} s"))
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                raise SubjectError(self._why("ended"))
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            raise SubjectError(f"{self._label} printed {line[:100]!r}") from None
        return dict(message)

    def _why(self, what: str) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)  # so that its last words are in the file
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4096))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{self._label} {what}" + (f": {lines[-1].strip()}" if lines else "")

    def stop(self) -> None:
        """End the child and everything it started. Harmless when it is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


class Chain:
    """A subject that runs: server, relays, client."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.relays: list[Worker] = []
        self._workers: list[Worker] = []
        try:
            address = self._start("server", subject.module, None)
            for _ in range(subject.relays):
                address = self._start("relay", subject.relay_module or subject.module, address)
                self.relays.append(self._workers[-1])
            self._start("client", subject.module, address)
        except BaseException:
            self.stop()
            raise
        self._client = self._workers[-1]

    def _start(self, role: str, module: str, address: object) -> object:
        worker = Worker(role, module, self.subject.options, address)
        self._workers.append(worker)
        return worker.wait_ready()

    def round_trips_ns(self, seconds: float) -> list[int]:
        """Round trips of calls one after the other."""
        samples = self._client.order("latency", seconds)["round_trips_ns"]
        return [int(sample) for sample in samples]

    def calls(self, seconds: float, in_flight: int) -> tuple[int, float]:
        """(calls, seconds that they took) with so many in flight."""
        answer = self._client.order("throughput", seconds, in_flight)
        return int(answer["calls"]), float(answer["seconds"])

    def stop(self) -> None:
        """End all its processes, the client first."""
        for worker in reversed(self._workers):
            worker.stop()
