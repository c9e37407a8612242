"""Kill -9 of a process that writes a registry's file, at any moment, again and again.

After each kill the file must open, pass SQLite's own check, and hold one generation in full (see
`programs/catalogue_writer.py`): all that was submitted together is there or none of it, and what
had been flushed is there.

`bin/soak catalogue_kills` runs hundreds of rounds, the test a few seconds of them.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from meshcore.storage.catalogue import CatalogueStore
from tests.e2e.programs import catalogue_writer

FLOWS = 150
LONGEST = 0.5  # seconds between opening and the kill
START_TIMEOUT = 30.0


def run(path: Path, seconds: float, seed: int) -> int:
    """Kill, look, and go on from there, for so long; tells how often. AssertionError: see there."""
    rng = random.Random(seed)
    ends = time.monotonic() + seconds
    kills = flushed = flushes = 0
    while time.monotonic() < ends:
        # A tenth is killed while it opens, or creates, the file.
        delay = None if rng.random() < 0.1 else LONGEST * rng.random() ** 2
        last = _write_until_killed(path, delay, rng)
        flushes += last > 0
        flushed = max(flushed, last)
        kills += 1
        flushed = look(path, flushed, f"kill {kills} of seed {seed}")
        if kills % 10 == 0:  # and from nothing again
            for each in path.parent.glob(path.name + "*"):
                each.unlink()
            flushed = 0
    assert flushes > kills // 4, f"only {flushes} of {kills} writers came to flush anything"
    return kills


def _write_until_killed(path: Path, delay: float | None, rng: random.Random) -> int:
    """Start the writer, kill it so long after it has opened the file: the last it had flushed."""
    program = catalogue_writer.__file__
    with subprocess.Popen(
        [sys.executable, program, str(path), str(FLOWS)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if delay is None:
            time.sleep(rng.random() * 0.2)
        else:
            assert process.stdout.readline() == "open\n"
            time.sleep(delay)
        process.kill()
        lines = process.stdout.read().split("\n")[:-1]
    numbers = [int(line) for line in lines if line != "open"]
    return max(numbers, default=0)


def look(path: Path, flushed: int, when: str) -> int:
    """The generation that the file holds, which must be whole and not before `flushed`."""
    complaints: list[str] = []
    store = CatalogueStore(path, on_failure=complaints.append)
    found = {each.put.origin: each for each in store.load()}
    store.close()
    assert not complaints, (when, complaints)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], when
        orphans = "SELECT count(*) FROM flow WHERE origin NOT IN (SELECT number FROM origin)"
        assert database.execute(orphans).fetchone() == (0,), when
    if catalogue_writer.ORIGIN not in found:
        assert not flushed, f"{when}: generation {flushed} was flushed, and nothing is there"
        assert not found, when
        return 0
    put, flows = found.pop(catalogue_writer.ORIGIN)
    generation = put.version
    assert generation >= flushed, f"{when}: {flushed} was flushed, {generation} is there"
    wanted = {f"u{number}" for number in range(FLOWS)} | {f"once-{generation}"}
    assert {stored.flow.url for stored in flows} == wanted, when
    assert {stored.flow.name for stored in flows} == {str(generation)}, when
    assert {stored.version for stored in flows} == {generation}, when
    passing = {f"passing-{generation - ago}" for ago in (0, 1) if generation - ago > 0}
    assert {origin.node for origin in found} == passing, when
    assert all(len(each.flows) == 1 for each in found.values()), when
    return generation
