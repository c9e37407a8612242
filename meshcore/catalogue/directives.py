"""What a node answers about the catalogue, in the reserved namespace `mesh`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from meshcore.catalogue.carrier import EXCHANGE
from meshcore.catalogue.catalogue import Catalogue
from meshcore.errors import BadPayloadError
from meshcore.flows import FlowError, flow_from

Answer = Callable[[Any, Any, Any], Any]


class Directives:
    """Registers the answers of one catalogue in `internal`, the table of the node."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def register(self, internal: dict[str, Answer]) -> None:
        internal.update(
            {
                EXCHANGE: self._exchange,
                "mesh:flows": self._flows,
                "mesh:counts": self._counts,
                "mesh:flows_add": self._add,
                "mesh:flows_remove": self._remove,
            }
        )

    def _exchange(self, stream: Any, payload: Any, trace: Any) -> Any:
        return self._catalogue.on_message(stream.channel.address, payload)

    def _flows(self, stream: Any, payload: Any, trace: Any) -> Awaitable[Any]:
        asked = _fields(payload, "mesh:flows", {"q": str, "by": str, "p": int, "pp": int})
        return self._catalogue.find("mesh:flows", payload, lambda: self._catalogue.flows(**asked))

    def _counts(self, stream: Any, payload: Any, trace: Any) -> Awaitable[Any]:
        return self._catalogue.find("mesh:counts", payload, self._catalogue.counts)

    def _add(self, stream: Any, payload: Any, trace: Any) -> Any:
        if not isinstance(payload, dict):
            raise BadPayloadError("mesh:flows_add takes a flow: {url, name, …}")
        try:
            flow = flow_from(payload)
        except FlowError as error:
            raise BadPayloadError(str(error)) from None
        self._catalogue.add(flow)
        return {"url": flow.url}

    def _remove(self, stream: Any, payload: Any, trace: Any) -> Any:
        if not isinstance(payload, str):
            raise BadPayloadError("mesh:flows_remove takes a URL")
        return {"url": payload, "removed": self._catalogue.remove(payload)}


def _fields(payload: Any, directive: str, kinds: dict[str, type]) -> dict[str, Any]:
    """The fields of a query, each of its kind; what is left out has its default."""
    if payload is None:
        return {}
    if not isinstance(payload, dict) or not payload.keys() <= kinds.keys():
        raise BadPayloadError(f"{directive} takes {', '.join(kinds)}")
    for name, value in payload.items():
        if type(value) is not kinds[name]:
            raise BadPayloadError(f"{directive}: {name} must be {kinds[name].__name__}")
    return payload
