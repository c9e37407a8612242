"""Is anybody behind an address? One plain connect() gives the errno that libzmq hides.

A process that was killed leaves a host that refuses connections (or an ipc path without a
listener): it is certainly gone. Silence, timeouts and unreachable networks prove nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterable

from meshcore.errors import ConfigError
from meshcore.urls import Url, parse_url

TIMEOUT = 1.0
ENDPOINTS_MAX = 8  # a peer may name many: more would let it use us as a port scanner
# The kernel closes the sockets of a killed process one by one: the loss of a connection can
# be seen while its listener still accepts, on a busy machine for tenths of a second. So whoever
# accepts is asked again, after these seconds.
PAUSES = (0.02, 0.1, 0.4)
_REFUSED = (errno.ECONNREFUSED, errno.ENOENT)


async def all_refuse(urls: Iterable[str], *, within: float = TIMEOUT) -> bool:
    """Whether every one of `urls` refuses a connection now.

    Args:
        urls: addresses without names to resolve; one that is no address counts as silent.
        within: seconds; who has not refused by then counts as silent.
    """
    targets = []
    for text in urls:
        try:
            targets.append(parse_url(text))
        except ConfigError:
            return False
    if not targets or len(targets) > ENDPOINTS_MAX:
        return False
    return all(await asyncio.gather(*(_refuses(url, within) for url in targets)))


async def _refuses(url: Url, within: float) -> bool:
    for pause in (*PAUSES, None):
        code = await connect_errno(url, within=within)
        if code != 0 or pause is None:
            break
        await asyncio.sleep(pause)
    return code in _REFUSED


async def connect_errno(url: Url, *, within: float = TIMEOUT) -> int:
    """The errno of one connect() to `url`; 0 if it succeeds, ETIMEDOUT without an answer."""
    loop = asyncio.get_running_loop()
    if url.scheme == "ipc":
        family, address = socket.AF_UNIX, url.path
    else:
        family = socket.AF_INET6 if ":" in url.host else socket.AF_INET
        address = (url.host, url.port)  # type: ignore[assignment]
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(within):
                await loop.sock_connect(sock, address)
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno or errno.EIO
        return 0


def describe(code: int) -> str:
    """What people read about a failed connect()."""
    if code == errno.ECONNREFUSED:
        return "connection refused"
    if code == errno.ENOENT:
        return "no such socket"
    if code == errno.ETIMEDOUT:
        return "no answer"
    return os.strerror(code).lower() if code else "the connection was closed"
