"""Some rounds of `bin/soak kills`, which runs ten for each role."""

from __future__ import annotations

import pytest

from tests.e2e import kills

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]


@pytest.mark.parametrize(("role", "rounds"), [("leaf", 2), ("relay", 2), ("controller", 2)])
def test_a_killed_node_is_missed_at_once_and_comes_back(role: str, rounds: int) -> None:
    for measured in kills.run(role, rounds):
        print(measured)
