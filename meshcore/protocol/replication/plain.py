"""Messages and records as plain values (lists, numbers, bytes), for the wire and for the disk.

A message is a list that begins with its number, an entry `[index, term, kind, body]`. Entries are
MessagePack in it: the disk and all other replicas get the same bytes, which are made once. A peer
may send anything: `decode` gives a message in which every field is as it should be, or raises
`BadMessage` that names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from meshcore.protocol.replication.messages import (
    Append,
    Appended,
    Lead,
    Message,
    Part,
    Taken,
    Vote,
    Voted,
)  # fmt: skip
from meshcore.protocol.replication.records import Batch, Call, Checkpoint, Entry, Kind

NUMBER_MAX: Final = 2**63 - 1
ENTRIES_MAX: Final = 4096  # in a message
MEMBERS_MAX: Final = 31
ID_CHARS_MAX: Final = 256


class BadMessage(ValueError):
    """A message or record that is not as it should be; the text names the field."""


# To plain values --------------------------------------------------------------------------------


def plain_entry(entry: Entry) -> list[Any]:
    """`[index, term, kind, body]`."""
    body = entry.body
    if entry.kind is Kind.CALL:
        body = [
            body.session, body.number, body.low, body.request, body.time, body.seed, body.answer,
        ]  # fmt: skip
    return [entry.index, entry.term, int(entry.kind), body]


def pack(entries: Sequence[Entry]) -> bytes:
    """Entries as bytes; those of a batch are made once."""
    if isinstance(entries, Batch):
        if not entries.data:
            entries.data = _packb([plain_entry(entry) for entry in entries])
        return entries.data
    packed: bytes = _packb([plain_entry(entry) for entry in entries])
    return packed


def plain_checkpoint(held: Checkpoint) -> list[Any]:
    """`[index, term, members, sessions, state, number]`."""
    return [held.index, held.term, list(held.members), held.sessions, held.state, held.number]


def encode(message: Message) -> list[Any]:
    """A message as a list."""
    if type(message) is Append:
        return [
            2, message.term, message.prev_index, message.prev_term, message.commit, message.round,
            pack(message.entries) if message.entries else b"",
        ]  # fmt: skip
    if type(message) is Appended:
        return [3, message.term, message.ok, message.match, message.round]
    if type(message) is Part:
        return [
            4, message.term, message.index, message.index_term, list(message.members),
            message.sessions, message.number, message.offset, message.data, message.last,
            message.initial, message.round,
        ]  # fmt: skip
    if type(message) is Taken:
        return [5, message.term, message.index, message.offset, message.done, message.round]
    if type(message) is Vote:
        return [
            0, message.term, message.last_term, message.last_index, message.pre, message.handover,
        ]  # fmt: skip
    if type(message) is Voted:
        return [1, message.term, message.granted, message.pre]
    return [6, message.term]


# From plain values ------------------------------------------------------------------------------


def decode(value: Any) -> Message:
    """The message of a list; BadMessage where it is none."""
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise BadMessage("a message is a list that begins with its number")
    number, fields = value[0], value[1:]
    if not 0 <= number < len(_DECODERS):
        raise BadMessage(f"there is no message {number}")
    name, count, make = _DECODERS[number]
    if len(fields) != count:
        raise BadMessage(f"{name} has {count} fields, not {len(fields)}")
    message: Message = make(fields)
    return message


def entry_of(value: Any) -> Entry:
    """The entry of `[index, term, kind, body]`."""
    if not isinstance(value, list) or len(value) != 4:
        raise BadMessage("an entry is a list: index, term, kind, body")
    index, term, kind, body = value
    if type(kind) is not int or not 0 <= kind < len(_KINDS):
        raise BadMessage(f"there is no kind {kind!r} of entries")
    if not (type(index) is type(term) is int and 0 <= index | term <= NUMBER_MAX):
        _number(index, "index of an entry"), _number(term, "term of an entry")  # one of them is bad
    return Entry(index, term, _KINDS[kind], _BODIES[kind](body))


def unpack(data: Any) -> Batch:
    """The entries of these bytes, in order and without gaps."""
    try:
        values = msgpack.unpackb(_bytes(data, "entries"))
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BadMessage(f"entries are not MessagePack: {type(error).__name__}") from error
    if not isinstance(values, list) or not values or len(values) > ENTRIES_MAX:
        raise BadMessage(f"entries must be a list of 1 to {ENTRIES_MAX}")
    entries = Batch([entry_of(value) for value in values])
    index, newest = entries[0].index, 0
    for entry in entries:
        if entry.index != index or entry.term < newest:
            raise BadMessage(f"entry {entry.index} of term {entry.term} does not follow on")
        index, newest = index + 1, entry.term
    entries.data = data
    return entries


def checkpoint_of(value: Any) -> Checkpoint:
    """The checkpoint of `[index, term, members, sessions, state, number]`."""
    if not isinstance(value, list) or len(value) != 6:
        raise BadMessage("a checkpoint is a list: index, term, members, sessions, state, number")
    state = value[4]
    return Checkpoint(
        _number(value[0], "index of a checkpoint"),
        _number(value[1], "term of a checkpoint"),
        _members(value[2]),
        _sessions(value[3]),
        None if state is None else _bytes(state, "state"),
        _number(value[5], "number of a checkpoint"),
    )


def _number(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise BadMessage(f"{name} must be a number from 0 to 2^63 - 1, not {_short(value)}")
    return value


def _flag(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise BadMessage(f"{name} must be true or false, not {_short(value)}")
    return value


def _bytes(value: Any, name: str) -> bytes:
    if type(value) is not bytes:
        raise BadMessage(f"{name} must be bytes, not {_short(value)}")
    return value


def _text(value: Any, name: str) -> str:
    if type(value) is not str or len(value) > ID_CHARS_MAX:
        raise BadMessage(f"{name} must be a text of {ID_CHARS_MAX} characters at most")
    return value


def _members(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MEMBERS_MAX:
        raise BadMessage(f"members must be a list of 1 to {MEMBERS_MAX} ids")
    members = tuple(_text(member, "member") for member in value)
    if len(set(members)) < len(members):
        raise BadMessage("members must not be named twice")
    return members


def _call(value: Any) -> Call:
    if not isinstance(value, list) or len(value) != 7:
        raise BadMessage("a call has 7 fields")
    session, number, low, request, time, seed, answer = value
    if (
        type(session) is type(number) is type(low) is type(seed) is int
        and 0 <= session | number | low | seed <= NUMBER_MAX
        and type(time) is float
        and type(request) is bytes
        and (answer is None or type(answer) is bytes)
    ):  # a call that is as it should be: what is below names the field, and takes thrice as long
        return Call(session, number, low, request, time, seed, answer)
    if type(time) is not float:
        raise BadMessage(f"time of a call must be a float, not {_short(time)}")
    return Call(
        _number(session, "session"), _number(number, "number of a request"), _number(low, "low"),
        _bytes(request, "request"), time, _number(seed, "seed"),
        None if answer is None else _bytes(answer, "answer"),
    )  # fmt: skip


def _empty(value: Any) -> None:
    if value is not None:
        raise BadMessage("an empty entry has no body")


def _ids(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise BadMessage("evicted sessions must be a list")
    return [_number(session, "session") for session in value]


def _sessions(value: Any) -> list[Any]:
    """The table of sessions in its plain form, each field checked."""
    if not isinstance(value, list):
        raise BadMessage("sessions must be a list")
    for session in value:
        if not isinstance(session, list) or len(session) != 5 or type(session[4]) is not list:
            raise BadMessage("a session is a list: id, client, used, low, answers")
        for position in (0, 2, 3):
            _number(session[position], "field of a session")
        _text(session[1], "client")
        for answer in session[4]:
            if not isinstance(answer, list) or len(answer) != 2:
                raise BadMessage("an answer of a session is a number and bytes")
            _number(answer[0], "number of a request")
            _bytes(answer[1], "answer")
    return value


_packb: Final = msgpack.packb
_KINDS: Final = tuple(Kind)
_BODIES: Final[tuple[Callable[[Any], Any], ...]] = (
    _empty, _call, lambda value: _text(value, "client"), _ids,
    lambda value: list(_members(value)),
)  # fmt: skip


def _vote(fields: list[Any]) -> Vote:
    term, last_term, last_index, pre, handover = fields
    return Vote(
        _number(term, "term"), _number(last_term, "last_term"), _number(last_index, "last_index"),
        _flag(pre, "pre"), _flag(handover, "handover"),
    )  # fmt: skip


def _voted(fields: list[Any]) -> Voted:
    term, granted, pre = fields
    return Voted(_number(term, "term"), _flag(granted, "granted"), _flag(pre, "pre"))


def _append(fields: list[Any]) -> Append:
    term, prev_index, prev_term, commit, number, entries = fields
    held = () if entries == b"" else unpack(entries)
    message = Append(
        _number(term, "term"), _number(prev_index, "prev_index"), _number(prev_term, "prev_term"),
        _number(commit, "commit"), _number(number, "round"), held,
    )  # fmt: skip
    if held:
        first, last = held[0], held[-1]
        if first.index != prev_index + 1 or not prev_term <= first.term <= last.term <= term:
            raise BadMessage(f"entry {first.index} of term {first.term} does not follow on")
    return message


def _appended(fields: list[Any]) -> Appended:
    term, ok, match, number = fields
    return Appended(
        _number(term, "term"), _flag(ok, "ok"), _number(match, "match"), _number(number, "round")
    )


def _part(fields: list[Any]) -> Part:
    term, index, index_term, members, sessions, count, offset, data, last, initial, number = fields
    return Part(
        _number(term, "term"), _number(index, "index"), _number(index_term, "index_term"),
        _members(members), _sessions(sessions), _number(count, "number"),
        _number(offset, "offset"), _bytes(data, "data"), _flag(last, "last"),
        _flag(initial, "initial"), _number(number, "round"),
    )  # fmt: skip


def _taken(fields: list[Any]) -> Taken:
    term, index, offset, done, number = fields
    return Taken(
        _number(term, "term"), _number(index, "index"), _number(offset, "offset"),
        _flag(done, "done"), _number(number, "round"),
    )  # fmt: skip


_DECODERS: Final[tuple[tuple[str, int, Callable[[list[Any]], Message]], ...]] = (
    ("Vote", 5, _vote),
    ("Voted", 3, _voted),
    ("Append", 6, _append),
    ("Appended", 4, _appended),
    ("Part", 11, _part),
    ("Taken", 5, _taken),
    ("Lead", 1, lambda fields: Lead(_number(fields[0], "term"))),
)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
