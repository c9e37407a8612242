"""Send one piece of work and print its responses until the last; then the program ends.

python examples/until_eof.py URL RECIPIENT DIRECTIVE [PAYLOAD]
"""

import asyncio
import json
import sys

from meshcore import Config, Controller

url, recipient, directive, *payload = sys.argv[1:]
controller = Controller(Config())
controller.add_peer(url)
ended = asyncio.Event()


def print_response(message):
    if message.error is not None:
        print("failed:", message.error, flush=True)
    elif message.payload:
        print(message.header.serial, message.payload.readall().decode(), flush=True)
    if message.header.eof:
        print("eof, code", message.header.code, flush=True)
        ended.set()


async def app():
    await controller.wait_for(recipient)
    await controller.send(
        payload=json.loads(payload[0]) if payload else None,
        recipient=recipient,
        directive=directive,
        response_handler=print_response,
    )
    await ended.wait()
    return "done"


print(controller.run(app))  # ends when app returns
