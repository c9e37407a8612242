"""The composition: the only place where the machines of the core meet.

`own`            what this node says of itself
`clients`        the ephemeral clients attached here, and what they are told
`control_plane`  links, liveness, topology: effects of one machine become inputs of the next
`core`           `Mesh`: the data plane on top, and everything that the shell calls
"""

from meshcore.protocol.mesh.control_plane import Rerouted
from meshcore.protocol.mesh.core import LOOPBACK, Mesh
from meshcore.protocol.mesh.own import Identity

__all__ = ["LOOPBACK", "Identity", "Mesh", "Rerouted"]
