"""What send sends, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshcore import selector
from meshcore.errors import (
    AccessDeniedError,
    ActionError,
    BadPayloadError,
    BusyError,
    DeadlineExceededError,
    MeshError,
    PeerLostError,
    UnknownDirectiveError,
    UnknownNodeError,
    UnreachableError,
    WorkCancelledError,
)
from meshcore.payload import KIND_BYTES, KIND_TEXT, KIND_VALUE, LivePayload, encode_body


def sent(mesh: Any) -> Any:
    return mesh.asked[-1][2]


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        ([], None),
        (["5"], 5),
        (["-5"], -5),
        (["-.5x"], "-.5x"),
        (["--", "-x"], "-x"),
        (["2.5"], 2.5),
        (["null"], None),
        (["true"], True),
        (['{"a": [1]}'], {"a": [1]}),
        (['"5"'], "5"),
        (["hello world"], "hello world"),
        (["NaN"], "NaN"),
        (["12 Main Street"], "12 Main Street"),
        ([""], ""),
        (["5", "--text"], "5"),
        (["{x", "--text"], "{x"),
        (["9" * 5000], "9" * 5000),
    ],
)
def test_a_payload_is_json_if_it_parses_else_text(
    arguments: list[str], payload: Any, mesh: Any, run: Any
) -> None:
    assert run("send", "gamma", "demo:echo", *arguments).code == 0
    assert mesh.asked[-1] == ("gamma", "demo:echo", payload)


@pytest.mark.parametrize("text", ["{x", "[1,", '"open', " {", "[NaN]", "[" * 100_000])
def test_text_that_begins_like_json_and_is_none_is_a_usage_error(
    text: str, mesh: Any, run: Any
) -> None:
    done = run("send", "gamma", "demo:echo", text)
    assert (done.code, done.out, mesh.asked) == (2, "", [])
    assert "--text" in done.err


@pytest.mark.parametrize(
    ("stdin", "payload"),
    [
        (b"", ""),
        (b"5\n", 5),
        (b'{"a": 1}', {"a": 1}),
        (b"hello\n", "hello\n"),
        (b"\xff\x00raw", b"\xff\x00raw"),
    ],
)
def test_standard_input_follows_the_same_rules(
    stdin: bytes, payload: Any, mesh: Any, run: Any
) -> None:
    assert run("send", "gamma", "demo:echo", "-", stdin=stdin).code == 0
    assert sent(mesh) == payload


def test_long_standard_input_is_streamed_as_bytes(mesh: Any, run: Any) -> None:
    stdin = bytes(range(256)) * 12_000
    assert run("send", "gamma", "demo:echo", "-", stdin=stdin).code == 0
    assert len(sent(mesh)) > 2
    assert b"".join(sent(mesh)) == stdin


def test_a_file_is_sent_as_a_path(mesh: Any, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(b"\xff")
    assert run("send", "gamma", "demo:echo", "--file", str(path)).code == 0
    assert sent(mesh) == path
    assert run("send", "gamma", "demo:echo", "--file", str(tmp_path / "none")).code == 2
    assert run("send", "gamma", "demo:echo", "x", "--file", str(path)).code == 2


def test_a_directive_without_namespace_is_a_usage_error(mesh: Any, run: Any) -> None:
    assert run("send", "gamma", "echo").code == 2


def test_values_are_printed_as_they_are(mesh: Any, make: Any, run: Any) -> None:
    values = ["text", "line\n", "ünï", 5, None, {"a": b"\x00"}, [1, "x"]]
    mesh.messages = [make.message(value, serial=at) for at, value in enumerate(values)]
    mesh.messages.append(make.message(serial=7, eof=True, empty=True))
    done = run("send", "gamma", "demo:echo")
    assert done.out == 'text\nline\nünï\n5\nnull\n{"a": {"base64": "AA=="}}\n[1, "x"]\n'


def test_bytes_go_raw_into_a_pipe(mesh: Any, make: Any, run: Any) -> None:
    mesh.messages = [make.message(b"one\n"), make.message(b"two", eof=True)]
    assert run("send", "gamma", "demo:echo").out == "one\ntwo"


def live(kind: int, body: bytes) -> LivePayload:
    payload = LivePayload(kind)
    for start in range(0, len(body), 3):
        payload.feed(body[start : start + 3])
    payload.finish()
    return payload


@pytest.mark.parametrize(
    ("kind", "body", "out"),
    [
        (KIND_BYTES, b"abcdefgh", "abcdefgh"),
        (KIND_TEXT, "größer".encode(), "größer"),
        (KIND_VALUE, encode_body([1, 2, 3])[1], "[1, 2, 3]\n"),
    ],
)
def test_a_payload_that_still_arrives_is_printed_whole(
    kind: int, body: bytes, out: str, mesh: Any, make: Any, run: Any
) -> None:
    mesh.messages = [make.message(eof=True)]
    mesh.messages[0].payload = live(kind, body)
    assert run("send", "gamma", "demo:echo").out == out
    mesh.messages[0].payload = live(KIND_VALUE, encode_body([1])[1])
    assert json.loads(run("send", "gamma", "demo:echo", "--json").out)["payload"] == [1]


def test_json_has_one_response_a_line(mesh: Any, make: Any, run: Any) -> None:
    mesh.messages = [
        make.message(b"\x00", serial=0),
        make.message(serial=1, eof=True, empty=True),
    ]
    done = run("send", "gamma", "demo:count", "--json")
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {"serial": 0, "payload": {"base64": "AA=="}, "code": 0, "eof": False, "error": None},
        {"serial": 1, "payload": None, "code": 0, "eof": True, "error": None},
    ]


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ActionError("some text", remote_type="ValueError"), 1),
        (UnknownDirectiveError("some text"), 1),
        (BadPayloadError("some text"), 1),
        (WorkCancelledError("some text"), 1),
        (MeshError("some text"), 1),
        (PeerLostError("some text"), 3),
        (UnreachableError("some text"), 3),
        (DeadlineExceededError("some text"), 4),
        (AccessDeniedError("some text"), 5),
        (BusyError("some text"), 6),
    ],
)
def test_the_error_of_the_last_response_decides_the_exit_code(
    error: MeshError, exit_code: int, mesh: Any, make: Any, run: Any
) -> None:
    mesh.messages = [make.failed(error)]
    done = run("send", "gamma", "demo:fail")
    assert (done.code, done.out, done.err.count("\n")) == (exit_code, "", 1)
    assert "some text" in done.err
    as_json = run("send", "gamma", "demo:fail", "--json")
    assert (as_json.code, as_json.err, as_json.out.count("\n")) == (exit_code, "", 1)
    found = json.loads(as_json.out)
    assert (found["code"], found["error"]["name"]) == (error.code, type(error).__name__)


def test_a_failed_action_says_what_where_and_why(mesh: Any, make: Any, run: Any) -> None:
    error = ActionError(
        "boom",
        remote_type="ValueError",
        remote_traceback="Traceback\n  here\n",
        node_id="gamma",
        directive="demo:fail",
    )
    mesh.messages = [make.message(1), make.failed(error)]
    done = run("send", "gamma", "demo:fail", "boom")
    assert (done.code, done.out) == (1, "1\n")
    assert done.err == "ValueError on gamma in demo:fail: boom (--traceback shows it)\n"
    done = run("send", "gamma", "demo:fail", "boom", "--traceback")
    assert done.err == "ValueError on gamma in demo:fail: boom\nTraceback\n  here\n"
    last = json.loads(run("send", "gamma", "demo:fail", "--json").out.splitlines()[-1])
    assert (last["error"]["remote_type"], last["error"]["message"]) == ("ValueError", "boom")


def test_a_failure_before_any_response_is_the_last_line(mesh: Any, run: Any) -> None:
    mesh.answers["stream"] = UnknownNodeError("no node 'gama'")
    done = run("send", "gama", "demo:echo", "--json")
    assert done.code == 3
    assert json.loads(done.out)["error"]["name"] == "UnknownNodeError"


# -- any node --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "policy", "payload"),
    [
        (["--any", "demo:echo"], "least-loaded", None),
        (["--any", "demo:echo", "5"], "least-loaded", 5),
        (["--any", "demo:echo", "-5"], "least-loaded", -5),
        (["demo:echo", "5", "--any"], "least-loaded", 5),
        (["--any=round-robin", "demo:echo", "hello"], "round-robin", "hello"),
        (["--any=master", "demo:echo", "--", "--any"], "master", "--any"),
    ],
)
def test_any_stands_for_a_node_that_is_picked(
    arguments: list[str], policy: str, payload: Any, mesh: Any, run: Any
) -> None:
    assert run("send", *arguments).code == 0
    assert mesh.asked == [(selector(policy), "demo:echo", payload)]


def test_any_may_send_a_file_or_standard_input(mesh: Any, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(b"x")
    assert run("send", "--any", "demo:echo", "--file", str(path)).code == 0
    assert sent(mesh) == path
    assert run("send", "--any", "demo:echo", "-", stdin=b"[1]").code == 0
    assert sent(mesh) == [1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'NODE'"),
        (["gamma"], "Missing argument 'DIRECTIVE'"),
        (["--any"], "Missing argument 'DIRECTIVE'"),
        (["--any", "gamma", "demo:echo", "5"], "NODE or --any, not both"),
        (["--any", "gamma", "demo:echo"], "'gamma' is no directive"),
        (["--any", "master", "demo:echo"], "a selector is written --any=SELECTOR"),
        (["--any=nearst", "demo:echo"], "did you mean nearest?"),
    ],
)
def test_any_in_the_wrong_place_says_what_is_right(
    arguments: list[str], says: str, mesh: Any, run: Any
) -> None:
    done = run("send", *arguments)
    assert (done.code, done.out, mesh.asked) == (2, "", [])
    assert says in done.err


def test_with_any_programs_are_told_who_answered(mesh: Any, make: Any, run: Any) -> None:
    mesh.messages = [make.message(5, eof=True)]
    done = run("send", "--any", "demo:count", "--json")
    assert json.loads(done.out)["node_id"] == "gamma"
    assert "node_id" not in json.loads(run("send", "gamma", "demo:count", "--json").out)
    assert run("send", "--any", "demo:count").out == "5\n"


def test_what_nobody_offers_is_a_failure_of_the_remote_side(mesh: Any, run: Any) -> None:
    mesh.answers["stream"] = UnknownDirectiveError("no node in the mesh of alpha offers 'a:b'")
    done = run("send", "--any", "a:b")
    assert (done.code, done.err) == (1, "no node in the mesh of alpha offers 'a:b'\n")
