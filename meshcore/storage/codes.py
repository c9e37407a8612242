"""A column of few different texts, each kept once: a record has its number.

What is asked of such a column is asked of each text once, and then looked up along one array, where
reading every record's own text would wait for memory all the time.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator


class Codes:
    """The texts of one column, by slot."""

    def __init__(self) -> None:
        self._codes = array("I")
        self._texts: list[str | None] = []  # by number; None: free
        self._numbers: dict[str, int] = {}
        self._used: list[int] = []  # how many slots have it
        self._free: list[int] = []

    def append(self, text: str) -> None:
        """One more slot."""
        self._codes.append(self._number(text))

    def put(self, slot: int, text: str) -> None:
        """The text of a slot is this now."""
        old = self._codes[slot]
        self._codes[slot] = self._number(text)
        self._used[old] -= 1
        if not self._used[old]:
            del self._numbers[self._texts[old] or ""]
            self._texts[old] = None
            self._free.append(old)

    def _number(self, text: str) -> int:
        """The number of a text, for one more slot."""
        number = self._numbers.get(text)
        if number is None:
            number = self._free.pop() if self._free else len(self._texts)
            if number == len(self._texts):
                self._texts.append(text)
                self._used.append(0)
            self._texts[number] = text
            self._numbers[text] = number
        self._used[number] += 1
        return number

    def where(self, holds: Callable[[str], bool]) -> Iterator[int]:
        """For each slot: 1 where it holds for the text."""
        flags = bytes(text is not None and holds(text) for text in self._texts)
        return map(flags.__getitem__, self._codes)

    def contents(self) -> list[str]:
        """All of it by slot, for tests."""
        return [self._texts[number] or "" for number in self._codes]
