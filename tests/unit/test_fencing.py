"""Fences: older terms are refused, also after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshcore import BadPayloadError, ConfigError, Fence, FencedError, fenced


def test_an_older_term_is_refused_and_the_same_one_is_not(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "term")
    for term in (3, 3, 7):
        fence.check(term)
    with pytest.raises(FencedError, match="term 6 is over: term 7 has been here") as told:
        fence.check(6)
    assert not told.value.may_have_run
    again = Fence(tmp_path / "term")
    assert again.term == 7
    with pytest.raises(FencedError):
        again.check(3)


def test_a_file_without_a_term_is_named(tmp_path: Path) -> None:
    (tmp_path / "term").write_text("seven")
    with pytest.raises(ConfigError, match="must hold a term"):
        Fence(tmp_path / "term")


def test_a_term_that_cannot_be_written_down_is_not_taken(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "gone" / "term")
    with pytest.raises(OSError, match="No such file"):
        fence.check(1)
    assert fence.term == 0


def test_fenced_actions_get_the_payload_alone() -> None:
    fence = Fence()

    @fenced(fence)
    def plain(payload: Any, context: Any) -> Any:
        return payload, context

    @fenced(fence)
    async def waits(payload: Any) -> Any:
        return payload

    assert plain({"term": 2, "payload": b"x"}, "context") == (b"x", "context")
    assert asyncio.run(waits({"term": 2, "payload": None})) is None
    with pytest.raises(FencedError):
        plain({"term": 1, "payload": b"x"}, None)
    for wrong in (None, {}, {"term": "2", "payload": 1}, {"term": -1, "payload": 1}, {"term": 2}):
        with pytest.raises(BadPayloadError, match="is fenced: it takes"):
            plain(wrong, None)
        with pytest.raises(BadPayloadError, match="is fenced: it takes"):
            asyncio.run(waits(wrong))
