"""A node that offers flows, out of a file and out of a function, and finds some of them again.

python examples/offers.py [URL]          default: tcp://127.0.0.1:7323
meshctl flows '@tag("gpu")'              from another terminal

The function alone: PYTHONPATH=examples meshctl run --flows offers:flows
"""

import sys
from pathlib import Path

from meshcore import Config, Flow, Node


def flows():
    """Tables, or Flow objects; called at the start, and again by `node.flows.load()`."""
    for place in ("north", "south"):
        yield {
            "url": f"https://{place}.example/archive",
            "name": f"Archive {place}",
            "tags": ["storage", place],
        }
    yield Flow("https://lab.example/manual", name="Manual", description="How to use all this.")


async def main():
    for problem in node.flows.loaded.problems:
        print("not offered as it stands:", problem)
    found = await node.catalogue.flows('@tag("storage") | gpu', by="name")
    for item in found["items"]:
        print(f"{item['name']}: {item['url']}")
    print(f"{found['filtered']} of {found['total']}; listening on {node.endpoints[0]}", flush=True)


if __name__ == "__main__":
    node = Node(Config(node_id="offers", organization="examples", registry=True))
    node.enable_server(sys.argv[1:] or ["tcp://127.0.0.1:7323"])
    node.flows.sources += [Path(__file__).with_suffix(".toml"), flows]
    node.create_task(main)
    node.run()  # until Ctrl-C or SIGTERM
