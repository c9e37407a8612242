"""What the web server needs of a node: so little that a test can stand in for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

Carry = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Settings(Protocol):
    """The settings of a node that matter here; see `meshcore.Config`."""

    @property
    def http(self) -> str | None: ...
    @property
    def http_url(self) -> str | None: ...
    @property
    def http_token(self) -> str | None: ...
    @property
    def insecure(self) -> bool: ...


class Registered(Protocol):
    """What came of a registration; `seen`: when it was heard of before, Unix seconds."""

    @property
    def first_visit(self) -> bool: ...
    @property
    def seen(self) -> float | None: ...


class Catalogue(Protocol):
    """The part of `meshcore.catalogue.Catalogue` that is used; times are Unix seconds."""

    node_id: str
    registry: bool

    async def flows(
        self, q: str = "", *, by: str = "", p: int = 0, pp: int = 10
    ) -> dict[str, Any]: ...
    async def counts(self) -> dict[str, Any]: ...
    async def records(self) -> list[dict[str, Any]]: ...
    def about(self) -> dict[str, Any]: ...
    def map(self) -> dict[str, Any]: ...
    def register(
        self, url: str, organization: str, flows: Sequence[Any], *, ttl: float
    ) -> Registered: ...
    def exchange(self, kind: str, message: object) -> dict[str, Any]: ...
    def use_http(self, url: str, carry: Carry) -> None: ...


class Site(Protocol):
    """A node."""

    @property
    def config(self) -> Settings: ...
    @property
    def catalogue(self) -> Catalogue: ...
