"""A node that only dials, and yet is a full member: others send it work over the link that it made.

python examples/peer.py URL [ID]
"""

import sys
import time

from meshcore import Config, Node

node = Node(Config(node_id=sys.argv[2] if len(sys.argv) > 2 else "peer"))
node.add_peer(sys.argv[1])


@node.action("example:lines")
def lines(payload, context):
    """A plain function runs in a thread; what a generator yields streams back at once."""
    for number in range(payload):
        context.check_cancelled()
        yield f"line {number}"
        time.sleep(0.01)


node.run()
