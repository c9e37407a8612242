"""A real etcd, for the tests that need one."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from meshcore import MeshError
from meshcore.leases.etcd import EtcdGrant
from tests.e2e.topologies import free_ports

ETCD = Path("/usr/bin/etcd")
NEEDS_ETCD = pytest.mark.skipif(
    not ETCD.exists(), reason=f"no {ETCD} (apt-get install etcd-server)"
)
START_TIMEOUT = 20.0


class Server:
    """One etcd, which can be stopped and started again with its data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        own, peer = free_ports(2)
        self.url, self._peer_url = f"http://127.0.0.1:{own}", f"http://127.0.0.1:{peer}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    ETCD, "--data-dir", self._directory / "data", "--name", "one",
                    "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                    "--listen-peer-urls", self._peer_url,
                    "--initial-advertise-peer-urls", self._peer_url,
                    "--initial-cluster", f"one={self._peer_url}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        grant = EtcdGrant([self.url], key="ready", owner="test")
        end = time.monotonic() + START_TIMEOUT
        while True:
            try:
                grant.acquire()
                grant.release()
                grant.close()
                return
            except MeshError:
                assert time.monotonic() < end, (self._directory / "log").read_text()[-2000:]
                time.sleep(0.05)  # it tells nobody that it is up

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
