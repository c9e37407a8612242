"""What people may write for an address, and what they are told where it is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.urls import Url, is_loopback, is_wildcard, parse_url


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("alpha", "tcp://alpha:7323"),
        ("alpha.example.org:99", "tcp://alpha.example.org:99"),
        ("TCP://Alpha", "tcp://alpha:7323"),
        ("10.0.0.1", "tcp://10.0.0.1:7323"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://*:7323", "tcp://*:7323"),
        ("*", "tcp://*:7323"),
        ("::1", "tcp://[::1]:7323"),
        ("[::1]", "tcp://[::1]:7323"),
        ("tcp://[::1]:5", "tcp://[::1]:5"),
        ("[0:0::1]:5", "tcp://[::1]:5"),
        ("[fe80::1%eth0]:5", "tcp://[fe80::1%eth0]:5"),
        ("my_host", "tcp://my_host:7323"),
        ("ipc:///run/alpha.sock", "ipc:///run/alpha.sock"),
    ],
)
def test_short_addresses_become_whole(text: str, whole: str) -> None:
    assert str(parse_url(text)) == whole
    assert parse_url(whole) == parse_url(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "rnp://beta:8888",
            "listen: 'rnp://beta:8888' has the unknown scheme 'rnp'; write tcp://b",
        ),
        ("unix:///run/x", "unknown scheme 'unix'; write ipc:///PATH"),
        ("", "is no address; expected tcp://HOST:PORT or ipc:///PATH"),
        ("a b", "is no address"),
        ("alpha\n", "is no address"),
        ("tcp://", "has no host"),
        (":7323", "has no host; write tcp://127.0.0.1:7323, or tcp://*:7323"),
        ("alpha:http", "the port of 'alpha:http' must be 0 to 65535"),
        ("alpha:65536", "must be 0 to 65535"),
        ("alpha:", "must be 0 to 65535"),
        ("alpha:²", "must be 0 to 65535"),
        ("tcp://alpha:7323/path", "must be 0 to 65535"),
        ("256.1.1.1", "'256.1.1.1' in '256.1.1.1' is no IPv4 address"),
        ("a:b:c", "is no address"),
        ("[::zz]:1", "'::zz' in '[::zz]:1' is no IPv6 address"),
        ("[::1", "expected tcp://[IPV6]:PORT"),
        ("[::1]7323", "expected tcp://[IPV6]:PORT"),
        ("user@alpha", "is no host name"),
        ("-alpha", "is no host name"),
        ("ipc://run/x", "must be ipc:// and the absolute path of a socket"),
        ("ipc://@abstract", "must be ipc:// and the absolute path of a socket"),
        ("ipc:///run/", "must be ipc:// and the absolute path of a socket"),
        ("ipc:///" + "x" * 107, "has 108 bytes; the system allows 107"),
        ("x" * 250, "an address of 261 characters; at most 256"),
        ("x" * 300, "an address of 300 characters; at most 256"),
    ],
)
def test_what_is_no_address_is_refused_with_the_right_form(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(text, key="listen")
    assert says in str(caught.value)
    assert str(caught.value).startswith("listen: ")


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        url = parse_url(text)
    except ConfigError:
        return
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    ("text", "loopback", "wildcard"),
    [
        ("localhost", True, False),
        ("127.0.0.1", True, False),
        ("127.1.2.3", True, False),
        ("::1", True, False),
        ("ipc:///x", True, False),
        ("*", False, True),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("10.0.0.1", False, False),
        ("localhost.example.org", False, False),
    ],
)
def test_only_this_machine_reaches_a_loopback_address(
    text: str, loopback: bool, wildcard: bool
) -> None:
    url = parse_url(text)
    assert (is_loopback(url), is_wildcard(url)) == (loopback, wildcard)


def test_a_url_is_a_value() -> None:
    assert {Url("tcp", "a", 1), Url("tcp", "a", 1)} == {Url("tcp", "a", 1)}
