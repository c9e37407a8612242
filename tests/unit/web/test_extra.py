"""Where the extra is missing, and what the web part has to know of the parts beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from meshcore.errors import ConfigError
from meshcore.storage import columns
from meshcore.storage.query import QUERY_MAX, parse
from meshcore.web import filters, open_web, page, reading
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
