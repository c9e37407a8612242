"""master and trace in a mesh that exists on paper."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshcore.cli import master as master_module
from meshcore.errors import DeadlineExceededError, UnknownNodeError

FOUND = {
    "master": "beta",
    "forced": [],
    "forced_off": [],
    "settled": True,
    "now": 1_700_000_000.25,
    "now_error": 0.002,
}


@pytest.fixture(autouse=True)
def looks_follow_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_module, "_LOOK_INTERVAL", 0.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {},
            "beta is master, by age; the time there is 22:13:20.250000 UTC ± 2.00 ms,"
            " seen from alpha\n",
        ),
        (
            {"forced": ["beta"], "now_error": None},
            "beta is master, forced; the time there is 22:13:20.250000 UTC not measured yet,"
            " seen from alpha\n",
        ),
        (
            {"forced": ["beta", "gamma"]},
            "beta is master, the oldest of 2 that are forced: beta, gamma; the time there is"
            " 22:13:20.250000 UTC ± 2.00 ms, seen from alpha\n",
        ),
        ({"master": None}, "no node is master, seen from alpha\n"),
    ],
)
def test_the_master_is_told_with_why_and_with_the_time(
    mesh: Any, run: Any, change: dict[str, Any], text: str
) -> None:
    mesh.answers["mesh:master"] = {**FOUND, **change}
    assert run("master").out == text


def test_the_json_of_master(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:master"] = FOUND
    assert json.loads(run("master", "--json").out) == {
        "master": "beta",
        "forced": [],
        "forced_off": [],
        "seen_from": "alpha",
        "now": "2023-11-14T22:13:20.250000Z",
        "now_error_ms": 2.0,
    }


def test_a_master_that_is_set_is_awaited(mesh: Any, run: Any) -> None:
    states = [
        {**FOUND, "forced": []},
        {**FOUND, "forced": ["gamma"], "settled": False},
        {**FOUND, "forced": ["gamma"], "master": "gamma"},
    ]
    mesh.answers["mesh:set_master"] = None
    mesh.answers["mesh:master"] = lambda payload: states.pop(0)
    done = run("master", "--set", "gamma")
    assert done.out.startswith("gamma is master, forced")
    assert mesh.asked[0] == ("alpha", "mesh:set_master", "gamma")
    assert states == []


def test_release_is_awaited_until_the_answer_has_held(mesh: Any, run: Any) -> None:
    states = [{**FOUND, "settled": False}, {**FOUND, "master": "alpha"}]
    mesh.answers["mesh:set_master"] = None
    mesh.answers["mesh:master"] = lambda payload: states.pop(0)
    assert run("master", "--clear").out.startswith("alpha is master, by age")
    assert mesh.asked[0] == ("alpha", "mesh:set_master", None)


def test_a_change_that_does_not_come_exits_with_4(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:set_master"] = None
    mesh.answers["mesh:master"] = FOUND
    done = run("master", "--set", "gamma", "--timeout", "100ms")
    assert done.code == 4
    assert "alpha sees beta as master" in done.err


def test_what_cannot_be_set_is_refused(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:set_master"] = UnknownNodeError("no node 'gama'; did you mean gamma?")
    done = run("master", "--set", "gama")
    assert (done.code, done.out) == (3, "")
    assert "did you mean gamma" in done.err
    assert run("master", "--set", "gamma", "--clear").code == 2


def links(mesh: Any) -> None:
    mesh.answers["mesh:route"] = {
        "path": ["alpha", "beta", "gamma"],
        "cost": 2.0,
        "latency_ms": None,
        "links": [
            {"from": "alpha", "to": "beta", "cost": 1.0, "latency_ms": 0.25},
            {"from": "beta", "to": "gamma", "cost": 1.0, "latency_ms": None},
        ],
    }


def test_trace_shows_every_node_on_the_way_with_its_times(mesh: Any, make: Any, run: Any) -> None:
    links(mesh)
    mesh.pongs = [make.pong(seconds=each) for each in (9.0, 0.001, 0.003) * 3]
    assert [line.split() for line in run("trace", "gamma", "--count", "2").out.splitlines()] == [
        ["HOP", "NODE", "LINK", "COST", "LINK", "MIN", "AVG", "LOST"],
        ["0", "alpha", "-", "-", "1.00", "ms", "2.00", "ms", "0"],
        ["1", "beta", "1", "0.25", "ms", "1.00", "ms", "2.00", "ms", "0"],
        ["2", "gamma", "1", "-", "1.00", "ms", "2.00", "ms", "0"],
    ]


def test_trace_to_a_node_that_does_not_answer_shows_the_way_and_exits_with_4(
    mesh: Any, make: Any, run: Any
) -> None:
    links(mesh)
    lost = DeadlineExceededError("no answer")
    mesh.pongs = [*(make.pong() for _ in range(4)), lost, lost]
    done = run("trace", "gamma", "--count", "1", "--json")
    first, last = done.out.splitlines()
    hops = json.loads(first)["hops"]
    assert [(hop["node_id"], hop["received"]) for hop in hops] == [
        ("alpha", 1),
        ("beta", 1),
        ("gamma", 0),
    ]
    assert "none of 1 pings" in json.loads(last)["error"]["message"]
    assert done.code == 4


def test_trace_where_no_way_leads_exits_with_3(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:route"] = {"path": [], "cost": None, "latency_ms": None, "links": []}
    done = run("trace", "gamma")
    assert (done.code, done.out) == (3, "")
    assert "no way leads there" in done.err
