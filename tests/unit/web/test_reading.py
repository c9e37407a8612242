"""GET: the shapes of the answers, times as texts, JSON or HTML, and what is wrong in a question."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from meshcore.errors import (
    BusyError,
    ClosedError,
    DeadlineExceededError,
    MeshError,
    UnreachableError,
)
from tests.unit.web import fakes
from tests.unit.web.fakes import FakeSite, client_of, item, site

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def get(made: FakeSite, path: str, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client_of(made) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def error(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert list(body) == ["error"]
    return body["error"]


# -- who this is -----------------------------------------------------------------------------------


def test_the_root_tells_who_this_is_with_times_in_utc() -> None:
    response = get(site(), "/")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "url": fakes.BASE,
        "node_id": "alpha",
        "organization": "acme",
        "registry": True,
        "feed": True,
        "connection": {"https://other.example/": "2026-05-28T20:26:37.250000Z", "beta": None},
        "started_at": "2026-05-28T18:26:40.250000Z",
        "idle": True,
        "now": "2026-05-28T20:26:40.250000Z",
        "version": "0.1.0",
    }


def test_the_map_tells_who_tells_us_and_whom_we_tell() -> None:
    made = site()
    answer = get(made, "/map").json()
    assert answer.pop("providers") == ["beta"]
    assert answer.pop("registers") == ["https://other.example/"]
    assert answer == get(made, "/").json()


def test_counts_and_health() -> None:
    made = site([item(1), item(2)])
    assert get(made, "/counts").json() == {
        "total": 2,
        "organization": {"acme": 2},
        "node": {"beta": 2},
        "tags": {"demo": 2, "odd": 1, "even": 1},
    }
    health = {"status": "ok", "node_id": "alpha", "version": "0.1.0"}
    assert get(made, "/health").json() == health


@pytest.mark.parametrize(
    ("accept", "to_the_page"),
    [
        (BROWSER, True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html, application/json", False),  # no preference: a program
        ("text/html;q=nonsense", False),
        ("text/*", True),
        ("text/html;q=0.2, */*;q=0.1", True),
    ],
)
def test_a_browser_gets_the_page(accept: str, to_the_page: bool) -> None:
    response = get(site(), "/", Accept=accept)
    kind = "text/html; charset=utf-8" if to_the_page else "application/json"
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert response.headers["vary"] == "Accept"
    for format, forced in (("json", "application/json"), ("html", "text/html; charset=utf-8")):
        response = get(site(), f"/?format={format}", Accept=accept)
        assert response.headers["content-type"] == forced


# -- flows -----------------------------------------------------------------------------------------


def test_an_item_has_its_times_as_texts() -> None:
    answer = get(site([item(1)]), "/flows").json()
    assert {key: value for key, value in answer.items() if key != "items"} == {
        "total": 1,
        "filtered": 1,
        "p": 0,
        "pp": 10,
        "by": "",
        "q": "",
    }
    assert answer["items"] == [
        {
            **item(1),
            "created": "2026-05-27T19:26:40.250000Z",
            "modified": "2026-05-28T20:25:40.250000Z",
            "heartbeat": "2026-05-28T20:26:38.250000Z",
        }
    ]


def test_times_of_a_plain_node_are_null() -> None:
    plain = item(1, created=None, modified=None, heartbeat=None)
    [found] = get(site([plain], registry=False), "/flows").json()["items"]
    assert found == plain


def test_a_question_reaches_the_catalogue_as_it_was_asked() -> None:
    made = site([item(number) for number in range(30)])
    query = '@tag("even") & ö'
    response = get(made, str(httpx.URL("/flows", params={"q": query, "by": "url:d", "p": 2})))
    assert response.json()["q"] == query
    assert made.catalogue.asked == [{"q": query, "by": "url:d", "p": 2, "pp": 10}]


def test_empty_parameters_stand_for_their_defaults() -> None:
    made = site()
    assert get(made, "/flows?q=&by=&p=&pp=&format=").status_code == 200
    assert made.catalogue.asked == [{"q": "", "by": "", "p": 0, "pp": 10}]


def test_why_a_query_was_taken_as_plain_words_is_told() -> None:
    assert get(site([item(1)]), "/flows?q=(flow").json()["reason"] == "a bracket is not closed"


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ("p=-1", "p"),
        ("p=x", "p"),
        ("p=1.5", "p"),
        ("p=99999999999999999999", "p"),
        ("pp=0", "pp"),
        ("pp=1001", "pp"),
        ("pp=%00", "pp"),
        ("by=nam", "by"),
        ("format=xml", "format"),
    ],
)
def test_what_is_wrong_with_a_question_names_the_field(question: str, field: str) -> None:
    response = get(site([item(1)]), f"/flows?{question}")
    assert response.status_code == 422
    said = error(response)
    assert (said["name"], said["field"]) == ("BadPayloadError", field)
    assert said["message"].startswith(f"{field}: ")


def test_text_that_utf8_cannot_hold_is_answered_all_the_same() -> None:
    response = get(site([item(1, name="half \ud83d of it")]), "/flows")
    assert response.json()["items"][0]["name"] == "half \ud83d of it"


# -- the whole catalogue ---------------------------------------------------------------------------


def test_the_whole_catalogue_is_a_list_of_records_with_versions() -> None:
    made = site([item(number) for number in range(1001)])
    answer = get(made, "/catalogue").json()
    assert len(answer) == 1001
    assert answer[7]["url"] == "https://flows.example/7"
    assert answer[7]["version"] == 7
    assert answer[7]["created"] == "2026-05-27T19:26:40.250000Z"
    assert get(site(), "/catalogue").json() == []


def test_a_plain_node_has_no_catalogue_to_give() -> None:
    response = get(site(registry=False), "/catalogue")
    assert response.status_code == 404
    assert error(response)["message"] == "this node is no registry"


@pytest.mark.parametrize(
    ("path", "turns_min"),
    [("/catalogue", 25), ("/flows?pp=1000&format=html", 20)],  # 200 records, 1,000 pieces a turn
)
def test_the_loop_is_not_held_up_by_a_long_answer(path: str, turns_min: int) -> None:
    async def turns() -> int:
        made = site([item(number) for number in range(5000)])
        count = 0

        async def tick() -> None:
            nonlocal count
            while True:
                count += 1
                await asyncio.sleep(0)

        async with client_of(made) as client:
            ticking = asyncio.create_task(tick())
            await client.get(path)
            ticking.cancel()
        return count

    assert asyncio.run(turns()) >= turns_min


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/flows", "GET, HEAD"),
        ("PUT", "/register", "POST"),
        ("GET", "/connect", "DELETE, POST"),
        ("OPTIONS", "/", "GET, HEAD"),
        ("BREW", "/", "GET, HEAD"),
    ],
)
def test_another_method_is_a_405_that_names_those_allowed(
    method: str, path: str, allow: str
) -> None:
    async def ask() -> httpx.Response:
        async with client_of(site()) as client:
            return await client.request(method, path)

    response = asyncio.run(ask())
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    assert allow in error(response)["message"]


@pytest.mark.parametrize("path", ["/nothing", "/flows/", "/static/none.css", "/static/..%2fapp.py"])
def test_what_is_not_there_is_a_404(path: str) -> None:
    response = get(site(), path)
    assert response.status_code == 404
    assert error(response)["name"] == "UnknownDirectiveError"


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (BusyError("too much"), 503),
        (ClosedError("alpha is not running"), 503),
        (DeadlineExceededError("late"), 504),
        (UnreachableError("away"), 502),
    ],
)
def test_an_error_of_meshcore_keeps_its_name(failure: MeshError, status: int) -> None:
    made = site()
    made.catalogue.failure = failure
    response = get(made, "/flows")
    assert response.status_code == status
    assert error(response) == {"name": type(failure).__name__, "message": str(failure)}


def test_a_mistake_of_ours_is_logged_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = site()
    made.catalogue.failure = RuntimeError("a secret detail")
    for accept in ("*/*", BROWSER):
        caplog.clear()
        response = get(made, "/counts", Accept=accept)
        assert response.status_code == 500
        assert "secret" not in response.text
        assert "a secret detail" in caplog.text
    assert error(get(made, "/counts"))["name"] == "InternalError"


def test_head_is_get_without_a_body() -> None:
    async def ask() -> httpx.Response:
        async with client_of(site([item(1)])) as client:
            return await client.head("/flows")

    response = asyncio.run(ask())
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 100
