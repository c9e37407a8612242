"""Failures in words: what a person needs to know to go on."""

from __future__ import annotations

import difflib
import time

from meshcore.errors import Code
from meshcore.identity import owner_of
from meshcore.protocol.delivery.outputs import Failure
from meshcore.protocol.mesh import Mesh


def explain(mesh: Mesh, failure: Failure, recipient: str, directive: str) -> str:
    """The text of the exception for a failed call."""
    if failure.unknown_node:
        return unknown_node(mesh, recipient)
    if failure.code == Code.DEADLINE and not failure.name:
        return f"{recipient}: {failure.message}{_last_heard(mesh, recipient)}"
    if failure.code == Code.ACTION_FAILED and failure.name:
        return failure.message
    return failure.message


def unknown_node(mesh: Mesh, recipient: str) -> str:
    """`no node 'gama' in the mesh of alpha (3 nodes); did you mean gamma?`"""
    known = sorted(entry.node_id for entry in mesh.roster.nodes())
    own = mesh.attached_to or mesh.identity.node_id
    close = difflib.get_close_matches(recipient, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    count = f"{len(known)} node" + ("" if len(known) == 1 else "s")
    return f"no node '{recipient}' in the mesh of {own} ({count}){hint}"


def _last_heard(mesh: Mesh, recipient: str) -> str:
    """When its neighbour, or the neighbour on the way to it, was last heard."""
    owner = owner_of(recipient)
    entry = mesh.roster.get(owner)
    if entry is None:
        return ""
    if entry.silent_since is not None:
        return f"; not reachable for {time.monotonic() - entry.silent_since:.0f} s"
    hop = entry.next_hop
    for neighbour in mesh.detector.neighbours(time.monotonic()):
        if neighbour.node_id == (hop or owner):
            over = f" over {hop}" if hop and hop != owner else ""
            return f"; last heard {neighbour.age:.1f} s ago{over}"
    return ""
