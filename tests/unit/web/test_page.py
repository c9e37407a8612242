"""The page as HTML: everything told by others is text, links lead to the same page, changed."""

from __future__ import annotations

import asyncio
import html
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from meshcore.web.assets import Assets
from meshcore.web.page import View, ago
from tests.unit.web.fakes import FakeSite, client_of, item, site


class Document(HTMLParser):
    """Every element with its attributes, and the text."""

    VOID = ("meta", "link", "input", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], "not closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def links(self) -> list[str]:
        return [each.get("href") or "" for tag, each in self.elements if tag == "a"]


def page(made: FakeSite, path: str = "/flows", *, status: int = 200) -> Document:
    async def ask() -> httpx.Response:
        async with client_of(made) as client:
            return await client.get(path, headers={"Accept": "text/html"})

    response = asyncio.run(ask())
    assert response.status_code == status
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return Document(response.text)


def asked(link: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}


def view(**found: Any) -> View:
    page = {"q": "", "by": "", "p": 0, "pp": 10, "filtered": 100, "items": [1] * 10, **found}
    return View(page)


# -- what is shown ---------------------------------------------------------------------------------

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}'


def test_what_others_tell_is_text_everywhere() -> None:
    texts = ("name", "description", "author", "organization", "node", "registry", "status", "kind")
    made = site([item(1, tags=[EVIL], **dict.fromkeys(texts, EVIL))])
    found = page(made, "/flows?" + str(httpx.QueryParams(q='"><script>', by="name")))
    scripts = [each for tag, each in found.elements if tag == "script"]
    assert [each["src"] for each in scripts] == [Assets().url("page.js")]
    assert not [tag for tag, _ in found.elements if tag == "img" and _.get("src") == "x"]
    assert not [each for _, each in found.elements if any(name.startswith("on") for name in each)]
    assert page(made).text.count("{{ 7 * 7 }}") >= len(texts)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", " javascript:1", "file:///x", "mesh://a/b:c"]
)
def test_only_http_urls_become_links(url: str) -> None:
    found = page(site([item(1, url=url)]))
    assert url not in found.links()
    assert url.strip() in found.text


def test_an_http_url_is_a_link_that_tells_nothing_of_this_page() -> None:
    found = page(site([item(1)]))
    [link] = [each for tag, each in found.elements if each.get("href") == item(1)["url"]]
    assert link["rel"] == "noopener noreferrer nofollow"


def test_nothing_is_inline_so_that_the_policy_can_forbid_it() -> None:
    for path in ("/flows", "/flows?q=nothing", "/nothing"):
        found = page(site([item(1)]), path, status=404 if path == "/nothing" else 200)
        assert not [each for _, each in found.elements if "style" in each]
        assert not [tag for tag, each in found.elements if tag == "style"]
        assert not [each for tag, each in found.elements if tag == "script" and "src" not in each]


def test_an_item_shows_all_that_is_known_of_it() -> None:
    more = {"registry": "https://far.example/", "status": "offline"}
    text = page(site([item(1, **more)])).text
    for part in ("flow 001", "Does thing number 1.", "demo", "odd", "acme", "Ada", "beta"):
        assert part in text
    for part in ("over far.example", "offline heard just now", "1 min ago since 1 d ago"):
        assert part in text


def test_a_plain_node_says_so_and_has_no_times() -> None:
    plain = item(1, created=None, modified=None, heartbeat=None)
    text = page(site([plain], registry=False)).text
    assert "no registry" in text
    assert "None" not in text


def test_why_a_query_was_taken_as_words_is_shown() -> None:
    assert "Taken as plain words. a bracket is not closed" in page(site(), "/flows?q=(x").text


# -- empty states ----------------------------------------------------------------------------------


def test_an_empty_catalogue_says_how_to_fill_it() -> None:
    assert "meshctl run --flows" in page(site()).text


def test_a_query_that_finds_nothing_leads_back() -> None:
    found = page(site([item(1)]), "/flows?q=absent&by=url")
    assert "None of 1 entry fits absent" in found.text
    assert "/flows?by=url" in found.links()


def test_a_page_that_there_is_not_leads_to_the_first() -> None:
    found = page(site([item(1)]), "/flows?p=7&q=flow")
    assert "There is no page 8" in found.text
    assert "/flows?q=flow" in found.links()


@pytest.mark.parametrize("question", ["p=x", "by=nam", "pp=0"])
def test_what_is_wrong_is_a_page_too(question: str) -> None:
    found = page(site(), f"/flows?{question}", status=422)
    assert question.partition("=")[0] + ": " in found.text


# -- links -----------------------------------------------------------------------------------------


