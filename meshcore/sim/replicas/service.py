"""The service that the simulated replicas run: a counter that remembers what it did."""

from __future__ import annotations

from meshcore.sim.replicas.history import OPERATIONS, READ


class Counter:
    """Its state is plain; `drawn` depends on the clock and the random numbers of its calls."""

    def __init__(self) -> None:
        self.value = 0
        self.order: list[str] = []
        self.drawn = 0

    def run(self, request: bytes, time: float, seed: int) -> bytes:
        """Do what a request says, and answer `index,value`."""
        name, operation, argument = request.decode().split(",")
        if operation != READ:
            self.value = OPERATIONS[operation](self.value, int(argument))
            self.order.append(name)
            self.drawn = (self.drawn * 31 + seed + int(time * 1e6)) % (2**61 - 1)
        return f"{len(self.order)},{self.value}".encode()

    def capture(self) -> bytes:
        return f"{self.value};{self.drawn};{','.join(self.order)}".encode()

    def restore(self, state: bytes | None) -> None:
        if state is None:
            self.value, self.drawn, self.order = 0, 0, []
            return
        value, drawn, order = state.decode().split(";")
        self.value, self.drawn = int(value), int(drawn)
        self.order = order.split(",") if order else []


def request(name: str, operation: str, argument: int) -> bytes:
    return f"{name},{operation},{argument}".encode()


def answer(data: bytes) -> tuple[int, int]:
    index, value = data.decode().split(",")
    return int(index), int(value)
