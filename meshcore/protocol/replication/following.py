"""A replica that follows: it takes over the primary's log, or its checkpoint.

Entries that fit on are written down and only then acknowledged; entries that are not the primary's
are replaced. What the primary says is committed is applied. A checkpoint replaces log and state
once it is on disk. Source: Ongaro (2014), sections 3.5 and 5.
"""

from __future__ import annotations

from typing import Any

from meshcore.protocol.replication.core import Role
from meshcore.protocol.replication.effects import StateChanged
from meshcore.protocol.replication.messages import Append, Appended, Message, Part, Taken
from meshcore.protocol.replication.records import Checkpoint, Entry
from meshcore.protocol.replication.transfer import Receiving
from meshcore.protocol.replication.voting import Voting


class Following(Voting):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._receiving = Receiving()
        self._goal: int | None = None  # to apply before it is ready; None: no primary told yet
        self._is_ready = False

    def _follow(self, sender: str, term: int, now: float) -> bool:
        """Whether that is the primary of the newest term that we know of; if so, follow it."""
        if term < self.term or (self.role is Role.PRIMARY and term == self.term):
            return False
        if term > self.term:
            self._observe(term, now)
        elif self.role is not Role.FOLLOWER:
            self._step_down(now)
        self._hear(sender, now)
        return True

    def _on_append(self, sender: str, message: Append, now: float) -> None:
        if not self._follow(sender, message.term, now):
            if message.term < self.term:
                self._reply(sender, Appended(self.term, False, 0, message.round), now)
            return
        if self._installing:
            return
        match = self._match(message)
        if match is None:
            guess = self._guess(message.prev_index)
            self._reply(sender, Appended(self.term, False, guess, message.round), now)
            return
        self._receiving.clear()  # the log has what we need
        fresh = self._take_entries(message)
        term, number = self.term, message.round
        if fresh:

            def then(at: float) -> None:
                if self.term == term:
                    self._send(sender, Appended(term, True, match, number))

            self._persist(then, entries=fresh)
        else:
            self._reply(sender, Appended(term, True, min(match, self._durable), number), now)
        if self._goal is None:
            self._goal = message.commit
        commit = min(message.commit, match)
        if commit > self.commit:
            self.commit = commit
            self._advance(now)

    def _match(self, message: Append) -> int | None:
        """How far our log is the primary's, with these entries; None where they do not fit on."""
        last = message.prev_index + len(message.entries)
        if message.prev_index <= self.commit:
            return max(last, self.commit)  # what is committed is the same everywhere
        if self.journal.term_at(message.prev_index) != message.prev_term:
            return None
        return last

    def _guess(self, index: int) -> int:
        """Where our log may be the primary's, if not at this entry."""
        if index > self.journal.last:
            return self.journal.last
        return max(self.commit, self.journal.first_of_term(index) - 1)

    def _take_entries(self, message: Append) -> tuple[Entry, ...]:
        """Append what we do not have; returns that."""
        entries = message.entries
        for position, entry in enumerate(entries):
            if entry.index <= self.commit or self.journal.term_at(entry.index) == entry.term:
                continue
            if entry.index <= self.journal.last:
                self._truncate(entry.index)
            fresh = entries[position:] if position else entries
            for new in fresh:
                self.journal.append(new)
                self._note_members(new)
            return fresh
        return ()

    def _reply(self, sender: str, message: Message, now: float) -> None:
        self._once_vote_is_on_disk(lambda at: self._send(sender, message), now)

    def _on_appended(self, sender: str, message: Appended, now: float) -> None:
        if message.term > self.term:
            self._observe(message.term, now)
        else:
            super()._on_appended(sender, message, now)

    def _on_taken(self, sender: str, message: Taken, now: float) -> None:
        if message.term > self.term:
            self._observe(message.term, now)
        else:
            super()._on_taken(sender, message, now)

    def _on_part(self, sender: str, message: Part, now: float) -> None:
        if not self._follow(sender, message.term, now):
            if message.term < self.term:
                self._reply(sender, Taken(self.term, message.index, 0, False, message.round), now)
            return
        if self._installing:
            return
        if message.index <= self.commit:
            if message.index <= self._durable:
                taken = Taken(self.term, message.index, 0, True, message.round)
                self._reply(sender, taken, now)
            return
        checkpoint = self._receiving.take(message)
        if checkpoint is None:
            offset = self._receiving.offset
            self._reply(sender, Taken(self.term, message.index, offset, False, message.round), now)
            return
        self._installing = True
        self._persist(
            lambda at: self._installed(sender, checkpoint, message, at),
            checkpoint=checkpoint,
            reset=True,
        )

    def _installed(self, sender: str, checkpoint: Checkpoint, part: Part, now: float) -> None:
        """The checkpoint of the primary is on disk, instead of our log."""
        self._installing = False
        self._install(checkpoint, now)
        self._answer_attending()
        self._is_ready, self._goal = False, None
        self._emit(StateChanged())
        if self.term == part.term:
            self._send(sender, Taken(self.term, part.index, 0, True, part.round))