def test_a_head_sorts_and_turns_around() -> None:
    first = dict(view().heads())
    assert first["flow"][0] == {
        **first["flow"][0],
        "way": "ascending",
        "link": "/flows?by=name%3Ad",
    }
    assert asked(first["modified"][0]["link"]) == {"by": "modified"}
    again = dict(view(by="modified:d,name", q="x", p=3).heads())["modified"][0]
    assert again["way"] == "descending"
    assert asked(again["link"]) == {"by": "modified", "q": "x"}  # from the first page


def test_a_custom_order_stays_in_the_list() -> None:
    assert view(by="node,name:d").sorts()[0] == ("node,name:d", "node,name:d")
    assert sum(1 for value, _ in view(by="url").sorts() if value == "url") == 1


@pytest.mark.parametrize(
    ("p", "pages", "expected"),
    [
        (0, 1, [0]),
        (0, 3, [0, 1, 2]),
        (0, 10, [0, 1, 2, None, 9]),
        (5, 10, [0, None, 3, 4, 5, 6, 7, None, 9]),
        (9, 10, [0, None, 7, 8, 9]),
        (3, 7, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_pages_around_this_one_are_offered(p: int, pages: int, expected: list[int | None]) -> None:
    assert view(p=p, filtered=pages * 10).around() == expected


def test_pages_keep_query_order_and_size() -> None:
    made = site([item(number) for number in range(95)])
    found = page(made, "/flows?q=flow&by=url:d&pp=20&p=1")
    [following] = [each for tag, each in found.elements if each.get("rel") == "next"]
    assert asked(following["href"] or "") == {"q": "flow", "by": "url:d", "pp": "20", "p": "2"}
    assert "21–40 of 95" in found.text


def test_a_tag_filters_and_filters_no_more() -> None:
    rows = view(q="words").tags({"gpu": 3, "nlp": 5})
    assert [row["name"] for row in rows] == ["nlp", "gpu"]
    assert asked(rows[1]["link"])["q"] == '(words) & @tag("gpu")'
    on = view(q='(words) & @tag("gpu")').tags({"gpu": 3, "nlp": 5})
    assert (on[0]["name"], on[0]["on"], asked(on[0]["link"])["q"]) == ("gpu", True, "words")
    assert len(view().tags({f"t{number}": number for number in range(100)})) == 24


def test_a_query_that_does_not_parse_is_not_built_upon() -> None:
    broken = view(q="a & (b", reason="not closed")
    assert asked(broken.tagged("gpu"))["q"] == '@tag("gpu")'
    assert broken.active() == []


def test_filters_that_stand_can_be_taken_away() -> None:
    active = view(q='x & node == "beta"').active()
    assert [(term, asked(link)) for term, link in active] == [('node == "beta"', {"q": "x"})]


def test_every_link_of_a_page_leads_somewhere() -> None:
    made = site([item(number) for number in range(30)])
    found = page(made, "/flows?q=flow&pp=5")
    ours = {link for link in found.links() if link.startswith("/")}
    assert len(ours) > 20

    async def follow() -> list[str]:
        async with client_of(made) as client:
            answers = [(link, await client.get(link)) for link in sorted(ours)]
        return [link for link, answer in answers if answer.status_code != 200]

    assert asyncio.run(follow()) == []


# -- small things ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (-5, "just now"),
        (4.9, "just now"),
        (59, "59 s ago"),
        (119, "1 min ago"),
        (7199, "1 h ago"),
        (90_000_000, "1,041 d ago"),
    ],
)
def test_ages_are_short(age: float, text: str) -> None:
    assert ago(1000.0, 1000.0 + age) == text
    assert ago(None, 5.0) == "–"


def test_files_of_the_page_are_kept_by_browsers_until_they_change() -> None:
    async def ask(path: str, **headers: str) -> httpx.Response:
        async with client_of(site()) as client:
            return await client.get(path, headers=headers)

    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        response = asyncio.run(ask(Assets().url(name)))
        assert response.headers["content-type"].startswith(kind)
        assert "immutable" in response.headers["cache-control"]
        again = asyncio.run(ask(f"/static/{name}", **{"If-None-Match": response.headers["etag"]}))
        assert (again.status_code, again.content) == (304, b"")


def test_the_files_of_the_page_name_nothing_elsewhere() -> None:
    found = page(site([item(1)]))
    for _, each in found.elements:
        for name in ("src", "href", "action"):
            value = each.get(name) or "/"
            assert value.startswith(("/", "#")) or value == item(1)["url"]
    for name, content in Assets()._content.items():
        text = content.replace(b'xmlns="http://www.w3.org/2000/svg"', b"")
        assert not re.search(rb"https?:|url\(|@import|fetch|eval", text), name


def test_the_search_box_holds_the_query() -> None:
    found = page(site([item(1)]), "/flows?q=" + httpx.QueryParams(q='a "b"')["q"])
    [box] = [each for tag, each in found.elements if each.get("id") == "q"]
    assert html.unescape(box["value"] or "") == 'a "b"'
