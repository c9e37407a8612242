"""The page in a real browser: Debian's chromium, driven by playwright.

Each test opens a page of a made-up catalogue. Whatever the console says beside what is expected, a
request that fails and a breach of the content policy fail it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from meshcore import Config, Node
from meshcore.plugins import demo
from meshcore.protocol.catalogue.records import Flow
from meshcore.runtime import loop as event_loop
from meshcore.web.server import WebServer
from tests.unit.web.fakes import FakeSite, item, site

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
).split()

pytestmark = [
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)"
    ),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield launched
        launched.close()


@contextmanager
def beside(
    start: Callable[[], Awaitable[str]], stop: Callable[[], Awaitable[None]]
) -> Iterator[str]:
    """What `start` gives, in a loop that runs in a thread of its own: playwright has this one."""
    up, ends, gave = threading.Event(), asyncio.Event(), list[Any]()

    async def serve() -> None:
        try:
            gave.append(asyncio.get_running_loop())
            gave.append(await start())
            up.set()
            await ends.wait()
            await stop()
        finally:
            up.set()

    thread = threading.Thread(target=lambda: event_loop.run(serve()))
    thread.start()
    try:
        assert up.wait(20)
        yield gave[1]
    finally:
        gave[0].call_soon_threadsafe(ends.set)
        thread.join()


@contextmanager
def serving(made: FakeSite) -> Iterator[str]:
    """The URL of a server with that catalogue."""
    made.config.http = "127.0.0.1:0"
    web = WebServer(made)

    async def start() -> str:
        await web.start()
        return web.url or ""

    with beside(start, web.stop) as url:
        yield url


class Visit:
    """A page at /flows, and what there was to complain about."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda said: self._complain(f"console: {said.text}"))
        page.on("pageerror", lambda error: self._complain(f"script: {error}"))
        page.on("dialog", lambda dialog: self._complain(f"dialog: {dialog.message}"))
        page.on("request", lambda asked: self._check(asked.url, url))
        page.goto("/flows")

    def _check(self, asked: str, url: str) -> None:
        if not asked.startswith(url):
            self._complain(f"asked elsewhere: {asked}")

    def _complain(self, text: str) -> None:
        self.complaints.append(text)


@contextmanager
def visiting(
    browser: Browser, made: FakeSite, *, width: int = 1280, **more: Any
) -> Iterator[Visit]:
    with serving(made) as url:
        viewport: Any = {"width": width, "height": 900}
        context = browser.new_context(base_url=url, viewport=viewport, **more)
        context.set_default_timeout(20_000)
        try:
            yield Visit(context.new_page(), url)
        finally:
            context.close()


@contextmanager
def looking(browser: Browser, made: FakeSite, **more: Any) -> Iterator[Page]:
    """A page at /flows; nothing may be wrong with it."""
    with visiting(browser, made, **more) as visit:
        yield visit.page
        assert visit.complaints == []


def scenario(browser: Browser, made: FakeSite, steps: Callable[[Page], None], **more: Any) -> None:
    with looking(browser, made, **more) as page:
        steps(page)


def many(count: int = 35) -> FakeSite:
    return site([item(number) for number in range(count)])


def asked(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def names(page: Page) -> list[str]:
    return page.locator("td.flow .name a, td.flow .name span").all_inner_texts()


# -- what people do --------------------------------------------------------------------------------


def test_search(browser: Browser) -> None:
    def steps(page: Page) -> None:
        page.keyboard.press("/")  # leads to the search box
        page.keyboard.type("007 flow")
        page.keyboard.press("Enter")
        expect(page.locator(".summary")).to_contain_text("2 found among 35")
        assert asked(page) == {"q": "007 flow"}
        assert page.input_value("#q") == "007 flow"

    made = site([item(number) for number in range(35)])
    made.catalogue.items[17]["description"] = "as 007"
    scenario(browser, made, steps)


def test_why_a_query_was_taken_as_words_is_shown(browser: Browser) -> None:
    def steps(page: Page) -> None:
        page.fill("#q", "(flow")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".notice")).to_contain_text("a bracket is not closed")

    scenario(browser, many(), steps)


def test_the_hint_has_examples_that_can_be_tried(browser: Browser) -> None:
    def steps(page: Page) -> None:
        page.click("summary")
        page.click('.hint >> text=@tag("gpu") >> nth=0')
        assert asked(page) == {"q": '@tag("gpu")'}
        expect(page.locator(".empty")).to_contain_text("Nothing found")

    scenario(browser, many(), steps)


