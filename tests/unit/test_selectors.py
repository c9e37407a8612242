"""Who is picked: by each policy, of nodes that exist on paper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import meshcore
from meshcore import NodeStatus, selectors
from meshcore.errors import (
    BusyError,
    ConfigError,
    DeadlineExceededError,
    MeshError,
    PeerLostError,
    UnknownDirectiveError,
    UnknownNodeError,
    UnreachableError,
)
from meshcore.router import Offer
from meshcore.selectors import (
    POLICIES,
    AttachedPicker,
    Picker,
    is_repeatable,
    may_go_on,
    selector,
)

HERE = ("box", "Linux", 2, 1024)


def offer(node_id: str, **more: Any) -> Offer:
    about: dict[str, Any] = {
        "status": NodeStatus.ALIVE,
        "reachable": True,
        "stalled": False,
        "cost": 1000,
        "max_workers": 64,
        "machine": None,
        **more,
    }
    return Offer(node_id, **about)


class Paper:
    """A mesh on paper, seen by `own`; `asked` are the calls that left it."""

    def __init__(self, *offers: Offer, directive: str = "tools:x", master: str | None = None):
        self.offered = {directive: sorted(offers)}
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}
        self.loads: dict[str, Any] = {}
        self.held: asyncio.Event | None = None
        self.machine: Any = HERE
        self.attached_to: str | None = None
        info = None if master is None else SimpleNamespace(id=master)
        connectivity: Any = SimpleNamespace(master=info)
        router: Any = self
        self.now = 100.0
        self.picker = Picker("own", router, connectivity, self.request, clock=lambda: self.now)
        self.attached = AttachedPicker("own", router, connectivity, self.request)

    def offers(self, directive: str) -> list[Offer]:
        return list(self.offered.get(directive, ()))

    def directives(self) -> list[str]:
        return sorted(self.offered)

    async def request(self, node_id: str, directive: str, payload: Any, **more: Any) -> Any:
        self.asked.append((node_id, directive, payload, more))
        if self.held is not None:
            await self.held.wait()
        found = (self.loads if directive == "mesh:ping" else self.answers).get(node_id)
        if isinstance(found, BaseException):
            raise found
        if directive != "mesh:ping":
            return found
        return {"active_work": [{}] * found, "queued": 0} if isinstance(found, int) else found

    def pick(self, policy: str, directive: str = "tools:x") -> list[str]:
        return asyncio.run(self.picker.pick(selector(policy), directive))

    @property
    def pinged(self) -> list[str]:
        return [node_id for node_id, directive, *_ in self.asked if directive == "mesh:ping"]


def refusal(paper: Paper, policy: str, directive: str = "tools:x") -> MeshError:
    with pytest.raises(MeshError) as raised:
        paper.pick(policy, directive)
    assert raised.value.may_have_run is False
    assert raised.value.directive == directive
    return raised.value


def test_a_selector_is_made_by_its_name_alone() -> None:
    assert selector("nearest") == meshcore.selector("nearest")
    assert str(selector("nearest")) == "nearest"
    assert len({selector(policy) for policy in POLICIES}) == 6
    with pytest.raises(AttributeError):
        selector("nearest").policy = "first"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "says"),
    [("nearst", "did you mean nearest?"), ("random", "round-robin"), (None, "there are master")],
)
def test_a_name_that_is_none_says_what_there_is(name: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        selector(name)


def test_first_is_the_smallest_id_and_nearest_the_least_cost() -> None:
    paper = Paper(offer("b", cost=500), offer("a", cost=900), offer("c", cost=500))
    assert paper.pick("first") == ["a", "b", "c"]
    assert paper.pick("nearest") == ["b", "c", "a"]


def test_the_own_node_is_the_nearest() -> None:
    assert Paper(offer("a"), offer("own", cost=0)).pick("nearest")[0] == "own"


def test_no_more_than_three_are_picked() -> None:
    assert Paper(*(offer(f"n{n}") for n in range(9))).pick("first") == ["n0", "n1", "n2"]


@pytest.mark.parametrize("policy", ["first", "nearest", "round-robin", "least-loaded"])
def test_who_is_in_trouble_comes_last_and_who_is_dead_not_at_all(policy: str) -> None:
    paper = Paper(
        offer("a", stalled=True, cost=1),
        offer("b", status=NodeStatus.WARNING, cost=2),
        offer("c", status=NodeStatus.DEAD, cost=3),
        offer("d", reachable=False, cost=4),
        offer("e", status=NodeStatus.SLOW),
    )
    paper.loads = {"a": 0, "b": 0, "e": 50}
    assert paper.pick(policy) == ["e", "a", "b"]


def test_who_is_in_trouble_is_better_than_nobody() -> None:
    paper = Paper(offer("a", stalled=True), offer("b", status=NodeStatus.WARNING))
    assert paper.pick("first") == ["a", "b"]


def test_round_robin_takes_turns_for_each_directive_and_minds_who_comes_and_goes() -> None:
    paper = Paper(offer("a"), offer("b"), offer("c"))
    paper.offered["tools:y"] = paper.offered["tools:x"]
    assert [paper.pick("round-robin")[0] for _ in range(4)] == ["a", "b", "c", "a"]
    assert paper.pick("round-robin", "tools:y") == ["a", "b", "c"]
    paper.offered["tools:x"] = [offer("a"), offer("c"), offer("d")]
    assert [paper.pick("round-robin")[0] for _ in range(4)] == ["c", "d", "a", "c"]


def test_the_turns_of_few_directives_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "TURNS_MAX", 2)
    paper = Paper(offer("a"), offer("b"))
    for directive in ("x:1", "x:2", "x:3"):
        paper.offered[directive] = [offer("a"), offer("b")]
        assert paper.pick("round-robin", directive)[0] == "a"
    assert paper.pick("round-robin", "x:3")[0] == "b"
    assert paper.pick("round-robin", "x:1")[0] == "a"  # the one that was used longest ago
    assert len(paper.picker._last) == 2


def test_master_is_the_master_or_an_error() -> None:
    both = (offer("a"), offer("b"))
    assert Paper(*both, master="b").pick("master") == ["b"]
    error = refusal(Paper(*both, master="c"), "master")
    assert isinstance(error, UnknownDirectiveError)
    assert str(error) == "c, the master, offers no 'tools:x'; a, b do"
    error = refusal(Paper(*both), "master")
    assert isinstance(error, UnreachableError)
    assert "no master" in str(error)
    dead = Paper(offer("a"), offer("b", status=NodeStatus.DEAD), master="b")
    assert isinstance(refusal(dead, "master"), UnreachableError)


def test_same_host_is_this_machine_or_an_error() -> None:
    paper = Paper(
        offer("a", machine=HERE, cost=5),
        offer("b", machine=("box", "Linux", 4, 1024), cost=1),
        offer("c", machine=None, cost=1),
        offer("own", machine=HERE, cost=0),
    )
    assert paper.pick("same-host") == ["own", "a"]
    others = Paper(offer("b", machine=("other",)))
    error = refusal(others, "same-host")
    assert isinstance(error, UnknownDirectiveError)
    assert str(error) == "no node on the machine of own offers 'tools:x'; b does"


def test_machines_of_which_nothing_is_known_are_not_the_same() -> None:
    paper = Paper(offer("a", machine=None), offer("own", machine=None))
    paper.machine = None
    assert paper.pick("same-host") == ["own"]


def test_what_nobody_offers_and_nobody_can_be_reached_for_are_told_apart() -> None:
    error = refusal(Paper(offer("a")), "first", "tools:xx")
    assert isinstance(error, UnknownDirectiveError)
    assert "no node in the mesh of own offers 'tools:xx'; did you mean tools:x?" in str(error)
    ids = [offer(f"n{n}", reachable=False) for n in range(7)]
    error = refusal(Paper(*ids), "nearest")
    assert isinstance(error, UnreachableError)
    assert "'tools:x' is offered by n0, n1, n2, n3, n4 and 2 more, and cannot be" in str(error)


# -- load ------------------------------------------------------------------------------------------


def test_least_loaded_weighs_work_by_workers_and_prefers_the_near() -> None:
    paper = Paper(
        offer("a", max_workers=2),
        offer("b", max_workers=64, cost=2000),
        offer("c", max_workers=None),
        offer("d", max_workers=64),
    )
    paper.loads = {"a": 1, "b": 4, "c": 3, "d": 4}
    assert paper.pick("least-loaded") == ["d", "b", "a"]
    paper = Paper(offer("a"), offer("b"))
    paper.loads = {"a": {"active_work": [{}], "queued": 9}, "b": {"active_work": [{}] * 9}}
    assert paper.pick("least-loaded") == ["b", "a"]


@pytest.mark.parametrize(
    "said", [DeadlineExceededError("no answer"), None, {"queued": "x"}, {"active_work": 5}, []]
)
def test_who_does_not_say_how_busy_it_is_comes_last(said: Any) -> None:
    paper = Paper(offer("a"), offer("b"))
    paper.loads = {"a": said, "b": 60}
    assert paper.pick("least-loaded") == ["b", "a"]
    assert [more for *_, more in paper.asked] == [{"timeout": selectors.PROBE_WAIT}] * 2


def test_the_only_one_is_not_asked() -> None:
    paper = Paper(offer("a"))
    assert paper.pick("least-loaded") == ["a"]
    assert paper.asked == []


def test_of_many_only_some_are_asked() -> None:
    paper = Paper(*(offer(f"n{n:03}") for n in range(500)))
    paper.loads = {f"n{n:03}": 1 for n in range(500)}
    assert len(paper.pick("least-loaded")) == 3
    assert len(set(paper.pinged)) == selectors.PROBED_MAX


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (what waits are the tasks of this very loop)
        await asyncio.sleep(0)


def in_a_loop(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_picks_at_one_time_ask_once_and_spread_over_all() -> None:
    paper = Paper(*(offer(name) for name in "abcd"))
    paper.loads = {"a": 0, "b": 0, "c": 0, "d": 4}

    async def scenario() -> None:
        paper.held = asyncio.Event()
        picks = [
            asyncio.ensure_future(paper.picker.pick(selector("least-loaded"), "tools:x"))
            for _ in range(20)
        ]
        await until(lambda: len(paper.asked) == 4)
        paper.held.set()
        first = [node_ids[0] for node_ids in await asyncio.gather(*picks)]
        assert sorted(paper.pinged) == list("abcd")
        assert {name: first.count(name) for name in "abcd"} == {"a": 6, "b": 6, "c": 6, "d": 2}
        assert not paper.picker._asking

    in_a_loop(scenario)


def test_what_has_ended_does_not_count_any_more() -> None:
    paper = Paper(offer("a"), offer("b"))
    paper.loads = {"a": 1, "b": 2}
    paper.answers = {"a": "from a", "b": "from b"}
    assert [call(paper, policy="least-loaded") for _ in range(5)] == ["from a"] * 5
    assert [paper.pick("least-loaded")[0] for _ in range(3)] == ["a", "a", "b"]
    assert len(paper.pinged) == 2


def test_what_was_said_is_forgotten_soon() -> None:
    paper = Paper(offer("a"), offer("b"))
    paper.loads = {"a": 0, "b": 1}
    assert paper.pick("least-loaded")[0] == "a"
    paper.loads = {"a": 2, "b": 1}
    assert paper.pick("least-loaded")[0] == "a"
    paper.now += 2 * selectors.FRESH
    assert paper.pick("least-loaded")[0] == "b"
    assert len(paper.pinged) == 4


# -- calls -----------------------------------------------------------------------------------------


def gone(node_id: str, *, may_have_run: bool = False) -> UnreachableError:
    return UnreachableError(f"{node_id} is gone", may_have_run=may_have_run)


def call(paper: Paper, payload: Any = 5, policy: str = "first") -> Any:
    async def scenario() -> Any:
        return await paper.picker.call(selector(policy), "tools:x", payload, timeout=30)

    return asyncio.run(scenario())


def test_a_call_goes_on_while_it_is_certain_that_nothing_has_begun() -> None:
    paper = Paper(offer("a"), offer("b"), offer("c"), offer("d"))
    paper.answers = {"a": gone("a"), "b": UnknownDirectiveError(may_have_run=False), "c": "done"}
    assert call(paper) == "done"
    assert [node_id for node_id, *_ in paper.asked] == ["a", "b", "c"]
    assert all(0 < more["timeout"] <= 30 for *_, more in paper.asked)


def test_a_call_ends_with_the_third_who_cannot_be_reached() -> None:
    paper = Paper(*(offer(name) for name in "abcd"))
    paper.answers = {name: gone(name) for name in "abcd"}
    with pytest.raises(UnreachableError, match="c is gone"):
        call(paper)


@pytest.mark.parametrize(
    "error",
    [
        gone("a", may_have_run=True),
        PeerLostError("lost"),
        BusyError("full", may_have_run=False),
        DeadlineExceededError("late", may_have_run=False),
    ],
)
def test_work_that_may_have_begun_is_not_begun_elsewhere(error: MeshError) -> None:
    paper = Paper(offer("a"), offer("b"))
    paper.answers = {"a": error, "b": "done"}
    with pytest.raises(type(error)):
        call(paper)
    assert len(paper.asked) == 1


def test_a_payload_that_is_read_once_is_sent_once() -> None:
    paper = Paper(offer("a"), offer("b"))
    paper.answers = {"a": gone("a"), "b": "done"}

    async def chunks() -> Any:
        yield b"x"

    with pytest.raises(UnreachableError):
        call(paper, chunks())
    assert call(paper, Path("/x")) == "done"


def test_which_failures_and_payloads_allow_another_try() -> None:
    assert may_go_on(UnknownNodeError("x", may_have_run=False))
    assert not may_go_on(UnknownNodeError("x"))
    assert all(map(is_repeatable, (None, b"", "", 5, 1.5, True, [], {}, bytearray(), Path())))
    assert not any(map(is_repeatable, (iter(()), object(), open)))


# -- clients ---------------------------------------------------------------------------------------


def test_a_client_has_its_node_pick() -> None:
    paper = Paper()
    paper.attached_to = "alpha"
    paper.answers = {"alpha": ["b", "c", "d", "e"]}

    async def pick() -> list[str]:
        return await paper.attached.pick(selector("nearest"), "tools:x")

    assert asyncio.run(pick()) == ["b", "c", "d"]
    asked = {"selector": "nearest", "directive": "tools:x"}
    assert paper.asked == [("alpha", "mesh:pick", asked, {"timeout": None})]
    paper.answers = {"alpha": []}
    with pytest.raises(UnreachableError, match="alpha picked nobody"):
        asyncio.run(pick())
    paper.attached_to = None
    with pytest.raises(UnreachableError, match="not attached"):
        asyncio.run(pick())
