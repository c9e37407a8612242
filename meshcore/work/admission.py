"""Who runs now, who waits, who is turned away.

There are `max_workers` slots and a queue of `queue_max`, first come first served. An action may
have a bound of its own (`concurrency`); its jobs beyond it are parked aside, still counted as
waiting, so that they do not hold up the others. Some jobs need no slot of their own: they join
others in theirs (batches of quick functions).

Invariant: while somebody waits (unparked), no slot is free, except inside `_fill`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from meshcore.work.actions import ActionSpec
from meshcore.work.job import Job


class _Gate:
    """The bound of one action: how many run, and who waits because of it."""

    __slots__ = ("limit", "parked", "running")

    def __init__(self, limit: int) -> None:
        self.limit, self.running = limit, 0
        self.parked: OrderedDict[Job, None] = OrderedDict()


class Admission:
    """The slots and the queue of one executor.

    Args:
        max_workers: the number of slots.
        queue_max: how many jobs may wait, parked ones included.
        join: lets a job share a slot that is taken; False where it cannot.
        run: starts a job that has been given a slot.
        is_late: whether a job's deadline has passed.
        expire: drops a job that is late when its turn comes.
    """

    def __init__(
        self,
        *,
        max_workers: int,
        queue_max: int,
        join: Callable[[Job], bool],
        run: Callable[[Job], None],
        is_late: Callable[[Job], bool],
        expire: Callable[[Job], None],
    ) -> None:
        self.free = max_workers
        self.queued = 0
        self.max_workers, self.queue_max = max_workers, queue_max
        self._join, self._run, self._is_late, self._expire = join, run, is_late, expire
        self._waiting: OrderedDict[Job, None] = OrderedDict()
        self._gates: dict[ActionSpec, _Gate] = {}
        self._filling = False

    def offer(self, job: Job) -> bool:
        """Start the job or let it wait; False = there is no room for it."""
        if not self._waiting and self._place(job):
            return True
        if self.queued >= self.queue_max:
            return False
        self._enqueue(job, self._waiting)
        if self.free > 0:  # then it is its own gate that is full
            self._fill()
        return True

    def withdraw(self, job: Job) -> None:
        """The job waits no more, if it did."""
        if job.queue is not None:
            del job.queue[job]
            job.queue = None
            self.queued -= 1

    def left(self, job: Job) -> None:
        """A job runs no more: its gate opens for the next one."""
        gate = self._gates.get(job.spec)
        if gate is not None:
            gate.running -= 1
            if gate.parked:
                parked = next(iter(gate.parked))
                self.withdraw(parked)
                self._enqueue(parked, self._waiting)

    def release(self) -> None:
        """A slot is free again."""
        self.free += 1
        if self._waiting:
            self._fill()

    def put_back(self, jobs: list[Job]) -> None:
        """Jobs that shared a slot and have not begun wait again, before all others."""
        for job in reversed(jobs):
            self._enqueue(job, self._waiting)
            self._waiting.move_to_end(job, last=False)
        self._fill()

    def check_invariants(self) -> None:
        """Re-derive the counts; for tests."""
        parked = sum(len(gate.parked) for gate in self._gates.values())
        assert self.queued == len(self._waiting) + parked
        assert 0 <= self.free <= self.max_workers
        assert not (self._waiting and self.free)
        for gate in self._gates.values():
            assert 0 <= gate.running <= gate.limit
            assert gate.running == gate.limit or not gate.parked

    def _enqueue(self, job: Job, queue: OrderedDict[Job, None]) -> None:
        queue[job] = None
        job.queue = queue
        self.queued += 1

    def _place(self, job: Job) -> bool:
        if self._join(job):
            return True
        gate = self._gate_of(job.spec)
        if self.free <= 0 or (gate is not None and gate.running >= gate.limit):
            return False
        self.free -= 1
        if gate is not None:
            gate.running += 1
        self._run(job)
        return True

    def _gate_of(self, spec: ActionSpec) -> _Gate | None:
        if spec.concurrency is None:
            return None
        gate = self._gates.get(spec)
        if gate is None:
            gate = self._gates[spec] = _Gate(spec.concurrency)
        return gate

    def _fill(self) -> None:
        if self._filling:  # a job ended while it was started: the loop below goes on anyway
            return
        self._filling = True
        try:
            while self._waiting:
                job = next(iter(self._waiting))
                self.withdraw(job)
                gate = self._gate_of(job.spec)
                if self._is_late(job):
                    self._expire(job)
                elif gate is not None and gate.running >= gate.limit:
                    self._enqueue(job, gate.parked)
                elif not self._place(job):
                    self._enqueue(job, self._waiting)
                    self._waiting.move_to_end(job, last=False)
                    break
        finally:
            self._filling = False
