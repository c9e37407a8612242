"""The pure core: everything that a node decides, without sockets, clock or randomness of its own."""
