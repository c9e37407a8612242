"""Twenty seconds of `bin/soak bank`, which runs two minutes for each kind."""

from __future__ import annotations

import pytest

from meshcore.runtime import loop as event_loop
from tests.e2e import bank

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


@pytest.mark.parametrize("kind", ["active", "passive"])
def test_no_effect_is_lost_or_doubled_while_replicas_are_killed(kind: str) -> None:
    measured = event_loop.run(bank.run(kind, 10.0))
    print(measured)
    assert not measured.errors
    assert measured.kills >= 2
    bank.check_waits(measured)
