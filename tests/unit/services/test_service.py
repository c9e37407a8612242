"""What a class of services may be, and what it may ask for."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from meshcore import Service, service, task
from meshcore.services.group import Group
from meshcore.services.service import CONCURRENT_MAX, RESERVED


class Lamp(Service):
    @service
    async def on(self) -> None:
        """Switch it on.

        More of it.
        """

    @service(readonly=True, concurrent=3)
    def state(self) -> bool:
        return True

    @task
    async def watch(self) -> None: ...


class Brighter(Lamp):
    @service(concurrent=True)
    async def on(self) -> None: ...

    async def hidden(self) -> None: ...


def test_methods_are_those_that_say_so_with_what_they_say() -> None:
    assert sorted(Lamp.methods) == ["heartbeat", "on", "state"]
    on, state = Lamp.methods["on"], Lamp.methods["state"]
    assert (on.readonly, on.concurrent, on.is_async, on.description) == (
        False,
        0,
        True,
        "Switch it on.",
    )
    assert (state.readonly, state.concurrent, state.is_async) == (True, 3, False)
    assert Lamp.tasks == ("watch",)


def test_a_subclass_has_what_its_base_has_and_may_say_otherwise() -> None:
    assert sorted(Brighter.methods) == ["heartbeat", "on", "state"]
    assert Brighter.methods["on"].concurrent == CONCURRENT_MAX
    assert Lamp.methods["on"].concurrent == 0
    assert Brighter.tasks == ("watch",)


def test_the_names_of_a_group_are_reserved() -> None:
    public = {name for name in dir(Group) if not name.startswith("_")} | {"name", "policy"}
    assert public == RESERVED


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_service_named_like_a_member_of_a_group_is_a_type_error(name: str) -> None:
    async def method(self: Any) -> None: ...

    if name == "add_node":
        expected = r"Wrong\.add_node cannot be a @service: a Group has a member of that name"
    else:
        expected = rf"Wrong\.{name} cannot be a @service"
    with pytest.raises(TypeError, match=expected):
        type("Wrong", (Service,), {name: service(method)})


async def yields(self: Any) -> Any:
    yield 1


def also_yields(self: Any) -> Any:
    yield 1


async def fine(self: Any) -> None: ...


async def unmarked(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"_private": service(fine)}, "it is private"),
        ({"several": service(yields)}, "it yields several values"),
        ({"several": service(also_yields)}, "it yields several values"),
        ({"heartbeat": unmarked}, "heartbeat must be a @service"),
    ],
)
def test_what_cannot_be_called_is_a_type_error(members: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        type("Wrong", (Service,), members)


def test_a_task_is_async_and_concurrency_has_a_limit() -> None:
    with pytest.raises(TypeError, match="a task is an async method"):
        task(lambda self: None)
    with pytest.raises(TypeError, match="concurrent = 2000 must be from 0 to 1024"):
        service(concurrent=2000)


def test_draws_are_the_same_wherever_a_call_is_repeated() -> None:
    one, other = Lamp(), Lamp()
    for lamp in (one, other):
        lamp.set_draws((123.5, 42))
    assert one.time() == other.time() == 123.5
    assert one.random.random() == other.random.random() == random.Random(42).random()
    assert one.random.random() == other.random.random() != random.Random(42).random()
    one.set_draws(None)
    assert one.time() > 1e9
    assert one.random.random() != other.random.random()


def test_a_service_without_a_state_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Lamp has no get_checkpoint"):
        Lamp().get_checkpoint()
    with pytest.raises(NotImplementedError, match="Lamp has no put_checkpoint"):
        Lamp().put_checkpoint(None)
    asyncio.run(Lamp().init())
