"""The machine that a node runs on, as others are told: by psutil."""

from __future__ import annotations

import os
import platform
import socket
from typing import Any


def describe() -> dict[str, Any]:
    """What does not change: name, cores, operating system, bytes of memory."""
    import psutil  # 15 ms to import, which the command line need not pay

    return {
        "name": platform.node(),
        "cores": psutil.cpu_count() or 1,
        "os": f"{platform.system()} {platform.release()}",
        "ram": {"total": psutil.virtual_memory().total},
    }


def dialable_addresses() -> list[str]:
    """The addresses of this machine's interfaces as they stand in a URL.

    Loopback is left out where there is any other: to others it would mean themselves.
    """
    import psutil

    found: dict[str, bool] = {}
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET:
                found[one.address] = one.address.startswith("127.")
            elif one.family == socket.AF_INET6 and "%" not in one.address:
                found[f"[{one.address}]"] = one.address == "::1"
    others = sorted(address for address, is_loopback in found.items() if not is_loopback)
    return others or sorted(found)


def pid() -> int:
    """Of this process."""
    return os.getpid()


def process_description() -> str:
    """How this process is named to somebody who claims the same node id."""
    return f"pid {os.getpid()} on host {platform.node()}"
