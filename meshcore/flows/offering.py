"""What one node offers out of its sources: read at its start, and again whenever that is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from meshcore.flows.loading import Loaded, load_aside
from meshcore.flows.sources import Source
from meshcore.protocol.catalogue.records import Flow

_LOG = logging.getLogger("meshcore.flows")


class Offering:
    """The flows of one node, as `node.flows`.

    Attributes:
        sources: files, `module:callable` and callables; at first those of the setting `flows`.
            Callables may be appended before the node starts.
        loaded: what they held when they were read last, and what was wrong in them.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        offer: Callable[[list[Flow]], None],
        node_id: str = "",
    ) -> None:
        self.sources: list[Source] = list(sources)
        self.loaded = Loaded([], [])
        self._offer = offer
        self._node_id = node_id
        self._reading = asyncio.Lock()

    async def load(self, sources: Iterable[Source] | None = None) -> Loaded:
        """Read the sources, and offer what they hold now in place of what they held before.

        Files are read anew and functions called anew; the code of a module is not loaded again.
        What is wrong is logged, one by one, and never raised. Calls that overlap take turns, so
        that what was read last is what stands.

        Args:
            sources: these from now on; None: the same as before.
        """
        async with self._reading:
            if sources is not None:
                self.sources = list(sources)
            loaded = await load_aside(self.sources)
            for problem in loaded.problems:
                _LOG.warning("%s: %s", self._node_id, problem)
            self._offer(loaded.flows)
            self.loaded = loaded
            return loaded
