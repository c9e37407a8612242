"""Gathering against a mesh that does what it likes: bounds hold, and nobody is dialled in vain."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshcore.protocol.machine import Count
from meshcore.protocol.membership.gathering import Effects, Gathering, Learn, Unlearn
from meshcore.protocol.membership.targets import URLS_PER_NODE, Target

ME = "n0"
NAMES = st.sampled_from([f"n{number}" for number in range(8)])
DIALS_AT_ONCE = 5  # one for more links, three to join, and a lost one that is tried again


class GatheringMachine(RuleBasedStateMachine):
    """The other nodes are a table of targets; `dialled` is what the dialling would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.degree = 2
        self.known: dict[str, Target] = {}
        self.left: set[str] = set()
        self.linked: set[str] = set()
        self.silent: set[str] = set()
        self.dialled: dict[str, str] = {}  # url -> node for whom it was learnt
        self.vain: set[str] = set()
        self.machine = Gathering(
            ME,
            random.Random(1),
            degree=self.degree,
            now=0.0,
            known=lambda: list(self.known.values()),
            in_vain=lambda node_id: node_id in self.vain,
            allowed=lambda url: not url.endswith(":9"),
        )

    def perform(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Learn):
                assert effect.node_id != ME
                assert effect.node_id not in self.linked
                assert effect.node_id not in self.left, "it has left"
                assert 0 < len(effect.urls) <= URLS_PER_NODE
                assert self.degree > 0
                for url in effect.urls:
                    assert url.startswith("tcp://")
                    assert not url.endswith(":9"), "it is not allowed"
                    assert url not in self.dialled, "two attempts by one address"
                    self.dialled[url] = effect.node_id
                needed = len(self.linked - self.silent) < self.degree
                target = self.known.get(effect.node_id)
                assert needed or target is None or not target.reachable, "there are links enough"
            elif isinstance(effect, Unlearn):
                for url in effect.urls:
                    self.dialled.pop(url, None)
            else:
                assert isinstance(effect, Count)

    @rule(name=NAMES, ports=st.lists(st.integers(1, 12), max_size=12), links=st.integers(0, 9),
          reachable=st.booleans())  # fmt: skip
    def tells(self, name: str, ports: list[int], links: int, reachable: bool) -> None:
        urls = tuple(f"tcp://{name}:{port}" for port in ports)
        self.known[name] = Target(name, urls, links, reachable, self.now)
        self.left.discard(name)
        self.machine.on_routes([reachable], self.now)

    @rule(name=NAMES)
    def leaves(self, name: str) -> None:
        self.known.pop(name, None)
        self.machine.forget_hint(name)
        self.left.add(name)

    @rule(name=NAMES, port=st.integers(1, 12))
    def is_hinted_at(self, name: str, port: int) -> None:
        self.machine.hint(name, [f"tcp://{name}:{port}", "ipc:///x"], self.now)
        self.left.discard(name)

    @rule(name=NAMES, ours=st.booleans(), data=st.data())
    def link_up(self, name: str, ours: bool, data: st.DataObject) -> None:
        if name == ME:
            return
        urls = list(self.dialled) if ours else []
        url = data.draw(st.sampled_from(urls)) if urls else None
        self.linked.add(name)
        self.silent.discard(name)
        self.perform(self.machine.on_link_up(name, url, self.now))
        self.vain.discard(name)

    @precondition(lambda self: self.linked)
    @rule(data=st.data())
    def link_down(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.linked)))
        self.linked.discard(name)
        self.silent.discard(name)
        self.perform(self.machine.on_link_down(name, self.now))

    @rule(name=NAMES, silent=st.booleans())
    def is_silent(self, name: str, silent: bool) -> None:
        self.machine.on_silence(name, silent, self.now)
        if name in self.linked and silent:
            self.silent.add(name)
        else:
            self.silent.discard(name)

    @rule(name=NAMES)
    def fails(self, name: str) -> None:
        self.vain.add(name)

    @rule(degree=st.integers(0, 4))
    def wants(self, degree: int) -> None:
        self.degree = degree
        self.perform(self.machine.set_degree(degree, self.now))
        if degree == 0:
            assert not self.dialled

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 10.0, 700.0, 4000.0]))
    def passes(self, seconds: float) -> None:
        end, looks = self.now + seconds, 0
        while (at := self.machine.next_deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            self.perform(self.machine.on_tick(self.now))
            following = self.machine.next_deadline()
            assert following is None or following > self.now
            looks += 1
        self.now = end
        assert looks <= 8 + 8 * seconds, "it looks too often"

    @invariant()
    def is_bounded(self) -> None:
        self.machine.check_invariants()
        under_way = {name for name in self.dialled.values() if name not in self.linked}
        assert len(under_way) <= DIALS_AT_ONCE + len(self.known)
        assert ME not in under_way


TestGathering = GatheringMachine.TestCase
TestGathering.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
