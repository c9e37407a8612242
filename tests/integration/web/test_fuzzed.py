"""Any text is a query; see `fuzzed.py`. `bin/soak http` asks many more."""

from __future__ import annotations

import pytest

from tests.integration.web import fuzzed


@pytest.mark.timeout(120)
def test_any_text_is_a_query() -> None:
    assert fuzzed.run(200) >= 200
