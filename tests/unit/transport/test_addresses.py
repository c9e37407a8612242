"""Names become numbers before libzmq sees them."""

from __future__ import annotations

import asyncio

import pytest

from meshcore.errors import ConfigError
from meshcore.transport.addresses import is_numeric, resolve, resolve_to_bind
from meshcore.urls import Url, parse_url


@pytest.mark.parametrize(
    ("text", "numeric"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://*:1", True),
        ("ipc:///x", True),
        ("tcp://localhost:1", False),
        ("tcp://a.example:1", False),
    ],
)
def test_what_is_a_number_already(text: str, numeric: bool) -> None:
    assert is_numeric(parse_url(text)) is numeric


def test_numbers_are_not_looked_up() -> None:
    url = parse_url("tcp://192.0.2.1:7")
    assert asyncio.run(resolve(url)) == (url,)
    assert resolve_to_bind(url) == url


def test_a_name_becomes_all_its_numbers() -> None:
    found = asyncio.run(resolve(parse_url("tcp://localhost:7")))
    assert Url("tcp", "127.0.0.1", 7) in found
    assert len(set(found)) == len(found)


def test_to_bind_a_star_is_every_interface_and_localhost_is_ipv4() -> None:
    assert resolve_to_bind(parse_url("tcp://*:7")) == Url("tcp", "0.0.0.0", 7)
    assert resolve_to_bind(parse_url("tcp://localhost:7")) == Url("tcp", "127.0.0.1", 7)


def test_a_name_that_does_not_resolve_is_an_error_of_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"no-such\.invalid"):
        resolve_to_bind(parse_url("tcp://no-such.invalid:7"))
