"""What clients saw of a counter, and whether one counter alone could have done that.

The test service counts its effects and answers `(index, value)`: how many effects there have been
with this one, and the value after it. A read answers the same and has no effect. A history of such
calls is linearizable if

- no two effects have one index;
- the value at an index follows from the effects up to there, in the order of their indexes;
- no call that was answered before another began has a greater index (a read: a greater index than
  an effect after it; the same as one before it is right);
- a call of which the outcome is not known has its effect once at most, at any index after what was
  answered when it began.

The replicas' own records of what they did, in order, must say the same, and be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MODULUS = 1_000_003  # values stay small; a prime, so that no factor maps two values to one

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda value, argument: (value + argument) % MODULUS,
    "minus": lambda value, argument: (value - argument) % MODULUS,
    "multiply": lambda value, argument: (value * argument) % MODULUS,
}
READ = "read"


@dataclass(slots=True)
class Called:
    """One call, as its client saw it; `end` and `answer` are None where it never heard."""

    id: str
    operation: str
    argument: int
    begin: float
    end: float | None = None
    answer: tuple[int, int] | None = None


class WrongHistory(AssertionError):
    """What no single counter would have done; the text says which calls show it."""


def check(calls: Sequence[Called], order: Sequence[str]) -> None:
    """Raise WrongHistory unless these calls are linearizable.

    Args:
        calls: what the clients saw.
        order: the ids of the calls that had an effect, in order, as the replicas kept them.
    """
    by_id = {call.id: call for call in calls}
    values = _replay(by_id, order)
    _check_answers(calls, order, values)
    _check_times(calls, {name: index for index, name in enumerate(order, start=1)})


def check_equal(orders: Iterable[tuple[str, Sequence[str], object]]) -> None:
    """Raise WrongHistory unless these replicas (name, order, state) did the same."""
    first: tuple[str, Sequence[str], object] | None = None
    for replica in orders:
        first = first or replica
        if list(replica[1]) != list(first[1]) or replica[2] != first[2]:
            raise WrongHistory(
                f"{replica[0]} and {first[0]} differ: {len(replica[1])} and {len(first[1])}"
                f" effects, states {replica[2]} and {first[2]}"
            )


def _replay(by_id: dict[str, Called], order: Sequence[str]) -> list[int]:
    """The values after 0, 1, … effects."""
    if len(set(order)) < len(order):
        twice = sorted({name for name in order if list(order).count(name) > 1})
        raise WrongHistory(f"calls with two effects: {', '.join(twice[:5])}")
    value, values = 0, [0]
    for name in order:
        call = by_id.get(name)
        if call is None or call.operation == READ:
            raise WrongHistory(f"{name} had an effect, and nobody asked for that")
        value = OPERATIONS[call.operation](value, call.argument)
        values.append(value)
    return values


def _check_answers(calls: Sequence[Called], order: Sequence[str], values: list[int]) -> None:
    """Every answer is that of its index."""
    taken: dict[int, str] = {}
    for call in calls:
        if call.answer is None:
            continue
        index, value = call.answer
        if not 0 <= index <= len(order):
            raise WrongHistory(
                f"{call.id} was answered with index {index}; {len(order)} effects are left"
            )
        if call.operation != READ:
            if index in taken:
                raise WrongHistory(f"{call.id} and {taken[index]} both have index {index}")
            taken[index] = call.id
            if index == 0 or order[index - 1] != call.id:
                now = order[index - 1] if index else "nothing"
                raise WrongHistory(f"{call.id} was answered with index {index}: that is {now}")
        if value != values[index]:
            raise WrongHistory(
                f"{call.id} was answered with {value} at index {index}, where it is {values[index]}"
            )


def _check_times(calls: Sequence[Called], index_of: dict[str, int]) -> None:
    """Nothing that began after an answer comes before it."""
    ended = sorted(
        (call for call in calls if call.answer is not None and call.end is not None),
        key=lambda call: call.end or 0.0,
    )
    begun = sorted(
        (call for call in calls if call.answer is not None or call.id in index_of),
        key=lambda call: call.begin,
    )
    position, latest, by = 0, 0, ""
    for call in begun:
        while position < len(ended) and (ended[position].end or 0.0) < call.begin:
            answer = ended[position].answer
            assert answer is not None
            if answer[0] > latest:
                latest, by = answer[0], ended[position].id
            position += 1
        is_read = call.operation == READ
        index = call.answer[0] if is_read and call.answer is not None else index_of[call.id]
        if index < latest or (index == latest and not is_read and latest > 0):
            raise WrongHistory(
                f"{call.id} has index {index}, and {by} was answered with {latest} before it began"
            )
