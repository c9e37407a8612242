"""Kill -9 of a process that writes a registry's file, at any moment: the file stays whole.

Options: seconds (default 300), seed (default: drawn).
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.e2e import catalogue_kills


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 300.0
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(10**6)
    with tempfile.TemporaryDirectory() as folder:
        try:
            kills = catalogue_kills.run(Path(folder) / "catalogue.db", seconds, seed)
        except AssertionError as error:
            print(f"seed {seed}: FAILED: {error}", flush=True)
            return 1
    print(f"seed {seed}: {kills} kills in {seconds:.0f} s, the file was whole each time")
    return 0
