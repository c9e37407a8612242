"""Every setting of a node, with its unit, range, default and the reason for that default.

`Config()` is a node that listens nowhere, dials nobody and writes nothing. Both classes are frozen
and take keywords only; whatever cannot be used raises ConfigError when it is made, never later.

Times are seconds. A setting marked `reserved` is checked already, although nothing in this version
acts on it: a file written for a later version says the same here.
"""

from __future__ import annotations

import dataclasses
import itertools
import platform
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshcore.config import layers
from meshcore.config.settings import Setting, SettingError, setting, settings_of
from meshcore.identity import new_node_id
from meshcore.urls import is_loopback, parse_url

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Timings:
    """When a neighbour counts as slow, in trouble, dead, and when it is forgotten.

    Each threshold is the age of the last beat that was received; they must rise:
    0 < slow < warn < dead < remove.
    """

    send_alive_interval: float = setting(
        0.5, "number", "two beats fit into `slow`; each costs about 200 bytes per neighbour",
        unit="seconds", minimum=0.01, maximum=60, live=True,
    )  # fmt: skip
    check_interval: float = setting(
        0.25, "number", "a threshold is noticed at most this much late",
        unit="seconds", minimum=0.01, maximum=60, live=True,
    )  # fmt: skip
    slow: float = setting(
        1.0, "number", "one lost beat is no reason yet to place work elsewhere",
        unit="seconds", minimum=0.001, maximum=86_400, live=True,
    )  # fmt: skip
    warn: float = setting(
        2.0, "number", "three lost beats: other routes are better while there are any",
        unit="seconds", minimum=0.001, maximum=86_400, live=True,
    )  # fmt: skip
    dead: float = setting(
        5.0, "number", "long enough for a busy machine, short enough for people who wait",
        unit="seconds", minimum=0.001, maximum=86_400, live=True,
    )  # fmt: skip
    remove: float = setting(
        10.0, "number", "a dead node stays visible for as long again, so that it can be seen",
        unit="seconds", minimum=0.001, maximum=86_400, live=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in _TIMINGS:
            value = SETTINGS[f"timings.{name}"].check(getattr(self, name))
            object.__setattr__(self, name, value)
        rising = ("slow", "warn", "dead", "remove")
        for lower, upper in itertools.pairwise(rising):
            small, large = getattr(self, lower), getattr(self, upper)
            if not small < large:
                raise SettingError(
                    f"timings.{upper} = {large} must be greater than timings.{lower} = {small}",
                    keys=(f"timings.{upper}", f"timings.{lower}"),
                )


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one node; see `load` for where they come from."""

    node_id: str = setting(
        "", "node id", "left out, it is <host>-<4 letters>: unique enough to try things out"
    )
    mesh: str = setting("mesh", "name", "links between nodes of different meshes are refused")
    listen: Sequence[str] = setting((), "listen urls", "a node that only dials is a full member")
    advertise: Sequence[str] = setting(
        (), "dial urls", "left out, others are told the addresses that were bound"
    )
    peers: Sequence[str] = setting((), "dial urls", "whom to dial, for ever", live=True)
    plugins: Sequence[str] = setting(
        (), "strings", "only what is named is loaded: `demo`, `pkg.mod` or `name=pkg.mod`"
    )
    data_dir: Path | None = setting(
        None, "path", "without one nothing is written to disk and every start is a new life"
    )
    max_workers: int = setting(
        64, "integer", "work that runs at a time: loop actions that wait, threads and processes;"
        " beyond 64 the threads of one process only take turns",
        unit="running actions", minimum=1, maximum=10_000,
    )  # fmt: skip
    queue_max: int = setting(
        1024, "integer", "work that waits for a worker; beyond it callers get BusyError at once",
        unit="waiting actions", minimum=0, maximum=1_000_000,
    )  # fmt: skip
    ephemeral: bool = setting(
        False, "flag", "attached to one node and never listed, as the command line is"
    )
    insecure: bool = setting(
        False, "flag", "anyone who reaches the port could join the mesh and run its actions"
    )
    organization: str | None = setting(None, "text", "shown beside the node", maximum=64)
    registry: bool = setting(
        False, "flag", "it keeps the catalogue of the whole mesh; one or a few are enough"
    )
    feed: bool | None = setting(
        None, "flag", "left out, a registry passes on what others told it; false: only what it"
        " was told by the nodes and programs themselves",
    )  # fmt: skip
    flows: Sequence[str] = setting(
        (), "strings", "what to offer besides actions: files (TOML, YAML) and `module:callable`",
        live=True, files=(".toml", ".yaml", ".yml"),
    )  # fmt: skip
    flow_expiry: float = setting(
        86_400.0, "number", "a registry forgets what a lost node offered only after a day: it may"
        " be switched off for the night", unit="seconds", minimum=1, maximum=31_536_000,
    )  # fmt: skip
    registries: Sequence[str] = setting(
        (), "web urls", "registries of other meshes to exchange catalogues with",
        live=True,
    )  # fmt: skip
    http: str | None = setting(
        None, "address", "a web server is one more way in: only where it is wanted"
    )
    http_url: str | None = setting(
        None, "web url", "left out, others are told the address that was bound; where a proxy or a"
        " name leads there it is theirs, and requests may name its host", maximum=256,
    )  # fmt: skip
    http_token: str | None = setting(
        None, "text", "what a client must show (`Authorization: Bearer …`) to change something;"
        " without one only this machine may, unless the node is insecure", maximum=256,
        secret=True,
    )  # fmt: skip
    auto_connect: int = setting(
        0, "integer", "0: only configured peers are dialled; 6 keeps large meshes connected",
        unit="links", minimum=0, maximum=64, live=True,
    )  # fmt: skip
    dial_allow: Sequence[str] = setting(
        (), "networks", "where learnt addresses may lead; left out, it is this machine, the"
        " networks of its interfaces, and the hosts of configured peers",
    )  # fmt: skip
    discovery: bool = setting(
        False, "flag", "it tells everybody on the local network that this node exists"
    )
    timings: Timings = dataclasses.field(default_factory=Timings)
    request_timeout: float = setting(
        30.0, "number", "long enough for most calls; pass `timeout` for longer ones",
        unit="seconds", minimum=0.001, maximum=31_536_000,
    )  # fmt: skip
    durable_ttl: float = setting(
        86_400.0, "number", "durable work outlives a night's outage", unit="seconds",
        minimum=1, maximum=31_536_000, reserved=True,
    )  # fmt: skip
    spool_bytes_max: int = setting(
        4096 * MEBIBYTE, "integer", "large payloads that wait in files; it bounds the disk used",
        unit="bytes", minimum=MEBIBYTE,
    )  # fmt: skip
    grace: float = setting(
        5.0, "number", "how long running work may finish when the node stops",
        unit="seconds", minimum=0, maximum=3600,
    )  # fmt: skip
    costs: Mapping[str, int] = setting(
        {}, "costs", "of the links to these neighbours, instead of what is measured",
        unit="microseconds", minimum=1, maximum=1_000_000_000,
    )  # fmt: skip
    log_level: str = setting(
        "info", "text", "links that come and go are news; beats are not",
        choices=("debug", "info", "warning", "error"), live=True,
    )  # fmt: skip
    plugin: Mapping[str, Mapping[str, Any]] = setting(
        {}, "sections", "each plugin's own section, as `context.config` shows it"
    )
    dask: str | None = setting(
        None, "text", "scheduler of a Dask cluster (`tcp://HOST:8786`) for actions with executor ="
        ' "dask"; most nodes have no such actions', maximum=256,
    )  # fmt: skip
    etcd: Sequence[str] = setting(
        (), "web urls", "servers of an etcd cluster that gives leases to lead a group; left out,"
        " a majority of its members elects",
    )  # fmt: skip
    services: Mapping[str, Mapping[str, Any]] = setting(
        {}, "sections", "what to serve, by group: its `class` (`module:Class`), and settings of"
        " `Node.serve`"
    )  # fmt: skip
    _sources: dict[str, str] = dataclasses.field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for name in _OWN:
            object.__setattr__(self, name, SETTINGS[name].check(getattr(self, name)))
        if not isinstance(self.timings, Timings):
            raise SettingError(f"timings = {self.timings!r} must be Timings", keys=("timings",))
        self._check_reach()
        for key in ("feed", "registries"):
            if getattr(self, key) not in (None, ()) and not self.registry:
                raise SettingError(
                    f"{key} is for a node that is a registry: set registry = true as well",
                    keys=(key, "registry"),
                )
        if self.ephemeral and self.listen:
            raise SettingError(
                "an ephemeral node listens nowhere: set ephemeral or listen, not both",
                keys=("listen", "ephemeral"),
            )
        self._sources.update(_guessed_sources(self))
        if not self.node_id:
            object.__setattr__(self, "node_id", _made_up_id())

    def _check_reach(self) -> None:
        """Refuse to listen where other machines can reach us, unless that is said to be meant."""
        if self.insecure:
            return
        for key, urls in (("listen", self.listen), ("http", (self.http,) if self.http else ())):
            for url in urls:
                if not is_loopback(parse_url(url, key=key)):
                    raise SettingError(
                        f"{key}: other machines can reach {url}, and this mesh has no security set"
                        " up; listen on 127.0.0.1, or say insecure = true (--insecure) to let"
                        " anyone who reaches it join and run actions",
                        keys=(key, "insecure"),
                    )

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        env: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Config:
        """The settings of flags, environment, file and defaults, the first that says one wins.

        Args:
            path: a TOML file; None: `meshcore.toml` in the data directory, where there is one.
            env: the environment (`MESHCORE_LISTEN`, `MESHCORE_TIMINGS_WARN`; lists by comma);
                None: that of this process.
            overrides: what flags say, by key (`timings.warn` or nested); None values do not count.

        Raises:
            ConfigError: naming the file or variable, the key and what was expected.
        """
        return cls._from_layers(layers.read(SETTINGS, path, env=env, overrides=overrides))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, origin: str = "") -> Config:
        """The settings of a nested mapping as in the file; `origin` begins error texts.

        Raises:
            ConfigError: an unknown key, or a value that cannot be used.
        """
        said = layers.layer(SETTINGS, values, origin or "argument", named=bool(origin))
        return cls._from_layers([said])

    @classmethod
    def _from_layers(cls, strongest_first: Sequence[layers.Layer]) -> Config:
        said = layers.merged(strongest_first)
        values = {key: each.value for key, each in said.items()}
        timings = {name: values.pop(key) for name, key in _TIMING_KEYS if key in values}
        try:
            config = cls(timings=Timings(**timings), **values)
        except SettingError as error:
            raise layers.with_origin(error, said) from None
        config._sources.clear()  # what it guessed as long as it had nothing better
        config._sources.update({key: each.origin for key, each in said.items()})
        return config

    def with_changes(self, **settings: Any) -> Config:
        """The same settings but for these."""
        return Config.from_dict({**self.to_dict(), **settings})

    def to_dict(self) -> dict[str, Any]:
        """A nested dict of plain values (JSON can hold it); `from_dict` makes the same again."""
        plain: dict[str, Any] = {}
        for name in _OWN:
            value = getattr(self, name)
            if isinstance(value, tuple):
                value = [str(item) for item in value]
            elif isinstance(value, dict):
                value = {key: _copy(item) for key, item in value.items()}
            plain[name] = str(value) if isinstance(value, Path) else value
        plain["timings"] = {name: getattr(self.timings, name) for name in _TIMINGS}
        return plain

    def get(self, key: str) -> Any:
        """The value of a flat key of the table of settings, such as `timings.warn`."""
        if key not in SETTINGS:
            raise KeyError(key)
        owner: Any = self
        for part in key.split("."):
            owner = getattr(owner, part)
        return owner

    def sources(self) -> dict[str, str]:
        """Where each setting comes from, by flat key, in the order of the table.

        It is `default`, `flag`, `argument`, the path of a file or the name of a variable.
        """
        return {key: self._sources.get(key, "default") for key in SETTINGS}

    def differences(self, other: Config) -> tuple[str, ...]:
        """The flat keys in which `other` has another value; `SETTINGS[key].live` may change."""
        return tuple(key for key in SETTINGS if self.get(key) != other.get(key))

    def reserved_in_use(self) -> tuple[str, ...]:
        """The keys that are set although nothing in this version acts on them."""
        return tuple(
            key for key, spec in SETTINGS.items() if spec.reserved and self.get(key) != spec.default
        )


def _copy(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _guessed_sources(config: Config) -> dict[str, str]:
    """Of a Config made by hand: what is not the default was an argument."""
    return {k: "argument" for k, spec in SETTINGS.items() if config.get(k) != spec.default}


def _made_up_id() -> str:
    # SystemRandom: two processes that start in the same moment must not agree.
    return new_node_id(platform.node(), random.SystemRandom())


_OWN_SETTINGS = settings_of(Config)
_TIMING_SETTINGS = settings_of(Timings, "timings.")
_OWN = tuple(_OWN_SETTINGS)
_TIMING_KEYS = tuple((key.removeprefix("timings."), key) for key in _TIMING_SETTINGS)
_TIMINGS = tuple(name for name, _ in _TIMING_KEYS)

SETTINGS: dict[str, Setting] = {**_OWN_SETTINGS, **_TIMING_SETTINGS}
