"""The query language: a text becomes a tree that says for which records it holds.

    name ~ "resize" & @tag("image") & not organization in ("acme", "umbrella") | berlin

docs/catalogue.md is its manual. A query is only ever read: lark's parser turns it into nodes of the
few kinds below, and `matching` looks at what a node names. Nothing in it is called or evaluated.

A query that does not parse, or that says what makes no sense (a column that does not exist, a time
that is none), is no error: it is taken as full text, word by word, and `reason` tells why. Bounds:
the length of the query, the number of its terms, and how deep parentheses and `not` are nested;
what is beyond them is full text too. Parsing is LALR and builds no tree of its own, so that time is
linear and no input makes it recurse.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from meshcore.storage.columns import COLUMNS, fold, unknown_column

if TYPE_CHECKING:
    from lark import Lark, Token

QUERY_MAX = 4096  # characters
TERMS_MAX = 64
DEPTH_MAX = 32  # parentheses and negations within each other

GRAMMAR = r"""
    start: either

    ?either: both | either "|" both            -> either
    ?both: unary | both "&"? unary             -> both
    ?unary: "not" unary                        -> negation
          | "(" either ")"                     -> group
          | term

    ?term: WORD                                -> word
         | STRING                              -> string
         | TAG "(" value ")"                   -> tag
         | WORD OPERATOR value                 -> comparison
         | WORD "in" "(" values ")"            -> one_of
         | WORD "in" WORD                      -> member
         | STRING "in" WORD                    -> member
    values: value ("," value)*
    ?value: WORD | STRING

    TAG: "@tag"
    OPERATOR: "==" | "!=" | "<=" | ">=" | "<" | ">" | "~"
    STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
    WORD: /[^\s()&|=!<>~"',@][^\s()&|=!<>~",]*/

    %ignore /\s+/
"""


# -- the tree --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class And:
    """All of them; without any it holds for everything."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of them at least."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class Words:
    """Full text: one of the columns of the full text contains this (case-folded)."""

    text: str


