"""`bin/soak http [EXAMPLES] [SEED]`: nodes against their OpenAPI document, and fuzzed queries.

A registry, a registry with a token and a plain node, each with every check of schemathesis.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from meshcore import Config, Node
from meshcore.plugins import demo
from meshcore.runtime import loop as event_loop
from tests.integration.web import described, fuzzed

EXAMPLES = 500  # of each operation
KINDS: dict[str, dict[str, Any]] = {
    "registry": {"registry": True},
    "registry with a token": {"registry": True, "http_token": "s3cret"},
    "plain node": {},
}


def main(arguments: list[str]) -> int:
    numbers = [int(argument) for argument in arguments]
    examples = numbers[0] if numbers else EXAMPLES
    seed = numbers[1] if len(numbers) > 1 else random.SystemRandom().randrange(10_000)
    failed = 0
    for kind, settings in KINDS.items():
        begin = time.monotonic()
        code, report = event_loop.run(_check(settings, examples, seed))
        failed += code != 0
        if code:
            print(report, flush=True)
        took = f"{time.monotonic() - begin:.0f} s"
        print(f"{kind}, seed {seed}: {described.summary(report)} ({took})", flush=True)
    try:
        print(f"queries: {fuzzed.run(20 * examples)} asked, each answered", flush=True)
    except AssertionError as error:
        failed += 1
        print(f"queries: FAILED: {error}", flush=True)
    return 1 if failed else 0


async def _check(settings: dict[str, Any], examples: int, seed: int) -> tuple[int, str]:
    node = Node(Config(node_id="alpha", http="127.0.0.1:0", **settings))
    node.add_plugin(demo)
    with tempfile.TemporaryDirectory() as directory:
        async with node:
            described.call_nobody(node)
            return await described.check(
                node.http_url or "",
                examples=examples,
                seed=seed,
                directory=Path(directory),
                token=settings.get("http_token"),
            )
