"""The only package that touches ZeroMQ; `Transport` is the door.

`transport`    the calls that the driver makes
`hub`          `Sink`, what the driver is told; `Knobs`, bounds and durations
`port`         one socket on the loop: the hot path in
`lane`         one ordered way to a neighbour: the hot path out
`link`         what dialled (`dialler`) and accepted (`listener`, `news`) links share
`binding`      bound addresses and their errors
`monitor`      what libzmq tells of connections; `connection`: what we can do to one
`guard`        cuts connections that only cost
`probe`        is anybody behind an address; `addresses`: names to numbers
`options`      every socket option with its reason
"""
