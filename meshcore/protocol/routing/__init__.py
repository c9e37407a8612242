"""Routing: what every origin says of its links, and the ways that follow from it.

`database`  the newest record of each origin, flooded and repaired; of `store`, `flood`, `repair`
`routing`   when tables are computed; `graph`, who is reachable over whom; `tree`, shortest paths
"""
