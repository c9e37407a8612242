"""meshctl, the command line: one file per command, on nothing but the public API.

`main.py` holds the table of commands and turns errors into exit codes; `attach.py` finds the node
that a command talks to; `render.py` draws. Only this package imports click and rich, and rich only
where a command draws on a terminal.
"""
