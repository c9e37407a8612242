"""The addresses that people write and sockets use.

There are two kinds: `tcp://HOST:PORT` and `ipc:///PATH`. People may leave out what is obvious:
`host` and `host:7323` mean `tcp://host:7323`. A `Url` is always whole, and `str(url)` is the form
that sockets take, that nodes advertise and that `==` compares.

`parse_url` is the one way in: it raises ConfigError with a text that names the setting or flag
and shows the right form. Names are not resolved here; nothing in this module does any I/O.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from meshcore.errors import ConfigError

DEFAULT_PORT = 7323
URL_CHARS_MAX = 256  # what a peer may advertise, too
# sockaddr_un holds 108 bytes, the last one is 0; libzmq cuts longer paths off without a word.
IPC_PATH_BYTES_MAX = 107
WILDCARDS = ("*", "0.0.0.0", "::")
FORMS = "tcp://HOST:PORT or ipc:///PATH"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)\Z", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?\Z")
_IPV4_LIKE = re.compile(r"[0-9.]+\Z")


@dataclass(frozen=True, slots=True)
class Url:
    """One address: `host` and `port` for tcp (port 0: the system chooses), `path` for ipc.

    `host` is a name, an IPv4 address, an IPv6 address without brackets, or `*`.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "ipc":
            return f"ipc://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def parse_url(text: str, *, key: str = "url") -> Url:
    """The address that `text` means, whole and normalised.

    Args:
        text: `tcp://host:port`, `tcp://[::1]:port`, `tcp://*:port`, `host`, `host:port`,
            `ipc:///path`; without a port it is 7323.
        key: what the error text begins with: the setting or flag that holds the address.

    Raises:
        ConfigError: it is none of these; the text shows what was expected.
    """
    if len(text) > URL_CHARS_MAX:
        raise _too_long(len(text), key)
    if not text or not text.isprintable() or " " in text:
        raise ConfigError(f"{key}: {text!r} is no address; expected {FORMS}")
    match = _SCHEME.match(text)
    if match is None:
        return _tcp(text, text, key)
    scheme, rest = match[1].lower(), match[2]
    if scheme == "tcp":
        return _tcp(rest, text, key)
    if scheme == "ipc":
        return _ipc(rest, text, key)
    right = "ipc:///PATH" if not rest or rest.startswith("/") else f"tcp://{rest}"
    raise ConfigError(f"{key}: {text!r} has the unknown scheme '{match[1]}'; write {right}")


def is_loopback(url: Url) -> bool:
    """Whether only this machine can reach it: an ipc path, localhost, 127.0.0.0/8 or ::1."""
    if url.scheme == "ipc" or url.host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:  # a name: it may lead anywhere
        return False


def is_wildcard(url: Url) -> bool:
    """Whether it stands for every interface of the machine: to bind, never to dial."""
    return url.scheme == "tcp" and url.host in WILDCARDS


def _tcp(rest: str, text: str, key: str) -> Url:
    host, port_text = _split(rest, text, key)
    port = DEFAULT_PORT
    if port_text is not None:
        if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
            raise ConfigError(
                f"{key}: the port of {text!r} must be 0 to 65535 (0: the system chooses)"
            )
        port = int(port_text)
    url = Url("tcp", _host(host, text, key), port)
    if len(str(url)) > URL_CHARS_MAX:  # what was left out counts as well
        raise _too_long(len(str(url)), key)
    return url


def _too_long(size: int, key: str) -> ConfigError:
    return ConfigError(f"{key}: an address of {size} characters; at most {URL_CHARS_MAX}")


def _split(rest: str, text: str, key: str) -> tuple[str, str | None]:
    """Host without brackets, and the port as text or None."""
    if rest.startswith("["):
        host, bracket, after = rest[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise ConfigError(f"{key}: {text!r} is no address; expected tcp://[IPV6]:PORT")
        return host, after[1:] if after else None
    if rest.count(":") > 1:  # IPv6 without brackets: no port can be told from it
        try:
            ipaddress.IPv6Address(rest)
        except ValueError:
            raise ConfigError(f"{key}: {text!r} is no address; expected {FORMS}") from None
        return rest, None
    host, colon, port = rest.partition(":")
    return host, port if colon else None


def _host(host: str, text: str, key: str) -> str:
    if not host:
        hint = text.rpartition(":")[2] if text.rpartition(":")[2].isdigit() else "PORT"
        raise ConfigError(
            f"{key}: {text!r} has no host; write tcp://127.0.0.1:{hint},"
            f" or tcp://*:{hint} to listen on every interface"
        )
    if host == "*":
        return host
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise ConfigError(f"{key}: {host!r} in {text!r} is no IPv6 address") from None
    if _IPV4_LIKE.match(host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ConfigError(f"{key}: {host!r} in {text!r} is no IPv4 address") from None
    if not _NAME.match(host):
        raise ConfigError(f"{key}: {host!r} in {text!r} is no host name; expected {FORMS}")
    return host.lower()


def _ipc(path: str, text: str, key: str) -> Url:
    if not path.startswith("/") or path.endswith("/"):
        raise ConfigError(f"{key}: {text!r} must be ipc:// and the absolute path of a socket")
    check_ipc_path(path, key=key)
    return Url("ipc", path=path)


def check_ipc_path(path: str, *, key: str) -> None:
    """Raise ConfigError where the path of a local socket is longer than the system allows."""
    size = len(path.encode())
    if size > IPC_PATH_BYTES_MAX:
        raise ConfigError(
            f"{key}: the socket path {path!r} has {size} bytes; the system allows"
            f" {IPC_PATH_BYTES_MAX}: choose a shorter directory or name"
        )
