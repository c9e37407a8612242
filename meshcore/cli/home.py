"""The settings that `meshctl run` runs with, and the place where its node lives.

The data directory is what the settings say, else `<user state dir>/meshcore/<id>`; a node that was
given no id lives in `default`, and the id that it made there is kept in the file `node_id`. A
`meshcore.toml` in the data directory is read when no other file is named.

`resolve` writes nothing but that id, and only when `keep` says so. The lock on the data directory
and the number of the node's life are the node's own business when it starts.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshcore.config import Config
from meshcore.errors import ConfigError
from meshcore.identity import is_node_id, new_node_id
from meshcore.paths import socket_path, state_dir, write_durably
from meshcore.urls import Url, parse_url

FILE_NAME = "meshcore.toml"
_ID_FILE = "node_id"
_NAMELESS = "default"
_DEFAULT_LISTEN = "127.0.0.1"
OWN_RULE = "default of meshctl run"


@dataclass(frozen=True, slots=True)
class Home:
    """What `meshctl run` starts: the settings, and where each of them is from.

    `config.listen` holds the addresses of the mesh only; `local_url` is the socket for commands on
    this machine, which the node listens on as well.
    """

    config: Config
    sources: dict[str, str] = field(default_factory=dict)
    file: Path | None = None

    @property
    def data_dir(self) -> Path:
        assert self.config.data_dir is not None
        return self.config.data_dir

    @property
    def local_url(self) -> str:
        """Raises ConfigError where the runtime directory cannot be used."""
        return str(Url("ipc", path=str(socket_path(self.config.node_id))))

    def with_local_socket(self) -> Config:
        """The settings for the node itself."""
        listen = [*self.config.listen, self.local_url]
        return Config.from_dict({**self.config.to_dict(), "listen": listen})


def resolve(
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    env: Mapping[str, str] | None = None,
    keep: bool,
) -> Home:
    """The settings of flags, environment, file and defaults, completed as a node here needs them.

    Args:
        flags: what the command line says, by setting; None and empty do not count. A flag that is
            False was said (`--no-feed`).
        file: `--config`.
        env: the environment; None: that of this process.
        keep: make the data directory and keep a made-up id in it.

    Raises:
        ConfigError: something cannot be used; the text names it.
    """
    said = {k: v for k, v in flags.items() if v is not None and v != ()}
    first = Config.load(file, env=env, overrides=said)
    completed: dict[str, str] = {}
    data_dir = first.data_dir
    if data_dir is None:
        named = first.sources()["node_id"] != "default"
        data_dir = state_dir(first.node_id if named else _NAMELESS)
        completed["data_dir"] = OWN_RULE
    if file is None and (data_dir / FILE_NAME).exists():
        file = data_dir / FILE_NAME
    said["data_dir"] = data_dir
    config = Config.load(file, env=env, overrides=said)
    sources = config.sources()
    if sources["node_id"] == "default":
        said["node_id"] = _kept_id(data_dir, keep=keep)
        completed["node_id"] = str(data_dir / _ID_FILE)
    if sources["listen"] == sources["peers"] == "default":
        said["listen"] = [str(parse_url(_DEFAULT_LISTEN))]
        completed["listen"] = OWN_RULE
    config = Config.load(file, env=env, overrides=said)
    return Home(config, {**config.sources(), **completed}, file)


def _kept_id(data_dir: Path, *, keep: bool) -> str:
    """The id that a nameless node made for itself when it first ran here."""
    path = data_dir / _ID_FILE
    try:
        kept = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        kept = new_node_id(platform.node(), random.SystemRandom())
        if keep:
            _keep(path, kept)
        return kept
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not is_node_id(kept):
        raise ConfigError(f"{path} must hold a node id, not {kept[:80]!r}; give --id or remove it")
    return kept


def _keep(path: Path, node_id: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, f"{node_id}\n".encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
