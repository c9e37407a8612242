"""What a Config holds, and what it refuses."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.config import SETTINGS, Config, Timings
from meshcore.errors import ConfigError


def refusal(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Config(**values)
    return str(caught.value)


def test_a_config_without_arguments_listens_nowhere_and_writes_nothing() -> None:
    config = Config()
    assert (config.listen, config.peers, config.plugins, config.data_dir) == ((), (), (), None)
    assert config.http is None


def test_a_nameless_node_is_named_after_its_host_with_four_letters() -> None:
    ids = {Config().node_id for _ in range(20)}
    assert len(ids) > 15
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+-[a-z]{4}", node_id) for node_id in ids)


def test_a_config_is_frozen_and_keyword_only() -> None:
    with pytest.raises(AttributeError):
        Config().mesh = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config("alpha")  # type: ignore[misc]


def test_lists_become_tuples_of_whole_addresses_each_once() -> None:
    config = Config(listen=["127.0.0.1:0"], peers=["beta", "tcp://beta:7323", "ipc:///x"])
    assert config.listen == ("tcp://127.0.0.1:0",)
    assert config.peers == ("tcp://beta:7323", "ipc:///x")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"node_id": "a b"}, "node_id = 'a b' must be 1 to 64 characters out of"),
        ({"node_id": None}, "node_id = None must be"),
        ({"mesh": ""}, "mesh = '' must be"),
        ({"listen": "127.0.0.1"}, "listen = '127.0.0.1' must be a list of addresses"),
        ({"listen": ["rnp://x:1"]}, "listen: 'rnp://x:1' has the unknown scheme 'rnp'"),
        ({"peers": ["tcp://*:7323"]}, "peers: nobody can dial tcp://*:7323"),
        ({"peers": ["tcp://beta:0"]}, "peers: nobody can dial tcp://beta:0"),
        ({"plugins": [3]}, "plugins = [3] must be a list of texts"),
        (
            {"max_workers": 0},
            "max_workers = 0 must be a whole number of running actions, 1 to 10000",
        ),
        ({"max_workers": True}, "max_workers = True must be"),
        ({"max_workers": 1.5}, "max_workers = 1.5 must be"),
        ({"request_timeout": "30"}, "request_timeout = '30' must be a number of seconds, 0.001"),
        ({"request_timeout": float("nan")}, "request_timeout = nan must be"),
        ({"spool_bytes_max": float("inf")}, "spool_bytes_max = inf must be"),
        ({"insecure": "yes"}, "insecure = 'yes' must be true or false"),
        ({"organization": "x" * 65}, "must be text of 1 to 64 characters"),
        ({"organization": "a\nb"}, "must be text"),
        ({"log_level": "loud"}, "must be one of debug, info, warning, error"),
        ({"costs": {"beta": 0}}, "of microseconds, 1 to 1000000000"),
        ({"costs": {"be ta": 1}}, "costs = {'be ta': 1} must be a table of node ids"),
        ({"plugin": {"demo": 3}}, "plugin = {'demo': 3} must be a table of tables"),
        ({"http": "http://x"}, "http = 'http://x' must be HOST:PORT"),
        ({"http": "localhost"}, "http = 'localhost' must be HOST:PORT"),
        ({"http": "::1"}, "http = '::1' must be HOST:PORT"),
        *(
            ({"registry": True, "registries": [url]}, "must have the form https://HOST")
            for url in (
                "ftp://b",
                "b.example",
                "http://",
                "http://b:x",
                "http://b:99999",
                "http://b/?q",
                "http://b#x",
                "http://u:p@b",
                "http://b\n",
                "http://b c",
                "http://[::1",
            )
        ),
        ({"registries": "http://b"}, "registries = 'http://b' must be a list of http(s) URLs"),
        ({"timings": {"warn": 1}}, "timings = {'warn': 1} must be Timings"),
        ({"feed": True}, "feed is for a node that is a registry: set registry = true as well"),
        ({"feed": False}, "feed is for a node that is a registry"),
        ({"registries": ["http://x"]}, "registries is for a node that is a registry"),
        ({"ephemeral": True, "listen": ["localhost"]}, "an ephemeral node listens nowhere"),
        ({"data_dir": ""}, "data_dir = '' must be a path"),
        ({"flows": "flow.yaml"}, "flows = 'flow.yaml' must be a list of texts"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_was_expected(
    values: dict[str, Any], says: str
) -> None:
    assert says in refusal(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"listen": ["tcp://*:7323"]},
        {"listen": ["tcp://0.0.0.0:7323"]},
        {"listen": ["[::]:7323"]},
        {"listen": ["localhost", "10.0.0.1"]},
        {"http": "0.0.0.0:8080"},
    ],
)
def test_listening_beyond_this_machine_has_to_be_meant(values: dict[str, Any]) -> None:
    text = refusal(**values)
    assert "other machines can reach" in text
    assert "insecure = true" in text
    assert Config(**values, insecure=True).insecure


def test_a_feed_is_taken_beside_a_registry() -> None:
    assert Config(registry=True, feed=False).feed is False


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"warn": 0.5}, "timings.warn = 0.5 must be greater than timings.slow = 1.0"),
        ({"warn": 1}, "timings.warn = 1.0 must be greater than timings.slow = 1.0"),
        ({"dead": 2}, "timings.dead = 2.0 must be greater than timings.warn = 2.0"),
        ({"dead": 20}, "timings.remove = 10.0 must be greater than timings.dead = 20.0"),
        ({"slow": 0}, "timings.slow = 0 must be a number of seconds, 0.001 to 86400"),
        ({"check_interval": -1}, "timings.check_interval = -1 must be"),
        ({"remove": float("inf")}, "timings.remove = inf must be"),
    ],
)
def test_thresholds_must_rise(values: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Timings(**values)
    assert says in str(caught.value)


@given(st.lists(st.floats(0.001, 86_400), min_size=4, max_size=4))
def test_timings_are_taken_exactly_where_they_rise(ages: list[float]) -> None:
    rises = all(a < b for a, b in itertools.pairwise(ages))
    try:
        Timings(slow=ages[0], warn=ages[1], dead=ages[2], remove=ages[3])
    except ConfigError:
        assert not rises
    else:
        assert rises


def test_registries_outside_have_one_form_and_no_password_is_repeated() -> None:
    urls = ["https://b.example/", "http://[::1]:80/mesh", "https://b.example"]
    found = Config(registry=True, registries=urls).registries
    assert found == ("https://b.example", "http://[::1]:80/mesh")
    assert "s3cret" not in refusal(registry=True, registries=["http://me:s3cret@b"])


def test_a_config_survives_the_way_through_json() -> None:
    config = Config(
        node_id="alpha",
        listen=["localhost"],
        data_dir=Path("/x"),
        flows=["/f", "pkg.mod:offers"],
        costs={"beta": 5},
        plugin={"demo": {"loud": True}},
        timings=Timings(slow=1.5),
    )
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_config_keeps_no_hold_on_what_it_was_made_of() -> None:
    section = {"demo": {"loud": True}}
    config = Config(plugin=section)
    section["demo"]["loud"] = False
    assert config.plugin["demo"]["loud"] is True


def test_a_config_made_by_hand_knows_what_was_an_argument() -> None:
    sources = Config(node_id="alpha", timings=Timings(slow=1.5)).sources()
    said = [key for key, source in sources.items() if source != "default"]
    assert said == ["node_id", "timings.slow"]
    assert list(sources) == list(SETTINGS)
    assert set(Config().sources().values()) == {"default"}


def test_differences_name_what_another_config_changes() -> None:
    old = Config(node_id="alpha")
    new = Config(node_id="alpha", mesh="other", timings=Timings(warn=3))
    assert old.differences(new) == ("mesh", "timings.warn")
    assert not SETTINGS["mesh"].live
    assert SETTINGS["timings.warn"].live


def test_settings_that_nothing_acts_on_yet_are_named() -> None:
    assert Config().reserved_in_use() == ()
    assert Config(durable_ttl=60).reserved_in_use() == ("durable_ttl",)


def test_every_setting_says_why_and_what_it_takes() -> None:
    for key, spec in SETTINGS.items():
        assert spec.reason, key
        assert spec.expected, key
        assert spec.check(spec.default) == (spec.default if spec.default != {} else {}), key
        if spec.kind in ("number", "integer"):
            assert spec.unit, key
            assert spec.minimum is not None, key
