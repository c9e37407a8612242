"""The way out: requests to registries of other meshes.

Their URLs come from the configuration, or from whoever was allowed to connect. Either may be wrong,
and what answers there may be anything: so names are resolved here and only then dialled (what was
looked at is what is connected to), redirects are not followed, proxies of the environment are not
asked, and time and size have bounds.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import httpx

from meshcore.errors import (
    AccessDeniedError,
    BadPayloadError,
    BusyError,
    ConfigError,
    DeadlineExceededError,
    MeshError,
    ProtocolError,
    UnreachableError,
)
from meshcore.web.values import JSON, encode

CARRY_TIMEOUT = 10.0  # seconds, all in all
CONNECT_TIMEOUT = 4.0  # for one address
ANSWER_MAX = 64 * 1024 * 1024  # bytes
ADDRESSES_MAX = 4  # of one name that are tried

_SHOWN_MAX = 300
# What a message over HTTP may leave out; see `shapes.Message`.
_DEFAULTS: dict[str, Any] = {"mesh": "", "life": 0, "organization": ""}


class _Target(NamedTuple):
    """Where a request goes: the URL as texts show it, and its parts."""

    base: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"


class Partners:
    """Sends messages; `token` is what the others want to see, where this mesh has one."""

    def __init__(self, token: str | None) -> None:
        self._headers = {
            "Accept": JSON.encode(),
            "Accept-Encoding": b"identity",  # a small answer must not become a large one
            "User-Agent": b"meshcore",
        }
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}".encode()

    async def carry(self, url: str, kind: str, message: dict[str, Any]) -> dict[str, Any]:
        """What the registry at `url` answers to a `connect`, `update` or `disconnect`.

        Raises:
            MeshError: it cannot be reached, takes too long, refuses, or is none; the text says so.
        """
        target = _target(url)
        try:
            async with asyncio.timeout(CARRY_TIMEOUT):
                return await self._carry(target, kind, message)
        except TimeoutError:
            raise DeadlineExceededError(f"{url}: no answer in {CARRY_TIMEOUT:g} s") from None

    async def _carry(self, target: _Target, kind: str, message: dict[str, Any]) -> dict[str, Any]:
        failure: httpx.TransportError | None = None
        async with httpx.AsyncClient(
            verify=_tls() if target.scheme == "https" else False,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(CARRY_TIMEOUT, connect=CONNECT_TIMEOUT),
        ) as client:
            for address in await _addresses(target):
                request = self._request(client, target, address, kind, message)
                try:
                    response = await client.send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    failure = error
                    continue
                except httpx.HTTPError as error:
                    raise UnreachableError(f"{target.base}: {_why(error)}") from error
                try:
                    return await _answer(target, response)
                except httpx.HTTPError as error:
                    raise UnreachableError(f"{target.base}: {_why(error)}") from error
                finally:
                    await response.aclose()
        raise UnreachableError(f"{target.base}: {_why(failure)}") from failure

    def _request(
        self,
        client: httpx.AsyncClient,
        target: _Target,
        address: str,
        kind: str,
        message: dict[str, Any],
    ) -> httpx.Request:
        host = f"[{address}]" if ":" in address else address
        where = f"{target.scheme}://{host}:{target.port}{target.path}"
        more: dict[str, Any] = {
            "headers": {**self._headers, "Host": target.netloc.encode()},
            "extensions": {"sni_hostname": target.host},
        }
        if kind == "disconnect":
            own = quote(str(message.get("url", "")), safe="")
            return client.build_request("DELETE", f"{where}connect?url={own}", **more)
        more["headers"]["Content-Type"] = JSON.encode()
        return client.build_request("POST", where + kind, content=encode(message), **more)


def _target(url: str) -> _Target:
    said = "registry " + (repr(url[:_SHOWN_MAX]) if "@" not in url else "…")  # a password?
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError as error:
        raise ConfigError(f"{said}: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{said} must be http://HOST:PORT or https://HOST")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{said} must have no user, query or fragment")
    port = port or {"http": 80, "https": 443}[parts.scheme]
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._").rstrip("/") + "/"
    shown = url if len(url) <= _SHOWN_MAX else url[: _SHOWN_MAX - 1] + "…"
    return _Target(shown, parts.scheme, host, port, path)


async def _addresses(target: _Target) -> list[str]:
    """Numeric addresses of the host where a registry may be."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnreachableError(
            f"{target.base}: the name {target.host!r} does not resolve ({error.strerror})"
        ) from error
    every = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    fit = [address for address in every if _may_be_dialled(address)]
    if not fit:
        raise AccessDeniedError(
            f"{target.base}: {every[0]} is no address of a registry (link-local, multicast or none)"
        )
    return fit[:ADDRESSES_MAX]


def _may_be_dialled(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # that of the system, not of a package


async def _answer(target: _Target, response: httpx.Response) -> dict[str, Any]:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ProtocolError(f"{target.base}: its answer is compressed, although nobody asked")
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > ANSWER_MAX:
            raise ProtocolError(f"{target.base}: its answer has more than {ANSWER_MAX:,} bytes")
        parts.append(part)
    try:
        value = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        value = None
    if response.status_code != 200:
        raise _refused(target, response, value)
    if not isinstance(value, dict):
        raise ProtocolError(f"{target.base}: its answer is no JSON object; is it a registry?")
    return {**_DEFAULTS, "url": target.base, **value}


def _refused(target: _Target, response: httpx.Response, value: Any) -> MeshError:
    """What another status than 200 means."""
    error = value.get("error") if isinstance(value, dict) else None
    said = str(error.get("message", "")) if isinstance(error, dict) else ""
    said = " ".join(said.split())[:_SHOWN_MAX]
    status = response.status_code
    text = f"{target.base}: {said or 'it answers'} (HTTP {status})"
    if 300 <= status < 400:
        return ProtocolError(f"{target.base}: it redirects (HTTP {status}); name its target")
    if status in (401, 403):
        return AccessDeniedError(text)
    if status in (404, 405):
        return UnreachableError(text if said else f"{target.base} is no registry (HTTP {status})")
    if status in (400, 409, 413, 415, 422):
        return BadPayloadError(text)
    if status in (429, 503):
        return BusyError(text)
    return UnreachableError(text)


def _why(error: Exception | None) -> str:
    """What a failure of the network says, on one line."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection in {CONNECT_TIMEOUT:g} s"
    text = " ".join(str(error or "no connection").split())
    return text[:_SHOWN_MAX] or type(error).__name__
