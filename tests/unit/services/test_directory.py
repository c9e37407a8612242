"""Who serves what, out of what nodes announce; whatever they announce."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.protocol.membership import events
from meshcore.protocol.view import NodeStatus
from meshcore.services.directory import Directory, close_to, offer_of
from meshcore.services.registry import offers_of, plain_offers

PLAIN = {
    "class": "Lamp",
    "replication": "none",
    "replicas": 1,
    "answering": True,
    "state": "ready",
    "role": "member",
    "term": 0,
    "replica": None,
    "gid": None,
    "methods": ["get", "set"],
    "readonly": ["state"],
}


class Mesh:
    """What a directory looks at."""

    def __init__(self) -> None:
        self.identity = SimpleNamespace(node_id="own")
        self.own = SimpleNamespace(details={})
        self.roster: dict[str, Any] = {}
        self.details_of: dict[str, Any] = {}

    def tell(self, node: str, services: Any, status: NodeStatus = NodeStatus.ALIVE) -> None:
        self.roster[node] = SimpleNamespace(status=status)
        self.details_of[node] = SimpleNamespace(content={"services": services})


def made() -> tuple[Mesh, Directory]:
    mesh = Mesh()
    return mesh, Directory(mesh)  # type: ignore[arg-type]


def test_members_are_those_that_live_and_answer() -> None:
    mesh, directory = made()
    mesh.tell("alpha", {"lamps": PLAIN})
    mesh.tell("beta", {"lamps": {**PLAIN, "answering": False}, "doors": PLAIN})
    mesh.tell("gamma", {"lamps": PLAIN}, NodeStatus.DEAD)
    for node in ("alpha", "beta", "gamma", "nobody"):
        directory.look(node)
    assert directory.members("lamps") == ("alpha",)
    assert [offer.node for offer in directory.offers("lamps")] == ["alpha", "beta"]
    assert directory.groups() == ["doors", "lamps"]


def test_subscribers_get_the_present_members_then_changes_alone() -> None:
    mesh, directory = made()
    mesh.tell("alpha", {"lamps": PLAIN})
    directory.look("alpha")
    seen: list[tuple[str, ...]] = []
    end = directory.subscribe("lamps", seen.append)
    assert seen == [("alpha",)]
    mesh.tell("alpha", {"lamps": {**PLAIN, "term": 2}})
    directory.look("alpha")
    assert seen == [("alpha",)], "its term is no change of the members"
    mesh.tell("alpha", {"lamps": PLAIN}, NodeStatus.DEAD)
    directory.dispatch(events.Removed("alpha", "left"))
    assert seen == [("alpha",), ()], "a lost node takes its services along"
    end()
    mesh.tell("alpha", {"lamps": PLAIN})
    directory.look("alpha")
    assert seen == [("alpha",), ()]


def test_a_subscriber_that_fails_does_not_keep_others_from_hearing() -> None:
    mesh, directory = made()
    seen: list[tuple[str, ...]] = []

    def fail(members: tuple[str, ...]) -> None:
        if members:
            raise ValueError

    directory.subscribe("lamps", fail)
    directory.subscribe("lamps", seen.append)
    mesh.tell("alpha", {"lamps": PLAIN})
    directory.look("alpha")
    assert seen == [(), ("alpha",)]


junk = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
fields = st.fixed_dictionaries({name: junk | st.just(value) for name, value in PLAIN.items()})


@given(junk | st.dictionaries(st.text(max_size=5), fields | junk, max_size=3))
def test_nothing_that_a_node_announces_raises(services: Any) -> None:
    mesh, directory = made()
    mesh.tell("alpha", services)
    directory.look("alpha")
    for group in directory.groups():
        assert offers_of({group: plain_offers(directory.offers(group))})


@given(
    junk
    | st.dictionaries(
        st.text(max_size=3), st.dictionaries(st.text(max_size=3), fields, max_size=2), max_size=2
    )
)
def test_nothing_that_a_node_answers_raises(answer: Any) -> None:
    offers_of(answer)


def test_offers_come_back_as_they_were_told() -> None:
    offer = offer_of("alpha", "lamps", PLAIN)
    assert offer is not None
    assert offer.plain() == PLAIN
    assert offers_of({"lamps": plain_offers((offer,))}) == {"lamps": (offer,)}


@pytest.mark.parametrize("term", [float("inf"), float("nan"), "x", None, [], b"\xff"])
def test_a_term_that_is_no_number_is_no_offer(term: Any) -> None:
    assert offer_of("alpha", "lamps", {**PLAIN, "term": term}) is None


def test_close_names_are_told() -> None:
    assert close_to("lamp", ["doors", "lamps"]) == "; did you mean lamps?"
    assert close_to("zebra", ["doors", "lamps"]) == ""
