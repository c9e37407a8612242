"""A node: a full member of the mesh, from `start` to `stop`.

It puts the parts together (core, driver, transport, executor) and gives applications their view of
them: `router`, `connectivity`, actions, links. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Self, TypeVar

from meshcore.announcing import Announcing
from meshcore.answers import Answers
from meshcore.catalogue import Catalogue
from meshcore.catalogue.directives import Directives
from meshcore.config import Config
from meshcore.connectivity import Connectivity
from meshcore.errors import ClosedError
from meshcore.flows import Offering
from meshcore.owner import Owner
from meshcore.paths import DataDir
from meshcore.payload import Spool
from meshcore.router import Link, Router
from meshcore.runtime import loop as event_loop
from meshcore.runtime.background import Background, Work, interrupts, wait_until
from meshcore.runtime.calls import Calls
from meshcore.runtime.core import new_core
from meshcore.runtime.driver import Driver
from meshcore.runtime.explain import explain
from meshcore.runtime.finding import Finding
from meshcore.runtime.serving import Serving
from meshcore.selectors import AttachedPicker, Picker
from meshcore.services.group import Group
from meshcore.services.service import Service
from meshcore.services.services import Served, Services
from meshcore.transport.transport import Transport
from meshcore.urls import parse_url
from meshcore.work.executor import Executor
from meshcore.work.registry import Registry

_LOG = logging.getLogger("meshcore.node")
T = TypeVar("T")
LEAVE_WAIT = 0.5  # seconds for one neighbour to acknowledge that we leave
SETTLE_WAIT = 0.3  # seconds for registries to take what we have just changed
DRAIN_WAIT = 0.5  # seconds for the last responses to be acknowledged


class Node:
    """A member of the mesh. Without a configuration it listens nowhere and writes nothing."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.node_id = self.config.node_id
        self._registry = Registry()
        self._listen, self._peers = list(self.config.listen), list(self.config.peers)
        self.endpoints: list[str] = []
        self._background = Background()
        self._driver: Driver | None = None
        self._data_dir: DataDir | None = None
        self._web: Any = None  # a meshcore.web.server.WebServer, where there is one
        self._closed: asyncio.Event | None = None
        self._stopping: asyncio.Task[None] | None = None
        for plugin in self.config.plugins:
            self._registry.add_plugin(plugin)
        self._mesh = new_core(self.config)
        self.router = Router(self._mesh)
        self.connectivity = Connectivity(
            self._mesh, self.router, act=self._act, request=self.request
        )
        self.catalogue = Catalogue(self._mesh, self.config, request=self.request)
        self.services = Services(
            self._mesh,
            self.router,
            request=self.request,
            post=self._post,
            config=self.config,
            announce=self._tell_details,
            controller=self,
        )
        self.flows = Offering(self.config.flows, offer=self.catalogue.offer, node_id=self.node_id)
        pick_by = AttachedPicker if self.config.ephemeral else Picker
        self._picker = pick_by(self.node_id, self.router, self.connectivity, self.request)

    # Life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listening when it returns.

        Raises:
            ConfigError: an address, plugin or data directory that cannot be used.
            ClosedError: it was started before.
        """
        if self._closed is not None:
            raise ClosedError(f"{self.node_id} was started before; make a new node")
        self._closed = asyncio.Event()
        self._mesh.begin(time.monotonic())
        loop = asyncio.get_running_loop()
        try:
            if self.config.data_dir is not None:
                self._data_dir = DataDir(self.config.data_dir)
                number = self._data_dir.next_incarnation()
                self._mesh.set_incarnation(number, time.monotonic())
            self._assemble(loop)
            await self.flows.load()
            await self._start_web()  # first: registries outside are asked over it
            self.catalogue.start(self.config.data_dir)
            for url in self._listen:
                self._bind(url)
            self._announce()
            await self._finding.start()
        except BaseException:
            await self._release()
            raise
        driver = self._started()
        for url in self._peers:
            self._mesh.add_peer(url, driver.now())
        driver.flush()
        try:
            await self.services.start(self.config)
        except BaseException:
            await self.stop(grace=0)
            raise
        self._background.start()

    async def _start_web(self) -> None:
        if self.config.http is not None:
            from meshcore.web import open_web  # an extra, and slow to load

            self._web = open_web(self)
            await self._web.start()

    def _assemble(self, loop: asyncio.AbstractEventLoop) -> None:
        owner = Owner(
            self._mesh,
            self.router,
            request=self.request,
            followers=(
                self.connectivity.dispatch,
                self.catalogue.dispatch,
                self.services.dispatch,
            ),
            fail=self._background.fail,
            next_incarnation=self._take_incarnation,
            renewed=self.catalogue.take_incarnation,
        )
        driver = Driver(loop, self._mesh, owner=owner, make_transport=Transport)
        owner.driver = self._driver = driver
        self._announcing = Announcing(self.config, self._registry, driver)
        self._finding = Finding(driver, self.config)
        self._spool = Spool.of_node(self.config.data_dir, self.config.spool_bytes_max)
        self._serving = Serving(driver, spool=self._spool)
        self._calls = Calls(driver, spool=self._spool, explain=partial(explain, self._mesh))
        self._executor = Executor(
            self._registry,
            self._serving,
            loop=loop,
            max_workers=self.config.max_workers,
            queue_max=self.config.queue_max,
            call=self._call_for_action,
            config=self.config.plugin,
            node_id=self.node_id,
            spool=self._spool,
            clock=driver.now,
            dask=self.config.dask,
        )
        self._serving.connect(self._executor)
        driver.connect(self._serving, self._calls)
        Answers(self, driver, self._serving, self._executor, self._picker).register()
        Directives(self.catalogue).register(self._serving.internal)
        self.services.register(self._serving.internal, self._serving.respond)

    async def stop(self, *, grace: float | None = None) -> None:
        """Leave the mesh in good order; a second call waits for the first.

        Running work may finish for `grace` seconds (default: the setting `grace`), then it is
        cancelled. Peers hear of the leave before the links close.
        """
        if self._driver is None:
            return
        if self._stopping is None:
            seconds = self.config.grace if grace is None else grace
            self._stopping = asyncio.get_running_loop().create_task(self._stop(seconds))
        await asyncio.shield(self._stopping)

    async def _stop(self, grace: float) -> None:
        driver = self._driver
        assert driver is not None
        await self._background.stop()
        await self.services.stop(grace)
        stuck = await self._executor.stop(grace)
        if stuck:
            _LOG.warning("%s: work that would not end was left behind: %s", self.node_id, stuck)
        self._mesh.delivery.close_calls(f"{self.node_id} stops", driver.now())
        driver.flush()
        await wait_until(self._mesh.delivery.is_settled, DRAIN_WAIT)
        await self.catalogue.settle(SETTLE_WAIT)
        self._mesh.leave(driver.now())
        driver.flush()
        if self._mesh.has_link() and not self.config.ephemeral:  # nobody lists a client
            await wait_until(lambda: self._mesh.leave_acked, LEAVE_WAIT)
        self._mesh.close_links(driver.now())
        driver.flush()
        await self._release()

    async def _release(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            if self._web is not None:
                await self._web.stop()
            await self.catalogue.close()
            await self._finding.close()
            await driver.close(linger=0.3)
            self._serving.close()
            self._calls.close()
        if self._data_dir is not None:
            self._data_dir.close()
            self._data_dir = None
        self.connectivity.close()
        if self._closed is not None:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Returns when the node has stopped."""
        if self._closed is None:
            raise ClosedError(f"{self.node_id} was not started")
        await self._closed.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        await self.stop()
        if self._background.failure is not None and error is None:
            raise self._background.failure

    def run(self, app: Callable[[], Awaitable[T]] | None = None) -> T | None:
        """Run in a loop of its own until `app` returns, which is returned, or SIGINT or SIGTERM.

        Raises what it, or work of `create_task`, raised.
        """
        return event_loop.run(self._run(app))

    async def _run(self, app: Callable[[], Awaitable[T]] | None) -> T | None:
        async with interrupts() as interrupted, self:
            return await self._background.run(app, interrupted)

    def create_task(self, work: Work) -> None:
        """Run `work` from `start` to `stop`; if it raises, `run` and `async with` raise it."""
        self._background.add(work)

    # Addresses and peers ---------------------------------------------------------------------

    def enable_server(self, urls: Sequence[str]) -> None:
        """Listen there as well: remembered before `start`, bound at once after it."""
        checked = [str(parse_url(url, key="listen")) for url in urls]
        self.config = self.config.with_changes(listen=[*self._listen, *checked])
        if self._driver is None:
            self._listen += checked
            return
        for url in checked:
            self._bind(url)
        self._announce()

    def add_peer(self, url: str) -> None:
        """Dial `url` until the node stops or `remove_peer` is called."""
        url = str(parse_url(url, key="peer"))
        if url not in self._peers:
            self._peers.append(url)
        if self._driver is not None:
            self._mesh.add_peer(url, self._driver.now())
            self._driver.flush()

    def remove_peer(self, url: str) -> None:
        """Dial `url` no more, and close the link that was dialled there."""
        url = str(parse_url(url, key="peer"))
        if url in self._peers:
            self._peers.remove(url)
        if self._driver is not None:
            self._mesh.remove_peer(url, self._driver.now())
            self._driver.flush()

    def set_auto_connect(self, degree: int) -> None:
        """Dial learnt addresses until this node has so many links; 0: no more of them."""
        self.config = self.config.with_changes(auto_connect=degree)
        if self._driver is not None:
            self._finding.set_auto_connect(degree)

    def _bind(self, url: str) -> None:
        assert self._driver is not None
        self.endpoints.append(self._driver.transport.listen(url))

    def _announce(self) -> None:
        """Tell the mesh where we listen and what we offer."""
        self._finding.tell_endpoints(self._announcing.tell_endpoints(self.endpoints))
        self._tell_details()

    def _tell_details(self) -> None:
        if self._driver is not None:
            self._announcing.tell_details(self.services.announced())
            self.catalogue.set_actions(self._registry.capabilities())

    @property
    def http_url(self) -> str | None:
        """Where the catalogue is served over HTTP; None where it is not."""
        return None if self._web is None else self._web.url

    @property
    def links(self) -> list[Link]:
        """The links that are up or being made, clients not counted."""
        return self.router.links()

    # Actions ---------------------------------------------------------------------------------

    def action(
        self, directive: str, **options: Any
    ) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Offer a function as `directive`; options as for `meshcore.action`."""

        def register(function: Callable[..., T]) -> Callable[..., T]:
            self._registry.add_function(directive, function, **options)
            self._tell_details()
            return function

        return register

    def add_plugin(self, plugin: str | ModuleType, *, namespace: str | None = None) -> None:
        """Offer the actions of a module, or of the plugin of that name."""
        self._registry.add_plugin(plugin, namespace=namespace)
        self._tell_details()

    # Services --------------------------------------------------------------------------------

    async def serve(self, service: Service, *, group: str, **settings: Any) -> Served:
        """Serve this in that group until the node stops; settings as for `Services.serve`."""
        return await self.services.serve(service, group=group, **settings)

    def group(self, name: str, **settings: Any) -> Group:
        """Call that group, with `policy` and `timeout`; see `meshcore.Group`."""
        return self.services.group(name, **settings)

    # What the core wants done -----------------------------------------------------------------

    def _take_incarnation(self, number: int) -> int:
        if self._data_dir is not None:
            number = self._data_dir.next_incarnation(at_least=number)
        return number

    def _act(self, method: Callable[..., None], *arguments: Any) -> None:
        """Have the core do something now, also before the start, and send what follows."""
        method(*arguments, time.monotonic())
        if self._driver is not None:
            self._driver.flush()

    # Calls -----------------------------------------------------------------------------------

    def _started(self) -> Driver:
        if self._driver is None:
            raise ClosedError(f"{self.node_id} is not running", may_have_run=False)
        return self._driver

    async def request(
        self,
        recipient: str,
        directive: str,
        payload: Any,
        *,
        timeout: float | None,
        priority: str = "interactive",
        trace: bool = False,
    ) -> Any:
        """One call and its one value; the way of `Controller.call` and of actions that call."""
        future: asyncio.Future[Any] = self._started().loop.create_future()
        call = self._calls.start(
            recipient,
            directive,
            payload,
            future,
            self.config.request_timeout if timeout is None else timeout,
            priority,
            trace=trace,
        )
        try:
            return await future
        except asyncio.CancelledError:
            self._calls.cancel(call)
            raise

    def _post(self, to: str, directive: str, payload: Any, *, timeout: float) -> Any:
        return self._calls.begin(to, directive, payload, timeout)

    def _call_for_action(
        self, recipient: str, directive: str, payload: Any, /, *, timeout: float | None
    ) -> Awaitable[Any]:
        return self.request(recipient, directive, payload, timeout=timeout)
