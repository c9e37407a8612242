"""The catalogue over HTTP as its users have it: real nodes, and requests such as curl makes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from typing import Any

import httpx

from tests.e2e.mesh_processes import NodeProcess, World, eventually

OUTSIDE = "https://ocr.example/"
FLOW = {"url": "https://ocr.example/run", "name": "ocr", "tags": ["text"]}
END_WITHIN = 10.0  # seconds


def http_of(node: NodeProcess) -> str:
    ready = next(line for line in node.lines if line["event"] == "ready")
    assert isinstance(ready["http"], str)
    return ready["http"]


async def listed(client: httpx.AsyncClient, url: str, **asked: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"{url}/flows", params={"pp": 100, **asked})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_what_every_node_offers_is_listed_by_the_registry_and_survives_its_restart() -> None:
    async def scenario() -> None:
        async with World() as world, httpx.AsyncClient(timeout=20) as client:
            registry = await world.start(
                "registry", "--registry", "--http", "127.0.0.1:0", "--organization", "acme",
                plugins=(),
            )  # fmt: skip
            plain = await world.start("plain", "--http", "127.0.0.1:0", peers=[registry])
            url = http_of(registry)

            async def all_there() -> bool:
                return len(await listed(client, url)) == 6  # the actions of the demo

            await eventually(all_there, 10)
            body = {"url": OUTSIDE, "organization": "acme", "flows": [FLOW]}
            answer = (await client.post(f"{url}/register", json=body)).json()
            assert answer["node_id"] == "registry"
            assert answer["message"] == [
                f"registered node {OUTSIDE} (first visit)",
                "received 1 flows, registered 1 flows",
            ]
            [before] = await listed(client, url, q='@tag("text")')
            assert (before["node"], before["status"]) == (OUTSIDE, "online")
            assert before["created"] == before["modified"]

            refused = await client.post(f"{http_of(plain)}/register", json=body)
            assert refused.status_code == 404
            assert refused.json()["error"]["message"] == "this node is no registry"
            [own, *_] = await listed(client, http_of(plain))
            assert (own["created"], own["modified"], own["heartbeat"]) == (None, None, None)

            assert (await registry.stop())[0] == 0
            await registry.start_again()
            url = http_of(registry)
            [restored] = await listed(client, url, q="ocr")
            assert restored["status"] == "stale"
            assert (restored["created"], restored["modified"]) == (
                before["created"], before["modified"],
            )  # fmt: skip
            answer = (await client.post(f"{url}/register", json=body)).json()
            assert answer["message"][0].startswith(f"registered node {OUTSIDE} (seen previously 20")
            [again] = await listed(client, url, q="ocr")
            assert (again["status"], again["created"]) == ("online", before["created"])

    asyncio.run(scenario())


def test_a_program_that_does_not_come_back_in_time_is_offline() -> None:
    async def scenario() -> None:
        async with World() as world, httpx.AsyncClient(timeout=20) as client:
            registry = await world.start("r", "--registry", "--http", "127.0.0.1:0", plugins=())
            url = http_of(registry)
            body = {"url": OUTSIDE, "flows": [FLOW], "ttl": 1}
            assert (await client.post(f"{url}/register", json=body)).status_code == 200

            async def is_offline() -> bool:
                return [item["status"] for item in await listed(client, url)] == ["offline"]

            await eventually(is_offline, 10)

    asyncio.run(scenario())


def test_a_token_is_needed_where_one_is_set() -> None:
    async def scenario() -> None:
        async with World() as world, httpx.AsyncClient(timeout=20) as client:
            world.environment["MESHCORE_HTTP_TOKEN"] = "s3cret"
            registry = await world.start("r", "--registry", "--http", "127.0.0.1:0", plugins=())
            url = http_of(registry)
            body = {"url": OUTSIDE, "flows": [FLOW]}
            assert (await client.post(f"{url}/register", json=body)).status_code == 401
            assert (await client.get(f"{url}/catalogue")).status_code == 401
            client.headers["Authorization"] = "Bearer s3cret"
            assert (await client.post(f"{url}/register", json=body)).status_code == 200
            [record] = (await client.get(f"{url}/catalogue")).json()
            assert (record["url"], record["deleted"], record["version"]) == (FLOW["url"], False, 1)
            assert "s3cret" not in registry.log.read_text()

    asyncio.run(scenario())


class ByHand:
    """A registry of another kind: it holds what it is told, and answers with how far it is."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[str, Any]] = {}
        self.flows: set[str] = set()
        self.asked: list[bytes] = []

    async def listen(self) -> asyncio.Server:
        listening = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        return listening

    def say(self, *nodes: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.url, "organization": "other", "feed": True, "nodes": list(nodes)}

    def hear(self, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Take the changes that go on from what is held; the heads of what is held then."""
        heads = []
        for node in nodes:
            key = (node["mesh"], node["node"])
            nothing = {**node, "incarnation": 0, "version": 0, "complete": True, "flows": None}
            head = self.held.get(key, nothing)
            if node["flows"] is not None and node["since"] in (0, head["version"]):
                self.flows |= {flow["url"] for flow in node["flows"] if not flow["deleted"]}
                self.held[key] = head = {**node, "since": 0, "flows": None}
            heads.append(head)
        return heads

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
        message = json.loads(await reader.readexactly(size))
        self.asked.append(head.partition(b" HTTP")[0])
        body = json.dumps(self.say(*self.hear(message["nodes"]))).encode()
        lines = ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", "", "")
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()
        writer.close()


def test_a_registry_elsewhere_takes_part_by_hand() -> None:
    """As a program of another kind would: connect, then hear of changes, then disconnect."""

    async def scenario() -> None:
        other = ByHand()
        async with World() as world, httpx.AsyncClient(timeout=20) as client:
            listening = await other.listen()
            registry = await world.start("r", "--registry", "--http", "127.0.0.1:0")
            url = http_of(registry)
            try:
                answer = await client.post(f"{url}/connect", json=other.say())
                assert answer.status_code == 200, answer.text
                other.hear(answer.json()["nodes"])
                assert "mesh://r/demo:echo" in other.flows  # all at once, in the answer
                about = (await client.get(f"{url}/")).json()
                assert list(about["connection"]) == [other.url]

                await client.post(f"{url}/register", json={"url": OUTSIDE, "flows": [FLOW]})
                await eventually(lambda: FLOW["url"] in other.flows, 10)
                assert set(other.asked) == {b"POST /update"}

                own = {"mesh": "far", "node": "n", "organization": "far", "incarnation": 1,
                       "version": 1, "complete": True, "alive": True,
                       "flows": [{"url": "https://far.example/", "name": "far", "author": "",
                                  "description": "", "tags": [], "version": 1, "deleted": False}]
                       }  # fmt: skip
                await client.post(f"{url}/update", json=other.say(own))
                [far] = await listed(client, url, q="far")
                assert (far["mesh"], far["node"], far["registry"]) == ("far", "n", other.url)

                where = {"url": other.url}
                assert (await client.delete(f"{url}/connect", params=where)).status_code == 200
                assert (await client.get(f"{url}/")).json()["connection"] == {}
            finally:
                listening.close()

    asyncio.run(scenario())


def test_an_offer_of_what_nobody_reaches_is_answered_at_once() -> None:
    """The caller never answers, and names nodes of third parties that do not either."""

    async def scenario() -> None:
        async with World() as world, httpx.AsyncClient(timeout=20) as client:
            registry = await world.start("r", "--registry", "--http", "127.0.0.1:0")
            url = http_of(registry)
            with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, no more
                mute = f"http://127.0.0.1:{silent.getsockname()[1]}"
                nodes = [
                    {"mesh": "far", "node": f"{mute}/{number}", "organization": "", "version": 1,
                     "incarnation": 1, "complete": True, "alive": True,
                     "flows": [{"url": f"{mute}/{number}/flow", "name": "third", "author": "",
                                "description": "", "tags": [], "version": 1, "deleted": False}]}
                    for number in range(50)
                ]  # fmt: skip
                offer = {"url": mute, "organization": "far", "feed": True, "nodes": nodes}
                start = time.monotonic()
                answer = await client.post(f"{url}/connect", json=offer)
                assert answer.status_code == 200, answer.text
                assert [node["node"] for node in answer.json()["nodes"]] == ["r"]
                assert len(await listed(client, url, q="third")) == 50
                # Whoever waited for one of them would have waited for seconds, once or fifty times.
                assert time.monotonic() - start < 2.0
                assert (await registry.status())["catalogue"]["origins"] == 51

    asyncio.run(scenario())


def test_an_address_in_use_ends_the_command_with_2() -> None:
    async def scenario() -> None:
        async with World() as world:
            first = await world.start("first", "--http", "127.0.0.1:0")
            address = http_of(first).removeprefix("http://")
            done = await world.meshctl("run", "--id", "second", "--http", address, "--json")
            assert done.code == 2
            text = done.lines[-1]["error"]["message"]
            assert text.startswith(f"http://{address}: address in use by another process")
            assert "--http 127.0.0.1:0" in text

    asyncio.run(scenario())


def test_the_end_of_a_node_does_not_wait_for_open_connections() -> None:
    async def scenario() -> None:
        async with World() as world:
            node = await world.start("alpha", "--http", "127.0.0.1:0")
            port = int(http_of(node).rpartition(":")[2])
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            idle[0][1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await idle[0][0].readline()).startswith(b"HTTP/1.1 200")
            begin = time.monotonic()
            node.signal(signal.SIGTERM)
            assert await node.ended() == 0
            assert time.monotonic() - begin < END_WITHIN
            assert "Traceback" not in node.log.read_text()
            for _, writer in idle:
                writer.close()

    asyncio.run(scenario())


def test_a_browser_gets_the_page_of_a_node() -> None:
    async def scenario() -> None:
        async with World() as world:
            node = await world.start("alpha", "--http", "127.0.0.1:0")
            async with httpx.AsyncClient(timeout=20) as client:
                page = await client.get(f"{http_of(node)}/", headers={"Accept": "text/html"})
            assert page.status_code == 200
            assert "<title>alpha · meshcore</title>" in page.text

    asyncio.run(scenario())
