"""What comes from others: taken whole as it was meant, or refused with the name of the field."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.protocol.catalogue.holding import Change, Delta, Head
from meshcore.protocol.catalogue.messages import (
    BadMessageError,
    Entry,
    Exchange,
    decode,
    encode,
)
from meshcore.protocol.catalogue.records import Flow, Origin

FLOW = Flow("http://a/", "Änne", "what it does", "me", ("x", "y"))
ENTRY = Entry(
    Origin("mesh", "alpha"),
    "acme",
    Head(5, 9, True),
    True,
    0.0,
    3,
    Delta(7, Head(5, 9, True), (Change(8, False, FLOW), Change(9, True, FLOW))),
)
HEAD = Entry(Origin("", "http://program/"), "", Head(2, 3, False), False, 12.5, 0, None, True)
MESSAGE = Exchange("http://r/", "mesh", 77, "acme", True, (ENTRY, HEAD))


def test_a_message_comes_back_as_it_was_over_json() -> None:
    assert decode(json.loads(json.dumps(encode(MESSAGE)))) == MESSAGE


def changed(path: str, value: Any) -> dict[str, Any]:
    told = copy.deepcopy(encode(MESSAGE))
    place: Any = told
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return told


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("url", 5, "url must be a text"),
        ("life", -1, "life = -1 must be a whole number"),
        ("life", True, "life = True must be"),
        ("feed", "yes", "feed = 'yes' must be true or false"),
        ("nodes", {}, "nodes must be a list"),
        ("nodes.0", 5, "nodes[0] must be an object, not int"),
        ("nodes.0.node", "", "nodes[0].node must be a text of 1 to"),
        ("nodes.0.incarnation", 2**63, "nodes[0].incarnation ="),
        ("nodes.0.complete", ..., "nodes[0].complete = None must be true or false"),
        ("nodes.0.age", float("nan"), "nodes[0].age = nan"),
        ("nodes.0.flows", 7, "nodes[0].flows must be a list"),
        ("nodes.0.flows.1", [], "nodes[0].flows[1] must be an object"),
        ("nodes.0.flows.0.url", "", "nodes[0].flows[0].url must be a text of 1"),
        ("nodes.0.flows.0.url", "x" * 2049, "nodes[0].flows[0].url must be"),
        ("nodes.0.flows.0.name", "\ud800", "nodes[0].flows[0].name must be Unicode"),
        ("nodes.0.flows.0.tags", "xy", "nodes[0].flows[0].tags must be a list"),
        ("nodes.0.flows.0.tags", [""], "nodes[0].flows[0].tags must be texts"),
        ("nodes.0.flows.0.kind", "virus", "nodes[0].flows[0].kind = 'virus'"),
        ("nodes.0.flows.0.deleted", 0, "nodes[0].flows[0].deleted = 0"),
        ("nodes.0.flows.0.version", 7, "versions that rise"),
        ("nodes.0.flows.1.version", 10, "versions that rise"),
        ("nodes.0.flows.1.version", 8, "versions that rise"),
        ("nodes.0.since", 9, "versions that rise"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, text: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        decode(changed(path, value))
    assert text in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
paths = st.sampled_from(
    [
        *encode(MESSAGE),
        *(f"nodes.0.{key}" for key in encode(MESSAGE)["nodes"][0]),
        *(f"nodes.0.flows.0.{key}" for key in encode(MESSAGE)["nodes"][0]["flows"][0]),
    ]
)


@given(path=paths, value=json_values | st.just(...))
def test_whatever_comes_is_a_message_or_a_clear_error(path: str, value: Any) -> None:
    try:
        message = decode(changed(path, value))
    except BadMessageError:
        return
    assert decode(encode(message)) == message


@given(value=json_values)
def test_no_value_at_all_breaks_the_decoder(value: Any) -> None:
    with pytest.raises(BadMessageError):
        decode(value)
