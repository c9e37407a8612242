"""Every exception of meshcore, in one tree.

::

    MeshError
    ├── ConfigError (ValueError)            what the user set is wrong; nothing was started
    ├── UnreachableError                    no way to the recipient, or it is dead
    │   ├── UnknownNodeError (KeyError)     nobody in the mesh has ever heard of that id
    │   ├── PeerLostError                   the recipient died, left or restarted meanwhile
    │   └── RPCConnectionError (RPCError)   .node
    │       └── RPCConnectionTimeoutError
    ├── DeadlineExceededError (TimeoutError)
    │   └── RPCTimeoutError (RPCError)
    ├── UnknownDirectiveError               the recipient offers no such action
    ├── BadPayloadError                     cannot be sent, or the action refused it
    ├── ActionError                         the action raised: .remote_type, .remote_traceback
    ├── AccessDeniedError
    ├── BusyError                           the recipient's work queue is full
    ├── WorkCancelledError
    ├── ClosedError                         this node is stopped, or not started
    ├── ProtocolError                       bytes that are not our protocol
    ├── FencedError                         somebody with a newer term has been here
    └── RPCError                            of group calls: .ok, .failed
        ├── RPCNotFoundError
        └── RPCRemoteError (ActionError)    the service raised: .remote_args, .fields

Every error of work tells `may_have_run`: False means that the recipient certainly did not start it.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """How work ended, as the last response says it on the wire."""

    OK = 0
    ACTION_FAILED = 1
    UNKNOWN_DIRECTIVE = 2
    BAD_PAYLOAD = 3
    DENIED = 4
    BUSY = 5
    CANCELLED = 6
    DEADLINE = 7
    UNREACHABLE = 8
    PEER_LOST = 9
    INTERNAL = 10


class MeshError(Exception):
    """The base of all errors of meshcore; the fields are None where they do not apply."""

    default_code: Code = Code.INTERNAL

    def __init__(
        self,
        message: str = "",
        *,
        node_id: str | None = None,
        directive: str | None = None,
        message_id: str | None = None,
        code: int | None = None,
        may_have_run: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node_id = node_id
        self.directive = directive
        self.message_id = message_id
        self.code = int(self.default_code if code is None else code)
        self.may_have_run = may_have_run

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return self.message


class ConfigError(MeshError, ValueError):
    """A setting, flag, URL or file that cannot be used; the text names it and what was expected."""


class UnreachableError(MeshError):
    """There is no way to the recipient now, or it is known to be dead."""

    default_code = Code.UNREACHABLE


class UnknownNodeError(UnreachableError, KeyError):
    """No node of that id has been heard of."""


class PeerLostError(UnreachableError):
    """The recipient died, left, or restarted while the work was in flight."""

    default_code = Code.PEER_LOST


class DeadlineExceededError(MeshError, TimeoutError):
    """The time allowed for the work is over."""

    default_code = Code.DEADLINE


class UnknownDirectiveError(MeshError):
    """The recipient offers no action of that name."""

    default_code = Code.UNKNOWN_DIRECTIVE


class BadPayloadError(MeshError):
    """The payload cannot be encoded, or is not what the action takes or the call expects."""

    default_code = Code.BAD_PAYLOAD


class ActionError(MeshError):
    """The action raised at the remote side.

    `remote_type` is the name of the exception's class there, `remote_traceback` its text.
    """

    default_code = Code.ACTION_FAILED

    def __init__(
        self,
        message: str = "",
        *,
        remote_type: str = "",
        remote_traceback: str = "",
        node_id: str | None = None,
        directive: str | None = None,
        message_id: str | None = None,
        code: int | None = None,
        may_have_run: bool = True,
    ) -> None:
        super().__init__(
            message,
            node_id=node_id,
            directive=directive,
            message_id=message_id,
            code=code,
            may_have_run=may_have_run,
        )
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback


class AccessDeniedError(MeshError):
    """The recipient, or a node on the way, does not allow this."""

    default_code = Code.DENIED


class BusyError(MeshError):
    """The recipient runs as much as it may and its queue is full; it did not run the work."""

    default_code = Code.BUSY


class WorkCancelledError(MeshError):
    """The work was cancelled."""

    default_code = Code.CANCELLED


class ClosedError(MeshError):
    """The node is stopped, or was not started."""


class ProtocolError(MeshError):
    """Bytes that are not meshcore's protocol, or break its limits; the text is a short reason."""


class FencedError(MeshError):
    """This term is over: somebody has been here with a newer one."""

    default_code = Code.DENIED


class RPCError(MeshError):
    """The base of the errors of group calls.

    Where several members were asked, `ok` has the values of those who answered and `failed` the
    errors of the others, by node.
    """

    ok: dict[str, object]
    failed: dict[str, Exception]

    def __init__(self, message: str = "", **about: object) -> None:
        self.ok = {}
        self.failed = {}
        super().__init__(message, **about)  # type: ignore[arg-type]


class RPCTimeoutError(RPCError, DeadlineExceededError):
    """A member of a group did not answer in time."""

    default_code = Code.DEADLINE


class RPCNotFoundError(RPCError):
    """The group, service or method does not exist."""


class RPCRemoteError(RPCError, ActionError):
    """The service raised.

    `remote_type` is the name of the exception's class there, `remote_args` what it was made with,
    `fields` its attributes, as far as they can be sent; `remote_traceback` is the text of its
    traceback, empty where the answer was kept (a retry at a replicated service).
    """

    default_code = Code.ACTION_FAILED

    def __init__(
        self,
        message: str = "",
        *,
        remote_args: tuple[object, ...] = (),
        fields: dict[str, object] | None = None,
        **about: object,
    ) -> None:
        super().__init__(message, **about)
        self.remote_args = remote_args
        self.fields = fields or {}


class RPCConnectionError(RPCError, UnreachableError):
    """A member of a group cannot be reached; `node` is its id."""

    default_code = Code.UNREACHABLE

    @property
    def node(self) -> str | None:
        return self.node_id


class RPCConnectionTimeoutError(RPCConnectionError):
    """A member of a group could not be reached in time."""
