"""Records as they are told: to who searches, and to the node after a restart."""

from __future__ import annotations

from typing import Any

from meshcore.storage.changes import StoredFlow, StoredOrigin
from meshcore.storage.columns import time_or_none
from meshcore.storage.table import Table


def item(table: Table, slot: int) -> dict[str, Any]:
    """A record with all its columns."""
    flow = table.flows[slot]
    put = table.put_of(slot)
    return {
        "registry": put.registry,
        "node": put.origin.node,
        "mesh": put.origin.mesh,
        "organization": put.organization,
        "created": time_or_none(table.created[slot]),
        "modified": time_or_none(table.modified[slot]),
        "heartbeat": put.heartbeat,
        "url": flow.url,
        "name": flow.name,
        "author": flow.author,
        "description": flow.description,
        "tags": list(flow.tags),
        "status": put.status,
        "kind": flow.kind,
    }


def dump(table: Table) -> list[dict[str, Any]]:
    """Every record, deleted ones too, with its version; by name, node and url."""
    slots = [slot for by_url in table.slots for slot in by_url.values()]
    slots.sort(key=table.default_key)
    return [
        {
            **item(table, slot),
            "incarnation": table.incarnations[slot],
            "version": table.versions[slot],
            "deleted": not table.live[slot],
        }
        for slot in slots
    ]


def stored(table: Table) -> list[StoredOrigin]:
    """Everything, as it is handed to the node after a restart."""
    found = []
    for number, put in enumerate(table.origins):
        if put is not None:
            flows = [
                StoredFlow(
                    table.flows[slot],
                    table.incarnations[slot],
                    table.versions[slot],
                    not table.live[slot],
                )
                for slot in table.slots[number].values()
            ]
            found.append(StoredOrigin(put, flows))
    return found
