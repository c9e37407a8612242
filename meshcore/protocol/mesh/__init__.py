"""The composition: the only place where the machines of the core meet.

`own`            what this node says of itself
`clients`        the ephemeral clients attached here, and what they are told
`machines`       the machines of the control plane, made and kept together
`consequences`   effects of one machine become inputs of the next
`control_plane`  what drives them: control messages and time
`core`           `Mesh`: the data plane on top, and everything that the shell calls
"""

from meshcore.protocol.mesh.consequences import DetailsChanged, Rerouted
from meshcore.protocol.mesh.core import LOOPBACK, Mesh
from meshcore.protocol.mesh.own import Identity

__all__ = ["LOOPBACK", "DetailsChanged", "Identity", "Mesh", "Rerouted"]
