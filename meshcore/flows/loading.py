"""Several sources together: each flow once, and everything that is wrong, one by one.

The last definition of a URL wins, within a source and between them; that it replaces another one
is reported. `load_aside` reads beside the event loop, which goes on meanwhile: a source is a file
on a disk, or code of the application that may wait for whatever it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable
from typing import NamedTuple

from meshcore.flows.entry import FlowError, flow_from
from meshcore.flows.sources import Problem, Said, Source, name_of, read
from meshcore.protocol.catalogue.records import Flow

SOURCE_TIMEOUT = 30.0  # seconds for one source; one that takes longer is left out
PROBLEMS_MAX = 1000  # that are told one by one


class Loaded(NamedTuple):
    """The flows, each URL once, in the order of their first definitions; and what was wrong."""

    flows: list[Flow]
    problems: list[Problem]


def load(sources: Iterable[Source]) -> Loaded:
    """Read all sources, one after the other. Never raises because of what they hold.

    Args:
        sources: files (`flows.toml`, `flows.yaml`), `module:callable`, or callables; what they may
            say is in `sources.py`.
    """
    return _merged(read(source) for source in sources)


async def load_aside(sources: Iterable[Source], *, timeout: float = SOURCE_TIMEOUT) -> Loaded:
    """`load` beside the event loop; a source that takes longer than `timeout` is a Problem."""
    return _merged([await _read_aside(source, timeout) for source in sources])


async def _read_aside(source: Source, timeout: float) -> Said:
    """A daemon thread: nothing can interrupt the code of a source, and nobody waits for it then."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Said] = loop.create_future()

    def settle(said: Said) -> None:
        if not done.done():
            done.set_result(said)

    def work() -> None:
        said = read(source)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, said)

    threading.Thread(target=work, name="flows", daemon=True).start()
    try:
        return await asyncio.wait_for(done, timeout)
    except TimeoutError:
        late = Said(name_of(source))
        late.report(f"took longer than {timeout:g} s; it is left out")
        return late


def _merged(all_said: Iterable[Said]) -> Loaded:
    flows: dict[str, Flow] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    for said in all_said:
        problems += said.problems
        for where, key, entry in said.entries:
            try:
                flow = flow_from(entry, url=key)
            except FlowError as error:
                problems.append(Problem(said.source, where, str(error)))
                continue
            standing = ": ".join(part for part in (said.source, where) if part)
            before = places.get(flow.url)
            if before is not None:
                reason = f"{flow.url} is defined once more; it replaces {before}"
                problems.append(Problem(said.source, where, reason))
            flows[flow.url], places[flow.url] = flow, standing
    if len(problems) > PROBLEMS_MAX:
        more = len(problems) - PROBLEMS_MAX
        problems[PROBLEMS_MAX:] = [Problem("", "", f"and {more:,} more")]
    return Loaded(list(flows.values()), problems)
