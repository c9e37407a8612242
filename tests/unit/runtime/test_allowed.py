"""Where learnt addresses may lead, and where not, whoever names them."""

from __future__ import annotations

import socket
from collections import namedtuple
from typing import Any

import psutil
import pytest

from meshcore import Config, ConfigError, host
from meshcore.runtime.allowed import allowing, dial_allow

Address = namedtuple("Address", "family address netmask")


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {
        "lo": [Address(socket.AF_INET, "127.0.0.1", "255.0.0.0")],
        "eth0": [
            Address(socket.AF_INET, "10.1.2.3", "255.255.0.0"),
            Address(socket.AF_INET6, "2001:db8::3", "ffff:ffff:ffff:ffff::"),
            Address(socket.AF_INET6, "fe80::1%eth0", "ffff:ffff:ffff:ffff::"),
            Address(socket.AF_PACKET, "00:00:00:00:00:01", None),
        ],
        "tun0": [Address(socket.AF_INET, "192.0.2.9", None)],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    return found


def test_the_networks_of_the_interfaces_and_loopback(interfaces: dict[str, list[Any]]) -> None:
    assert host.networks() == [
        "127.0.0.0/8",
        "::1/128",
        "10.1.0.0/16",
        "2001:db8::/64",
        "192.0.2.9",
    ]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("tcp://10.1.200.7:7323", True),
        ("tcp://127.0.0.1:7323", True),
        ("tcp://[::1]:7323", True),
        ("tcp://localhost:7323", True),
        ("tcp://[2001:db8::77]:1", True),
        ("tcp://[::ffff:10.1.0.9]:1", True),
        ("tcp://seed.example.org:9", True),  # the host of a configured peer, on any port
        ("tcp://198.51.100.7:1", True),  # so is this
        ("tcp://10.2.0.1:7323", False),
        ("tcp://198.51.100.8:1", False),
        ("tcp://[::ffff:8.8.8.8]:1", False),
        ("tcp://[2001:db9::1]:1", False),
        ("tcp://other.example.org:7323", False),  # a name may lead anywhere
        ("tcp://0.0.0.0:7323", False),
        ("tcp://*:7323", False),
        ("tcp://10.1.0.1:0", False),
        ("ipc:///run/x.sock", False),
        ("", False),
        ("nonsense://", False),
    ],
)
def test_by_default_it_is_here_nearby_or_configured(
    interfaces: dict[str, list[Any]], url: str, allowed: bool
) -> None:
    peers = ["tcp://seed.example.org:7323", "tcp://198.51.100.7:7323", "ipc:///run/y.sock"]
    assert dial_allow(Config(peers=peers))(url) is allowed


def test_what_is_configured_replaces_it_all(interfaces: dict[str, list[Any]]) -> None:
    allowed = dial_allow(Config(dial_allow=["198.51.100.0/24"], peers=["tcp://10.9.9.9:1"]))
    assert allowed("tcp://198.51.100.200:5")
    for url in ("tcp://10.1.2.4:1", "tcp://127.0.0.1:1", "tcp://10.9.9.9:1", "tcp://localhost:1"):
        assert not allowed(url), url


def test_multicast_is_never_dialled() -> None:
    assert not allowing(["0.0.0.0/0"], ())("tcp://224.0.0.251:5353")


@pytest.mark.parametrize("odd", ["10.0.0.0/33", "example.org", "tcp://10.0.0.1", 7])
def test_networks_are_checked(odd: Any) -> None:
    with pytest.raises(ConfigError, match=r"dial_allow = .* must be a list of networks"):
        Config(dial_allow=[odd])


def test_networks_are_normalised() -> None:
    assert Config(dial_allow=["10.1.2.3/8", "10.0.0.0/8", "::1"]).dial_allow == (
        "10.0.0.0/8",
        "::1/128",
    )
