"""A controller that takes work from somewhere else, here from its standard input, for ever.

    python examples/relay_work.py LISTEN-URL

Each line is `RECIPIENT DIRECTIVE [JSON]`. What the task raises, `run` raises.
"""

import asyncio
import json
import sys
import threading

from meshcore import Config, Controller, MeshError

controller = Controller(Config(node_id="controller"))
controller.enable_server(sys.argv[1:2])
lines: asyncio.Queue[str] = asyncio.Queue(100)


def print_response(message):
    about = message.header.in_response_to
    if message.error is not None:
        print(about, "failed:", message.error, flush=True)
    elif message.payload:
        print(about, message.payload.value, flush=True)


async def relay_work():
    print("listening on", controller.endpoints[0], flush=True)
    threading.Thread(target=read_lines, args=(asyncio.get_running_loop(),), daemon=True).start()
    while line := await lines.get():
        recipient, directive, *payload = line.split(maxsplit=2)
        try:
            await controller.wait_for(recipient, timeout=10)
            message_id = await controller.send(
                payload=json.loads(payload[0]) if payload else None,
                recipient=recipient,
                directive=directive,
                response_handler=print_response,
            )
        except MeshError as error:
            print("not sent:", error, flush=True)
        else:
            print(message_id, "sent to", recipient, flush=True)


def read_lines(loop):
    for line in sys.stdin:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()


controller.create_task(relay_work)
controller.run()
