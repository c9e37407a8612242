"""Slow is not dead: overloaded machines, a blocked loop."""

from __future__ import annotations

import pytest

from tests.e2e import overload

SECONDS = 15.0


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_nobody_is_taken_for_dead_while_every_core_is_overloaded_fourfold() -> None:
    overload.run(SECONDS)


@pytest.mark.alone
def test_a_node_whose_loop_is_blocked_is_stalled_and_keeps_its_work() -> None:
    seen = overload.block(4.0)
    relay = [step for step in seen.steps if step.startswith("relay")]
    assert relay == ["relay SLOW", "relay WARNING", "relay ALIVE"], seen
    # What is behind it may be WARNING for a moment: the only way there is one of last resort.
    assert {*seen.steps} - {*relay} <= {"behind WARNING", "behind ALIVE"}, seen
    assert seen.was_stalled
    assert seen.in_flight == [1.0, 1.0, 4.0]
