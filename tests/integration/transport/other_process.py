"""A node's transport in a process of its own: echoes, and prints where it listens.

Run as `python -m tests.integration.transport.other_process URL`.
"""

from __future__ import annotations

import asyncio
import sys

from tests.integration.transport.peers import Peer


async def main(url: str) -> None:
    async with Peer(echo=True) as peer:
        print(peer.transport.listen(url), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
