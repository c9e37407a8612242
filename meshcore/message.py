"""What a handler or an iteration over responses gets: header, payload, error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from meshcore.errors import MeshError
from meshcore.payload import Payload


@dataclass(frozen=True, slots=True)
class Header:
    """The circumstances of one response; every field is in every header.

    Attributes:
        sender: who responds.
        recipient: this node.
        directive: what was asked for.
        in_response_to: the message id that `send` returned.
        serial: counts the responses from 1.
        code: 0, or why the work failed (see `errors.Code`); 0 before the last response.
        eof: whether this is the last response.
        timestamp: when it arrived, UTC by this node's clock.
    """

    sender: str
    recipient: str
    directive: str
    in_response_to: str
    serial: int
    code: int
    eof: bool
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One response. `error` is None unless `header.code` says that the work failed."""

    header: Header
    payload: Payload
    error: MeshError | None = None
