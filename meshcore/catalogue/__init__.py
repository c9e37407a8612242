"""The catalogue of a node: `catalogue` is what applications use, `node.catalogue`.

`catalogue`   offer flows, ask what is offered, register programs, exchange with other registries
`engine`      runs the exchange: its timer, its messages, who is there
`keeper`      what the exchange holds, in the store: times, heartbeats, what is restored
`carrier`     the requests to other registries: over the mesh, or over HTTP
`directives`  what the node answers about it in the namespace `mesh`
"""

from __future__ import annotations

from meshcore.catalogue.catalogue import Catalogue, Registered

__all__ = ["Catalogue", "Registered"]
