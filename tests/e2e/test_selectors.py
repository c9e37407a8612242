"""Work for any of several processes: by the command line, and around one that is frozen."""

from __future__ import annotations

import asyncio

from meshcore import Config, Controller, selector
from tests.e2e.mesh_processes import World, eventually

SOON = 15.0  # seconds; it takes one, on a machine that has nothing else to do


def test_send_any_goes_to_a_node_that_offers_it() -> None:
    async def scenario() -> None:
        async with World() as world:
            alpha = await world.start("alpha", plugins=())
            await world.start("beta", peers=[alpha])
            await world.start("gamma", peers=[alpha])

            async def offered_by_both() -> bool:
                actions = (await world.meshctl("actions", "--via", "alpha", "--json")).json
                echo = [row["nodes"] for row in actions if row["directive"] == "demo:echo"]
                return echo == [["beta", "gamma"]]

            await eventually(offered_by_both, SOON)
            who = []
            for policy in ("first", "round-robin", "round-robin", "round-robin"):
                done = await world.meshctl(
                    "send", f"--any={policy}", "demo:echo", "hello", "--via", "alpha", "--json"
                )
                assert (done.code, done.json["payload"]) == (0, "hello")
                who.append(done.json["node_id"])
            assert who == ["beta", "beta", "gamma", "beta"]
            done = await world.meshctl("send", "--any", "demo:count", "3", "--via", "alpha")
            assert (done.code, done.out.split()) == (0, ["0", "1", "2"])
            done = await world.meshctl("send", "--any", "demo:ekko", "--via", "alpha")
            assert done.code == 1
            assert "no node in the mesh of alpha offers 'demo:ekko'; did you mean" in done.err
            done = await world.meshctl("send", "--any=master", "demo:echo", "--via", "alpha")
            assert done.code == 1
            assert "alpha, the master, offers no 'demo:echo'; beta, gamma do" in done.err

    asyncio.run(scenario())


def test_work_for_a_frozen_process_that_has_not_begun_goes_to_the_next() -> None:
    async def scenario() -> None:
        async with World() as world:
            beta = await world.start("beta")
            gamma = await world.start("gamma", peers=[beta])
            peers = [beta.url, gamma.url]
            async with Controller(Config(node_id="oscar", peers=peers)) as oscar:

                def both_live() -> bool:
                    offers = oscar.router.offers("demo:echo")
                    return len([offer for offer in offers if offer.is_live]) == 2

                await eventually(both_live, SOON)
                beta.freeze()
                # Nobody knows yet: beta is the first. Nothing was ever sent there, so that it is
                # certain, once beta counts as dead, that nothing has begun.
                call = asyncio.ensure_future(oscar.call(selector("first"), "demo:echo", 5))
                stream = oscar.stream(selector("first"), "demo:count", 2)
                async with stream:
                    assert stream.recipient == "beta"
                    first_id = stream.message_id
                    async with asyncio.timeout(2 * SOON):
                        messages = [message async for message in stream]
                    assert stream.recipient == "gamma"
                assert [m.payload.value for m in messages if m.payload] == [0, 1]
                assert {m.header.in_response_to for m in messages} == {first_id}
                assert await asyncio.wait_for(call, SOON) == 5
                beta.thaw()

    asyncio.run(scenario())
