"""The two clocks of a host: a monotonic one with its own rate, and a wall clock that may be wrong.

No two oscillators agree, and nobody's wall clock can be trusted: it may be an hour off, and jump
when somebody sets it. A process reads its host's clocks; the simulation alone knows the true time.

Contract: the monotonic clock never jumps, whatever happens to its rate; `instant` is its inverse.
Both clocks hang on one oscillator, so that a fast one runs away from the true time in both.
"""

from __future__ import annotations

EPOCH = 1_700_000_000  # Unix seconds at which the simulation begins


class HostClock:
    """What the clocks of one host show.

    Args:
        offset: what the monotonic clock shows at the true time `since`.
        rate: seconds that it counts in a true second.
        wall_error: seconds by which the wall clock is ahead, besides what the rate makes of it.
        since: the true time at which it begins.
    """

    __slots__ = ("_base", "_since", "rate", "wall_error")

    def __init__(
        self, offset: float = 0.0, *, rate: float = 1.0, wall_error: float = 0.0, since: float = 0.0
    ) -> None:
        self.rate, self.wall_error = rate, wall_error
        self._base, self._since = offset, since

    def monotonic(self, at: float) -> float:
        """What the monotonic clock shows at a true time."""
        return self._base + (at - self._since) * self.rate

    def instant(self, shown: float) -> float:
        """The true time at which the monotonic clock shows this."""
        return self._since + (shown - self._base) / self.rate

    def wall(self, at: float) -> float:
        """Unix seconds that the wall clock shows at a true time."""
        return EPOCH + self.wall_ms(at) / 1000

    def wall_ms(self, at: float) -> int:
        """Milliseconds since `EPOCH` on the wall clock: whole, as incarnations need them."""
        return int((at + (at - self._since) * (self.rate - 1.0) + self.wall_error) * 1000)

    def set_rate(self, rate: float, at: float) -> None:
        """The oscillator runs at another rate from now on; neither clock jumps."""
        self.wall_error += (at - self._since) * (self.rate - 1.0)
        self._base, self._since, self.rate = self.monotonic(at), at, rate

    def reboot(self, offset: float, at: float) -> HostClock:
        """The clocks of the next life: only the monotonic one begins anew."""
        error = self.wall_error + (at - self._since) * (self.rate - 1.0)
        return HostClock(at + offset, rate=self.rate, wall_error=error, since=at)

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock; the monotonic one does not notice."""
        self.wall_error += seconds
