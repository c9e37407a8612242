"""A few seconds of `bin/soak catalogue_kills`."""

from __future__ import annotations

from pathlib import Path

from tests.e2e import catalogue_kills


def test_a_registry_s_file_is_whole_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    assert catalogue_kills.run(tmp_path / "catalogue.db", 10.0, seed=1) >= 3
