"""What is announced on the network, and what is believed of what others announce."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore import ConfigError
from meshcore.discovery import Announcement, open_discovery
from meshcore.discovery.announcement import PROPERTY_BYTES_MAX, URLS_MAX, properties_of, read

URL = "tcp://10.0.0.1:7323"


def test_what_is_announced_is_read_again() -> None:
    own = Announcement("alpha", "mesh", (URL, "tcp://[2001:db8::1]:7323"))
    assert read(properties_of(own)) == own


def test_only_what_others_can_dial_and_dns_can_carry_is_announced() -> None:
    long = f"tcp://{'x' * 250}:1"
    many = [f"tcp://10.0.0.{at}:1" for at in range(20)]
    properties = properties_of(Announcement("alpha", "mesh", ("ipc:///x", long, *many)))
    assert len(properties) == 3 + URLS_MAX
    assert properties["u0"] == many[0]
    for key, value in properties.items():
        assert len(f"{key}={value}".encode()) <= PROPERTY_BYTES_MAX


@pytest.mark.parametrize(
    "change",
    [
        {"v": "2"},
        {"v": None},
        {"id": "not an id"},
        {"id": ""},
        {"mesh": "a/b"},
        {"u0": None},
        {"u0": "ipc:///run/x"},
        {"u0": "rnp://x"},
        {"u0": "tcp://10.0.0.1:0"},
        {"u1": "tcp://10.0.0.1:99999"},
    ],
)
def test_what_is_not_in_order_is_none(change: dict[str, Any]) -> None:
    whole = {"v": "1", "id": "alpha", "mesh": "mesh", "u0": URL}
    assert read(whole) is not None
    assert read({**whole, **change}) is None


@given(
    st.dictionaries(st.sampled_from(["v", "id", "mesh", "u0", "u1", "x"]), st.none() | st.text())
)
def test_whatever_is_announced_nothing_breaks(properties: dict[str, str | None]) -> None:
    found = read({"v": "1", **properties})
    assert found is None or found.urls


@pytest.mark.parametrize(
    ("urls", "local"),
    [
        (("tcp://127.0.0.1:1",), True),
        (("tcp://127.0.0.1:1", "tcp://[::1]:1"), True),
        (("tcp://127.0.0.1:1", URL), False),
        ((), False),
    ],
)
def test_who_listens_on_loopback_alone_is_of_this_machine(urls: Any, local: bool) -> None:
    assert Announcement("alpha", "mesh", urls).is_of_this_machine is local


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def fails(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("zeroconf"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(ConfigError, match=r"pip install meshcore-runtime\[discovery\]"):
        open_discovery()
