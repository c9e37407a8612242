"""A node that others dial: it offers an action, and says who comes and goes.

python examples/listener.py [URL]          default: tcp://127.0.0.1:7323
"""

import sys

from meshcore import Config, Node

node = Node(Config(node_id="listener"))
node.enable_server(sys.argv[1:] or ["tcp://127.0.0.1:7323"])


@node.action("example:greet", description="Say hello")
async def greet(payload, context):
    return f"hello {payload}, says {node.node_id} to {context.sender}"


async def announce():
    print("listening on", node.endpoints[0], flush=True)


node.connectivity.on_link(
    lambda link: print(link.node_id, "joined" if link.up else f"left: {link.reason}", flush=True)
)
node.create_task(announce)
node.run()  # until Ctrl-C or SIGTERM
