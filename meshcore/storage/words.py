"""Which records have a word, a tag, a text: an index from words to records.

A *posting* is the sorted slots of the records that have a word. A text without white space that is
contained in a record is contained in one of its words. So it is looked for in the vocabulary, one
long string of all words, which is a hundredth of all texts, and the postings of the words that
contain it are put together.

Short texts are in a large part of all words. Then it is faster to look at the records themselves:
`slots_with` gives up where that is so. Most records need no look even then, because they have one
of the most frequent words that contain the text (`mark_some`).
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

FREQUENT = 128  # words
MARKED_MAX = 2.0  # times all records
RECENT_MAX = 4096  # words that are not in the vocabulary's string yet
# What looking up may cost before looking at every record is cheaper, measured in slots of postings
# (30 ns each): a word of the vocabulary is as much as this many, a record that is looked at three.
WORD_COST = 20
RECORD_COST = 3


class Postings:
    """From words, or tags, to the slots that have them; each word of a slot is named once."""

    def __init__(self) -> None:
        # A single slot stands for itself: most words are in one record alone.
        self._postings: dict[str, int | array[int]] = {}

    def __len__(self) -> int:
        return len(self._postings)

    def __iter__(self) -> Iterator[str]:
        return iter(self._postings)

    def add(self, slot: int, words: Iterable[str]) -> None:
        """The record in this slot has these words as well."""
        postings = self._postings
        for word in words:
            posting = postings.get(word)
            if posting is None:
                postings[word] = slot
                self._appeared(word)
            elif isinstance(posting, int):
                pair = (posting, slot) if posting < slot else (slot, posting)
                postings[word] = array("I", pair)
            elif slot > posting[-1]:
                posting.append(slot)
            else:
                posting.insert(bisect_left(posting, slot), slot)

    def remove(self, slot: int, words: Iterable[str]) -> None:
        """The record in this slot has these words no more; it had each of them."""
        postings = self._postings
        for word in words:
            posting = postings[word]
            if isinstance(posting, int):
                del postings[word]
                self._vanished()
                continue
            del posting[bisect_left(posting, slot)]
            if len(posting) == 1:
                postings[word] = posting[0]

    def contents(self) -> dict[str, list[int]]:
        """All of it, for tests."""
        return {
            word: [posting] if isinstance(posting, int) else list(posting)
            for word, posting in self._postings.items()
        }

    def having(self, word: str) -> int:
        """How many records have it."""
        posting = self._postings.get(word, ())
        return 1 if isinstance(posting, int) else len(posting)

    def mark(self, word: str, marks: bytearray) -> int:
        """Set the byte of each slot that has the word to 1; tells how many there are."""
        posting = self._postings.get(word)
        if posting is None:
            return 0
        if isinstance(posting, int):
            marks[posting] = 1
            return 1
        for slot in posting:
            marks[slot] = 1
        return len(posting)

    def _appeared(self, word: str) -> None:
        """A word that no record had."""

    def _vanished(self) -> None:
        """The last record with a word has lost it."""


class Words(Postings):
    """Postings of all words, with the vocabulary to look for parts of words."""

    def __init__(self) -> None:
        super().__init__()
        self._vocabulary = " "
        self._recent: list[str] = []
        self._gone = 0  # words in the vocabulary's string that no record has any more
        self._frequent: list[str] = []

    def slots_with(self, text: str, records: int) -> bytearray | None:
        """A byte for each of `records` slots: 1 where one of its words contains the text.

        None where it is cheaper to look at every record. The text has no white space in it.
        """
        left = RECORD_COST * records
        words = self._containing(text, left // WORD_COST)
        if words is None:
            return None
        left -= sum(map(self.having, words))
        if left < 0:
            return None
        marks = bytearray(records)
        for word in words:
            self.mark(word, marks)
        return marks

    def mark_some(self, text: str, marks: bytearray) -> None:
        """Mark the slots with those of the most frequent words that contain the text."""
        self.tidy()
        marked = 0
        for word in self._frequent:
            if text in word:
                marked += self.mark(word, marks)
                if marked > MARKED_MAX * len(marks):
                    return  # few are left, and the next word marks mostly the same ones

    def _containing(self, text: str, limit: int) -> list[str] | None:
        """Words that contain the text, some of them gone; None where they are more than `limit`."""
        self.tidy()
        words = [word for word in self._recent if text in word]
        vocabulary = self._vocabulary
        place = vocabulary.find(text)
        while place >= 0:
            end = vocabulary.find(" ", place)
            words.append(vocabulary[vocabulary.rfind(" ", 0, place) + 1 : end])
            if len(words) > limit:
                return None
            place = vocabulary.find(text, end)
        return words

    def tidy(self) -> None:
        """Make the vocabulary's string anew where too much of it is out of date."""
        if len(self._recent) > RECENT_MAX or self._gone > RECENT_MAX + len(self._postings):
            self._vocabulary = f" {' '.join(self._postings)} "
            self._frequent = heapq.nlargest(FREQUENT, self._postings, key=self.having)
            self._recent = []
            self._gone = 0

    def _appeared(self, word: str) -> None:
        self._recent.append(word)

    def _vanished(self) -> None:
        self._gone += 1
