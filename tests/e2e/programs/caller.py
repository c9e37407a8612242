"""A controller that keeps work going at gamma, until it is killed: caller.py PEER-URL."""

from __future__ import annotations

import sys

from meshcore import Config, Controller

controller = Controller(Config(node_id="caller", peers=[sys.argv[1]]))


async def main() -> None:
    print("ready", flush=True)
    await controller.call("gamma", "demo:echo", 1)
    print("answered", flush=True)
    await controller.call("gamma", "demo:sleep", 60, timeout=60)


if __name__ == "__main__":
    controller.run(main)
