"""The settings of a node: `Config` and its `Timings`.

`Config()` listens nowhere, dials nobody and writes nothing. `Config.load` reads flags, environment,
file and defaults; `SETTINGS` is the table of all settings by flat key (`timings.warn`), each with
its kind, unit, range, default and the reason for it; `Config.sources()` says where each value is
from. Whatever cannot be used raises ConfigError before anything starts.
"""

from meshcore.config.model import SETTINGS, Config, Timings
from meshcore.config.settings import Setting

__all__ = ["SETTINGS", "Config", "Setting", "Timings"]
