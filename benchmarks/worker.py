"""Entry of a child process: `python -m benchmarks.worker ROLE MODULE OPTIONS [ADDRESS]`.

ROLE is `server`, `relay` or `client`: the function of that name in `benchmarks.subjects.MODULE`
is called with the options (a JSON object) and, but for servers, the address that the process
before it announced. A peer that is not installed ends as `unavailable` with the name of what is
missing, so that the table can say so.
"""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks import answering


def main(arguments: list[str]) -> int:
    """Run one role until the parent closes stdin; 3 where the subject cannot run here."""
    role, module_name, options_json, *rest = arguments
    options = json.loads(options_json)
    try:
        module = importlib.import_module(f"benchmarks.subjects.{module_name}")
        if role == "server":
            answering.end_with_parent()
            module.server(options)
        elif role == "relay":
            answering.end_with_parent()
            module.relay(json.loads(rest[0]), options)
        else:
            module.client(json.loads(rest[0]), options)
    except (ImportError, FileNotFoundError) as error:
        answering.refuse(f"{type(error).__name__}: {error}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
