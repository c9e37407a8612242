"""What a node answers about services, in the reserved namespace `mesh`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meshcore.errors import BadPayloadError, ConfigError, MeshError
from meshcore.protocol.replication import effects
from meshcore.runtime.serving import LATER
from meshcore.services.calling import Request
from meshcore.services.registry import GROUPS, PRIMARY, SET, plain_offers
from meshcore.services.replicated.carrier import FORM, REPLICA
from meshcore.services.replicated.client import SESSION, SUBMIT

if TYPE_CHECKING:
    from meshcore.services.services import Services

SERVICES = "mesh:services"
STATUS = "mesh:service_status"
STATUS_WAIT = 1.0  # seconds for a member to tell how it is
PRIMARY_WAIT = 2.5  # seconds for a hand-over


class Directives:
    """Of one node; `respond(stream, value, True)` answers a call later."""

    def __init__(
        self, services: Services, request: Request, respond: Callable[[Any, Any, bool], Any]
    ) -> None:
        self._services = services
        self._request = request
        self._respond = respond

    def register(self, internal: dict[str, Any]) -> None:
        internal.update(
            {
                SUBMIT: self._submit,
                SESSION: self._session,
                REPLICA: self._replica,
                FORM: self._form,
                GROUPS: self._groups,
                SERVICES: self._list,
                STATUS: self._status,
                SET: self._set,
                PRIMARY: self._set_primary,
            }
        )

    # Replicated calls ----------------------------------------------------------------------------

    def _submit(self, stream: Any, payload: Any, trace: Any) -> Any:
        match payload:
            case [str() as group, int() as session, int() as number, int() as low,
                  bytes() as request, int() as flags]:  # fmt: skip
                pass
            case _:
                raise BadPayloadError(f"{SUBMIT} takes group, session, number, low, request, flags")
        host = self._services.instance(group).host
        if host is None:
            raise BadPayloadError(f"{group} is not replicated here")

        def reply(effect: effects.Reply, traceback: str) -> None:
            self._respond(stream, _plain_reply(effect, traceback), True)

        if flags & 2:
            host.clients.attend(session, number, reply)
        else:
            host.clients.submit(session, number, low, request, bool(flags & 1), reply)
        return LATER

    def _session(self, stream: Any, payload: Any, trace: Any) -> Any:
        match payload:
            case [str() as group, str() as client]:
                pass
            case _:
                raise BadPayloadError(f"{SESSION} takes group, client")
        host = self._services.instance(group).host
        if host is None:
            raise BadPayloadError(f"{group} is not replicated here")

        def reply(effect: effects.Reply, traceback: str) -> None:
            self._respond(stream, _plain_reply(effect, traceback), True)

        host.clients.open(client, reply)
        return LATER

    def _replica(self, stream: Any, payload: Any, trace: Any) -> Any:
        match payload:
            case [str() as group, str() as gid, str() as sender, str() as target, list() as told]:
                pass
            case _:
                raise BadPayloadError(f"{REPLICA} takes group, gid, sender, target, messages")
        host = self._services.instance(group).host
        if host is None:
            return None
        reason = host.on_replica(
            gid, sender, target, told, lambda said: self._respond(stream, said, True)
        )
        if reason:
            raise BadPayloadError(reason)
        return LATER

    def _form(self, stream: Any, payload: Any, trace: Any) -> Any:
        match payload:
            case [str() as group, str() as sender, list() as message]:
                pass
            case _:
                raise BadPayloadError(f"{FORM} takes group, sender, message")
        host = self._services.instance(group).host
        if host is not None:
            host.on_form(sender, message)
        return None

    # Questions -----------------------------------------------------------------------------------

    def _groups(self, stream: Any, payload: Any, trace: Any) -> Any:
        directory = self._services.directory
        return {group: plain_offers(directory.offers(group)) for group in directory.groups()}

    def _status(self, stream: Any, payload: Any, trace: Any) -> Any:
        """Of all groups, or of one; `[group, True]` with a digest of its state."""
        digest = isinstance(payload, list)
        group = payload[0] if isinstance(payload, list) and payload else payload
        status = self._services.status(group if isinstance(group, str) else None)
        for name in status if digest else ():
            status[name]["digest"] = self._services.instance(name).digest()
        return status

    async def _list(self, stream: Any, payload: Any, trace: Any) -> Any:
        """Every group with every member, as each of them says; null where one does not."""
        directory = self._services.directory
        groups = directory.groups() if payload is None else [str(payload)]
        nodes = sorted({offer.node for group in groups for offer in directory.offers(group)})
        answers = dict(zip(nodes, await asyncio.gather(*map(self._ask, nodes)), strict=True))
        return [self._row(group, answers) for group in groups if directory.offers(group)]

    async def _ask(self, node: str) -> dict[str, Any]:
        if node == self._services.node_id:
            return self._services.status()
        try:
            answer = await self._request(node, STATUS, None, timeout=STATUS_WAIT)
        except MeshError as error:
            return {"error": str(error)}
        return answer if isinstance(answer, dict) else {}

    def _row(self, group: str, answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
        offers = self._services.directory.offers(group)
        rows = []
        for offer in offers:
            told = answers[offer.node].get(group) or {}
            row = {
                "node": offer.node, "replica": offer.replica, "role": offer.role,
                "state": offer.state, "answering": offer.answering, "term": offer.term,
                "checkpoint": None, "beats": None, "commit": None, "applied": None,
                "problem": answers[offer.node].get("error"),
            }  # fmt: skip
            row.update({name: told[name] for name in row if name in told})
            rows.append(row)
        leads = [offer for offer in offers if offer.role == "primary"]
        return {
            "group": group,
            "class": offers[0].kind,
            "replication": offers[0].replication,
            "replicas": max(offer.replicas for offer in offers),
            "gids": sorted({offer.gid for offer in offers if offer.gid is not None}),
            "primary": max(leads, key=lambda offer: offer.term).node if leads else None,
            "members": rows,
        }

    # Control -------------------------------------------------------------------------------------

    def _set(self, stream: Any, payload: Any, trace: Any) -> Any:
        match payload:
            case [str() as group, dict() as settings]:
                pass
            case _:
                raise BadPayloadError(f"{SET} takes group, settings")
        try:
            self._services.set(group, settings)
        except ConfigError as error:
            raise BadPayloadError(str(error)) from error
        return None

    async def _set_primary(self, stream: Any, payload: Any, trace: Any) -> Any:
        match payload:
            case [str() as group, str() as node]:
                pass
            case _:
                raise BadPayloadError(f"{PRIMARY} takes group, node")
        try:
            self._services.designate(group, node)
        except ConfigError as error:
            raise BadPayloadError(str(error)) from error
        host = self._services.instance(group).host
        assert host is not None
        if not await host.is_led_by(node, PRIMARY_WAIT):
            raise MeshError(f"{node} did not take over {group} within {PRIMARY_WAIT:g} s")
        return None


def _plain_reply(effect: effects.Reply, traceback: str) -> list[Any]:
    if isinstance(effect, effects.Answered):
        return [0, effect.answer, traceback] if traceback else [0, effect.answer]
    if isinstance(effect, effects.Opened):
        return [0, effect.session]
    return [effect.reason.value, effect.primary]
