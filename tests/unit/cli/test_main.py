"""The group: help, unknown commands, exit codes, closed pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from meshcore.cli.main import COMMANDS, LazyGroup, cli
from meshcore.errors import (
    AccessDeniedError,
    ActionError,
    BadPayloadError,
    BusyError,
    ConfigError,
    DeadlineExceededError,
    PeerLostError,
    UnknownDirectiveError,
    UnknownNodeError,
    UnreachableError,
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


def test_help_loads_neither_a_command_nor_a_heavy_module() -> None:
    done = python(
        "import sys\n"
        "from meshcore.cli.main import run_cli\n"
        "code = run_cli(['--help'])\n"
        "heavy = ('zmq', 'msgpack', 'asyncio', 'rich', 'platformdirs', 'meshcore.config',\n"
        "         'meshcore.cli.run', 'meshcore.cli.attach', 'logging')\n"
        "print([name for name in heavy if name in sys.modules], code, file=sys.stderr)\n"
    )
    assert done.stderr.strip() == "[] 0"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str, run: Any) -> None:
    done = run(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"meshctl {name}" in done.out
    if name not in ("config",):
        assert "Examples:" in done.out


ALONE = ("run", "demo", "sim")  # commands that attach to no node


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ALONE])
def test_every_command_but_those_that_need_no_node_can_be_led_to_one(name: str) -> None:
    group = cli
    assert isinstance(group, LazyGroup)
    command = group.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    if name == "config":  # it looks at files, not at a mesh
        return
    options = {text for parameter in command.params for text in parameter.opts}
    assert {"--via", "--json", "--timeout", "--traceback"} <= options


def test_version_is_printed(run: Any) -> None:
    import meshcore

    assert run("--version").out == f"meshctl {meshcore.__version__}\n"


def test_an_unknown_command_names_a_close_one(run: Any) -> None:
    done = run("nods")
    assert (done.code, done.out) == (2, "")
    assert done.err == "no command 'nods'; did you mean nodes? (meshctl --help)\n"


def test_no_command_at_all_shows_the_help_and_fails(run: Any) -> None:
    done = run()
    assert done.code == 2
    assert "Commands:" in done.err


def test_a_wrong_option_is_one_line_and_usage(run: Any) -> None:
    done = run("nodes", "--tiemout", "3")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--tiemout" in done.err


def test_a_wrong_option_is_json_where_json_is_asked_for(run: Any) -> None:
    done = run("nodes", "--json", "--tiemout", "3")
    assert (done.code, done.err) == (2, "")
    assert json.loads(done.out)["error"]["name"] == "UsageError"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ActionError("boom", remote_type="ValueError", node_id="gamma"), 1),
        (UnknownDirectiveError("beta offers no 'demo:eko'"), 1),
        (BadPayloadError("no"), 1),
        (ConfigError("no"), 2),
        (UnreachableError("no"), 3),
        (UnknownNodeError("no node 'gama'"), 3),
        (PeerLostError("no"), 3),
        (DeadlineExceededError("no"), 4),
        (TimeoutError("no"), 4),
        (AccessDeniedError("no"), 5),
        (BusyError("no"), 6),
        (ZeroDivisionError("a bug"), 1),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(
    error: Exception, code: int, mesh: Any, run: Any
) -> None:
    mesh.answers["mesh:nodes"] = error
    done = run("nodes")
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    as_json = run("nodes", "--json")
    assert (as_json.code, as_json.err) == (code, "")
    found = json.loads(as_json.out)["error"]
    assert found["name"] == type(error).__name__
    assert found["message"] in (str(error), error.args[0])


def test_a_remote_error_says_what_failed_where_and_how_to_see_more(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:nodes"] = ActionError(
        "boom",
        remote_type="ValueError",
        remote_traceback="Traceback\n  line 1\n",
        node_id="gamma",
        directive="demo:fail",
    )
    assert run("nodes").err == "ValueError on gamma in demo:fail: boom (--traceback shows it)\n"
    shown = run("nodes", "--traceback").err
    assert shown == "ValueError on gamma in demo:fail: boom\nTraceback\n  line 1\n"


def test_control_characters_of_a_peer_do_not_reach_the_terminal(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:nodes"] = UnreachableError("\x1b[31mred\n\x07bell")
    assert run("nodes").err == "\\x1b[31mred \\x07bell\n"


def test_meshcore_debug_shows_where_a_bug_is(
    mesh: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.answers["mesh:nodes"] = ZeroDivisionError("a bug")
    assert "MESHCORE_DEBUG=1" in run("nodes").err
    monkeypatch.setenv("MESHCORE_DEBUG", "1")
    assert "Traceback" in run("nodes").err


def test_a_closed_pipe_ends_quietly() -> None:
    """`meshctl --help | true`, with a pipe that is closed before anything is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "meshcore", "config", "show"],
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_without_arrows_gets_escapes_instead_of_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from meshcore.cli.main import run_cli; run_cli(['nods→'])"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr.startswith("no command 'nods")
    assert "Traceback" not in done.stderr
