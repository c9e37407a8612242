"""`python -m meshcore.sim --many N`: see `many`."""

from __future__ import annotations

import sys

from meshcore.sim.many import main

if __name__ == "__main__":
    sys.exit(main())
