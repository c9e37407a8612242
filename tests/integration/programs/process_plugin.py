"""Actions in processes, which import them by the name of this module (test_api_mesh.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from meshcore import action


@action(executor="process")
def pid(payload: int) -> int:
    return os.getpid()


@action(executor="process")
def count(payload: int) -> Iterator[int]:
    yield from range(payload)


@action(executor="process")
def fail(payload: str) -> None:
    raise ValueError(payload)
