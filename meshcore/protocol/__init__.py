"""The pure core: all that a node decides, without sockets, clock or randomness of its own."""
