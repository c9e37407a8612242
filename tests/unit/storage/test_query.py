"""The query language: what each form means, and what is said of what is no query."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshcore.storage import query
from meshcore.storage.query import And, Compare, Contains, Not, OneOf, Or, Words, parse


def at(text: str) -> float | None:
    return query.time_of("created", text)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("", And(())),
        ("  \n ", And(())),
        ("resize", Words("resize")),
        ("resize Images", And((Words("resize"), Words("images")))),
        ('"resize Images"', Words("resize images")),
        ("'it is \"so\"'", Words('it is "so"')),
        ('"a\\"b\\\\c\\d"', Words('a"b\\c\\d')),
        ("c++ http://a/b?c e-mail@x.org don't", None),
        ('name == "X"', OneOf("name", ("X",))),
        ("name==X", OneOf("name", ("X",))),
        ("name != X", Not(OneOf("name", ("X",)))),
        ("name ~ STRASSE", Contains("name", "strasse")),
        ("name ~ Straße", Contains("name", "strasse")),
        ("name < m", Compare("name", "<", "m")),
        ("name >= m", Compare("name", ">=", "m")),
        ("node in (a, 'b', a)", OneOf("node", ("a", "b"))),
        ('"x" in tags', OneOf("tags", ("x",))),
        ("x in tags", OneOf("tags", ("x",))),
        ('"X" in name', Contains("name", "x")),
        ('@tag("X y")', OneOf("tags", ("X y",))),
        ("@tag(x)", OneOf("tags", ("x",))),
        ("created > 10.5", Compare("created", ">", 10.5)),
        ("created == null", OneOf("created", (None,))),
        ("heartbeat != null", Not(OneOf("heartbeat", (None,)))),
        ("a b | c & d", Or((And((Words("a"), Words("b"))), And((Words("c"), Words("d")))))),
        ("a (b | c)", And((Words("a"), Or((Words("b"), Words("c")))))),
        ("not a b", And((Not(Words("a")), Words("b")))),
        ("not (a b)", Not(And((Words("a"), Words("b"))))),
        ("not not a", Not(Not(Words("a")))),
        ("nothing inside", And((Words("nothing"), Words("inside")))),
        ("in", Words("in")),
        ("null", Words("null")),
        ("kind == action name ~ x", And((OneOf("kind", ("action",)), Contains("name", "x")))),
    ],
)
def test_a_query_means(text: str, node: query.Node | None) -> None:
    parsed = parse(text)
    assert parsed.reason is None
    if node is not None:
        assert parsed.node == node


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-1.5", -1.5),
        ("1970-01-02", 86400.0),
        ("1970-01-01T01:00:00", 3600.0),
        ("1970-01-01T01:00:00Z", 3600.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("null", None),
    ],
)
def test_a_time_is(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float | None) -> None:
    assert at(text) == seconds


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_a_time_without_a_zone_is_utc_wherever_we_are() -> None:
    assert at("1970-01-01T01:00:00") == 3600.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name ==", "it ends too early"),
        ("(a", "it ends too early"),
        ("not", "it ends too early"),
        ("a)", "character 2: unexpected ')'"),
        ("a & & b", "character 5: unexpected '&'"),
        ('name = "x"', "character 6: unexpected '='; equality is =="),
        ('"abc', "character 1: the text that begins here has no end"),
        ("@here", "character 1: unexpected '@'"),
        ("nme == x", "no column 'nme'; did you mean name?"),
        ("zzz == x", "no column 'zzz'; there are registry, node, "),
        ("made in germany", "no column 'germany'"),
        ("created > soon", "created: 'soon' is no time; write 2026-01-31"),
        ("created > 1e9", "created: '1e9' is no time"),
        ("created > nan", "created: 'nan' is no time"),
        ("created > 0001-01-01T00:00:00+23:59", None),
        ("created ~ 2026", "created is a time: it is ==, !=, <, <=, > or >= another, not ~"),
        ("created < null", "created: null is neither before nor after anything"),
        ("(" * 32 + "a" + ")" * 32, "nested deeper than 32"),
        ("not " * 32 + "a", "nested deeper than 32"),
        ("a " * 65, "more than 64 terms"),
        ("a" * 5000, "longer than 4096 characters; the rest was left out"),
    ],
)
def test_what_is_no_query_is_full_text_and_says_why(text: str, reason: str | None) -> None:
    parsed = parse(text)
    if reason is None:
        assert parsed.reason is None or "is no time" in parsed.reason
        return
    assert parsed.reason is not None
    assert parsed.reason.startswith(reason)
    assert parsed.node == And(
        tuple(dict.fromkeys(Words(word) for word in text[:4096].casefold().split()))
    )


@pytest.mark.parametrize("text", ["(" * 31 + "a" + ")" * 31, "not " * 31 + "a", "a " * 64])
def test_up_to_the_bounds_it_is_a_query(text: str) -> None:
    assert parse(text).reason is None


@pytest.mark.parametrize(
    "code",
    [
        '__import__("os").system("touch pwned")',
        "'; DROP TABLE flow; --",
        '" OR 1=1 --',
        "{{7*7}} ${7*7} %s %(x)s {0.__class__}",
        "lambda: 1",
        "name == __import__('os').getcwd()",
    ],
)
def test_code_in_a_query_is_text(code: str) -> None:
    def leaves(node: query.Node) -> Iterator[query.Node]:
        if isinstance(node, And | Or):
            for part in node.parts:
                yield from leaves(part)
        elif isinstance(node, Not):
            yield from leaves(node.part)
        else:
            yield node

    for leaf in leaves(parse(code).node):
        assert isinstance(leaf, Words | OneOf | Contains | Compare)
        if isinstance(leaf, Words):
            assert leaf.text in code.casefold()


def test_a_query_as_deep_and_long_as_may_be_takes_no_time() -> None:
    import time

    begun = time.thread_time()
    for text in ("(" * 4096, "not " * 1024, "a|" * 2048, "a==b&" * 800, '"' * 4096, "\\" * 4096):
        parse(text)
    assert time.thread_time() - begun < 2.0
