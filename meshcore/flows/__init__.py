"""Flows out of files and functions: what a node offers besides its actions.

`entry`      one entry as people and programs write it, checked, as a `Flow`
`actions`    the actions of a node, with what they say of themselves, as flows
`sources`    what one source says: a TOML or YAML file, `module:callable`, a function
`documents`  the two kinds of files, with the line of each entry
`loading`    several sources together: doubles, what is wrong, and reading beside the event loop
`offering`   what one node offers of them

Nothing in a source stops a node: what cannot be used is a `Problem`, and the rest is loaded.
"""

from __future__ import annotations

from meshcore.flows.actions import flows_of_actions
from meshcore.flows.entry import FlowError, flow_from
from meshcore.flows.loading import Loaded, load, load_aside
from meshcore.flows.offering import Offering
from meshcore.flows.sources import Problem
from meshcore.protocol.catalogue.records import Flow

__all__ = [
    "Flow",
    "FlowError",
    "Loaded",
    "Offering",
    "Problem",
    "flow_from",
    "flows_of_actions",
    "load",
    "load_aside",
]
