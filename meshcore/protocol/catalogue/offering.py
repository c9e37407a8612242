"""The owner's side: what an origin offers, versioned change by change."""

from __future__ import annotations

from collections.abc import Mapping

from meshcore.protocol.catalogue.holding import Head, Holding, Item
from meshcore.protocol.catalogue.records import Flow

TOMBSTONES_MAX = 10_000


def begin_life(holding: Holding, incarnation: int) -> list[Item]:
    """All that is offered, anew under a greater incarnation; what was removed is forgotten."""
    offered = [item.flow for item in holding.live_items()]
    holding.forgotten += [url for url, item in holding.items.items() if item.deleted]
    holding.items = {
        flow.url: Item(incarnation, version, False, flow)
        for version, flow in enumerate(offered, start=1)
    }
    holding.head = Head(incarnation, len(offered), True)
    return list(holding.items.values())


def replace(holding: Holding, flows: Mapping[str, Flow]) -> list[Item]:
    """Offer exactly these flows; what has not changed keeps its version."""
    changed: list[Item] = []
    for item in list(holding.live_items()):
        if item.flow.url not in flows:
            changed.append(_put(holding, item.flow, deleted=True))
    for flow in flows.values():
        held = holding.items.get(flow.url)
        if held is None or held.deleted or (held.flow is not flow and held.flow != flow):
            changed.append(_put(holding, flow, deleted=False))
    if not changed or sum(item.deleted for item in holding.items.values()) <= TOMBSTONES_MAX:
        return changed
    gone = [item for item in changed if item.deleted]
    return [*gone, *begin_life(holding, holding.head.incarnation + 1)]


def _put(holding: Holding, flow: Flow, *, deleted: bool) -> Item:
    head = holding.head._replace(version=holding.head.version + 1)
    item = Item(head.incarnation, head.version, deleted, flow)
    holding.items.pop(flow.url, None)
    holding.items[flow.url] = item
    holding.head = head
    return item
