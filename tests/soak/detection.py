"""`bin/soak detection [ROUNDS]`: one node of 20 freezes, wakes, is killed, comes back, leaves."""

from __future__ import annotations

from tests.e2e import detection

ROUNDS = 10


def main(arguments: list[str]) -> int:
    rounds = int(arguments[0]) if arguments else ROUNDS
    try:
        detection.run(detection.SIZE, rounds, lambda text: print(text, flush=True))
    except AssertionError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    return 0
