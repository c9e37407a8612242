"""Replicated services: drives the machines of `protocol.replication`, and calls them."""
