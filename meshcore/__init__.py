"""meshcore: a set of machines as one addressable mesh.

Nodes link up over ZeroMQ, route over several hops, know who is alive, and do work whose answers
stream back. `Node` is a full member, `Controller` a node that sends work, `Config` every setting,
`action` marks a function that others may call, `selector` stands for a recipient that is yet to be
picked, `Flow` is what a node offers besides actions; the exceptions are one tree below `MeshError`.

The public names are loaded on first use (PEP 562), so that `import meshcore`, and with it the
command line, starts without ZeroMQ and MessagePack.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshcore.config import Config, Timings
    from meshcore.controller import Controller, Pong
    from meshcore.errors import (
        AccessDeniedError,
        ActionError,
        BadPayloadError,
        BusyError,
        ClosedError,
        ConfigError,
        DeadlineExceededError,
        FencedError,
        MeshError,
        PeerLostError,
        ProtocolError,
        RPCConnectionError,
        RPCConnectionTimeoutError,
        RPCError,
        RPCNotFoundError,
        RPCRemoteError,
        RPCTimeoutError,
        UnknownDirectiveError,
        UnknownNodeError,
        UnreachableError,
        WorkCancelledError,
    )
    from meshcore.events import Change, LinkEvent, MasterEvent, Overflow, StatusEvent
    from meshcore.fencing import Fence, fenced
    from meshcore.flows import Flow, FlowError, flow_from
    from meshcore.message import Header, Message
    from meshcore.node import Node
    from meshcore.node_info import NodeInfo
    from meshcore.payload import Payload
    from meshcore.protocol.view import NodeStatus
    from meshcore.responses import Responses
    from meshcore.router import Link
    from meshcore.selectors import Selector, selector
    from meshcore.services.group import Group
    from meshcore.services.policies import GroupResult
    from meshcore.services.served import Served
    from meshcore.services.service import Request, Response, Service, service, task
    from meshcore.work.actions import action
    from meshcore.work.context import Context

__version__ = "0.1.0"  # the same as in pyproject.toml; a test compares them

__all__ = [  # noqa: RUF022 (by what they are for)
    "Config",
    "Context",
    "Controller",
    "Fence",
    "Flow",
    "Group",
    "GroupResult",
    "Header",
    "Link",
    "Message",
    "Node",
    "NodeInfo",
    "NodeStatus",
    "Payload",
    "Pong",
    "Request",
    "Response",
    "Responses",
    "Selector",
    "Served",
    "Service",
    "Timings",
    "__version__",
    "action",
    "fenced",
    "flow_from",
    "selector",
    "service",
    "task",
    "Change",
    "LinkEvent",
    "MasterEvent",
    "Overflow",
    "StatusEvent",
    "AccessDeniedError",
    "ActionError",
    "BadPayloadError",
    "BusyError",
    "ClosedError",
    "ConfigError",
    "DeadlineExceededError",
    "FencedError",
    "FlowError",
    "MeshError",
    "PeerLostError",
    "ProtocolError",
    "RPCConnectionError",
    "RPCConnectionTimeoutError",
    "RPCError",
    "RPCNotFoundError",
    "RPCRemoteError",
    "RPCTimeoutError",
    "UnknownDirectiveError",
    "UnknownNodeError",
    "UnreachableError",
    "WorkCancelledError",
]

_MODULES = {
    "Config": "meshcore.config",
    "Context": "meshcore.work.context",
    "Controller": "meshcore.controller",
    "Fence": "meshcore.fencing",
    "Flow": "meshcore.flows",
    "Header": "meshcore.message",
    "Link": "meshcore.router",
    "Message": "meshcore.message",
    "Node": "meshcore.node",
    "NodeInfo": "meshcore.node_info",
    "NodeStatus": "meshcore.protocol.view",
    "Payload": "meshcore.payload",
    "Pong": "meshcore.controller",
    "Responses": "meshcore.responses",
    "Selector": "meshcore.selectors",
    "Timings": "meshcore.config",
    "action": "meshcore.work.actions",
    "fenced": "meshcore.fencing",
    "flow_from": "meshcore.flows",
    "selector": "meshcore.selectors",
    "Change": "meshcore.events",
    "LinkEvent": "meshcore.events",
    "MasterEvent": "meshcore.events",
    "Overflow": "meshcore.events",
    "StatusEvent": "meshcore.events",
    "Group": "meshcore.services.group",
    "GroupResult": "meshcore.services.policies",
    "Served": "meshcore.services.served",
    **dict.fromkeys(
        ("Request", "Response", "Service", "service", "task"), "meshcore.services.service"
    ),
    **{name: "meshcore.errors" for name in __all__ if name.endswith("Error")},
    "FlowError": "meshcore.flows",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'meshcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
