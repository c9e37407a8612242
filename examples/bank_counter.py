"""A counter that outlives its machines: three replicas, calls that have one effect each.

In three terminals, from this directory, with `export PYTHONPATH=.` in each:

    meshctl run --id a --listen tcp://127.0.0.1:7001 \
        --service bank=bank_counter:Counter,replication=passive,replicas=3
    meshctl run --id b --peer tcp://127.0.0.1:7001 \
        --service bank=bank_counter:Counter,replication=passive,replicas=3
    meshctl run --id c --peer tcp://127.0.0.1:7001 \
        --service bank=bank_counter:Counter,replication=passive,replicas=3

and then `python bank_counter.py tcp://127.0.0.1:7001`, while you kill one of them.
"""

from __future__ import annotations

import asyncio
import sys

from meshcore import Config, Controller, RPCError, Service, service

MODULUS = 1_000_003  # the value stays small


class Counter(Service):
    """Counts its effects, and holds a value: an answer is both, after the call."""

    async def init(self) -> None:
        self.value = 0
        self.order: list[str] = []  # the calls that had an effect: only a test needs this

    @service
    async def add(self, number: int, call: str = "") -> list[int]:
        """Add a number."""
        return self._done((self.value + number) % MODULUS, call)

    @service
    async def minus(self, number: int, call: str = "") -> list[int]:
        """Take a number away."""
        return self._done((self.value - number) % MODULUS, call)

    @service
    async def multiply(self, number: int, call: str = "") -> list[int]:
        """Multiply: in another order than the additions the value is another one."""
        return self._done((self.value * number) % MODULUS, call)

    @service(readonly=True)
    async def read(self, number: int = 0, call: str = "") -> list[int]:
        """How many effects there were, and the value."""
        return [len(self.order), self.value]

    @service(readonly=True)
    async def history(self) -> list[str]:
        """The calls that had an effect, in order."""
        return self.order

    def _done(self, value: int, call: str) -> list[int]:
        self.value = value
        self.order.append(call)
        return [len(self.order), self.value]

    def get_checkpoint(self) -> list[object]:
        return [self.value, self.order]

    def put_checkpoint(self, state: list[object]) -> None:
        value, order = state
        assert isinstance(value, int)
        assert isinstance(order, list)
        self.value, self.order = value, list(order)


async def main(url: str) -> None:
    """Add one every tenth of a second, whoever lives."""
    async with Controller(Config(peers=[url])) as controller:
        bank = controller.group("bank", timeout=10.0).proxy(Counter)
        while True:
            try:
                count, value = await bank.add(1)
                print(f"{count} effects, the value is {value}")
            except RPCError as error:
                print(f"no answer: {error}")
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7001"))
