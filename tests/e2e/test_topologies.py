"""Some of the shapes of `bin/soak topologies`, which builds them all."""

from __future__ import annotations

import pytest

from tests.e2e import topologies

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]


@pytest.mark.parametrize(("shape", "size"), [("both_ends", 12), ("tree", 14)])
def test_processes_of_any_shape_agree_on_it_and_answer_each_other(shape: str, size: int) -> None:
    measured = topologies.run(shape, size)
    print(measured)
