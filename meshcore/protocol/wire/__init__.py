"""Messages to bytes and back: the only place that knows byte layout, limits and versions.

`limits`   every bound that a peer could try to break
`schema`   checked decoding of MessagePack lists
`records`  what an origin says of itself, flooded and stored as the received bytes
`control`  messages between two neighbours: HELLO, beats, news, repair
`packet`   the hop header that relays read, and the end-to-end part that only the ends read
"""
