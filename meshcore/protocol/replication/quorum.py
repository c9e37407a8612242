"""The arithmetic of majorities."""

from __future__ import annotations

from collections.abc import Iterable


def majority(count: int) -> int:
    """How many of `count` members are more than half of them."""
    return count // 2 + 1


def agreed(values: Iterable[float]) -> float:
    """The greatest value that a majority of the members has reached, one value for each."""
    ordered = sorted(values, reverse=True)
    return ordered[majority(len(ordered)) - 1]
