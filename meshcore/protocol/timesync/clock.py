r"""Clock: what time it is in the mesh, with a bound of the error.

The master's clock is the mesh's. Every other node follows the neighbour that is next on its way to
the master, by the echoes that measure each link anyway: the reply carries what time the neighbour
has, and how far that may be off. So the load of a node does not grow with the mesh, and the master
is asked by its neighbours alone. The price: errors add up along the way.

    local     sent                              heard        offset = (received + replied)/2
                 \                             /                     - (sent + heard)/2
    neighbour     received ........... replied               error  = way/2 + the neighbour's error

    way = (heard - sent) - (replied - received)

The true offset lies within way/2 of that, however unequal both directions are. An offset gets
worse with age, for two clocks may drift apart by `DRIFT`; of the last `SAMPLES_MAX` the one counts
that is surest now. (The bound is Cristian's; RFC 5905 section 8 has the same timestamps.)

`now` never goes back and never stands still: a correction forward comes at once, one backward is
made by running at 0.9 of the speed. What is still ahead counts as error. Two exceptions: the first
measurement sets the clock either way (before it no error was promised), and `set` does as told.

A new master goes on with its own time, not with its machine's clock. Nothing here touches liveness.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

RESOLUTION = 0.001  # seconds: of reading a clock and saying so, the least error ever
DRIFT = 0.02  # seconds per second that two clocks may drift apart
SLEW = 0.1  # of the speed, while the clock is ahead
SAMPLES_MAX = 8


class _Sample(NamedTuple):
    offset: float
    error: float  # when it was taken
    at: float

    def error_at(self, now: float) -> float:
        return self.error + DRIFT * (now - self.at)


class MeshClock:
    """The clock of one node. `now` arguments are monotonic seconds, times Unix seconds.

    Args:
        unix_now: what the machine's own clock shows at `now`.
    """

    def __init__(self, unix_now: float, now: float) -> None:
        self._offset = unix_now - now
        self._ahead = 0.0  # at `_since`, to be lost by running slower
        self._since = now
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        self._master: str | None = None
        self._leads = False
        self._told: _Sample | None = None  # by `set`, until a master is heard
        self.epoch = 0
        self._is_synced = False  # at least once

    def time(self, now: float) -> float:
        """What time it is, in Unix seconds."""
        return now + self._offset + self._left_ahead(now)

    def error(self, now: float) -> float | None:
        """How far `time` may be from the master's, in seconds; None where nothing is known.

        The master has the mesh's time by definition: its error is that of the reference it was
        set by, at that moment.
        """
        if self._leads:
            return RESOLUTION + (self._told.error if self._told is not None else 0.0)
        best = self._best(now) or self._told
        return None if best is None else RESOLUTION + best.error_at(now) + self._left_ahead(now)

    @property
    def has_time_of_master(self) -> bool:
        """Whether others may follow this clock to the master's."""
        return self._leads or bool(self._samples)

    def follow(self, master: str | None, *, leads: bool, now: float) -> None:
        """Another node is master; `leads`: it is this one, and its time is the mesh's from now."""
        if master != self._master:
            self._samples.clear()  # they were about another clock
        if leads and not self._leads:
            self._offset, self._ahead = self._offset + self._left_ahead(now), 0.0
        self._master, self._leads = master, leads

    def on_reply(
        self,
        sent: float,
        received: float,
        replied: float,
        heard: float,
        error: float,
        epoch: int,
    ) -> None:
        """The next node on the way to the master has told its time.

        `sent` and `heard` are ours (monotonic), `received` and `replied` its times (Unix seconds).
        `epoch` counts how often the master's clock was set.
        What cannot be is ignored: a reply before its question, or a neighbour that goes backwards.
        """
        way = (heard - sent) - (replied - received)
        if self._leads or heard < sent or replied < received or way < 0.0:
            return
        if epoch != self.epoch:
            self._samples.clear()  # they were about what the master's clock was before it was set
            self.epoch = epoch
        offset = (received + replied) / 2 - (sent + heard) / 2
        self._samples.append(_Sample(offset, error + way / 2, heard))
        self._told = None
        best = self._best(heard)
        assert best is not None
        if self._is_synced:
            self._aim(best.offset, heard)
        else:
            self._offset, self._ahead, self._is_synced = best.offset, 0.0, True

    def set(self, timestamp: float, delay: float, now: float) -> None:
        """It is `timestamp` + `delay` now: a reference said so, `delay` seconds ago.

        On a node that follows a master it holds until the master is heard again.
        """
        self._offset, self._ahead, self._is_synced = timestamp + delay - now, 0.0, True
        self._samples.clear()
        self._told = _Sample(self._offset, delay, now)
        self.epoch += self._leads

    def _aim(self, offset: float, now: float) -> None:
        """Go to another offset, forward at once, backward slowly."""
        shown = self.time(now)
        self._offset, self._since = offset, now
        self._ahead = max(0.0, shown - (now + offset))

    def _left_ahead(self, now: float) -> float:
        return max(0.0, self._ahead - SLEW * (now - self._since)) if self._ahead else 0.0

    def _best(self, now: float) -> _Sample | None:
        return min(self._samples, key=lambda one: one.error_at(now), default=None)
