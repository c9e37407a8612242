"""Where settings come from, which place wins, and how errors name the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshcore.config import SETTINGS, Config
from meshcore.errors import ConfigError
from meshcore.flows.documents import is_document


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("meshcore.toml")


def refusal(path: Path | None = None, **places: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.load(path, **{"env": {}, **places})
    return str(caught.value)


def test_flags_win_over_environment_over_file_over_defaults(file: Path) -> None:
    file.write_text("mesh = 'file'\nnode_id = 'file'\nmax_workers = 3\n")
    env = {"MESHCORE_MESH": "env", "MESHCORE_NODE_ID": "env", "HOME": "/"}
    config = Config.load(file, env=env, overrides={"mesh": "flag", "organization": None})
    assert (config.mesh, config.node_id, config.max_workers) == ("flag", "env", 3)
    sources = config.sources()
    assert sources["mesh"] == "flag"
    assert sources["node_id"] == "MESHCORE_NODE_ID"
    assert sources["max_workers"] == "meshcore.toml"
    assert sources["organization"] == "default"


def test_a_value_of_a_file_that_equals_the_default_still_comes_from_the_file(file: Path) -> None:
    file.write_text("mesh = 'mesh'\nlisten = []\n[timings]\nwarn = 2\n")
    sources = Config.load(file, env={}).sources()
    assert [sources[key] for key in ("mesh", "listen", "timings.warn")] == ["meshcore.toml"] * 3


def test_every_kind_of_value_can_come_from_the_environment() -> None:
    config = Config.load(
        env={
            "MESHCORE_LISTEN": "localhost:1, [::1]:2",
            "MESHCORE_INSECURE": "Yes",
            "MESHCORE_MAX_WORKERS": "7",
            "MESHCORE_TIMINGS_WARN": "3.5",
            "MESHCORE_COSTS": "beta=10,gamma=20",
            "MESHCORE_DATA_DIR": "/x",
            "MESHCORE_FLOWS": "/a.toml, acme.lab:flows",
            "MESHCORE_MESH": "",
            "MESHCORE_VIA": "alpha",
        }
    )
    assert config.listen == ("tcp://localhost:1", "tcp://[::1]:2")
    assert config.insecure is True
    assert config.max_workers == 7
    assert config.timings.warn == 3.5
    assert config.costs == {"beta": 10, "gamma": 20}
    assert config.data_dir == Path("/x")
    assert config.flows == ("/a.toml", "acme.lab:flows")
    assert config.mesh == "mesh"


def test_the_environment_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHCORE_MESH", "blue")
    assert Config.load().mesh == "blue"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[timings]\nwarn = 0.5",
            "meshcore.toml: timings.warn = 0.5 must be greater than timings.slow = 1.0",
        ),
        (  # the default is at odds with the file: the file is named
            "[timings]\nslow = 3",
            "meshcore.toml: timings.warn = 2.0 must be greater than timings.slow = 3.0",
        ),
        ("lisen = []", "meshcore.toml: unknown setting 'lisen'; did you mean listen?"),
        ("[timings]\nwran = 1", "unknown setting 'timings.wran'; did you mean timings.warn?"),
        ("warn = 3", "unknown setting 'warn'; did you mean timings.warn?"),
        ("zzz = 1", "unknown setting 'zzz'; `meshctl config show` lists them all"),
        ("timings = 3", "meshcore.toml: timings = 3 must be a table"),
        ("max_workers = 'many'", "meshcore.toml: max_workers = 'many' must be a whole number"),
        ("listen = ['rnp://a:1']", "meshcore.toml: listen: 'rnp://a:1' has the unknown scheme"),
        ("listen = ['*']", "meshcore.toml: listen: other machines can reach tcp://*:7323"),
        ("feed = ['x']", "meshcore.toml: feed = ['x'] must be true or false"),
        ("feed = false", "meshcore.toml: feed is for a node that is a registry"),
        ("registries = ['http://x']", "meshcore.toml: registries is for a node that is a registry"),
        ("mesh =", "meshcore.toml: not TOML: "),
        ("node_id = ''\n[plugin]\ndemo = 3", "meshcore.toml: plugin = {'demo': 3} must be"),
    ],
)
def test_errors_name_file_and_key_and_what_was_expected(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    assert says in refusal(file)


def test_a_file_that_is_not_there_or_not_a_file_is_named(file: Path, tmp_path: Path) -> None:
    assert refusal(file) == "meshcore.toml: no such file"
    assert "directory" in refusal(tmp_path)
    file.write_bytes(b"\xff\xfe")
    assert "meshcore.toml: not TOML" in refusal(file)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"MESHCORE_MAX_WORKERS": "x"}, "MESHCORE_MAX_WORKERS: max_workers = 'x' must be a whole"),
        ({"MESHCORE_INSECURE": "maybe"}, "MESHCORE_INSECURE: insecure = 'maybe' must be true or"),
        (
            {"MESHCORE_LISTNE": "x"},
            "MESHCORE_LISTNE: no such setting; did you mean MESHCORE_LISTEN",
        ),
        ({"MESHCORE_PLUGIN": "x"}, "must be a table of tables"),
        ({"MESHCORE_TIMINGS_DEAD": "1"}, "MESHCORE_TIMINGS_DEAD: timings.dead = 1.0 must be great"),
        ({"MESHCORE_COSTS": "beta"}, "MESHCORE_COSTS: costs = 'beta' must be a table"),
    ],
)
def test_errors_of_the_environment_name_the_variable(env: dict[str, str], says: str) -> None:
    assert says in refusal(env=env)


def test_errors_of_flags_name_the_key_alone() -> None:
    assert refusal(overrides={"mesh": "a b"}).startswith("mesh = 'a b' must be")
    assert "did you mean listen?" in refusal(overrides={"lsten": []})


def test_flags_may_be_nested_or_flat() -> None:
    flat = Config.load(env={}, overrides={"timings.warn": 3, "node_id": "a"})
    assert flat == Config.load(env={}, overrides={"timings": {"warn": 3}, "node_id": "a"})
    assert flat.timings.warn == 3


def test_the_file_in_the_data_directory_is_read_where_no_other_is_named(tmp_path: Path) -> None:
    assert Config.load(env={}, overrides={"data_dir": tmp_path}).mesh == "mesh"
    (tmp_path / "meshcore.toml").write_text("mesh = 'there'")
    config = Config.load(env={"MESHCORE_DATA_DIR": str(tmp_path)})
    assert config.mesh == "there"
    assert config.sources()["mesh"] == str(tmp_path / "meshcore.toml")


def test_relative_paths_of_a_file_begin_at_its_directory(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("data_dir = 'data'\nflows = ['a.yaml', '/b.TOML', 'sub/c.Yml', 'acme:flows']")
    config = Config.load(file, env={})
    assert config.data_dir == tmp_path / "data"
    here = (str(tmp_path / "a.yaml"), "/b.TOML", str(tmp_path / "sub" / "c.Yml"))
    assert config.flows == (*here, "acme:flows")
    assert Config.load(env={"MESHCORE_FLOWS": "a.yaml"}).flows == ("a.yaml",)


def test_the_files_of_flows_are_those_that_can_be_read() -> None:
    endings = SETTINGS["flows"].files
    assert endings
    assert all(is_document("x" + ending) for ending in endings)
    assert not any(is_document("x" + other) for other in (".json", ".py", "", "toml", ":flows"))


def test_what_is_secret_is_in_no_error_and_no_repr(file: Path) -> None:
    long = "s3cret" * 100
    file.write_text(f"http_token = '{long}'")
    for text in (refusal(file), refusal(env={"MESHCORE_HTTP_TOKEN": long})):
        assert text.endswith("http_token must be text of 1 to 256 characters")
    config = Config.load(env={"MESHCORE_HTTP_TOKEN": "s3cret"})
    assert config.http_token == config.to_dict()["http_token"] == "s3cret"
    assert "s3cret" not in repr(config)
    shown = SETTINGS["http_token"].shown
    assert (shown(config.http_token), shown(None)) == ("********", None)
    assert SETTINGS["mesh"].shown("blue") == "blue"


def test_every_setting_but_the_sections_has_a_variable_of_its_own() -> None:
    names = [spec.environment for spec in SETTINGS.values()]
    assert len(set(names)) == len(names)


def test_from_dict_names_its_origin_where_it_has_one() -> None:
    with pytest.raises(ConfigError, match=r"^node\.json: unknown setting 'x'"):
        Config.from_dict({"x": 1}, origin="node.json")
    with pytest.raises(ConfigError, match=r"^unknown setting 'x'"):
        Config.from_dict({"x": 1})
