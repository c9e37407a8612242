"""The catalogue that is made up, and that each filter finds what it is said to mean."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks import made_up_flows
from benchmarks.subjects import catalogue_store
from meshcore.protocol.catalogue import records

RECORDS = 1500


def test_the_same_records_are_made_up_again_and_keep_the_limits() -> None:
    made = list(made_up_flows.put_flows(RECORDS))
    assert made == list(made_up_flows.put_flows(RECORDS))
    assert len({(each.origin, each.flow.url) for each in made}) == RECORDS
    known = {put.origin for put in made_up_flows.put_origins(RECORDS)}
    assert {each.origin for each in made} == known
    for each in made:
        assert len(each.flow.url) <= records.URL_MAX
        assert len(each.flow.name) <= records.NAME_MAX
        assert len(each.flow.description) <= records.DESCRIPTION_MAX
        assert len(each.flow.tags) <= records.TAGS_MAX


def test_every_filter_is_searched_and_finds_what_it_means(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    asyncio.run(catalogue_store.fill(path, RECORDS))
    registry = catalogue_store.Registry(path, RECORDS)
    try:
        filters = list(catalogue_store.FILTERS)
        measured = asyncio.run(registry.searches(filters))
        assert measured["filtered"] == registry.plainly(filters)
        assert sum(0 < found < RECORDS for found in measured["filtered"].values()) > 10
        assert {len(times) for times in measured["first"].values()} == {len(catalogue_store.ORDERS)}
    finally:
        registry.store.close()
