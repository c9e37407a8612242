"""POST and DELETE: programs that register, registries that exchange, and what is wrong there."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from meshcore.errors import BadPayloadError
from meshcore.protocol.catalogue.records import Flow
from tests.unit.web.fakes import FakeSite, client_of, site

URL = "https://ocr.example/"
MESSAGE = {"url": "http://other.example:8080", "organization": "b", "feed": True, "nodes": []}


def send(
    made: FakeSite, path: str, json: Any = None, *, method: str = "POST", **more: Any
) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client_of(made) as client:
            content = {} if json is None else {"json": json}
            return await client.request(method, path, **content, **more)

    return asyncio.run(ask())


def messages(made: FakeSite, flows: Any, **more: Any) -> list[str]:
    response = send(made, "/register", {"url": URL, "flows": flows, **more})
    assert response.status_code == 200, response.text
    return response.json()["message"]


# -- register --------------------------------------------------------------------------------------


def test_a_program_registers_and_is_told_who_this_is_and_what_came_of_it() -> None:
    made = site()
    flow = {"url": "https://ocr.example/run", "name": "ocr", "tags": ["text", "gpu"]}
    body = {"url": URL, "organization": "acme", "flows": [flow], "ttl": 60}
    answer = send(made, "/register", body).json()
    assert answer.pop("message") == [
        "registered node https://ocr.example/ (first visit)",
        "received 1 flows, registered 1 flows",
    ]
    assert answer == {**answer, "node_id": "alpha", "registry": True}
    assert set(answer) == set(made.catalogue.about())
    made_of_it = Flow("https://ocr.example/run", "ocr", tags=("gpu", "text"))
    assert made.catalogue.registered == [(URL, "acme", [made_of_it], 60.0)]


def test_a_second_visit_tells_when_the_first_one_was() -> None:
    made = site()
    assert messages(made, [])[0] == f"registered node {URL} (first visit)"
    assert messages(made, [])[0] == (
        f"registered node {URL} (seen previously 2026-05-28T20:26:40.250000Z)"
    )


def test_flows_may_be_an_object_by_url() -> None:
    made = site()
    flows = {"https://a.example/1": {"name": "one"}, "https://a.example/2": {}}
    assert messages(made, flows)[1:] == ["received 2 flows, registered 2 flows"]
    assert [flow.url for flow in made.catalogue.registered[0][2]] == list(flows)


def test_each_flow_that_cannot_be_used_has_a_message_and_the_rest_is_registered() -> None:
    made = site()
    flows = [
        {"url": "https://a.example/1", "name": "first"},
        {"url": "https://a.example/1", "name": "last"},
        {"url": "javascript:alert(1)"},
        {"url": "https://a.example/2", "name": 5},
        {"url": "https://a.example/3", "descripton": "typo"},
        "https://a.example/4",
    ]
    received, *each = messages(made, flows)[1:]
    assert received == "received 6 flows, registered 2 flows"
    assert [text.partition(" ")[0].rstrip(":") for text in each] == [
        f"flows[{number}]" for number in (1, 2, 3, 4, 5)
    ]
    assert "duplicate of https://a.example/1: the last one counts" in each[0]
    assert "refused: url" in each[1]
    assert "refused: name = 5" in each[2]
    assert "did you mean description?; left out" in each[3]
    assert "refused" in each[4]
    assert [flow.name for flow in made.catalogue.registered[0][2]] == ["last", ""]


def test_an_entry_that_stands_under_another_url_is_refused() -> None:
    flows = {"https://a.example/1": {"url": "https://a.example/2"}}
    received, refused = messages(site(), flows)[1:]
    assert received == "received 1 flows, registered 0 flows"
    assert refused.startswith('flows["https://a.example/1"] refused: url')


def test_a_registration_that_says_no_ttl_has_five_minutes() -> None:
    made = site()
    messages(made, [])
    assert made.catalogue.registered[0][3] == 300.0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": None}, "url"),
        ({"url": ""}, "url"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "https://user:secret@a.example/"}, "url"),
        ({"url": "x" * 3000}, "url"),
        ({"organization": 5}, "organization"),
        ({"organization": "x" * 65}, "organization"),
        ({"organization": "two\nlines"}, "organization"),
        ({"flows": None}, "flows"),
        ({"flows": "https://a.example/"}, "flows"),
        ({"flows": [{}] * 10_001}, "flows"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": 604_801}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"ttl": "60"}, "ttl"),
        ({"ttl": True}, "ttl"),
    ],
)
def test_what_is_wrong_with_a_registration_names_the_field(
    changes: dict[str, Any], field: str
) -> None:
    made = site()
    response = send(made, "/register", {"url": URL, "flows": [], **changes})
    assert response.status_code == 422
    said = response.json()["error"]
    assert said["field"].partition(".")[0] == field
    assert said["message"].startswith(field)
    assert "secret" not in response.text
    assert made.catalogue.registered == []


@pytest.mark.parametrize("missing", ["url", "flows"])
def test_what_is_missing_is_named(missing: str) -> None:
    body = {"url": URL, "flows": []}
    del body[missing]
    response = send(site(), "/register", body)
    assert (response.status_code, response.json()["error"]["field"]) == (422, missing)


# -- exchange --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["connect", "update"])
def test_a_registry_exchanges(kind: str) -> None:
    made = site()
    response = send(made, f"/{kind}", MESSAGE)
    assert response.status_code == 200
    assert response.json()["nodes"] == []
    assert made.catalogue.exchanged == [(kind, {"mesh": "", "life": 0, **MESSAGE})]


def test_a_registry_disconnects() -> None:
    made = site()
    where = {"params": {"url": MESSAGE["url"]}}
    assert send(made, "/connect", method="DELETE", **where).status_code == 200
    [(kind, said)] = made.catalogue.exchanged
    assert (kind, said["url"], said["nodes"]) == ("disconnect", MESSAGE["url"], [])
    response = send(made, "/connect", method="DELETE")
    assert (response.status_code, response.json()["error"]["field"]) == (422, "url")


def test_what_the_catalogue_refuses_names_the_field() -> None:
    made = site()
    made.catalogue.failure = BadPayloadError("nodes[3].flows must have versions that rise")
    response = send(made, "/update", MESSAGE)
    assert response.status_code == 409
    assert response.json()["error"] == {
        "name": "BadPayloadError",
        "message": "nodes[3].flows must have versions that rise",
        "field": "nodes[3].flows",
    }


NODE = {
    "mesh": "far",
    "node": "n",
    "organization": "",
    "incarnation": 7.0,
    "version": 3,
    "complete": True,
    "alive": True,
}


def test_whole_numbers_may_be_written_with_a_point_and_unknown_fields_are_passed_over() -> None:
    made = site()
    response = send(made, "/update", {**MESSAGE, "nodes": [{**NODE, "more": 1}], "later": 2})
    assert response.status_code == 200, response.text
    [entry] = made.catalogue.exchanged[0][1]["nodes"]
    assert (entry["incarnation"], type(entry["incarnation"])) == (7, int)
    assert "more" not in entry


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "ftp://x/"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://user:secret@x/"}, "url"),
        ({"url": "http://x/?y=1"}, "url"),
        ({"url": None}, "url"),
        ({"feed": "yes"}, "feed"),
        ({"life": -1}, "life"),
        ({"life": 1.5}, "life"),
        ({"life": True}, "life"),
        ({"nodes": {}}, "nodes"),
        ({"nodes": [5]}, "nodes[0]"),
        ({"nodes": [{**NODE, "version": 2**63}]}, "nodes[0].version"),
        ({"nodes": [{**NODE, "node": ""}]}, "nodes[0].node"),
        ({"nodes": [NODE, {**NODE, "age": "x"}]}, "nodes[1].age"),
        ({"nodes": [{**NODE, "alive": 1}]}, "nodes[0].alive"),
        ({"nodes": [{**NODE, "flows": [{}]}]}, "nodes[0].flows[0].url"),
    ],
)
def test_what_is_wrong_with_a_message_names_the_field(changes: dict[str, Any], field: str) -> None:
    made = site()
    response = send(made, "/connect", {**MESSAGE, **changes})
    assert (response.status_code, response.json()["error"]["field"]) == (422, field)
    assert "secret" not in response.text
    assert made.catalogue.exchanged == []


def test_a_slash_at_the_end_makes_no_other_registry() -> None:
    made = site()
    for end in ("", "/"):
        send(made, "/connect", {**MESSAGE, "url": "http://other.example:8080/a" + end})
    assert {said["url"] for _, said in made.catalogue.exchanged} == {"http://other.example:8080/a"}


@pytest.mark.parametrize("path", ["/register", "/connect", "/update"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1,", b"\xff\xfe", b"nul", b"[" * 100_000, b"1" * 10_000, b'{"url": NaN,}'],
)
def test_what_is_no_json_is_refused(path: str, body: bytes) -> None:
    more = {"content": body, "headers": {"Content-Type": "application/json"}}
    response = send(site(), path, **more)
    assert response.status_code in (400, 422)
    assert response.json()["error"]["field"] == "body"


@pytest.mark.parametrize("path", ["/connect", "/update"])
@pytest.mark.parametrize("body", [b"[]", b"5", b'"text"', b"null"])
def test_a_message_is_an_object(path: str, body: bytes) -> None:
    response = send(site(), path, content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["field"]) == (422, "body")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/register", {"url": URL, "flows": []}),
        ("POST", "/connect", MESSAGE),
        ("POST", "/update", MESSAGE),
        ("DELETE", f"/connect?url={URL}", None),
    ],
)
def test_a_plain_node_is_no_registry(method: str, path: str, body: Any) -> None:
    made = site(registry=False)
    response = send(made, path, body, method=method)
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "this node is no registry"
    assert (made.catalogue.registered, made.catalogue.exchanged) == ([], [])


def test_half_a_character_in_a_body_is_no_reason_to_fail() -> None:
    body = b'{"url": "https://a.example/\\ud83d", "flows": [{"url": "https://a/\\ud83d"}]}'
    response = send(site(), "/register", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    ok = b'{"url": "https://a.example/", "flows": [{"url": "https://a/\\ud83d"}, 5]}'
    response = send(site(), "/register", content=ok, headers={"Content-Type": "application/json"})
    assert "registered 0 flows" in response.json()["message"][1]
