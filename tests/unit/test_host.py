"""What nodes tell of the machine they run on, also where it cannot tell, and when they tell it."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from meshcore import Config, host
from meshcore.announcing import Announcing
from meshcore.work.registry import Registry

WHOLE = {
    "name": "nz-078",
    "os": "Linux 6.1",
    "cores": 8,
    "cpu": {"model": "Fast", "speed": 2600.0, "usage": 12.5},
    "ram": {"total": 2**34, "free": 2**33, "used_perc": 50.0},
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(host, "_LOAD", host._Load())
    host._facts.cache_clear()
    yield
    host._facts.cache_clear()


def shape(value: Any) -> Any:
    return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else None


def test_a_description_has_every_name_of_the_api() -> None:
    described = host.with_load(host.describe())
    assert shape(described) == shape(WHOLE)
    assert described["cores"] >= 1
    assert described["name"]
    assert 0.0 <= described["cpu"]["usage"] <= 100.0
    assert 0 < described["ram"]["free"] <= described["ram"]["total"]
    assert 0.0 <= described["ram"]["used_perc"] <= 100.0


def test_what_does_not_change_is_looked_at_once_and_cannot_be_spoilt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = host.describe()
    first["cpu"]["model"] = "spoilt"
    monkeypatch.setattr(psutil, "cpu_count", lambda: 1 / 0)
    assert host.describe()["cpu"]["model"] != "spoilt"


@pytest.mark.parametrize("error", [OSError, NotImplementedError, AttributeError, RuntimeError])
def test_a_machine_that_cannot_tell_says_none(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise error

    for name in ("cpu_count", "cpu_freq", "cpu_percent", "cpu_times", "virtual_memory"):
        monkeypatch.setattr(psutil, name, fails)
    monkeypatch.setattr(host, "_cpu_model", fails)
    described = host.with_load(host.describe())
    assert shape(described) == shape(WHOLE)
    assert described["cores"] is None
    assert described["cpu"] == {"model": None, "speed": None, "usage": None}
    assert described["ram"] == {"total": None, "free": None, "used_perc": None}


def test_a_machine_without_a_frequency_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert host.describe()["cpu"]["speed"] is None


def test_the_usage_is_that_since_the_last_look_and_looks_are_rare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([7.0, 42.0, 99.0])
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: next(told))
    monkeypatch.setattr(host, "_usage_since_boot", lambda: 3.0)
    look = host._Load()
    look.look(100.0)
    assert look.usage == 3.0, "psutil's first answer is about the moments since it was imported"
    look.look(100.1)
    look.look(100.4)
    assert look.usage == 3.0
    look.look(100.6)
    assert look.usage == 42.0
    look.look(101.2)
    assert look.usage == 99.0


def test_asking_for_the_load_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: waited.append(interval) or 1.0)
    host.load()
    assert waited == [None]


@pytest.mark.parametrize("odd", [None, {}, [], "host", 7])
def test_a_node_that_tells_nothing_of_its_host_has_none(odd: Any) -> None:
    assert host.as_told(odd) == {}


def test_what_is_told_is_taken_over_and_what_is_odd_is_none() -> None:
    assert host.as_told(WHOLE) == WHOLE
    odd = {"name": 7, "os": None, "cores": "8", "cpu": [], "ram": {"total": True, "x": 1}}
    assert host.as_told(odd) == {
        "name": None,
        "os": None,
        "cores": None,
        "cpu": {"model": None, "speed": None, "usage": None},
        "ram": {"total": None, "free": None, "used_perc": None},
    }


def test_the_load_of_another_moment_replaces_that_of_the_description() -> None:
    fresh = {"cpu": {"usage": 80.0}, "ram": {"free": 1, "used_perc": 99.0}}
    merged = host.with_load(WHOLE, fresh)
    assert merged["cpu"] == {"model": "Fast", "speed": 2600.0, "usage": 80.0}
    assert merged["ram"] == {"total": 2**34, "free": 1, "used_perc": 99.0}


# -- telling ---------------------------------------------------------------------------------------


class FakeDriver:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.mesh = self
        self.told: list[dict[str, Any]] = []

    def now(self) -> float:
        return 1.0

    def set_details(self, content: dict[str, Any], now: float) -> None:
        self.told.append(content)

    def kick(self) -> None:
        pass


def announcing(**settings: Any) -> tuple[Announcing, Registry, FakeDriver]:
    registry, driver = Registry(), FakeDriver()
    config = Config(node_id="alpha", **settings)
    return Announcing(config, registry, driver), registry, driver  # type: ignore[arg-type]


def test_details_are_told_again_only_when_something_in_them_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = iter(range(100))
    monkeypatch.setattr(
        host, "load", lambda: {"cpu": {"usage": next(usage)}, "ram": {"free": next(usage)}}
    )
    own, registry, driver = announcing(organization="acme")
    own.tell_details({})
    own.tell_details({})
    assert len(driver.told) == 1, "the load alone is no news"
    registry.add_function("tools:double", lambda payload: payload * 2)
    own.tell_details({})
    own.tell_details({})
    assert len(driver.told) == 2
    assert driver.told[1]["host"]["cpu"]["usage"] != driver.told[0]["host"]["cpu"]["usage"]


def test_details_name_the_environment() -> None:
    own, _, driver = announcing(organization="acme")
    own.tell_details({})
    [told] = driver.told
    assert told["env"] == "python"
    assert told["runtime"].startswith(("CPython 3.", "PyPy 3."))
    assert told["organization"] == "acme"
    assert told["pid"] == host.pid()
    assert shape(told["host"]) == shape(WHOLE)


def test_a_client_tells_nothing() -> None:
    own, _, driver = announcing(ephemeral=True)
    own.tell_details({})
    assert driver.told == []
