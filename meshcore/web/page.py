"""The catalogue as a page for people, whole without a script.

Everything on it that was told by others is text: the templates escape it, and only http and https
URLs become links.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from starlette.responses import HTMLResponse

from meshcore.web import filters
from meshcore.web.assets import Assets
from meshcore.web.interface import Site
from meshcore.web.refusals import Refusal
from meshcore.web.values import iso

PP = 10
TAGS_SHOWN = 24
PAGE_SIZES = (10, 25, 50, 100)
_PIECES_AT_ONCE = 1000  # of a template, a few milliseconds
_DEFAULTS = {"q": "", "by": "", "p": 0, "pp": PP}
# The columns of the table: a title, then what it can be sorted by, the main one first.
HEADS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("flow", (("Name", "name"), ("Kind", "kind"), ("URL", "url"))),
    ("tags", (("Tags", "tags"),)),
    ("organization", (("Organization", "organization"), ("Author", "author"))),
    ("node", (("Node", "node"), ("Registry", "registry"))),
    ("status", (("Status", "status"), ("Heard", "heartbeat"))),
    ("modified", (("Modified", "modified"), ("Created", "created"))),
)
COLUMNS = (
    "name description author organization tags node mesh registry url status kind"
    " created modified heartbeat"
).split()
EXAMPLES = (
    ("two words", "all of the words, anywhere"),
    ('"exactly this"', "a phrase, anywhere"),
    ('@tag("gpu")', "has the tag"),
    ('organization == "acme"', "equal; also != < > <= >="),
    ('name ~ "ocr"', "contains, whatever its case"),
    ('node in ("alpha", "beta")', "one of these"),
    ('modified > "2026-01-01"', "times as dates"),
    ('@tag("gpu") & not (status == "offline" | author == "")', "together: & | not ( )"),
)


class Pages:
    """Renders the pages of one node."""

    def __init__(self, site: Site, assets: Assets) -> None:
        self._site = site
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(asset=assets.url, iso=iso)
        self._environment.filters.update(ago=ago, href=href, host=host, count=count)

    async def flows(self, found: Mapping[str, Any]) -> HTMLResponse:
        """A page of what a query has found."""
        counts = await self._site.catalogue.counts()
        view = View(found)
        text = await self._render(
            "flows.html",
            about=self._site.catalogue.about(),
            counts=counts,
            found={"reason": None, **found},
            items=found["items"],
            view=view,
            tags=view.tags(counts["tags"]),
            examples=EXAMPLES,
            columns=COLUMNS,
        )
        return HTMLResponse(text, headers={"Vary": "Accept"})

    async def error(self, refusal: Refusal) -> HTMLResponse:
        """What went wrong, for somebody with a browser."""
        about = self._site.catalogue.about()
        text = await self._render("error.html", about=about, refusal=refusal)
        return HTMLResponse(text, status_code=refusal.status, headers=refusal.headers)

    async def _render(self, name: str, **values: Any) -> str:
        pieces: list[str] = []
        for piece in self._environment.get_template(name).generate(values):
            pieces.append(piece)
            if len(pieces) % _PIECES_AT_ONCE == 0:
                await asyncio.sleep(0)  # a long page does not hold up the loop of the node
        return "".join(pieces)


class View:
    """The links of one page: each leads to the same page with one thing changed."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._asked: dict[str, Any] = {name: found[name] for name in ("q", "by", "p", "pp")}
        self.query: str = found["q"]
        self.pages = max(1, -(-found["filtered"] // found["pp"]))
        self.page: int = found["p"]
        self.first = found["p"] * found["pp"] + 1 if found["items"] else 0
        self.last = found["p"] * found["pp"] + len(found["items"])
        # A query that was taken as plain words cannot be built upon.
        self._base = "" if found.get("reason") else self.query
        column, _, way = found["by"].partition(",")[0].partition(":")
        self.sorted_by = column.strip() or "name"
        self.descending = way.strip() == "d"

    def link(self, **changes: Any) -> str:
        """With these parameters instead; another question begins at its first page."""
        asked = {**self._asked, "p": 0, **changes}
        said = {name: value for name, value in asked.items() if value != _DEFAULTS[name]}
        return f"/flows?{urlencode(said)}" if said else "/flows"

    def heads(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The columns, each with what it can be sorted by."""
        return [(name, [self._head(*each) for each in sorts]) for name, sorts in HEADS]

    def _head(self, title: str, column: str) -> dict[str, Any]:
        active = column == self.sorted_by
        turn = active and not self.descending
        way = ("descending" if self.descending else "ascending") if active else ""
        link = self.link(by=f"{column}:d" if turn else column)
        return {"title": title, "column": column, "way": way, "link": link}

    def sorts(self) -> list[tuple[str, str]]:
        """What can be chosen where there are no heads: `by`, and what it is called."""
        by = self._asked["by"]
        options = [("", "Name")]
        for _, sorts in HEADS:
            for title, column in sorts:
                options += [(column, f"{title} ↑"), (f"{column}:d", f"{title} ↓")]
        known = any(by == value for value, _ in options)
        return options if known else [(by, by), *options]

    def sizes(self) -> list[int]:
        return sorted({*PAGE_SIZES, self._asked["pp"]})

    def tagged(self, name: str) -> str:
        return self.link(q=filters.with_term(self._base, filters.tag(name)))

    def equal(self, column: str, value: str) -> str:
        return self.link(q=filters.with_term(self._base, filters.equal(column, value)))

    def active(self) -> list[tuple[str, str]]:
        """The terms of the query that a click takes away, and the link that does."""
        return [
            (term, self.link(q=filters.without_term(self._base, term)))
            for term in filters.terms(self._base)
            if filters.is_simple(term)
        ]

    def tags(self, counts: Mapping[str, int]) -> list[dict[str, Any]]:
        """The most used tags, those in the query first."""
        standing = filters.terms(self._base)
        rows: list[dict[str, Any]] = []
        for name, number in counts.items():
            term = filters.tag(name)
            on = term in standing
            link = self.link(q=filters.without_term(self._base, term)) if on else self.tagged(name)
            rows.append({"name": name, "count": number, "on": on, "link": link})
        return sorted(rows, key=lambda row: (not row["on"], -row["count"], row["name"]))[
            :TAGS_SHOWN
        ]

    @staticmethod
    def organizations(counts: Mapping[str, Any]) -> int:
        return sum(1 for name in counts["organization"] if name)

    def around(self) -> list[int | None]:
        """The pages to offer, from 0; None stands for a gap."""
        near = range(self.page - 2, self.page + 3)
        wanted = sorted({0, self.pages - 1, *near} & set(range(self.pages)))
        found: list[int | None] = []
        for page in wanted:
            if found and page - (found[-1] or 0) > 1:
                found.append(None)
            found.append(page)
        return found


def ago(seconds: float | None, now: float) -> str:
    """`5 min ago`, for what happened at `seconds`."""
    if seconds is None:
        return "–"
    age = max(0.0, now - seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age >= size:
            return f"{age // size:,.0f} {unit} ago"
    return "just now" if age < 5 else f"{age:.0f} s ago"


def href(url: str) -> str | None:
    """Where a link may lead: http and https alone."""
    return url if url.lower().startswith(("http://", "https://")) else None


def host(name: str) -> str:
    """The host and path of a URL; what is none stays as it is."""
    return name.removeprefix("https://").removeprefix("http://").rstrip("/")


def count(number: int) -> str:
    return f"{number:,}"
