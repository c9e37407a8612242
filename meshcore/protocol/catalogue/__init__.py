"""The catalogue: what every node offers, and how registries come to know all of it."""
