"""Where the extra is missing, and what the web part has to know of the parts beside it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from meshcore.errors import ConfigError
from meshcore.storage import columns
from meshcore.storage.query import QUERY_MAX, parse
from meshcore.web import (
    connections,
    filters,
    guard,
    open_web,
    page,
    partners,
    reading,
    server,
    shapes,
)
from meshcore.web.shapes import Item
from tests.unit.web.fakes import site

TEMPLATES = Path(page.__file__).parent / "templates"


@pytest.mark.parametrize("missing", ["fastapi", "httpx", "jinja2", "uvicorn"])
def test_what_is_missing_is_named_with_what_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # importing it fails from now on
    with pytest.raises(ConfigError) as caught:
        open_web(site())
    text = str(caught.value)
    assert missing in text
    assert text.endswith("pip install 'meshcore-runtime[web]'")


def test_the_columns_are_those_of_the_catalogue() -> None:
    assert set(Item.model_fields) == set(columns.COLUMNS)
    assert set(page.COLUMNS) == set(columns.COLUMNS)
    sorts = {column for _, heads in page.HEADS for _, column in heads}
    assert sorts <= set(columns.COLUMNS)
    assert columns.BY_MAX == reading.BY_MAX
    assert f'maxlength="{QUERY_MAX}"' in (TEMPLATES / "flows.html").read_text()


@pytest.mark.parametrize("query", [query for query, _ in page.EXAMPLES])
def test_every_example_is_a_query(query: str) -> None:
    assert parse(query).reason is None


ODD = ('a "quoted" tag', "back\\slash", "(brackets) & more | not", "ü 😀", "'", "@tag")


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("before", ["", "two words", 'name ~ "x" | "y z"'])
def test_what_a_click_builds_is_a_query(text: str, before: str) -> None:
    built = filters.with_term(before, filters.tag(text))
    built = filters.with_term(built, filters.equal("node", text))
    found = parse(built)
    assert found.reason is None, built
    assert repr(text) in repr(found.node)


def test_the_bounds_of_the_manual_are_those_of_the_code() -> None:
    mebi, kibi = 1024 * 1024, 1024
    manual = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", manual.partition("## Bounds")[2], re.M))
    answer = guard.BODY_TIMEOUT + guard.ANSWER_TIMEOUT
    assert rows["connections"].startswith(f"{connections.CONNECTIONS_MAX} ")
    assert rows["the head of a request"] == (
        f"{connections.HEAD_BYTES_MAX // kibi} KiB, {connections.HEAD_TIMEOUT:g} s"
    )
    assert rows["a body"] == (
        f"{guard.BODY_MAX // mebi} MiB, {guard.BODY_TIMEOUT:g} s;"
        f" {guard.BODIES_MAX // mebi} MiB of all together"
    )
    assert rows["an answer"].startswith(f"{answer:g} s to make, {connections.WRITE_TIMEOUT:g} s ")
    assert rows["a connection between requests"] == f"{connections.IDLE_TIMEOUT} s"
    assert rows["flows of one registration"] == f"{shapes.REGISTERED_MAX:,}"
    assert rows["an answer of another registry"] == (
        f"{partners.ANSWER_MAX // mebi} MiB, {partners.CARRY_TIMEOUT:g} s"
    )
    assert f"have {server.CLOSE_TIMEOUT:g} s." in manual
    assert f"(1 to {shapes.TTL_MAX:,.0f}; left out, {shapes.TTL:g})" in manual
