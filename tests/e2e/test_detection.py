"""A node is killed, freezes, wakes, leaves: all the others know within the bars."""

from __future__ import annotations

import pytest

from tests.e2e import detection


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_twenty_processes_learn_what_became_of_one() -> None:
    detection.run(detection.SIZE, 1)
