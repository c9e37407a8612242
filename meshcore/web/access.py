"""Who may ask at all, and who may change something.

A web page that somebody looks at must not be able to use this node through their browser, not even
where the node trusts everybody on its machine. So a request has to name this node as its host (a
name that an attacker points at our address is somebody else's), and a change must not come from
another origin. Beside that:

- with a token (`http_token`), whoever shows it may change and read all;
- without one, programs on this machine may, and everybody where the node is `insecure`.

What came through a proxy is not from this machine, however near the proxy is.
"""

from __future__ import annotations

import hmac
import ipaddress
import platform
from collections.abc import Mapping
from urllib.parse import urlsplit

from meshcore.urls import Url, is_wildcard
from meshcore.web.interface import Settings
from meshcore.web.refusals import Refusal

_PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-real-ip", "x-forwarded-host")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Access:
    """The rules of one node that listens at `bound`."""

    def __init__(self, settings: Settings, bound: Url) -> None:
        self._token = settings.http_token
        self._insecure = settings.insecure
        self._any_address = is_wildcard(bound)
        names = [*_LOCAL_NAMES, bound.host]
        if settings.http_url:
            names.append(urlsplit(settings.http_url).hostname or "")
        if self._any_address:
            names.append(platform.node())
        self._hosts = {name.lower().rstrip(".") for name in names if name}

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def check_host(self, hosts: list[str]) -> None:
        """Raise Refusal where a request does not name this node."""
        if len(hosts) != 1:
            raise Refusal(400, "the request must have one Host header", field="Host")
        name = _host_of(hosts[0])
        if name in self._hosts or (self._any_address and _is_address(name)):
            return
        raise Refusal(
            400,
            f"Host: this node is not called {name[:80]!r}; the setting http_url tells it by what"
            " other name it is reached",
            field="Host",
        )

    def check_change(self, client: str, headers: Mapping[str, str]) -> None:
        """Raise Refusal where this client may not change anything.

        Args:
            client: its address.
            headers: of the request, by names in lower case.
        """
        self._check_origin(headers)
        if self._token is not None:
            self._check_token(headers.get("authorization", ""))
        elif not self._insecure and not self._is_local(client, headers):
            raise Refusal(
                403,
                "only programs on this machine may do that; the setting http_token lets others",
                name="AccessDeniedError",
            )

    @staticmethod
    def _check_origin(headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if origin is not None:
            foreign = foreign or origin.partition("://")[2].lower() != headers["host"].lower()
        if foreign:
            raise Refusal(
                403,
                "Origin: a page of another origin may not do that",
                field="Origin",
                name="AccessDeniedError",
            )

    def _check_token(self, said: str) -> None:
        assert self._token is not None
        kind, _, token = said.partition(" ")
        right = hmac.compare_digest(token.strip().encode("latin-1"), self._token.encode())
        if kind.lower() == "bearer" and right:
            return
        wrong = "the token is not that of this node" if said else "a token is needed"
        raise Refusal(
            401,
            f"Authorization: {wrong}; send `Authorization: Bearer …` with its http_token",
            field="Authorization",
            name="AccessDeniedError",
            headers={"WWW-Authenticate": 'Bearer realm="meshcore"'},
        )

    @staticmethod
    def _is_local(client: str, headers: Mapping[str, str]) -> bool:
        if any(name in headers for name in _PROXY_HEADERS):
            return False
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def _host_of(text: str) -> str:
    """The name in a Host header, without port and brackets."""
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return text.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
