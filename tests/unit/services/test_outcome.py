"""Requests and outcomes as bytes: any value, any exception, any bytes from others."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore import BadPayloadError, MeshError, RPCError, RPCNotFoundError, RPCRemoteError
from meshcore.payload.values import encode_value
from meshcore.services import outcome

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class Overdrawn(Exception):
    def __init__(self, account: str, missing: int) -> None:
        super().__init__(account, missing)
        self.account, self.missing = account, missing
        self.socket = object()
        self._private = 1


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@given(st.text(), st.lists(values, max_size=3), st.dictionaries(st.text(), values, max_size=3))
def test_requests_come_back(method: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    assert outcome.decode_request(outcome.encode_request(method, args, kwargs)) == (
        method,
        args,
        kwargs,
    )


@given(values)
def test_values_come_back(value: Any) -> None:
    assert outcome.decode_outcome(outcome.encode_outcome(value)) == value


@given(st.binary(max_size=64) | values.map(encode_value))
def test_any_bytes_are_a_value_or_an_error_of_ours(data: bytes) -> None:
    for decode in (outcome.decode_request, outcome.decode_outcome):
        with contextlib.suppress(MeshError):
            decode(data)


def test_an_exception_brings_what_can_be_sent_of_it() -> None:
    with pytest.raises(RPCRemoteError) as caught:
        outcome.decode_outcome(outcome.encode_failure(Overdrawn("ada", 5)), node_id="alpha")
    error = caught.value
    assert error.remote_type == "Overdrawn"
    assert error.remote_args == ("ada", 5)
    assert error.fields == {"account": "ada", "missing": 5}
    assert error.remote_traceback == ""
    assert error.node_id == "alpha"


def test_the_same_exception_is_the_same_bytes_wherever_it_was_raised() -> None:
    def raised(depth: int) -> bytes:
        try:
            if depth:
                return raised(depth - 1)
            raise Overdrawn("ada", 5)
        except Overdrawn as error:
            return outcome.encode_failure(error)

    assert raised(0) == raised(7)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Mute(), "<its text cannot be had: RuntimeError>"),
        (ValueError("x" * 100_000), "x" * outcome.TEXT_CHARS_MAX),
        (ValueError({1, 2}), "{1, 2}"),
    ],
)
def test_no_exception_is_too_strange(error: Exception, text: str) -> None:
    data = outcome.encode_failure(error)
    assert len(data) < 2 * outcome.FIELDS_BYTES_MAX
    with pytest.raises(RPCRemoteError) as caught:
        outcome.decode_outcome(data)
    assert text in str(caught.value)


def test_large_fields_are_left_out_one_by_one() -> None:
    error = ValueError("boom")
    error.small, error.large = 1, b"x" * 20_000  # type: ignore[attr-defined]
    with pytest.raises(RPCRemoteError) as caught:
        outcome.decode_outcome(outcome.encode_failure(error))
    assert caught.value.fields == {"small": 1}


def test_what_cannot_be_sent_is_a_failure_that_says_where() -> None:
    with pytest.raises(RPCRemoteError, match=r'\["a"\]\[0\].*object cannot be sent'):
        outcome.decode_outcome(outcome.encode_outcome({"a": [object()]}))
    with pytest.raises(BadPayloadError, match="set cannot be sent"):
        outcome.encode_request("add", [{1}], {})


def test_a_method_that_is_missing_is_not_found_here_too() -> None:
    with pytest.raises(RPCNotFoundError, match="no method") as caught:
        outcome.decode_outcome(outcome.encode_failure(RPCNotFoundError("no method")))
    assert caught.value.may_have_run is False
    with pytest.raises(RPCError, match="cannot be understood"):
        outcome.outcome_of([1, 2, 3])
