"""What the supervisor runs, and how long it waits."""

from __future__ import annotations

import pytest

from meshcore.cli.supervise import PAUSE_MAX, STABLE, Pauses, plans
from meshcore.errors import ConfigError


def test_pauses_double_up_to_a_bound_and_begin_again_after_a_long_life() -> None:
    pauses = Pauses()
    assert [pauses.after(1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, PAUSE_MAX, PAUSE_MAX]
    assert pauses.after(STABLE) == 0.5
    assert pauses.after(0.0) == 1.0


def test_one_node_has_the_arguments_of_the_command() -> None:
    argv = ["--supervise", "1", "--id", "a", "--listen", "tcp://127.0.0.1:7001", "--json"]
    (plan,) = plans(argv, node_id="a", count=1, listen=["tcp://127.0.0.1:7001"])
    assert plan.arguments == ("--id", "a", "--listen", "tcp://127.0.0.1:7001")
    argv = ["--supervise", "--plugin", "demo", "--data-dir=/d"]
    (plan,) = plans(argv, node_id="a", count=1, listen=[])
    assert plan.arguments == ("--id", "a", "--data-dir", "/d", "--plugin", "demo")


def test_several_have_ids_and_data_of_their_own_and_dial_each_other() -> None:
    argv = ["--supervise=2", "--id=w", "--data-dir", "/d", "--plugin", "demo"]
    one, two = plans(argv, node_id="w", count=2, listen=[])
    assert (one.node_id, two.node_id) == ("w-1", "w-2")
    assert one.arguments[:6] == ("--id", "w-1", "--data-dir", "/d/w-1", "--plugin", "demo")
    assert one.arguments[6] == "--peer"
    assert one.arguments[7].endswith("w-2.sock")
    assert two.arguments[7].endswith("w-1.sock")


def test_several_cannot_share_a_port() -> None:
    with pytest.raises(ConfigError, match=r"2 nodes cannot all listen on tcp://h:70.*:0, or none"):
        plans([], node_id="w", count=2, listen=["tcp://h:70"])
    assert len(plans([], node_id="w", count=2, listen=["tcp://127.0.0.1:0"])) == 2
