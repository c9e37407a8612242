"""nodes, edges, route, actions, status and wait in a mesh that exists on paper."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from meshcore.cli import nodes as nodes_module
from meshcore.cli import options, wait
from meshcore.errors import ActionError, UnknownNodeError, UnreachableError

STATUS = {
    "node_id": "alpha",
    "version": "0.1.0",
    "pid": 4711,
    "mesh": "mesh",
    "uptime_s": 75.0,
    "listen": ["tcp://127.0.0.1:7323"],
    "links": [
        {
            "node_id": "beta",
            "url": "tcp://127.0.0.1:1",
            "dialled": True,
            "since": "2026-11-22T10:00:00Z",
            "state": "ALIVE",
            "latency_ms": 0.3,
        }
    ],
    "dialling": [
        {
            "url": "tcp://127.0.0.1:2",
            "learnt": True,
            "state": "waiting",
            "attempts": 3,
            "last_error": "connection refused",
            "next_in_s": 1.5,
        },
        {"url": "tcp://127.0.0.1:1", "state": "linked", "attempts": 0},
    ],
    "clients": 1,
    "work": {"active": [], "queued": 0, "max_workers": 64},
    "channels": 1,
    "streams": 1,
    "counters": {"bad_version": 2, "expired": 0},
    "queues": {"beta": 0},
    "transport": {"drops": {"garbage": 17}, "links": {"1": {"sent": 18}}},
}


def test_nodes_is_a_table_with_the_master_marked(mesh: Any, run: Any) -> None:
    done = run("nodes")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["NODE", "STATUS", "HOPS", "LATENCY", "UP", "HOST", "WORK"]
    assert lines[1].split("  ")[0] == "alpha *"
    assert lines[3].split() == [
        "gamma",
        "ALIVE",
        "2",
        "1.00",
        "ms",
        "1",
        "m",
        "15",
        "s",
        "box",
        "0",
    ]
    assert "\x1b" not in done.out
    assert "─" not in done.out


def test_nodes_say_why_one_is_not_alive(mesh: Any, run: Any) -> None:
    rows = [dict(row) for row in mesh.answers["mesh:nodes"]]
    rows[1].update(status="WARNING", stalled=True, reason="")
    rows[2].update(status="DEAD", stalled=False, reason="gone")
    mesh.answers["mesh:nodes"] = rows
    lines = run("nodes").out.splitlines()
    assert "WARNING stalled" in lines[2]
    assert "DEAD gone" in lines[3]


def test_nodes_as_json_is_what_the_node_said(mesh: Any, run: Any) -> None:
    assert json.loads(run("nodes", "--json").out) == mesh.answers["mesh:nodes"]


def test_what_is_not_known_yet_is_a_dash_in_the_table(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:nodes"] = [{"node_id": "x", "status": "DEAD", "hops": None}]
    assert run("nodes").out.splitlines()[1].split() == ["x", "DEAD", "-", "-", "-", "-", "-"]


def test_watch_prints_a_line_for_every_change_but_not_for_latencies(
    mesh: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "_REFRESH", 0.001)
    looks = [
        [{"node_id": "alpha", "status": "ALIVE", "latency_ms": 1.0}],
        [{"node_id": "alpha", "status": "ALIVE", "latency_ms": 2.0}],
        [{"node_id": "alpha", "status": "SLOW", "latency_ms": 2.0}],
        KeyboardInterrupt,
    ]

    def look(payload: Any) -> Any:
        found = looks.pop(0)
        if found is KeyboardInterrupt:
            looks.append(found)
            os.kill(os.getpid(), signal.SIGINT)
            return []
        return found

    mesh.answers["mesh:nodes"] = look
    done = run("nodes", "--watch", "--json")
    assert done.code == 130
    states = [json.loads(line) for line in done.out.splitlines()]
    assert [each["nodes"][0]["status"] for each in states if each.get("nodes")] == ["ALIVE", "SLOW"]
    assert states[0]["time"].endswith("Z")
    assert states[-1] == {"error": {"name": "Interrupted", "message": "interrupted"}}


def test_watch_ends_when_its_reader_has_gone_even_in_a_quiet_mesh(
    mesh: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "_REFRESH", 0.001)
    monkeypatch.setattr(nodes_module, "reader_has_gone", lambda: len(mesh.asked) > 2)
    done = run("nodes", "--watch", "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)


def test_edges_are_listed_with_their_cost(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:edges"] = [
        {"from": "alpha", "to": "beta", "cost": 150.0, "latency_ms": 0.25},
        {"from": "beta", "to": "gamma", "cost": 1.0, "latency_ms": None},
    ]
    assert [line.split() for line in run("edges").out.splitlines()] == [
        ["FROM", "TO", "COST", "LATENCY"],
        ["alpha", "beta", "150", "0.25", "ms"],
        ["beta", "gamma", "1", "-"],
    ]
    assert json.loads(run("edges", "--json").out) == mesh.answers["mesh:edges"]


def test_route_shows_the_path(mesh: Any, run: Any) -> None:
    assert run("route", "gamma").out == "alpha → beta → gamma  (cost 300)\n"
    found = json.loads(run("route", "gamma", "--json").out)
    assert found == {"path": ["alpha", "beta", "gamma"], "cost": 300.0}


def test_the_route_to_an_unknown_node_exits_with_3(mesh: Any, run: Any) -> None:
    done = run("route", "gama")
    assert (done.code, done.err) == (3, "no node 'gama' in the mesh of alpha (3 nodes)\n")


def test_an_unknown_node_is_known_by_the_type_that_the_node_raised(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:route"] = ActionError("no node 'x'", remote_type=UnknownNodeError.__name__)
    assert run("route", "x").code == 3


def test_a_known_node_without_a_way_exits_with_3(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:route"] = {"path": [], "cost": None}
    done = run("route", "gamma")
    assert (done.code, done.out) == (3, "")
    assert "no way leads there" in done.err


def test_actions_are_listed_for_all_or_one(mesh: Any, run: Any) -> None:
    row = {"directive": "demo:echo", "description": "Echo it", "tags": ["demo"], "nodes": ["beta"]}
    mesh.answers["mesh:actions"] = [row]
    assert "demo:echo  Echo it" in run("actions").out
    assert json.loads(run("actions", "beta", "--json").out) == [row]
    assert [payload for _, _, payload in mesh.asked] == [None, "beta"]


def test_status_says_to_whom_since_when_and_why_not(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:status"] = STATUS
    done = run("status")
    assert done.code == 0
    for text in (
        "alpha, meshcore 0.1.0",
        "connected by 1 link",
        "beta",
        "2026-11-22T10:00:00Z",
        "tcp://127.0.0.1:2 (learnt)",
        "connection refused",
        "bad_version  2",
        "drops.garbage  17",
    ):
        assert text in done.out
    assert "linked" not in done.out  # it is among the links
    assert "expired" not in done.out  # a counter at 0 is no news
    assert json.loads(run("status", "--json").out) == STATUS


def test_status_tells_instants_where_the_node_tells_ages_and_seconds(mesh: Any, run: Any) -> None:
    link = {**STATUS["links"][0], "since_s": 90.0}  # type: ignore[index]
    del link["since"]
    work = {"active": [{"id": "1", "directive": "demo:sleep", "sender": "x", "started": 0.5}]}
    mesh.answers["mesh:status"] = {**STATUS, "links": [link], "work": work}
    found = json.loads(run("status", "--json").out)
    since = datetime.fromisoformat(found["links"][0]["since"])
    assert 89 < (datetime.now(UTC) - since).total_seconds() < 120
    assert found["work"]["active"][0]["started"] == "1970-01-01T00:00:00.500000Z"
    assert "demo:sleep for x since 1970-01-01T00:00:00.500000Z" in run("status").out


def test_status_of_a_lonely_node_says_why_it_is_alone(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:status"] = {**STATUS, "links": [], "dialling": []}
    assert "not connected: it dials nobody" in run("status").out


def test_wait_ends_when_all_are_there(mesh: Any, run: Any) -> None:
    mesh.reachable = {"beta", "gamma"}
    assert run("wait", "beta", "gamma", "beta").code == 0
    done = run("wait", "gamma", "--json")
    assert json.loads(done.out) == {"nodes": ["gamma"], "missing": []}


def test_wait_names_who_is_missing(mesh: Any, run: Any) -> None:
    mesh.reachable = {"beta"}
    done = run("wait", "beta", "gamma", "delta", "--timeout", "50ms")
    assert (done.code, done.err) == (4, "gamma, delta: not there after 0.05 s\n")
    done = run("wait", "beta", "gamma", "--timeout", "50ms", "--json")
    error = json.loads(done.out)["error"]
    assert (error["name"], error["missing"]) == ("DeadlineExceededError", ["gamma"])


def test_wait_has_patience_with_the_node_to_attach_to(
    mesh: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "_RETRY", 0.001)
    refusals = [UnreachableError("not yet")] * 3
    mesh.answers["attach"] = lambda timeout: refusals.pop() if refusals else None
    mesh.reachable = {"beta"}
    assert run("wait", "beta", "--timeout", "5").code == 0
    assert not refusals


def test_wait_that_never_finds_a_node_says_why(mesh: Any, run: Any) -> None:
    mesh.answers["attach"] = UnreachableError("no node runs here")
    done = run("wait", "beta", "--timeout", "50ms")
    assert (done.code, done.err) == (4, "beta: not there after 0.05 s; no node runs here\n")


def test_a_node_that_does_not_answer_is_unreachable(mesh: Any, run: Any) -> None:
    mesh.answers["attach"] = TimeoutError()
    done = run("nodes", "--timeout", "2")
    assert (done.code, done.err) == (3, "alpha: no answer in 2 s\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("5s", 5), ("0.5", 0.5), ("500ms", 0.5), ("2m", 120), ("1h", 3600), (".5 s", 0.5)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert options.Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "x", "5 parsecs", "-5", "0", "31d", "800h", "1e3", "nan"])
def test_a_wrong_duration_is_a_usage_error(text: str, mesh: Any, run: Any) -> None:
    done = run("nodes", f"--timeout={text}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--timeout" in done.err
