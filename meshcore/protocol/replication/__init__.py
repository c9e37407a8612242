"""Replicated services: terms, log, commit by a majority, sessions, checkpoints, members. Pure."""
