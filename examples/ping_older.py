"""Ping a node with a handler that reads the shape of answers that older controllers knew.

python examples/ping_older.py URL RECIPIENT
"""

import json
import sys
from datetime import UTC, datetime

from meshcore import Config, Controller

url, recipient = sys.argv[1:]
controller = Controller(Config(peers=[url]))


def as_datetime(value):
    assert value["_type"] == "datetime.datetime"
    return datetime.fromtimestamp(value["value"], UTC)


def handle(text):
    answer = json.loads(text)
    sent, answered = as_datetime(answer["initial_time"]), as_datetime(answer["response_time"])
    print(f"{recipient} answered after {(answered - sent).total_seconds() * 1000:.1f} ms")
    for work in answer["active_work"]:
        print(f"it does {work['directive']} for {work['sender']} ({work['id']})")


async def app():
    await controller.wait_for(recipient)
    await controller.ping(recipient, response_handler=handle)


controller.run(app)