@dataclass(frozen=True, slots=True)
class Contains:
    """A column, or one of the tags, contains this (case-folded)."""

    column: str
    text: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """A column, or one of the tags, is one of these; None is a time that there is not."""

    column: str
    values: tuple[str | float | None, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """A column, or one of the tags, is before or after this; what is null is neither."""

    column: str
    operator: str  # < <= > >=
    value: str | float


Node: TypeAlias = And | Or | Not | Words | Contains | OneOf | Compare


class Query(NamedTuple):
    """What to look for; `reason` where it was taken as full text because it is no query."""

    node: Node
    reason: str | None


class QueryError(ValueError):
    """It is no query; the text says why."""


def parse(text: str) -> Query:
    """Read a query. Raises nothing, whatever the text is."""
    try:
        return Query(_parsed(text), None)
    except QueryError as error:
        words = text[:QUERY_MAX].split()[:TERMS_MAX]
        return Query(And(tuple(dict.fromkeys(Words(fold(word)) for word in words))), str(error))


def prepare() -> None:
    """Load what parsing needs, which takes a tenth of a second, before somebody waits for it."""
    parser()


# -- parsing ---------------------------------------------------------------------------------------


class _Built(NamedTuple):
    """A node, with what the bounds look at."""

    node: Node
    depth: int
    terms: int


@functools.cache
def parser() -> Lark:
    """The parser, made once; the first call loads lark, which takes a while."""
    import lark

    return lark.Lark(GRAMMAR, parser="lalr", transformer=_Builder(), propagate_positions=False)


def _parsed(text: str) -> Node:
    if not text.strip():
        return And(())
    if len(text) > QUERY_MAX:
        raise QueryError(f"longer than {QUERY_MAX} characters; the rest was left out")
    import lark

    try:
        built = parser().parse(text)
    except lark.exceptions.UnexpectedEOF:
        raise QueryError("it ends too early") from None
    except lark.exceptions.UnexpectedToken as error:
        raise QueryError(_unexpected(text, error.pos_in_stream, error.token.type)) from None
    except lark.exceptions.UnexpectedCharacters as error:
        raise QueryError(_unexpected(text, error.pos_in_stream, "")) from None
    return built.node  # type: ignore[attr-defined, no-any-return]


def _unexpected(text: str, position: int | None, kind: str) -> str:
    if position is None or kind == "$END":
        return "it ends too early"
    found = text[position]
    if found == "=" and text[position : position + 2] != "==":
        return f"character {position + 1}: unexpected '='; equality is =="
    if found in "\"'" and text.count(found, position) == 1:
        return f"character {position + 1}: the text that begins here has no end"
    return f"character {position + 1}: unexpected {found!r}"


class _Builder:
    """What lark calls for each rule, bottom up, with what the rule's parts have become."""

    def start(self, parts: list[_Built]) -> _Built:
        return parts[0]

    def either(self, parts: list[_Built]) -> _Built:
        return _joined(Or, parts)

    def both(self, parts: list[_Built]) -> _Built:
        return _joined(And, parts)

    def negation(self, parts: list[_Built]) -> _Built:
        inner = _deeper(parts[0])
        return inner._replace(node=Not(inner.node))

    def group(self, parts: list[_Built]) -> _Built:
        return _deeper(parts[0])

    def word(self, parts: list[Token]) -> _Built:
        return _term(Words(fold(parts[0])))

    def string(self, parts: list[Token]) -> _Built:
        return _term(Words(fold(_unquoted(parts[0]))))

    def tag(self, parts: list[Token]) -> _Built:
        return _term(OneOf("tags", (_unquoted(parts[1]),)))

    def values(self, parts: list[Token]) -> list[Token]:
        return parts

    def comparison(self, parts: list[Token]) -> _Built:
        column, operator, value = _column(parts[0]), str(parts[1]), parts[2]
        if operator == "~":
            return _term(_contains(column, value))
        if operator == "==":
            return _term(OneOf(column, (_value(column, value),)))
        if operator == "!=":
            return _term(Not(OneOf(column, (_value(column, value),))))
        bound = _value(column, value)
        if bound is None:
            raise QueryError(f"{column}: null is neither before nor after anything")
        return _term(Compare(column, operator, bound))

    def one_of(self, parts: list[Any]) -> _Built:
        column = _column(parts[0])
        values = tuple(dict.fromkeys(_value(column, each) for each in parts[1]))
        return _term(OneOf(column, values))

    def member(self, parts: list[Token]) -> _Built:
        column = _column(parts[1])
        if column == "tags":
            return _term(OneOf(column, (_unquoted(parts[0]),)))
        return _term(_contains(column, parts[0]))


def _term(node: Node) -> _Built:
    return _Built(node, 1, 1)


def _deeper(inner: _Built) -> _Built:
    if inner.depth >= DEPTH_MAX:
        raise QueryError(f"nested deeper than {DEPTH_MAX}")
    return inner._replace(depth=inner.depth + 1)


def _joined(kind: type[And] | type[Or], parts: list[_Built]) -> _Built:
    terms = sum(part.terms for part in parts)
    if terms > TERMS_MAX:
        raise QueryError(f"more than {TERMS_MAX} terms")
    nodes: list[Node] = []
    for part in parts:
        nodes += part.node.parts if isinstance(part.node, kind) else (part.node,)
    return _Built(kind(tuple(nodes)), max(part.depth for part in parts), terms)


def _column(token: Token) -> str:
    name = str(token)
    if name not in COLUMNS:
        raise QueryError(unknown_column(name))
    return name


def _contains(column: str, token: Token) -> Contains:
    if COLUMNS[column].is_time:
        raise QueryError(f"{column} is a time: it is ==, !=, <, <=, > or >= another, not ~")
    return Contains(column, fold(_unquoted(token)))


_ESCAPED = re.compile(r"\\([\\\"'])")


def _unquoted(token: Token) -> str:
    """The text that a token stands for: \\" \\' and \\\\ in quotes are what follows the \\."""
    return _ESCAPED.sub(r"\1", token[1:-1]) if token.type == "STRING" else str(token)


# -- values ----------------------------------------------------------------------------------------

_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?\Z", re.ASCII)


def _value(column: str, token: Token) -> str | float | None:
    text = _unquoted(token)
    return time_of(column, text) if COLUMNS[column].is_time else text


def time_of(column: str, text: str) -> float | None:
    """Unix seconds of an ISO 8601 time (UTC where it names no zone) or a number; None for null.

    Raises QueryError for anything else.
    """
    if text == "null":
        return None
    if _NUMBER.match(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise QueryError(
            f"{column}: {text[:40]!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z,"
            " Unix seconds or null"
        ) from None
