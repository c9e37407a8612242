"""`bin/soak bank [SECONDS] [SEED]`: the bank counter under load, its processes killed and frozen.

Active, then passive; 120 seconds each. The longest wait of a client may be 3 s, 8 s while the
primary is frozen.
"""

from __future__ import annotations

from meshcore.runtime import loop as event_loop
from tests.e2e import bank


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 120.0
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    failed = 0
    for kind in ("active", "passive"):
        try:
            measured = event_loop.run(bank.run(kind, seconds, seed=seed))
            print(f"{kind}: {measured}", flush=True)
            bank.check_waits(measured)
        except AssertionError as error:
            failed += 1
            print(f"{kind}: FAILED: {error}", flush=True)
    return 1 if failed else 0
