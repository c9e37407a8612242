"""What a node offers out of its sources, read again while it runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from meshcore.flows import Offering
from meshcore.protocol.catalogue.records import Flow

A, B = "https://a.example/", "https://b.example/"


def test_reading_again_replaces_what_was_offered(caplog: pytest.LogCaptureFixture) -> None:
    offered: list[list[Flow]] = []
    answers: list[Any] = [[{"url": A}], [{"url": B}, {"name": "without"}]]

    async def scenario() -> None:
        offering = Offering([], offer=offered.append, node_id="alpha")
        offering.sources.append(lambda: answers.pop(0))
        assert (await offering.load()).flows == [Flow(A)]
        loaded = await offering.load()
        assert offering.loaded is loaded
        assert len(loaded.problems) == 1
        await offering.load([])
        assert offering.sources == []

    with caplog.at_level(logging.WARNING, "meshcore.flows"):
        asyncio.run(scenario())
    assert offered == [[Flow(A)], [Flow(B)], []]
    [record] = caplog.records
    assert record.getMessage().startswith("alpha: ")
    assert record.getMessage().endswith("[1]: url is missing")


def test_readings_that_overlap_take_turns_and_the_last_one_stands() -> None:
    offered: list[list[Flow]] = []
    go_on = threading.Event()

    def slow() -> Any:
        assert go_on.wait(20)
        return [{"url": A}]

    async def scenario() -> None:
        offering = Offering([], offer=offered.append)
        first = asyncio.ensure_future(offering.load([slow]))
        second = asyncio.ensure_future(offering.load([lambda: [{"url": B}]]))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, second)
        assert offering.loaded.flows == [Flow(B)]

    asyncio.run(scenario())
    assert offered == [[Flow(A)], [Flow(B)]]
