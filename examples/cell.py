"""A cell that knows who is alive, who is master and what time it is; it prints what changes.

Start some in terminals of their own: `python cell.py NAME LISTEN_URL [PEER_URL...]`.
"""

import sys
from datetime import UTC, datetime

from meshcore import Change, Config, LinkEvent, MasterEvent, Node, Overflow, StatusEvent

name, listen, *peers = sys.argv[1:]
node = Node(Config(node_id=name, listen=[listen], peers=peers))


async def main() -> None:
    async for event in node.connectivity.watch():
        time = datetime.fromtimestamp(node.connectivity.now(), UTC)
        print(f"{time:%H:%M:%S.%f}  {in_words(event)}", flush=True)


def in_words(event: Change | StatusEvent | LinkEvent | MasterEvent | Overflow) -> str:
    match event:
        case Change(added=added, removed=removed):
            return " ".join([*(f"+{one}" for one in added), *(f"-{one}" for one in removed)])
        case StatusEvent():
            return f"{event.node_id} is {event.new.name} {event.reason}".rstrip()
        case LinkEvent():
            return f"link to {event.node_id} {'up' if event.up else 'down'} {event.reason}".rstrip()
        case MasterEvent():
            mine = node.connectivity.is_master
            return f"master is {event.new}{' (this node)' if mine else ''}"
        case Overflow():
            return f"{event.dropped} events were missed; {len(event.nodes)} nodes are known"


if __name__ == "__main__":
    node.run(main)
