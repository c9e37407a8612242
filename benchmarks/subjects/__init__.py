"""One module per subject, each with `server(options)`, `client(address, options)` and sometimes
`relay(address, options)`: what runs in the child processes.

Every peer is used the way its own documentation recommends, over one persistent connection (or
the pool that its client keeps), on loopback, with no security, echoing 64 bytes. The modules
import their peer at the top: a missing package is thereby reported by name.
"""
