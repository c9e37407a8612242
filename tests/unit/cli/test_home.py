"""The settings that a node runs with, and where they are from."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from meshcore.cli.home import resolve
from meshcore.errors import ConfigError
from meshcore.paths import runtime_dir, state_dir


def test_a_node_without_any_setting_listens_on_the_default_port() -> None:
    home = resolve({}, keep=False)
    assert list(home.config.listen) == ["tcp://127.0.0.1:7323"]
    assert home.sources["listen"] == "default of meshctl run"


@pytest.mark.parametrize(
    "flags", [{"peers": ("tcp://127.0.0.1:1",)}, {"listen": ("tcp://127.0.0.1:0",)}]
)
def test_a_node_that_was_told_anything_listens_only_where_it_was_told(
    flags: dict[str, Any],
) -> None:
    home = resolve(flags, keep=False)
    assert list(home.config.listen) == list(flags.get("listen", ()))


def test_an_empty_list_in_the_file_says_to_listen_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("listen = []\n")
    assert list(resolve({}, file=file, keep=False).config.listen) == []


def test_the_local_socket_is_always_there() -> None:
    home = resolve({"node_id": "alpha", "peers": ("tcp://127.0.0.1:1",)}, keep=False)
    assert home.local_url == f"ipc://{runtime_dir()}/alpha.sock"
    assert list(home.with_local_socket().listen) == [home.local_url]
    assert home.with_local_socket().node_id == "alpha"
    assert stat.S_IMODE(runtime_dir().stat().st_mode) == 0o700


def test_data_is_kept_below_the_id() -> None:
    assert resolve({"node_id": "alpha"}, keep=False).data_dir == state_dir("alpha")


def test_a_nameless_node_keeps_the_id_that_it_made() -> None:
    first = resolve({}, keep=True)
    assert first.data_dir == state_dir("default")
    assert resolve({}, keep=True).config.node_id == first.config.node_id
    assert (state_dir("default") / "node_id").read_text() == first.config.node_id + "\n"


def test_looking_at_the_settings_writes_nothing(home: Path) -> None:
    resolve({}, keep=False)
    assert not state_dir("default").exists()


def test_a_damaged_id_is_named_with_its_file() -> None:
    state_dir("default").mkdir(parents=True)
    (state_dir("default") / "node_id").write_text("not an id!")
    with pytest.raises(ConfigError, match="node_id must hold a node id"):
        resolve({}, keep=True)


def test_the_file_in_the_data_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "meshcore.toml").write_text('node_id = "delta"\nmesh = "blue"\n')
    home = resolve({"data_dir": tmp_path, "mesh": "green"}, keep=True)
    assert (home.config.node_id, home.config.mesh) == ("delta", "green")
    assert home.sources["node_id"] == str(tmp_path / "meshcore.toml")
    assert not (tmp_path / "node_id").exists()


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('node_id = "delta"\npeers = ["tcp://127.0.0.1:1"]\n')
    home = resolve({}, file=file, env={"MESHCORE_NODE_ID": "epsilon"}, keep=False)
    assert home.config.node_id == "epsilon"
    assert home.data_dir == state_dir("epsilon")
    assert home.sources["node_id"] == "MESHCORE_NODE_ID"


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        resolve({"data_dir": tmp_path / "file" / "x"}, keep=True)


def test_config_show_names_the_source_of_every_value(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("max_workers = 7\n[timings]\nwarn = 3.0\n")
    found = json.loads(run("config", "show", "--config", str(file), "--id", "x", "--json").out)
    assert found["max_workers"] == {"value": 7, "source": str(file)}
    assert found["timings.warn"] == {"value": 3.0, "source": str(file)}
    assert found["node_id"] == {"value": "x", "source": "flag"}
    assert found["timings.dead"] == {"value": 5.0, "source": "default"}
    table = run("config", "show", "--config", str(file))
    assert "max_workers                  7  " in table.out.replace("max_workers  ", "max_workers  ")


def test_config_show_masks_what_is_secret(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHCORE_HTTP_TOKEN", "s3cret")
    for done in (run("config", "show"), run("config", "show", "--json")):
        assert "s3cret" not in done.out
        assert "********" in done.out
        assert "MESHCORE_HTTP_TOKEN" in done.out
    monkeypatch.delenv("MESHCORE_HTTP_TOKEN")
    assert json.loads(run("config", "show", "--json").out)["http_token"]["value"] is None


def test_config_check_accepts_a_good_file_and_names_the_fault_of_a_bad_one(
    run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "meshcore.toml"
    file.write_text("max_workers = 7\n")
    done = run("config", "check", str(file))
    assert (done.code, done.out) == (0, f"{file}: 1 setting, all fine\n")
    file.write_text("[timings]\nwarn = 0.5\n")
    done = run("config", "check", str(file))
    assert (done.code, done.err) == (
        2,
        f"{file}: timings.warn = 0.5 must be greater than timings.slow = 1.0\n",
    )
    as_json = run("config", "check", str(file), "--json")
    assert json.loads(as_json.out)["error"]["name"].endswith("Error")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "rnp://x"),
        ("--peer", "tcp://x:99999"),
        ("--id", "no id"),
        ("--config", "/nonexistent.toml"),
        ("--listen", "tcp://0.0.0.0:0"),
        ("--max-workers", "0"),
        ("--log-level", "loud"),
    ],
)
def test_what_a_node_cannot_run_with_is_one_line_and_exit_2(
    arguments: tuple[str, str], run: Any
) -> None:
    done = run("run", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
