"""Leases of etcd: a key that exists while the lease does; its create revision is the term.

Whoever creates the key has the lease. The revision of a cluster only rises, so a later lease has a
greater number: it is a fencing token for everybody who sees it. Servers are asked in turn, the one
that answered last first. Source: etcd API v3, lease and transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from meshcore.errors import ConfigError, MeshError

TTL = 5  # seconds
REQUEST_TIMEOUT = 1.0
T = TypeVar("T")


class EtcdGrant:
    """The lease `key`, at servers of one cluster; `owner` is written into it, for people."""

    def __init__(self, urls: Sequence[str], *, key: str, owner: str, ttl: int = TTL) -> None:
        self.ttl = float(ttl)
        self._key = key
        self._owner = owner
        self._clients = [_client(url) for url in urls]
        if not self._clients:
            raise ConfigError("leadership = 'etcd' needs the setting etcd: URLs of its servers")
        self._urls = list(urls)
        self._lease_id: int | None = None

    def acquire(self) -> int | None:
        """See `Grant`."""
        self.release()
        lease = self._ask(lambda client: client.lease(int(self.ttl)))
        self._lease_id = lease.id

        def create(client: Any) -> int | None:
            held = _lease(client, lease.id)
            client.create(self._key, self._owner, lease=held)
            found = client.get(self._key, metadata=True)
            if not found:
                return None
            _, about = found[0]
            ours = int(about.get("lease", 0)) == int(lease.id)
            # What the create said does not count: one that was answered by an error may have been
            # done, and a key that was created may have ended with its lease and be another's now.
            return int(about["create_revision"]) if ours else None

        term = self._ask(create)
        if term is None:
            self.release()
        return term

    def renew(self) -> bool:
        """See `Grant`."""
        lease_id = self._lease_id
        if lease_id is None:
            return False
        left: int = self._ask(lambda client: _lease(client, lease_id).refresh())
        return left > 0

    def release(self) -> None:
        """See `Grant`."""
        lease_id, self._lease_id = self._lease_id, None
        if lease_id is not None:
            self._ask(lambda client: _lease(client, lease_id).revoke())

    def close(self) -> None:
        """See `Grant`."""
        for client in self._clients:
            client.session.close()

    def _ask(self, question: Callable[[Any], T]) -> T:
        """The answer of the first server that gives one."""
        from etcd3gw.exceptions import Etcd3Exception
        from requests.exceptions import RequestException

        reason = ""
        for _ in range(len(self._clients)):
            try:
                return question(self._clients[0])
            except (Etcd3Exception, RequestException, KeyError, ValueError) as error:
                reason = str(error) or type(error).__name__
                self._clients.append(self._clients.pop(0))
        raise MeshError(f"etcd ({', '.join(self._urls)}) gives no answer: {reason[:200]}")


def _client(url: str) -> Any:
    try:
        from etcd3gw import Etcd3Client
    except ImportError as error:
        raise ConfigError(
            "leadership = 'etcd' needs the extra: pip install meshcore-runtime[etcd]"
        ) from error
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"etcd: {url!r} must have the form http://HOST:PORT")
    return Etcd3Client(
        host=parts.hostname, port=parts.port or 2379, protocol=parts.scheme, timeout=REQUEST_TIMEOUT
    )


def _lease(client: Any, lease_id: int) -> Any:
    from etcd3gw import Lease

    return Lease(lease_id, client)
