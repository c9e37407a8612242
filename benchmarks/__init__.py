"""Benchmarks: how far meshcore is from what plain ZeroMQ gives, and from its peers.

Absolute figures say more about the machine and the hour than about the code, so everything here
is built around *ratios within one run*: every subject is alive at the same time, they take short
bursts in turn, and each figure is divided by that of the limit in the same round.

    python -m benchmarks [QUESTION ...] [--rounds N] [--json FILE] [--quick] [--only SUBJECT,...]

One module per question (`call`, `relay`, `start`, `routing`), one per subject in `subjects/`.
README.md beside this file has the method, how to read a table, and the dated results.
"""