def test_sort_by_the_heads_of_the_columns(browser: Browser) -> None:
    def steps(page: Page) -> None:
        assert names(page)[0] == "flow 000"
        head = page.locator("th.flow")
        assert head.get_attribute("aria-sort") == "ascending"
        head.get_by_text("Name").click()
        assert names(page)[0] == "flow 034"
        assert head.get_attribute("aria-sort") == "descending"
        head.get_by_text("Name").click()
        assert names(page)[0] == "flow 000"
        page.locator("th.modified").get_by_text("Modified").click()
        assert asked(page) == {"by": "modified"}
        assert page.locator("th[aria-sort]").count() == 1

    scenario(browser, many(), steps)


def test_page_by_page(browser: Browser) -> None:
    def steps(page: Page) -> None:
        pages = page.locator("nav.pages")
        pages.get_by_text("Next").click()
        assert names(page)[0] == "flow 010"
        pages.get_by_text("4", exact=True).click()
        assert names(page) == [f"flow {number:03}" for number in range(30, 35)]
        assert pages.locator("a", has_text="Next").count() == 0
        pages.get_by_text("Previous").click()
        assert asked(page) == {"p": "2"}
        page.select_option("select[name=pp]", "50")  # applies at once
        expect(page.locator(".summary")).to_contain_text("1–35 of 35")
        assert asked(page) == {"pp": "50"}
        assert pages.count() == 0

    scenario(browser, many(), steps)


def test_tags_filter_and_filter_no_more(browser: Browser) -> None:
    def steps(page: Page) -> None:
        page.fill("#q", "thing number")
        page.press("#q", "Enter")
        page.locator("td .tag", has_text="even").first.click()
        assert asked(page)["q"] == '(thing number) & @tag("even")'
        expect(page.locator(".summary")).to_contain_text("18 found among 35")
        page.locator(".cloud .tag.on", has_text="even").click()
        assert asked(page)["q"] == "thing number"
        page.locator("td.node a").first.click()
        page.locator(".filter", has_text='node == "beta"').click()
        assert asked(page)["q"] == "thing number"

    scenario(browser, many(), steps)


def test_an_empty_catalogue(browser: Browser) -> None:
    def steps(page: Page) -> None:
        expect(page.locator(".empty h2")).to_have_text("Nothing is offered yet")
        assert page.locator("table").count() == 0

    scenario(browser, site(), steps)


# -- any window ------------------------------------------------------------------------------------

LONG = {
    "name": "a" * 256,
    "description": "b" * 500,
    "author": "c" * 256,
    "organization": "d" * 64,
    "node": "https://" + "e" * 300 + ".example/",
    "registry": "https://" + "f" * 300 + ".example/",
    "url": "https://a.example/" + "g" * 1000,
    "tags": ["h" * 64, "i" * 64, *(f"tag{number}" for number in range(30))],
    "status": "offline",
}


@pytest.mark.parametrize("width", [320, 375, 768, 1024])
def test_no_window_is_too_narrow(browser: Browser, width: int) -> None:
    def steps(page: Page) -> None:
        for path in ("/flows", "/flows?q=nothing", "/flows?q=" + "x" * 300, "/flows?p=9"):
            page.goto(path)
            page.locator("summary").click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if width < 800:  # cards, sorted by a list
            page.goto("/flows")
            assert (
                not page.locator("thead").is_visible()
                or (page.locator("thead").bounding_box() or {"width": 0})["width"] <= 1
            )
            page.select_option("select[name=by]", "name:d")
            page.wait_for_url("**/flows?by=name*")
            assert names(page)[0] == "flow 004"

    made = site([item(number) for number in range(5)] + [item(9, **LONG)])
    scenario(browser, made, steps, width=width)


def test_what_is_shown_fits_into_the_window(browser: Browser) -> None:
    """No element reaches out of a narrow window, not even one that is clipped there."""

    def steps(page: Page) -> None:
        wide = page.evaluate(
            """() => [...document.querySelectorAll("main *")]
                .filter((each) => each.checkVisibility() && !each.closest("thead, .tag > *"))
                .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
                .map((each) => each.outerHTML.slice(0, 80))"""
        )
        assert wide == []

    scenario(browser, site([item(9, **LONG)]), steps, width=320)


def test_a_card_uses_the_room_that_it_has(browser: Browser) -> None:
    def steps(page: Page) -> None:
        for column in ("organization", "node", "status", "modified"):
            box = page.locator(f"tbody tr:first-child td.{column}").bounding_box()
            assert box is not None, column
            assert box["width"] > 120, column  # half of the card each

    scenario(browser, site([item(1)]), steps, width=390)


