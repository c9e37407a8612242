"""Flows over real processes: offered out of files, found by the command line, read again."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from tests.e2e.mesh_processes import NodeProcess, World, eventually

SOON = 15.0  # seconds; it takes one, on a machine that has nothing else to do

FILE = """
[[flows]]
url = "https://lab.example/resize"
name = "Resize"
description = "Makes images smaller"
tags = ["image", "cpu"]

[[flows]]
name = "without a url"

[[flows]]
url = "https://lab.example/resize"
name = "Resize again"
tags = ["image"]
"""
MODULE = """
def flows():
    yield {"url": "https://lab.example/depth", "name": "Depth", "tags": ["image", "gpu"]}
    raise OSError("no more")
"""


async def flows(world: World, *arguments: str, via: str = "beta") -> dict[str, Any]:
    done = await world.meshctl("flows", *arguments, "--via", via, "--json")
    assert done.code == 0, (done.out, done.err)
    return dict(done.json)


async def lists(world: World, query: str, names: list[str], *, via: str = "beta") -> None:
    """Returns when the answer to a query has exactly these names."""
    found: list[str] = []

    async def it_does() -> bool:
        page = await flows(world, query, "--by", "name", "--per-page", "100", via=via)
        found[:] = [item["name"] for item in page["items"]]
        return found == names

    await eventually(it_does, SOON, lambda: f"{query!r} lists {found}, not {names}", interval=0.1)


async def two(world: World) -> tuple[NodeProcess, NodeProcess]:
    """alpha, a registry without anything to offer, and beta, who offers and asks alpha."""
    (world.directory / "flows.toml").write_text(FILE)
    (world.directory / "of_mine.py").write_text(MODULE)
    world.environment["PYTHONPATH"] += f":{world.directory}"
    data = ("--data-dir", str(world.directory / "alpha"))
    alpha = await world.start("alpha", "--registry", "--organization", "hub", *data, plugins=())
    beta = await world.start(
        *("beta", "--flows", "flows.toml", "--flows", "of_mine:flows", "--organization", "lab"),
        peers=[alpha],
    )
    return alpha, beta


def test_what_files_and_functions_offer_is_found_from_anywhere() -> None:
    async def scenario() -> None:
        async with World() as world:
            _, beta = await two(world)
            told = await beta.line(lambda line: line.get("event") == "flows", SOON)
            assert told["loaded"] == 2
            assert [(one["source"], one["where"]) for one in told["problems"]] == [
                ("flows.toml", "flows[1], line 8"),
                ("flows.toml", "flows[2], line 11"),
                ("of_mine:flows", ""),
            ]
            log = beta.log.read_text()
            for reason in ("url is missing", "is defined once more", "OSError: no more after 1"):
                assert reason in log
            await lists(world, 'kind == "flow"', ["Depth", "Resize again"])
            await lists(world, "image", ["Depth", "Resize again"], via="alpha")
            await lists(world, '@tag("gpu")', ["Depth"])
            await lists(world, "echo", ["echo"])  # actions are listed as well
            [item] = (await flows(world, "depth", via="alpha"))["items"]
            about = [item[key] for key in ("node", "organization", "url", "status", "tags", "kind")]
            url = "https://lab.example/depth"
            assert about == ["beta", "lab", url, "online", ["gpu", "image"], "flow"]
            assert item["created"].endswith("Z")
            page = await flows(world, "image", "--by", "name:d", "--per-page", "1", "--page", "1")
            assert [each["name"] for each in page["items"]] == ["Depth"]
            assert (page["filtered"], page["registry"]) == (2, "alpha")
            done = await world.meshctl("flows", "name == ", "--via", "beta")
            assert done.code == 0
            assert "taken as plain words: " in done.err
            done = await world.meshctl("flows", "--by", "nam", "--via", "beta")
            assert done.code == 2
            assert "name" in done.err
            counts = (await world.meshctl("counts", "--via", "beta", "--json")).json
            assert counts["tags"]["image"] == 2
            assert counts["node"]["beta"] == counts["organization"]["lab"] == counts["total"]

    asyncio.run(scenario())


def test_flows_come_and_go_by_command_and_by_sighup() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha, beta = await two(world)
            await lists(world, "image", ["Depth", "Resize again"], via="alpha")
            url = "https://lab.example/manual"
            done = await world.meshctl(
                *("flows", "add", url, "--name", "Manual", "--tag", "text", "--via", "beta")
            )
            assert (done.code, done.out) == (0, f"beta offers {url} until it stops\n")
            await lists(world, "manual", ["Manual"], via="alpha")
            file = world.directory / "flows.toml"
            file.write_text('[[flows]]\nurl = "https://lab.example/other"\nname = "Other"\n')
            beta.lines.clear()
            beta.signal(signal.SIGHUP)
            told = await beta.line(lambda line: line.get("event") == "flows", SOON)
            assert (told["loaded"], len(told["problems"])) == (2, 1)
            await lists(world, 'kind == "flow"', ["Depth", "Manual", "Other"], via="alpha")
            file.unlink()
            beta.lines.clear()
            beta.signal(signal.SIGHUP)
            told = await beta.line(lambda line: line.get("event") == "flows", SOON)
            assert told["problems"][0]["reason"] == "no such file"
            await lists(world, 'kind == "flow"', ["Depth", "Manual"], via="alpha")
            done = await world.meshctl("flows", "remove", url, "--via", "beta")
            assert done.code == 0
            await lists(world, 'kind == "flow"', ["Depth"], via="alpha")
            assert (await world.meshctl("flows", "remove", url, "--via", "beta")).code == 1
            done = await world.meshctl("flows", "add", "javascript:x", "--via", "beta")
            assert done.code == 2
            assert alpha.is_running

    asyncio.run(scenario())


def test_a_registry_remembers_a_node_that_has_gone_until_it_is_reset() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha, beta = await two(world)
            await lists(world, "image", ["Depth", "Resize again"], via="alpha")
            assert (await beta.stop())[0] == 0
            assert (await alpha.stop())[0] == 0
            await alpha.start_again()
            page = await flows(world, "image", via="alpha")
            assert page["filtered"] == 2
            assert {item["status"] for item in page["items"]} <= {"stale", "offline"}
            assert (await alpha.stop())[0] == 0
            alpha._arguments.append("--reset")
            await alpha.start_again()
            assert (await flows(world, "", via="alpha"))["total"] == 0
            done = await world.meshctl("flows", "--via", "alpha")
            assert (done.code, done.out) == (0, "")
            assert "nothing is offered yet" in done.err

    asyncio.run(scenario())


def test_without_a_registry_a_node_answers_for_itself() -> None:
    async def scenario() -> None:
        async with World() as world:
            await world.start("alpha")
            done = await world.meshctl("flows", "--via", "alpha")
            assert done.code == 0
            assert "alpha, which knows its own alone: there is no registry" in done.err
            page = await flows(world, via="alpha")
            assert page["registry"] is None
            assert {item["created"] for item in page["items"]} == {None}

    asyncio.run(scenario())
