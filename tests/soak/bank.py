"""`bin/soak bank [SECONDS] [SEED]`: the bank counter under load, its processes killed and frozen.

Active, passive, and passive with leases of an etcd (where there is one): 120 seconds each. The
longest wait of a client may be 3 s, 8 s while the primary is frozen; 9 s and 15 s with leases.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from meshcore.runtime import loop as event_loop
from tests.e2e import bank
from tests.etcd import ETCD, Server


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 120.0
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    failed = 0
    for plan in (bank.ACTIVE, bank.PASSIVE, bank.LEASES):
        name = f"{plan.replication}, {plan.leadership}"
        with tempfile.TemporaryDirectory(prefix="etcd") as directory:
            server = Server(Path(directory)) if plan.leadership == "etcd" else None
            if server is not None and not ETCD.exists():
                print(f"{name}: not run, there is no {ETCD}")
                continue
            failed += not _passes(name, plan, seconds, seed, server)
    return 1 if failed else 0


def _passes(name: str, plan: bank.Plan, seconds: float, seed: int, server: Server | None) -> bool:
    try:
        if server is not None:
            server.start()
        etcd = None if server is None else server.url
        measured = event_loop.run(bank.run(plan, seconds, seed=seed, etcd=etcd))
        print(f"{name}: {measured}", flush=True)
        assert not measured.errors, measured.errors[:3]
        bank.check_waits(plan, measured)
    except AssertionError as error:
        print(f"{name}: FAILED: {error}", flush=True)
        return False
    finally:
        if server is not None:
            server.stop()
    return True
