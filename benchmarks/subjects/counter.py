"""The service that `bin/bench services` calls: a small state, a small answer."""

from __future__ import annotations

from meshcore import Service, service


class Counter(Service):
    async def init(self) -> None:
        self.value = 0

    @service
    async def add(self, number: int) -> int:
        self.value += number
        return self.value

    @service(readonly=True)
    async def read(self) -> int:
        return self.value

    def get_checkpoint(self) -> int:
        return self.value

    def put_checkpoint(self, state: int) -> None:
        self.value = state
