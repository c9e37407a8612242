"""Work: the functions that others may call, and their execution. No decisions about the mesh.

`actions`    the `@action` decorator; `ActionSpec`, all that is known of one action
`registry`   directive to action; plugins and entry points
`context`    what an action gets besides its payload
`job`        one piece of work, and what the node and the runners are to each other
`executor`   starts work, cancels it, tells its outcome
`admission`  who runs now, who waits, who is turned away
`tasks`      runs coroutines and async generators on the loop
`threads`    runs plain functions and generators in worker threads (`lookahead`: their values)
`processes`  runs them in spawned processes; `worker` is the other end, `pipe` what they say
`inputs`     the payload in the form that the action declared
`failures`   what went wrong, in words for the caller
"""
