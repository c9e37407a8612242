"""The context of a job in another process: what is sent of it, and what is made of that there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from meshcore.work.context import Context, Services

if TYPE_CHECKING:
    from meshcore.work.job import Job


def context_fields(job: Job, services: Services) -> dict[str, Any]:
    """What `context_of` makes the context of there: plain values."""
    return {
        "message_id": job.message_id,
        "sender": job.sender,
        "directive": job.spec.directive,
        "remaining": None if job.deadline is None else job.deadline - services.clock(),
        "attempt": job.attempt,
        "config": dict(services.config.get(job.spec.namespace, {})),
    }


def context_of(
    *,
    message_id: str,
    sender: str,
    directive: str,
    remaining: float | None,
    attempt: int,
    config: dict[str, Any],
) -> Context:
    """The context there: it cannot call others."""
    deadline = None if remaining is None else time.monotonic() + remaining
    namespace = directive.partition(":")[0]
    services = Services(call=None, clock=time.monotonic, config={namespace: config}, loop=None)
    return Context(services, message_id, sender, directive, deadline, attempt)
