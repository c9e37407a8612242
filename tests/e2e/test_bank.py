"""Some seconds of `bin/soak bank`, which runs two minutes for each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshcore.runtime import loop as event_loop
from tests.e2e import bank
from tests.etcd import NEEDS_ETCD, Server

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


@pytest.mark.parametrize("plan", [bank.ACTIVE, bank.PASSIVE], ids=lambda plan: plan.replication)
def test_no_effect_is_lost_or_doubled_while_replicas_are_killed(plan: bank.Plan) -> None:
    measured = event_loop.run(bank.run(plan, 10.0))
    print(measured)
    assert not measured.errors
    assert measured.kills >= 2
    bank.check_waits(plan, measured)


@NEEDS_ETCD
def test_a_primary_that_wakes_up_beside_the_next_holder_of_the_lease_answers_nothing(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    try:
        server.start()
        measured = event_loop.run(bank.run(bank.LEASES, 1.0, etcd=server.url))
    finally:
        server.stop()
    print(measured)
    assert not measured.errors
    assert measured.freezes == 1
    bank.check_waits(bank.LEASES, measured)
