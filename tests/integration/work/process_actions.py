"""Actions for the tests of processes: a spawned process imports them from here."""

from __future__ import annotations

import os
import signal
import sys
import time


def double(payload):
    return 2 * payload


def identify(payload, context):
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "message_id": context.message_id,
        "sender": context.sender,
        "attempt": context.attempt,
        "config": context.config,
        "remaining": context.remaining(),
    }


def fail(payload):
    raise ValueError(payload)


def give_set(payload):
    return {1}


def count(payload):
    yield from range(payload)


def endless(path):
    """Streams for ever; leaves a file behind when it is closed."""
    number = 0
    try:
        while True:
            yield number
            number += 1
    finally:
        with open(path, "w") as file:
            file.write(str(number))


def poll(path, context):
    """Runs until it is cancelled, and says so in a file."""
    with open(path + ".begun", "w"):
        pass
    while not context.cancelled:
        time.sleep(0.001)
    with open(path, "w") as file:
        file.write("cancelled")


def stuck(path):
    """Ignores its cancellation."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    while True:
        time.sleep(1)


def die(payload):
    os.kill(os.getpid(), payload)


def leave(payload):
    os._exit(payload)


def size_of(path):
    return path.stat().st_size


def path_of(payload):
    import pathlib

    return pathlib.Path(payload)


def speak(payload, context):
    print("on standard output")
    context.log.warning("seen %s", payload)
    return sys.stdin.read()


def signals(payload):
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
