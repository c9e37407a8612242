"""How patient a node is with its neighbours: the six numbers that the detector and the roster use.

All in seconds, and 0 < slow < warn < dead < remove. Lowering them finds dead nodes sooner and takes
busy ones for dead; a neighbour is judged by the observer's numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class TimingsLike(Protocol):
    """Anything with these six attributes, such as the user's configuration."""

    @property
    def send_alive_interval(self) -> float: ...
    @property
    def check_interval(self) -> float: ...
    @property
    def slow(self) -> float: ...
    @property
    def warn(self) -> float: ...
    @property
    def dead(self) -> float: ...
    @property
    def remove(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Timings:
    """`send_alive_interval`: between beats; `check_interval`: between looks at the ages.

    Raises ValueError where the thresholds are out of order.
    """

    send_alive_interval: float = 0.5
    check_interval: float = 0.25
    slow: float = 1.0
    warn: float = 2.0
    dead: float = 5.0
    remove: float = 10.0

    def __post_init__(self) -> None:
        if not (self.send_alive_interval > 0 and self.check_interval > 0):
            raise ValueError(f"intervals must be greater than 0: {self}")
        if not 0 < self.slow < self.warn < self.dead < self.remove:
            raise ValueError(f"need 0 < slow < warn < dead < remove: {self}")

    @classmethod
    def of(cls, timings: TimingsLike) -> Timings:
        """The same numbers, frozen: a caller's later change of its own object changes nothing."""
        return cls(
            send_alive_interval=timings.send_alive_interval,
            check_interval=timings.check_interval,
            slow=timings.slow,
            warn=timings.warn,
            dead=timings.dead,
            remove=timings.remove,
        )