@pytest.mark.parametrize(("scheme", "light"), [("light", True), ("dark", False)])
def test_the_page_is_as_light_as_its_reader_likes(
    browser: Browser, scheme: str, light: bool
) -> None:
    def steps(page: Page) -> None:
        ground, text = page.evaluate(
            """() => { const style = getComputedStyle(document.body);
                       return [style.backgroundColor, style.color]; }"""
        )
        brightness = [sum(map(int, re.findall(r"\d+", each)[:3])) for each in (ground, text)]
        assert (brightness[0] > brightness[1]) is light
        assert abs(brightness[0] - brightness[1]) > 400  # of 765

    scenario(browser, many(1), steps, color_scheme=scheme)


def test_the_page_is_whole_without_a_script(browser: Browser) -> None:
    def steps(page: Page) -> None:
        page.fill("#q", "007")
        page.select_option("select[name=pp]", "25")
        page.get_by_role("button", name="Apply").click()
        assert asked(page)["q"] == "007"
        assert asked(page)["pp"] == "25"
        assert names(page) == ["flow 007"]

    scenario(browser, many(), steps, java_script_enabled=False)


# -- what others tell ------------------------------------------------------------------------------

EVIL = '"><img src=x onerror=alert(1)><script>alert(2)</script><a href=javascript:alert(3)>x</a>'


def test_nothing_that_others_tell_runs_or_loads(browser: Browser) -> None:
    def steps(page: Page) -> None:
        assert EVIL in (page.locator("td.flow").inner_text())
        for link in page.locator("td.flow a").all():
            pytest.fail(f"a link: {link.get_attribute('href')}")

    told = dict.fromkeys(("name", "description", "author", "organization", "node"), EVIL)
    scenario(browser, site([item(1, tags=[EVIL], url="javascript:alert(4)", **told)]), steps)


def test_the_policy_stops_what_would_get_through(browser: Browser) -> None:
    with visiting(browser, many(1)) as visit:
        visit.page.evaluate(
            """() => { const script = document.createElement("script");
                       script.textContent = "window.ran = true";
                       document.body.append(script); }"""
        )
        assert visit.page.evaluate("window.ran") is None
        assert "Content Security Policy" in " ".join(visit.complaints)


def test_times_are_told_in_the_words_of_the_reader(browser: Browser) -> None:
    def steps(page: Page) -> None:
        cell = page.locator("td.modified time").first
        assert cell.inner_text() == "1 min ago"
        assert cell.get_attribute("datetime") == "2026-05-28T20:25:40.250000Z"
        assert "2026" in (cell.get_attribute("title") or "")

    scenario(browser, site([item(1)]), steps)


def test_the_keyboard_reaches_everything(browser: Browser) -> None:
    def steps(page: Page) -> None:
        reached: Sequence[str] = []
        for _ in range(40):
            page.keyboard.press("Tab")
            what = page.evaluate("document.activeElement.outerHTML.slice(0, 60)")
            reached = [*reached, what]
        found = " ".join(reached)
        for part in ('class="skip"', 'id="q"', "<summary", 'class="tag', "by=name", "<select"):
            assert part in found, part

    scenario(browser, many(3), steps)


def test_a_real_registry(browser: Browser) -> None:
    node = Node(Config(node_id="alpha", organization="acme", registry=True, http="127.0.0.1:0"))
    node.add_plugin(demo)

    async def start() -> str:
        await node.start()
        for number in range(12):
            tags = ("gpu", "text") if number % 3 else ('odd "tag"',)
            node.catalogue.add(Flow(f"https://f.example/{number}", f"zz {number:02}", tags=tags))
        return node.http_url or ""

    with beside(start, node.stop) as url:
        context = browser.new_context(base_url=url)
        visit = Visit(context.new_page(), url)
        page = visit.page
        page.fill("#q", 'kind == "flow" & @tag("gpu")')
        page.press("#q", "Enter")
        expect(page.locator(".summary")).to_contain_text("8 found among 18")
        page.locator("th.flow").get_by_text("Name").click()
        assert names(page)[0] == "zz 11"
        page.locator(".cloud .tag", has_text="odd").click()
        expect(page.locator(".empty")).to_contain_text("Nothing found")
        page.locator(".filter", has_text="gpu").click()
        expect(page.locator(".summary")).to_contain_text("4 found among 18")
        page.fill("#q", "zz & (")
        page.press("#q", "Enter")
        expect(page.locator(".notice")).to_contain_text("Taken as plain words.")
        page.goto("/?format=html")
        expect(page.locator("td.status").first).to_contain_text("online")
        expect(page.locator("td.modified time").first).to_be_visible()
        assert visit.complaints == []
        context.close()
