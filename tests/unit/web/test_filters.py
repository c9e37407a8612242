"""Queries that a click builds."""

from __future__ import annotations

import pytest

from meshcore.web import filters

GPU, EVIL = filters.tag("gpu"), filters.tag('a "quoted" \\ & (odd) tag')


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ['@tag("gpu")']),
        ("two words", ["(two words)", '@tag("gpu")']),
        ('@tag("nlp")', ['@tag("nlp")', '@tag("gpu")']),
        ('organization == "a & b"', ['organization == "a & b"', '@tag("gpu")']),
        ('name ~ "x" | name ~ "y"', ['(name ~ "x" | name ~ "y")', '@tag("gpu")']),
        ("(a | b)", ["(a | b)", '@tag("gpu")']),
        ("(a) | (b)", ["((a) | (b))", '@tag("gpu")']),
        ('"a (phrase"', ['("a (phrase")', '@tag("gpu")']),
    ],
)
def test_a_term_is_added(query: str, expected: list[str]) -> None:
    assert filters.with_term(query, GPU) == " & ".join(expected)


def test_a_term_that_stands_there_is_not_added_again() -> None:
    once = filters.with_term("words", GPU)
    assert filters.with_term(once, GPU) == once


@pytest.mark.parametrize("query", ["", "two words", '@tag("nlp")', "(a | b)", EVIL])
def test_what_was_added_can_be_taken_away(query: str) -> None:
    for term in (GPU, EVIL, filters.equal("node", 'o"dd')):
        if term == query:
            continue
        there = filters.with_term(query, term)
        assert filters.is_simple(term)
        assert term in filters.terms(there)
        back = filters.without_term(there, term)
        assert back == (query[1:-1] if query == "(a | b)" else query)


@pytest.mark.parametrize("query", ['a "not closed & b', "((", "))", "&&&", "\\", "a & (b"])
def test_any_text_has_terms(query: str) -> None:
    assert isinstance(filters.terms(filters.with_term(query, GPU)), list)
    assert isinstance(filters.without_term(query, GPU), str)
