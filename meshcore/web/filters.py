"""Queries that a click builds: terms joined by `&`, to which one is added or taken away.

Only the outermost `&` of a query are looked at, outside of quotes and brackets. What a person typed
stays as it is, in brackets where something is added to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

# What a click adds, and what may therefore stand beside others without brackets.
_SIMPLE = re.compile(r'(?:@tag\(|[a-z]+ == )"(?:[^"\\]|\\.)*"\)?\Z')


def tag(name: str) -> str:
    return f"@tag({_quoted(name)})"


def equal(column: str, value: str) -> str:
    return f"{column} == {_quoted(value)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _unquoted(query: str) -> Iterator[tuple[int, str, int]]:
    """What is not in quotes: (place, character, how many brackets are open after it)."""
    depth, quoted, skip = 0, "", False
    for at, char in enumerate(query):
        if skip:
            skip = False
        elif quoted:
            skip = char == "\\"
            quoted = "" if char == quoted else quoted
        elif char in "\"'":
            quoted = char
        else:
            depth += {"(": 1, ")": -1}.get(char, 0)
            yield at, char, depth


def terms(query: str) -> list[str]:
    """The terms of a query, in their order."""
    found: list[str] = []
    begin = 0
    for at, char, depth in _unquoted(query):
        if char == "&" and depth == 0:
            found.append(query[begin:at])
            begin = at + 1
    found.append(query[begin:])
    return [term.strip() for term in found if term.strip()]


def is_simple(term: str) -> bool:
    """Whether it is such a term as a click adds."""
    return _SIMPLE.match(term) is not None


def with_term(query: str, term: str) -> str:
    """What `query` finds and `term` as well."""
    standing = terms(query)
    if term in standing:
        return query
    if not all(is_simple(each) or _in_brackets(each) for each in standing):
        standing = [f"({query.strip()})"]
    return " & ".join([*standing, term])


def without_term(query: str, term: str) -> str:
    """`query` without that term."""
    left = [each for each in terms(query) if each != term]
    if len(left) == 1 and _in_brackets(left[0]):
        return left[0][1:-1].strip()
    return " & ".join(left)


def _in_brackets(term: str) -> bool:
    """Whether one pair of brackets is around all of it."""
    if not (term.startswith("(") and term.endswith(")")):
        return False
    closed = [at for at, char, depth in _unquoted(term) if char == ")" and depth == 0]
    return closed == [len(term) - 1]
