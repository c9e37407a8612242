"""`bin/soak overload [SECONDS]`: a mesh of 8 while every core is overloaded fourfold."""

from __future__ import annotations

from tests.e2e import overload

SECONDS = 60.0


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else SECONDS
    try:
        print(overload.run(seconds), flush=True)
    except AssertionError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    return 0
