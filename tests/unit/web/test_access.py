"""Who may ask, who may change: hosts, origins, tokens, this machine and proxies."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from meshcore.urls import parse_url
from meshcore.web.access import Access
from meshcore.web.refusals import Refusal
from tests.unit.web.fakes import FakeSite, Settings, client_of, item, site

BODY = {"url": "https://a.example/", "flows": []}
TOKEN = "s3cret-tökén"


def change(made: FakeSite, *, client: str = "127.0.0.1", **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client_of(made, client=client) as http:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return await http.post("/register", json=BODY, headers=sent)

    return asyncio.run(ask())


# -- hosts -----------------------------------------------------------------------------------------


def hosts_of(http: str, **settings: Any) -> Access:
    return Access(Settings(http=http, **settings), parse_url(http, key="http"))


@pytest.mark.parametrize(
    ("http", "host"),
    [
        ("127.0.0.1:80", "127.0.0.1"),
        ("127.0.0.1:80", "127.0.0.1:8080"),
        ("127.0.0.1:80", "localhost:9"),
        ("127.0.0.1:80", "LocalHost."),
        ("127.0.0.1:80", "[::1]:80"),
        ("box.example:80", "box.example"),
        ("10.0.0.7:80", "10.0.0.7:80"),
        ("[fd00::7]:80", "[fd00::7]:80"),
        ("0.0.0.0:80", "10.1.2.3"),
        ("*:80", "[fd00::7]"),
    ],
)
def test_a_request_may_name_the_bound_host_and_loopback(http: str, host: str) -> None:
    hosts_of(http).check_host([host])


@pytest.mark.parametrize(
    ("http", "hosts"),
    [
        ("127.0.0.1:80", ["evil.example"]),
        ("127.0.0.1:80", ["127.0.0.1.evil.example"]),
        ("127.0.0.1:80", ["10.0.0.7"]),
        ("127.0.0.1:80", [""]),
        ("127.0.0.1:80", []),
        ("127.0.0.1:80", ["localhost", "localhost"]),
        ("0.0.0.0:80", ["evil.example"]),
        ("box.example:80", ["sub.box.example"]),
    ],
)
def test_any_other_host_is_refused(http: str, hosts: list[str]) -> None:
    with pytest.raises(Refusal, match="Host") as caught:
        hosts_of(http).check_host(hosts)
    assert (caught.value.status, caught.value.field) == (400, "Host")


def test_the_host_of_http_url_is_ours() -> None:
    hosts_of("127.0.0.1:80", http_url="https://mesh.example/x").check_host(["mesh.example"])


def test_the_host_is_checked_before_anything_is_answered() -> None:
    async def ask(host: str) -> httpx.Response:
        async with client_of(site([item(1)])) as http:
            return await http.get("/flows", headers={"Host": host})

    assert asyncio.run(ask("localhost:8080")).status_code == 200
    response = asyncio.run(ask("rebound.example"))
    assert response.status_code == 400
    assert response.json()["error"]["field"] == "Host"


# -- origins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_origin_changes_nothing(headers: dict[str, str]) -> None:
    for settings in ({}, {"insecure": True}, {"http_token": TOKEN}):
        made = site(**settings)
        response = change(made, Authorization="Bearer x", **headers)
        assert response.status_code == 403
        assert response.json()["error"]["field"] == "Origin"
        assert made.catalogue.registered == []


def test_our_own_origin_may_change() -> None:
    headers = {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}
    assert change(site(), **headers).status_code == 200


def test_no_other_origin_is_ever_told_that_it_may_read() -> None:
    async def ask() -> httpx.Response:
        async with client_of(site()) as http:
            return await http.get("/", headers={"Origin": "https://evil.example"})

    headers = asyncio.run(ask()).headers
    assert not [name for name in headers if name.startswith("access-control")]


# -- this machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_without_a_token_programs_on_this_machine_may_change(client: str) -> None:
    assert change(site(), client=client).status_code == 200


@pytest.mark.parametrize("client", ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "", "nonsense"])
def test_without_a_token_nobody_else_may(client: str) -> None:
    made = site()
    response = change(made, client=client)
    assert response.status_code == 403
    assert response.json()["error"]["name"] == "AccessDeniedError"
    assert "http_token" in response.json()["error"]["message"]
    assert made.catalogue.registered == []
    assert change(site(insecure=True), client=client).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_what_came_through_a_proxy_is_not_from_this_machine(header: str) -> None:
    assert change(site(), **{header: "127.0.0.1"}).status_code == 403


# -- tokens ----------------------------------------------------------------------------------------


def bearer(token: str, scheme: str = "Bearer") -> dict[str, Any]:
    return {"Authorization": f"{scheme} {token}".encode()}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_whoever_shows_the_token_may_change_from_anywhere(scheme: str) -> None:
    made = site(http_token=TOKEN)
    assert change(made, client="10.0.0.7", **bearer(TOKEN, scheme)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("wrong"),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer(TOKEN, "Basic"),
        {"Authorization": TOKEN.encode()},
        {"Authorization": b"\xff\xfe"},
    ],
)
def test_with_a_token_nobody_may_without_it(headers: dict[str, Any]) -> None:
    for settings in ({}, {"insecure": True}):
        made = site(http_token=TOKEN, **settings)
        response = change(made, **headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.json()["error"]["field"] == "Authorization"
        assert TOKEN not in response.text
        assert made.catalogue.registered == []


def test_the_whole_catalogue_is_for_those_who_may_change() -> None:
    async def ask(made: FakeSite, client: str, headers: dict[str, Any]) -> int:
        async with client_of(made, client=client, headers=headers) as http:
            assert (await http.get("/flows")).status_code == 200  # anybody may
            return (await http.get("/catalogue")).status_code

    assert asyncio.run(ask(site(), "127.0.0.1", {})) == 200
    assert asyncio.run(ask(site(), "10.0.0.7", {})) == 403
    assert asyncio.run(ask(site(http_token=TOKEN), "127.0.0.1", {})) == 401
    assert asyncio.run(ask(site(http_token=TOKEN), "10.0.0.7", bearer(TOKEN))) == 200
