"""The simulated network: many whole cores in one process, in virtual time.

What a network can do to the mesh (delay, loss, duplication, cuts in one direction, partitions,
crashes, restarts, pauses) happens here at the word of a seed, and the same seed gives the same run
event by event. Only sockets, files and actions are fake; every message crosses as bytes.

    clock      virtual time and the heap of events
    network    connections between processes, and what becomes of frames on them
    process    one life of one node: a core and its fake shell
    work       fake actions, calls, and a ledger of what was asked, run and answered
    world      all of it behind a few verbs: add, link, call, cut, crash, restart, run
    topology   edges of well-known shapes
    converged  a world in which everybody is linked and known from the first moment
    faults     what may befall a mesh, by name; churn: deaths and joins at a rate
    checkers   what must be true, judged from outside; watch: judges that look on
    swarm      a random mesh with a random mixture of faults, out of one seed; many: by the thousand
    simulation a chosen mesh under chosen faults, measured
"""
