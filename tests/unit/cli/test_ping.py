"""ping in a mesh that exists on paper."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest

from meshcore.errors import DeadlineExceededError, UnknownNodeError, UnreachableError

FAST = ("--interval", "0")


def test_each_ping_has_its_line_and_a_summary_follows(mesh: Any, make: Any, run: Any) -> None:
    mesh.pongs = [make.pong(seconds=0.001), make.pong(seconds=0.003)]
    done = run("ping", "gamma", "--count", "2", *FAST)
    assert done.code == 0
    assert done.out.splitlines() == [
        "alpha → gamma: 2 hops, 1.00 ms",
        "alpha → gamma: 2 hops, 3.00 ms",
        "2 sent, 2 received, 0 % lost; min/avg/max 1.00 ms / 2.00 ms / 3.00 ms",
    ]


def test_trace_shows_the_way(mesh: Any, make: Any, run: Any) -> None:
    mesh.pongs = [make.pong(hops=[("alpha", 0.0001), ("beta", 0.0003), ("gamma", 0.0007)])]
    done = run("ping", "gamma", "--count", "1", "--trace")
    assert done.out.splitlines()[0] == (
        "alpha ─ beta 0.30 ms ─ gamma 0.70 ms, 0.84 ms there and back"
    )


def test_the_json_has_round_trips_in_ms_and_the_hops(mesh: Any, make: Any, run: Any) -> None:
    mesh.pongs = [make.pong(hops=[("beta", 0.0003), ("gamma", 0.0007)])]
    mesh.pongs[0].active_work = [{"id": "1", "directive": "demo:sleep"}]
    done = run("ping", "gamma", "--count", "2", "--trace", "--json", *FAST)
    assert done.err == ""
    assert json.loads(done.out) == {
        "node_id": "gamma",
        "sent": 2,
        "received": 2,
        "round_trips_ms": [0.84, 0.84],
        "active_work": [{"id": "1", "directive": "demo:sleep"}],
        "hops": [
            {"node_id": "beta", "latency_ms": 0.3},
            {"node_id": "gamma", "latency_ms": 0.7},
        ],
    }


def test_one_answer_of_several_is_enough(mesh: Any, make: Any, run: Any) -> None:
    mesh.pongs = [DeadlineExceededError("gamma: no answer in 5 s"), make.pong()]
    done = run("ping", "gamma", "--count", "2", *FAST)
    assert done.code == 0
    assert done.out.splitlines()[0] == "gamma: no answer in 5 s"
    assert "2 sent, 1 received, 50 % lost" in done.out


@pytest.mark.parametrize("error", [DeadlineExceededError("late"), UnreachableError("no way")])
def test_all_lost_exits_with_4(error: Exception, mesh: Any, run: Any) -> None:
    mesh.pongs = [error]
    done = run("ping", "gamma", "--count", "2", *FAST)
    assert done.code == 4
    assert "2 sent, 0 received, 100 % lost" in done.out
    assert str(error) in done.err
    found = json.loads(run("ping", "gamma", "--count", "2", "--json", *FAST).out)["error"]
    assert (found["name"], found["sent"], found["received"]) == ("DeadlineExceededError", 2, 0)


def test_an_unknown_node_exits_with_3_at_once(mesh: Any, run: Any) -> None:
    text = "no node 'gama' in the mesh of alpha (3 nodes); did you mean gamma?"
    mesh.pongs = [UnknownNodeError(text)]
    done = run("ping", "gama")  # four pings, a second apart, if it went on
    assert (done.code, done.out, done.err) == (3, "", text + "\n")
    assert json.loads(run("ping", "gama", "--json").out)["error"]["name"] == "UnknownNodeError"


def test_a_node_that_is_forgotten_meanwhile_is_only_lost(mesh: Any, make: Any, run: Any) -> None:
    mesh.pongs = [make.pong(), UnknownNodeError("no node 'gamma'")]
    assert run("ping", "gamma", "--count", "2", *FAST).code == 0


def test_count_0_goes_on_until_interrupted_which_is_a_success(
    mesh: Any, make: Any, run: Any
) -> None:
    mesh.pongs = [make.pong(), make.pong(), asyncio.Event()]
    pings = []

    def interrupt_the_third() -> None:
        pings.append(True)
        if len(pings) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    mesh.on_ping = interrupt_the_third
    done = run("ping", "gamma", "--count", "0", *FAST)
    assert (done.code, done.err) == (0, "")
    assert "2 sent, 2 received, 0 % lost" in done.out


def test_an_interrupted_count_still_has_its_summary(mesh: Any, make: Any, run: Any) -> None:
    mesh.pongs = [make.pong()]
    mesh.on_ping = lambda: os.kill(os.getpid(), signal.SIGINT)
    done = run("ping", "gamma", "--interval", "1h")
    assert (done.code, done.err) == (130, "")
    assert "1 sent, 1 received" in done.out


def test_all_pings_every_node_into_one_table(mesh: Any, make: Any, run: Any) -> None:
    done = run("ping", "--all", "--count", "1")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[0] for line in lines] == ["NODE", "alpha", "beta", "gamma"]
    assert [line[1] for line in lines[1:]] == ["0", "1", "2"]
    documents = json.loads(run("ping", "--all", "--count", "1", "--json").out)
    assert [each["received"] for each in documents] == [1, 1, 1]


def test_all_with_one_lost_node_is_fine_with_all_lost_it_is_4(
    mesh: Any, make: Any, run: Any
) -> None:
    mesh.pongs = [make.pong(), DeadlineExceededError("late"), make.pong()]
    assert run("ping", "--all", "--count", "1").code == 0
    mesh.pongs = [DeadlineExceededError("late")]
    done = run("ping", "--all", "--count", "1")
    assert done.code == 4
    assert "late" in done.out


@pytest.mark.parametrize("arguments", [[], ["gamma", "--all"], ["gamma", "--count", "-1"]])
def test_contradictions_are_usage_errors(arguments: list[str], mesh: Any, run: Any) -> None:
    assert run("ping", *arguments).code == 2
