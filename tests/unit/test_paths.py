"""Data directories are locked, lives are numbered upwards, sockets live where only we may go."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshcore import paths
from meshcore.errors import ConfigError


def test_state_and_runtime_follow_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert paths.state_dir("alpha") == tmp_path / "state" / "meshcore" / "alpha"
    assert not (tmp_path / "state").exists()
    assert paths.runtime_dir() == tmp_path / "run" / "meshcore"
    assert paths.runtime_dir().stat().st_mode & 0o777 == 0o700
    assert paths.runtime_dir().parent.stat().st_mode & 0o777 == 0o700
    assert paths.socket_path("alpha") == tmp_path / "run" / "meshcore" / "alpha.sock"


@pytest.mark.parametrize("node_id", ["../x", "a/b", ""])
def test_a_node_id_cannot_lead_out_of_the_directory(node_id: str) -> None:
    for place in (paths.state_dir, paths.socket_path):
        with pytest.raises(ConfigError, match="must be 1 to 64 characters"):
            place(node_id)


def test_a_runtime_directory_that_others_may_enter_is_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "meshcore").mkdir()
    (tmp_path / "meshcore").chmod(0o777)
    assert paths.runtime_dir().stat().st_mode & 0o777 == 0o700


def test_a_runtime_directory_of_someone_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    paths.runtime_dir()
    monkeypatch.setattr(paths, "_user_runtime_dir", lambda: str(tmp_path / "meshcore"))
    monkeypatch.setattr(paths.os, "geteuid", lambda: 4711)
    with pytest.raises(ConfigError, match=r"belongs to uid \d+, not to us \(uid 4711\)"):
        paths.runtime_dir()


def test_a_runtime_directory_that_others_may_replace_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(paths, "_user_runtime_dir", lambda: str(tmp_path / "meshcore"))
    paths.runtime_dir()
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="others may replace it"):
        paths.runtime_dir()
    tmp_path.chmod(0o1777)
    assert paths.runtime_dir() == tmp_path / "meshcore"


def test_the_same_directory_is_found_by_the_process_that_made_it_and_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "new"))
    assert paths.runtime_dir() == paths.runtime_dir() == tmp_path / "new" / "meshcore"


def test_without_any_hint_there_is_a_runtime_directory_and_no_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert paths.runtime_dir().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("obstacle", ["link", "file"])
def test_a_runtime_directory_that_is_a_link_or_a_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, obstacle: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    if obstacle == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "meshcore").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "meshcore").write_text("")
    with pytest.raises(ConfigError, match=r"runtime directory .*meshcore"):
        paths.runtime_dir()


def test_a_socket_path_that_the_system_cannot_bind_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    paths.runtime_dir()
    with pytest.raises(ConfigError, match="the system allows 107: choose a shorter directory"):
        paths.socket_path("alpha")


def test_a_data_directory_in_use_names_the_process_that_holds_it(tmp_path: Path) -> None:
    with paths.DataDir(tmp_path / "a" / "b"), pytest.raises(ConfigError) as caught:
        paths.DataDir(tmp_path / "a" / "b")
    assert str(caught.value) == f"data directory {tmp_path}/a/b is in use by pid {os.getpid()}"


def test_a_data_directory_is_free_again_when_closed(tmp_path: Path) -> None:
    first = paths.DataDir(tmp_path)
    first.close()
    first.close()
    paths.DataDir(tmp_path).close()


def test_a_data_directory_is_free_again_when_its_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, meshcore.paths as p;"
        "held = p.DataDir(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"is in use by pid {child.pid}$"):
            paths.DataDir(tmp_path)
        child.kill()
        child.wait(10)
        paths.DataDir(tmp_path).close()


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"data directory .*/file/x: Not a directory"):
        paths.DataDir(tmp_path / "file" / "x")


def test_each_life_has_a_greater_number_than_the_one_before(tmp_path: Path) -> None:
    with paths.DataDir(tmp_path) as data:
        before = time.time_ns() // 1_000_000
        numbers = [data.next_incarnation() for _ in range(5)]
    assert numbers[0] >= before
    assert numbers == sorted(set(numbers))
    with paths.DataDir(tmp_path) as data:
        assert data.next_incarnation() > numbers[-1]


def test_a_number_ahead_of_the_clock_is_outbid(tmp_path: Path) -> None:
    (tmp_path / "incarnation").write_text(str(2**60))
    with paths.DataDir(tmp_path) as data:
        assert data.next_incarnation() == 2**60 + 1
        assert data.next_incarnation(at_least=2**61) == 2**61
    assert (tmp_path / "incarnation").read_text() == f"{2**61}\n"


@pytest.mark.parametrize("damage", ["", "x", "-3", "1.5", str(2**64)])
def test_a_damaged_number_is_never_guessed(tmp_path: Path, damage: str) -> None:
    (tmp_path / "incarnation").write_text(damage)
    with paths.DataDir(tmp_path) as data, pytest.raises(ConfigError, match="must hold a number"):
        data.next_incarnation()


def test_a_crash_while_writing_leaves_the_old_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with paths.DataDir(tmp_path) as data:
        first = data.next_incarnation()

        def full(file: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(paths.os, "fsync", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            data.next_incarnation()
        monkeypatch.undo()
        assert (tmp_path / "incarnation").read_text() == f"{first}\n"
        assert data.next_incarnation() > first
