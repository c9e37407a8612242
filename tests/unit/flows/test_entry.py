"""What may be a flow, and what is said about an entry that cannot be one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.flows import FlowError, flow_from, flows_of_actions
from meshcore.protocol.catalogue.records import (
    ACTION,
    AUTHOR_MAX,
    DESCRIPTION_MAX,
    FLOW,
    NAME_MAX,
    TAG_MAX,
    TAGS_MAX,
    URL_MAX,
    Flow,
)

URL = "https://a.example/resize?x=1#y"


def test_an_entry_becomes_a_flow_with_sorted_tags_each_once() -> None:
    entry = {
        "url": URL,
        "name": "Resize",
        "description": "Makes images\nsmaller",
        "author": "Ünï Ćode",
        "tags": ["image", "cpu", "image"],
    }
    assert flow_from(entry) == Flow(
        URL, "Resize", "Makes images\nsmaller", "Ünï Ćode", ("cpu", "image")
    )


def test_everything_but_the_url_may_be_missing_or_nothing() -> None:
    bare = Flow(URL)
    assert flow_from({"url": URL}) == bare
    assert flow_from(dict.fromkeys(("name", "tags", "author", "kind"), None), url=URL) == bare
    assert flow_from({}, url=URL) == bare
    assert flow_from({"url": URL}, url=URL) == bare


def test_a_flow_is_checked_like_any_other_entry_and_gets_its_normal_form() -> None:
    assert flow_from(Flow(URL, tags=("b", "a"))) == Flow(URL, tags=("a", "b"))
    with pytest.raises(FlowError, match="name"):
        flow_from(Flow(URL, name=5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "http://host:8080/path",
        "HTTPS://Host/",
        "rnp+tls://[2001:db8::1]:99/x",
        "grpc://10.0.0.1:50051",
        "ssh://git@host/repository",
        "http://höst.example/größe",
        "x://" + "h" * (URL_MAX - 4),
    ],
)
def test_a_url_of_any_scheme_with_a_host_is_taken_as_it_is(url: str) -> None:
    assert flow_from({"url": url}).url == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "missing"),
        (5, "must be a text"),
        ("", "1 to 2048"),
        ("x://" + "h" * (URL_MAX - 3), "1 to 2048"),
        ("javascript:alert(1)", "javascript: is not allowed"),
        ("JavaScript://host/%0aalert(1)", "javascript: is not allowed"),
        ("data:text/html,x", "data: is not allowed"),
        ("vbscript:x", "not allowed"),
        ("file:///etc/passwd", "not allowed"),
        ("/relative", "scheme and a host"),
        ("host/path", "scheme and a host"),
        ("mailto:a@b.example", "scheme and a host"),
        ("http:///path", "scheme and a host"),
        ("http://:80/", "scheme and a host"),
        ("1http://host", "scheme and a host"),
        ("http://host:port/", "url"),
        ("http://host:99999/", "url"),
        ("http://[::1/", "url"),
        ("http://host/a b", "spaces"),
        (" http://host/", "spaces"),
        ("http://host/\n", "spaces"),
        ("java\nscript://host/", "spaces"),
        ("http://host/\u202egnp.exe", "spaces"),
        ('http://host/"onclick="x', "spaces"),
        ("http://host/<script>", "spaces"),
        ("http:\\\\host\\", "spaces"),
        ("mesh://alpha/demo:echo", "action"),
    ],
)
def test_a_url_that_leads_nowhere_or_runs_something_is_refused(url: Any, says: str) -> None:
    with pytest.raises(FlowError, match=says) as raised:
        flow_from({"url": url, "name": "x"})
    assert raised.value.field == "url"
    assert "\n" not in str(raised.value)


def test_a_password_in_a_url_is_refused_without_being_repeated() -> None:
    with pytest.raises(FlowError, match="password") as raised:
        flow_from({"url": "http://me:s3cret@host/"})
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", 5, "name = 5 must be a text"),
        ("name", "x" * (NAME_MAX + 1), f"at most {NAME_MAX}"),
        ("name", "two\nlines", "line breaks"),
        ("name", "bell\x07", "control"),
        ("name", "half\ud800", "control"),
        ("author", "x" * (AUTHOR_MAX + 1), f"at most {AUTHOR_MAX}"),
        ("author", ["me"], "author = a list must be a text"),
        ("description", "x" * (DESCRIPTION_MAX + 1), f"at most {DESCRIPTION_MAX}"),
        ("description", "esc\x1b[31m", "control"),
        ("tags", "a, b", "list of texts"),
        ("tags", {"a": 1}, "list of texts"),
        ("tags", [2024], "tag 2024 must be a text"),
        ("tags", [""], "1 to 64"),
        ("tags", ["  "], "1 to 64"),
        ("tags", ["x" * (TAG_MAX + 1)], "1 to 64"),
        ("tags", ["a\nb"], "control"),
        ("tags", [str(n) for n in range(TAGS_MAX + 1)], f"at most {TAGS_MAX}"),
        ("kind", "service", "kind = 'service' must be flow"),
        ("kind", ACTION, "must be flow"),
        ("descripton", "x", "did you mean description?"),
        ("size", "x", "there are url, name"),
    ],
)
def test_a_field_that_cannot_be_is_named(field: str, value: Any, says: str) -> None:
    with pytest.raises(FlowError) as raised:
        flow_from({"url": URL, field: value})
    assert says in str(raised.value)
    assert raised.value.field == field
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, ConfigError)
    assert len(str(raised.value)) < 250


def test_what_only_looks_odd_is_taken() -> None:
    text = "no\u00a0break, ZWJ \U0001f469\u200d\U0001f4bb, \u3000"
    assert flow_from({"url": URL, "name": text, "tags": [text]}).name == text
    longest = {"name": "ü" * NAME_MAX, "description": "x" * DESCRIPTION_MAX}
    assert flow_from({"url": URL, **longest}).name == longest["name"]


def test_extra_fields_may_be_passed_over() -> None:
    entry = {"url": URL, "version": 3, "deleted": False}
    assert flow_from(entry, extra=True) == Flow(URL)
    with pytest.raises(FlowError, match="version"):
        flow_from(entry)


def test_an_action_has_the_url_of_one_and_a_flow_has_not() -> None:
    both = (FLOW, ACTION)
    url = "mesh://alpha/demo:echo"
    assert flow_from({"url": url, "kind": ACTION}, kinds=both) == Flow(url, kind=ACTION)
    with pytest.raises(FlowError, match="stands for an action"):
        flow_from({"url": URL, "kind": ACTION}, kinds=both)


@pytest.mark.parametrize("entry", [None, 5, "text", b"bytes", ["url"], [("url", URL)]])
def test_what_is_no_table_is_none(entry: Any) -> None:
    with pytest.raises(FlowError, match="must be a table"):
        flow_from(entry)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_URLS = st.sampled_from([URL, "http://[", "javascript:x", "x://y", "http://u:p@h"]) | st.text()


@given(
    st.dictionaries(
        st.sampled_from(["url", "name", "author", "description", "tags", "kind"]) | st.text(),
        _URLS | _VALUES,
    )
)
def test_any_entry_is_a_flow_within_the_limits_or_an_error_on_one_line(entry: Any) -> None:
    try:
        flow = flow_from(entry, extra=True)
    except FlowError as error:
        text = str(error)
    else:
        text = ""
        check_limits(flow)
    assert "\n" not in text


def check_limits(flow: Flow) -> None:
    assert 0 < len(flow.url) <= URL_MAX
    assert not flow.url.lower().startswith(("javascript:", "data:"))
    assert list(flow.tags) == sorted(set(flow.tags))
    for text in (flow.url, flow.name, flow.author, flow.description, *flow.tags):
        text.encode()
    assert flow_from(flow) == flow


def test_actions_are_flows_with_what_they_say_of_themselves() -> None:
    about = {"name": "Echo", "description": "Says it again", "author": "me", "tags": ["b", "a"]}
    flows, problems = flows_of_actions("alpha", {"demo:echo": about, "demo:bare": {}})
    assert flows == [
        Flow("mesh://alpha/demo:echo", "Echo", "Says it again", "me", ("a", "b"), ACTION),
        Flow("mesh://alpha/demo:bare", kind=ACTION),
    ]
    assert problems == []
    assert [flow_from(flow, kinds=(FLOW, ACTION)) for flow in flows] == flows


def test_an_action_that_says_too_much_is_listed_with_less() -> None:
    about = {
        "name": "x" * 300,
        "description": "first\nsecond\x07",
        "author": 5,
        "tags": ["fine", "", "y" * 65, *(str(n) for n in range(40))],
    }
    [flow], problems = flows_of_actions("alpha", {"demo:echo": about})
    assert flow_from(flow, kinds=(ACTION,)) == flow
    assert flow.description == "first\nsecond"
    assert (len(flow.name), len(flow.tags)) == (NAME_MAX, TAGS_MAX)
    assert {problem.source for problem in problems} == {"action demo:echo"}
    reasons = " ".join(problem.reason for problem in problems)
    for part in ("name is cut", "description without", "author is no text", "only 32 of its 41"):
        assert part in reasons
