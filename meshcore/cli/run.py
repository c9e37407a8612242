"""`meshctl run`: a node, until it is interrupted.

With --json the first line on stdout is `{"event": "ready", …}`; what happens to links and nodes
follows, one object a line. People are told of links alone. Logs go to stderr. Neither ever holds
the node up (`outlet.py`).

SIGINT and SIGTERM leave the mesh in good order, a second one ends at once. SIGHUP reads the
configuration again, applies what can change while the node runs and names what cannot; and it reads
the sources of flows again, whether the setting has changed or not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshcore.cli import render
from meshcore.cli.attach import is_live
from meshcore.cli.failure import one_line, stdout_is_terminal
from meshcore.cli.home import OWN_RULE, Home, resolve
from meshcore.cli.interrupts import add_signal_handler, end_now
from meshcore.cli.options import F, examples
from meshcore.cli.outlet import Outlet, OutletHandler
from meshcore.errors import ConfigError
from meshcore.paths import DataDir, socket_path
from meshcore.urls import is_wildcard, parse_url

if TYPE_CHECKING:
    from meshcore import Node

_LOG = logging.getLogger("meshcore.cli")


def _flag(name: str, *, help: str) -> Callable[[F], F]:
    """A flag that is None where nobody gave it, so that the file has its say."""
    return click.option(name, is_flag=True, default=None, help=help)


def _sections(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, Any] | None:
    if not value:
        return None
    from meshcore.services.loading import section_of

    return dict(section_of(text) for text in value)


def _no_token(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            "every user of this machine sees a command line: give the token in"
            " MESHCORE_HTTP_TOKEN, or as http_token in the configuration file"
        )


@click.command(
    epilog=examples(
        "meshctl run --id alpha --plugin demo",
        "meshctl run --id beta --plugin demo --peer 127.0.0.1",
        "meshctl run --config /etc/meshcore/gamma.toml",
        "meshctl run --registry --flows services.toml --flows acme.lab:flows",
        "meshctl run --service counter=bank:Counter,replication=passive,replicas=3",
        "meshctl run --id worker --supervise 3 --peer relay.example",
        "meshctl run --listen tcp://*:7323 --insecure",
    )
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file of settings.")
@click.option("--id", "node_id", metavar="ID", help="The node's name, unique in its mesh.")
@click.option("--listen", multiple=True, metavar="URL", help="Listen here; port 0: any free one.")
@click.option("--peer", "peers", multiple=True, metavar="URL", help="Link up with the node there.")
@click.option("--auto-connect", type=int, metavar="N", help="Dial learnt addresses up to N links.")
@_flag("--discovery", help="Find nodes on this network, and be found.")
@click.option("--plugin", "plugins", multiple=True, metavar="MOD", help="Offer its actions.")
@click.option(
    "--service",
    "services",
    multiple=True,
    callback=_sections,
    metavar="GROUP=MOD:CLASS[,KEY=VALUE]",
    help="Serve a class in a group, e.g. with replication=passive,replicas=3.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the node keeps its data.")
@click.option("--mesh", metavar="NAME", help="Link up with nodes of this mesh only.")
@click.option("--max-workers", type=int, metavar="N", help="Run at most N actions at a time.")
@click.option("--organization", metavar="ORG", help="Shown beside the node.")
@click.option(
    "--flows", multiple=True, metavar="SOURCE", help="Offer what a file or module:callable says."
)
@_flag("--registry", help="Keep the mesh's catalogue.")
@click.option(
    "--feed/--no-feed", default=None, help="Whether the registry passes on what others told it."
)
@click.option(
    "--exchange",
    "registries",
    multiple=True,
    metavar="URL",
    help="Exchange catalogues with the registry there.",
)
@click.option("--reset", is_flag=True, help="Begin with an empty catalogue.")
@click.option("--http", metavar="HOST:PORT", help="Serve the catalogue and the live page there.")
@click.option("--http-token", hidden=True, expose_value=False, callback=_no_token)
@click.option(
    "--supervise",
    type=click.IntRange(1, 64),
    is_flag=False,
    flag_value=1,
    metavar="[COUNT]",
    help="Run COUNT node processes (1), and start those again that end.",
)
@_flag("--insecure", help="Let anyone who reaches the node join it.")
@click.option(
    "--log-level", metavar="LEVEL", help="debug, info, warning or error.  [default: warning]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--traceback", is_flag=True, hidden=True)  # as every command takes it
def command(
    *,
    file: Path | None,
    as_json: bool,
    traceback: bool,
    reset: bool,
    supervise: int | None,
    **flags: Any,
) -> None:
    """Run a node until it is interrupted.

    It listens on tcp://127.0.0.1:7323 if nothing says where to listen or whom to dial, and always
    on a socket for the commands of this user on this machine. Flags come before MESHCORE_* in the
    environment, that before the file, that before the defaults (meshctl config show).
    """
    if supervise is not None:
        _supervise(resolve(flags, file=file, keep=True), supervise, as_json=as_json)
        return
    home = resolve(flags, file=file, keep=True)
    if is_live(socket_path(home.config.node_id)):
        raise ConfigError(
            f"a node '{home.config.node_id}' runs here already; choose another --id or stop it"
        )
    if reset:
        with DataDir(home.data_dir) as data:  # its lock: no running node loses its catalogue
            data.remove_catalogue()
    _Service(home, flags, file, as_json=as_json).run()


def _supervise(home: Home, count: int, *, as_json: bool) -> None:
    from meshcore.cli.supervise import Supervisor, plans

    argv = click.get_current_context().find_root().obj or []
    listen = home.config.listen if home.sources["listen"] not in ("default", OWN_RULE) else ()
    planned = plans(argv[1:], node_id=home.config.node_id, count=count, listen=listen)
    asyncio.run(Supervisor(planned, as_json=as_json).run())


class _Service:
    """One run of a node: what it prints, and how signals reach it."""

    def __init__(
        self, home: Home, flags: dict[str, Any], file: Path | None, *, as_json: bool
    ) -> None:
        self._home = home
        self._flags = flags
        self._file = file
        self._json = as_json
        self._signals: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._loading: set[asyncio.Task[None]] = set()
        self._early: list[tuple[dict[str, Any], str]] | None = []  # quicker than the ready line

    def run(self) -> None:
        """Return when the node has left. Raises ConfigError where it cannot start."""
        from meshcore import Node

        self._out = Outlet(sys.stdout, on_closed=self._reader_has_gone)
        self._log = Outlet(sys.stderr)
        handler = OutletHandler(self._log)
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
        )
        root = logging.getLogger()
        root.addHandler(handler)
        self._set_log_level(self._home)
        self._node = Node(self._home.with_local_socket())
        self._node.connectivity.on_link(self._on_link)
        if self._json:
            self._node.connectivity.on_change(self._on_change)
            self._node.connectivity.on_status(self._on_status)
        try:
            self._node.run(self._app)
            if self._signals or self._loop is not None:
                self._tell({"event": "left"}, f"{self._node.node_id} has left the mesh")
        finally:
            root.removeHandler(handler)
            self._log.close()
            self._out.close()

    async def _app(self) -> None:
        """Runs while the node does; when it returns, the node leaves."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            add_signal_handler(self._loop, number, self._on_signal)
        add_signal_handler(self._loop, signal.SIGHUP, self._on_reload)
        self._tell_ready()
        early, self._early = self._early, None
        for told in early or ():
            self._tell(*told)
        for key in self._home.config.reserved_in_use():
            _LOG.warning("%s has no effect in this version yet", key)
        if self._node.flows.sources:
            self._tell_flows(self._node.flows.loaded)
        try:
            await self._ended.wait()
        finally:
            for task in self._loading:
                task.cancel()

    def _on_signal(self, number: int) -> None:
        self._signals.append(number)
        if len(self._signals) > 1:
            path = socket_path(self._node.node_id)
            end_now(number, lambda: path.unlink(missing_ok=True))
        self._ended.set()

    def _reader_has_gone(self) -> None:
        """Nobody reads on, as in `| head`: that is the end of it, from the thread that writes."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)

    def _tell(self, event: dict[str, Any], text: str) -> None:
        self._out.line(
            json.dumps(render.to_json(event), ensure_ascii=False) if self._json else text
        )

    def _tell_ready(self) -> None:
        node, local = self._node, self._home.local_url
        listen = [url for url in node.endpoints if url != local]
        event = {"event": "ready", "node_id": node.node_id, "listen": listen, "http": node.http_url}
        self._tell({**event, "socket": local, "pid": os.getpid()}, ready_text(node, listen))

    def _on_change(self, change: Any) -> None:
        for node_id in change.added:
            self._tell_event("added", {"node_id": node_id})
        for node_id in change.removed:
            self._tell_event("removed", {"node_id": node_id})

    def _on_status(self, event: Any) -> None:
        about = {"node_id": event.node_id, "old": event.old.name, "new": event.new.name}
        self._tell_event("status", {**about, "reachable": event.reachable, "reason": event.reason})

    def _tell_event(self, kind: str, about: dict[str, Any], text: str = "") -> None:
        """What happens in the mesh, with its time; never before the ready line."""
        event = {"event": kind, "time": datetime.now(UTC), **about}
        if self._early is not None:
            self._early.append((event, text))
        else:
            self._tell(event, text)

    def _on_link(self, event: Any) -> None:
        stamp = time.strftime("%H:%M:%S")
        state = "up" if event.up else "down"
        where = f" ({event.url})" if event.up and event.url else ""
        why = f": {event.reason}" if event.reason else ""
        text = f"{stamp}  " + one_line(f"link to {event.node_id} {state}{where}{why}")
        if stdout_is_terminal():
            text = click.style(text, fg="green" if event.up else "yellow")
        about = {"node_id": event.node_id, "up": event.up, "reason": event.reason}
        self._tell_event("link", {**about, "url": event.url}, text)

    def _on_reload(self, number: int) -> None:
        """SIGHUP: what cannot be used is named, and nothing changes."""
        try:
            fresh = resolve(self._flags, file=self._file, keep=False)
            changed = self._home.config.differences(fresh.config)
            applied = self._apply(fresh, changed)
        except ConfigError as error:
            _LOG.error("configuration not applied: %s", error)
            self._tell(
                {"event": "configuration", "applied": [], "error": str(error)},
                f"configuration not applied: {one_line(str(error))}",
            )
            return
        kept = [key for key in changed if key not in applied]
        parts = [f"applied {', '.join(applied)}"] if applied else []
        if kept:
            parts.append(f"cannot change while running: {', '.join(kept)} (restart the node)")
        text = "; ".join(parts) or "nothing has changed"
        self._tell(
            {"event": "configuration", "applied": applied, "cannot_change": kept},
            f"configuration read again: {text}",
        )

        self._read_flows(had_some="flows" in applied)

    def _read_flows(self, *, had_some: bool) -> None:
        """Read the sources of flows again, beside the loop, and tell what came of it."""
        if self._loop is None or not (had_some or self._home.config.flows):
            return
        task = self._loop.create_task(self._load_flows(self._home.config.flows))
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def _load_flows(self, sources: Sequence[str]) -> None:
        self._tell_flows(await self._node.flows.load(sources))

    def _tell_flows(self, loaded: Any) -> None:
        """How many there are. What is wrong with others is in the log, one by one."""
        flows, problems = len(loaded.flows), [_as_json(problem) for problem in loaded.problems]
        text = f"{flows:,} flow{'' if flows == 1 else 's'} loaded"
        if problems:
            text += f", {len(problems):,} problem{'' if len(problems) == 1 else 's'} (see the log)"
        self._tell_event("flows", {"loaded": flows, "problems": problems}, text)

    def _apply(self, fresh: Home, changed: tuple[str, ...]) -> list[str]:
        """Change what can change while the node runs; the keys of it."""
        old, new = self._home.config, fresh.config
        applied = []
        if any(key.startswith("timings.") for key in changed):
            self._node.connectivity.set_timings(**vars(new.timings))
            applied += [key for key in changed if key.startswith("timings.")]
        if "peers" in changed:
            for url in [url for url in old.peers if url not in new.peers]:
                self._node.remove_peer(url)
            for url in [url for url in new.peers if url not in old.peers]:
                self._node.add_peer(url)
            applied.append("peers")
        if "auto_connect" in changed:
            self._node.set_auto_connect(new.auto_connect)
            applied.append("auto_connect")
        if "registries" in changed:
            self._node.catalogue.set_registries(new.registries)
            applied.append("registries")
        if "flows" in changed:  # their sources are read again at every SIGHUP
            applied.append("flows")
        if "log_level" in changed:
            self._set_log_level(fresh)
            applied.append("log_level")
        # The rest stays as it was, so that the next SIGHUP names it again.
        live = {key: new.get(key) for key in applied if "." not in key}
        if any(key.startswith("timings.") for key in applied):
            live["timings"] = vars(new.timings)
        config = type(old).from_dict({**old.to_dict(), **live})
        self._home = Home(config, fresh.sources, fresh.file)
        return applied

    @staticmethod
    def _set_log_level(home: Home) -> None:
        # Links that come and go are told on stdout here, so that info would say them twice.
        level = home.config.log_level if home.sources["log_level"] != "default" else "warning"
        logging.getLogger().setLevel(level.upper())


def _as_json(problem: Any) -> dict[str, str]:
    return {"source": problem.source, "where": problem.where, "reason": problem.reason}


def ready_text(node: Node, listen: list[str]) -> str:
    """What a person wants to know when the node is up: where it is and how to join it."""
    lines = [f"{node.node_id} is up"]
    if listen:
        lines += [f"  listens on  {url}" for url in listen]
        lines.append(f"  to join it  meshctl run --peer {_dialable(listen[0])}")
    else:
        lines.append("  listens nowhere, it only dials: " + ", ".join(node.config.peers))
    if node.http_url is not None:
        lines.append(f"  catalogue   {node.http_url}/flows")
    lines.append(f"  look at it  meshctl status --via {node.node_id}    (Ctrl-C ends it)")
    return "\n".join(lines)


def _dialable(url: str) -> str:
    parsed = parse_url(url)
    if not is_wildcard(parsed):
        return url
    return f"tcp://{platform.node() or 'HOST'}:{parsed.port}"
