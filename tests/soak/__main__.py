"""`python -m tests.soak NAME`: the whole form of tests that CI runs shortened.

Each module of this directory is one soak of that name. It has a docstring, whose first line
`python -m tests.soak` lists, and `main(arguments: list[str]) -> int`: the exit code.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from pathlib import Path


def soaks() -> dict[str, str]:
    """Names and first lines, without importing anything."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            found[path.stem] = text.partition("\n")[0]
    return found


def main(arguments: list[str]) -> int:
    known = soaks()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: bin/soak NAME [OPTION ...]")
        for name, line in known.items():
            print(f"  {name:20} {line}")
        return 0 if arguments else 2
    name = arguments[0]
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
        print(f"no soak {name!r}; {hint}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"tests.soak.{name}").main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
