"""Services that the configuration and the command line name."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from meshcore import ConfigError, Service
from meshcore.services.loading import load_service, section_of


class Lamp(Service):
    pass


class Broken(Service):
    def __init__(self) -> None:
        raise OSError("no device")


@pytest.fixture(autouse=True)
def lamps(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("some_lamps")
    vars(module).update(Lamp=Lamp, Broken=Broken, number=7)
    monkeypatch.setitem(sys.modules, "some_lamps", module)


def test_a_section_is_a_class_and_settings() -> None:
    section = {"class": "some_lamps:Lamp", "replicas": 3, "hang_after": 2}
    made, settings = load_service("lamps", section)
    assert isinstance(made, Lamp)
    assert settings == {"replicas": 3, "hang_after": 2.0}
    assert load_service("lamps", section)[0] is not made


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({}, r"services\.lamps\.class = None must have the form module:Class"),
        ({"class": "some_lamps"}, "must have the form module:Class"),
        ({"class": "no_such_module:Lamp"}, "cannot be imported"),
        ({"class": "some_lamps:Lump"}, "some_lamps has no Lump"),
        ({"class": "some_lamps:number"}, "is no subclass of meshcore.Service"),
        ({"class": "some_lamps:Broken"}, r"failed: OSError\('no device'\)"),
        ({"class": "some_lamps:Lamp", "replica": 3}, "unknown key 'replica'"),
        ({"class": "some_lamps:Lamp", "replicas": "3"}, "replicas = '3' must be of type int"),
        ({"class": "some_lamps:Lamp", "replicas": True}, "must be of type int"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(section: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_service("lamps", section)


def test_a_flag_is_a_section() -> None:
    assert section_of("lamps=some_lamps:Lamp") == ("lamps", {"class": "some_lamps:Lamp"})
    text = "lamps=some_lamps:Lamp,replication=passive,replicas=3,members=a+b+c,hang_after=2"
    assert section_of(text) == (
        "lamps",
        {
            "class": "some_lamps:Lamp",
            "replication": "passive",
            "replicas": 3,
            "members": ["a", "b", "c"],
            "hang_after": 2.0,
        },
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("lamps", "must have the form GROUP=module:Class"),
        ("=some_lamps:Lamp", "must have the form"),
        ("lamps=", "must have the form"),
        ("lamps=some_lamps:Lamp,replicas", "'replicas' must be KEY=VALUE"),
        ("lamps=some_lamps:Lamp,replicas=three", "replicas = 'three' must be of type int"),
        ("lamps=some_lamps:Lamp,size=3", "'size=3' must be KEY=VALUE; keys: "),
    ],
)
def test_a_flag_that_cannot_be_read_is_shown(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        section_of(text)
