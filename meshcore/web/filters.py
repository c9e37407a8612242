"""Queries that a click builds: terms joined by `&`, to which one is added or taken away.

Only the outermost `&` of a query are looked at, outside of quotes and brackets. What a person typed
stays as it is, in brackets where something is added to it.
"""

from __future__ import annotations

import json
import re

# What a click adds, and what may therefore stand beside others without brackets.
_SIMPLE = re.compile(r'(?:@tag\(|[a-z]+ == )"(?:[^"\\]|\\.)*"\)?\Z')


def tag(name: str) -> str:
    return f"@tag({_quoted(name)})"


def equal(column: str, value: str) -> str:
    return f"{column} == {_quoted(value)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def terms(query: str) -> list[str]:
    """The terms of a query, in their order."""
    found: list[str] = []
    begin, depth, quoted, skip = 0, 0, "", False
    for at, char in enumerate(query):
        if skip:
            skip = False
        elif quoted:
            skip = char == "\\"
            quoted = "" if char == quoted else quoted
        elif char in "\"'":
            quoted = char
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "&" and depth == 0:
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
    depth, quoted, skip = 0, "", False
    for at, char in enumerate(term):
        if skip:
            skip = False
        elif quoted:
            skip = char == "\\"
            quoted = "" if char == quoted else quoted
        elif char in "\"'":
            quoted = char
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0 and at < len(term) - 1:
                return False
    return depth == 0
