"""The thin shell around the core: it adds the time, feeds inputs, performs effects, arms one timer.

`loop`     the event loop: uvloop where it installs
`driver`   the core's hands: frames in, effects out
`calls`    the calling side: futures and streams of responses
`serving`  the answering side: from a CALL to the executor and back
"""
