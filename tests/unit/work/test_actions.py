"""The decorator, the specs, the registry."""

from __future__ import annotations

import importlib.metadata
import sys
import types

import pytest

from meshcore.errors import ConfigError
from meshcore.work.actions import Kind, Options, action, describe
from meshcore.work.registry import Registry


def spec_of(function, directive="test:it", **options):
    return describe(directive, function, Options(**options))


async def coroutine(payload, context):
    """Say it.

    More of it.
    """


async def async_generator(payload):
    yield 1


def function(payload):
    return payload


def generator(payload, context):
    yield 1


@pytest.mark.parametrize(
    ("function", "kind", "executor", "wants_context"),
    [
        (coroutine, Kind.COROUTINE, "loop", True),
        (async_generator, Kind.ASYNC_GENERATOR, "loop", False),
        (function, Kind.FUNCTION, "thread", False),
        (generator, Kind.GENERATOR, "thread", True),
        (lambda payload, size=3: payload, Kind.FUNCTION, "thread", False),
        (lambda payload, context=None: payload, Kind.FUNCTION, "thread", True),
        (lambda *both: both, Kind.FUNCTION, "thread", True),
        (lambda payload, other: payload, Kind.FUNCTION, "thread", True),
    ],
)
def test_a_function_is_looked_at_once_when_it_is_registered(
    function, kind, executor, wants_context
):
    spec = spec_of(function)
    assert (spec.kind, spec.executor, spec.wants_context) == (kind, executor, wants_context)


def test_description_and_name_follow_from_the_function_and_can_be_given():
    assert spec_of(coroutine).description == "Say it."
    given = spec_of(coroutine, description="Other", name="x-y", tags=["a"], author="me")
    assert given.capability() == {
        "name": "x-y",
        "description": "Other",
        "author": "me",
        "tags": ["a"],
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"payload": "text"}, 'payload = \'text\' must be one of "value", "bytes", "file"'),
        ({"executor": "gpu"}, "executor = 'gpu' must be one of"),
        ({"on_restart": "again"}, "on_restart = 'again' must be one of"),
        ({"eager": 1}, "eager = 1 must be True or False"),
        ({"concurrency": 0}, "concurrency = 0 must be None or a number from 1"),
        ({"concurrency": True}, "concurrency = True"),
        ({"tags": "demo"}, "tags = 'demo' must be a list of texts"),
        ({"name": "a b"}, "name = 'a b' must be 1 to 64 characters"),
        ({"description": 3}, "description = 3 must be a text"),
    ],
)
def test_an_option_that_is_not_allowed_is_refused_at_decoration(options, text):
    with pytest.raises(ConfigError) as caught:
        action(**options)
    assert text in str(caught.value)


def test_unknown_options_and_things_that_are_no_functions_are_type_errors():
    with pytest.raises(TypeError, match="colour"):
        action(colour="red")
    with pytest.raises(TypeError, match="expects a function"):
        action(3)
    with pytest.raises(TypeError, match="expects a function"):
        action()(int)


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        (function, {"executor": "dask", "payload": "file"}, "stays on this machine"),
        (coroutine, {"executor": "thread"}, "is for plain functions, this is a coroutine function"),
        (generator, {"executor": "loop"}, "a plain generator needs"),
        (function, {"eager": True}, "eager = True is for coroutine functions"),
        (lambda payload: payload, {"executor": "process"}, "top level of a module"),
        (len, {"executor": "process"}, "plain function of a module"),
        (function, {"executor": "process", "payload": "stream"}, 'use payload = "file"'),
        (lambda: None, {}, "expected (payload, context) or (payload)"),
        (lambda a, b, c: None, {}, "expected (payload, context) or (payload)"),
        (lambda a, *, b: None, {}, "expected (payload, context) or (payload)"),
    ],
)
def test_what_cannot_run_is_refused_at_registration(function, options, text):
    with pytest.raises(ConfigError) as caught:
        spec_of(function, **options)
    assert text in str(caught.value)


@pytest.mark.parametrize("directive", ["echo", "a:b:c", "a:", ":b", "a b:c", "a:" + "x" * 65])
def test_a_directive_must_have_its_form(directive):
    with pytest.raises(ConfigError, match="namespace:action"):
        spec_of(function, directive)


def test_the_decorated_function_stays_an_ordinary_function():
    @action(tags=["x"])
    def double(payload):
        return 2 * payload

    assert double(2) == 4
    assert action(double) is double


def plugin(name, **attributes):
    module = types.ModuleType(name)
    for key, value in attributes.items():
        if callable(value):
            value.__module__ = name
        setattr(module, key, value)
    return module


def test_a_plugin_brings_its_own_actions_under_the_last_part_of_its_name():
    def own(payload): ...

    def renamed(payload): ...

    def imported(payload): ...

    def unmarked(payload): ...

    module = plugin("pkg.tools", own=action(own), other=action(name="list-all")(renamed))
    module.imported = action(imported)
    module.unmarked = unmarked
    registry = Registry()
    assert registry.add_plugin(module) == ["tools:own", "tools:list-all"]
    assert registry.add_plugin(module, namespace="more") == ["more:own", "more:list-all"]
    assert list(registry.capabilities()) == [
        "more:list-all",
        "more:own",
        "tools:list-all",
        "tools:own",
    ]
    assert registry.revision == 4


def test_a_plugin_is_found_by_name_and_by_namespace_and_name(monkeypatch):
    def own(payload): ...

    monkeypatch.setitem(sys.modules, "pkg_x", types.ModuleType("pkg_x"))
    monkeypatch.setitem(sys.modules, "pkg_x.mod", plugin("pkg_x.mod", own=action(own)))
    registry = Registry()
    assert registry.add_plugin("pkg_x.mod") == ["mod:own"]
    assert registry.add_plugin("short=pkg_x.mod") == ["short:own"]


def test_an_entry_point_gives_the_namespace(monkeypatch):
    def own(payload): ...

    monkeypatch.setitem(sys.modules, "pkg_y", plugin("pkg_y", own=action(own)))
    point = importlib.metadata.EntryPoint("nice", "pkg_y", "meshcore.plugins")

    def entry_points(*, group, name):
        assert group == "meshcore.plugins"
        return [point] if name == "nice" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert Registry().add_plugin("nice") == ["nice:own"]


def test_a_plugin_that_cannot_be_imported_is_named_with_the_reason(tmp_path, monkeypatch):
    registry = Registry()
    with pytest.raises(ConfigError) as caught:
        registry.add_plugin("no_such_pkg.y")
    assert str(caught.value) == (
        "plugin 'no_such_pkg.y' cannot be imported: No module named 'no_such_pkg'"
    )
    (tmp_path / "broken_plugin_x.py").write_text("raise KeyError('boom')")
    (tmp_path / "empty_plugin_x.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot be imported: KeyError: 'boom'"):
        registry.add_plugin("broken_plugin_x")
    with pytest.raises(ConfigError, match="defines no actions"):
        registry.add_plugin("empty_plugin_x")
    with pytest.raises(ConfigError, match="must be a module"):
        registry.add_plugin("./tools.py")


def test_reserved_and_taken_directives_are_refused():
    registry = Registry()
    with pytest.raises(ConfigError, match="'mesh' is reserved"):
        registry.add_function("mesh:nodes", function)
    registry.add_function("a:it", function)
    with pytest.raises(ConfigError, match=r"a:it is already .*function"):
        registry.add_function("a:it", generator)


def test_internal_directives_answer_and_are_never_listed_or_suggested():
    registry = Registry()
    registry.add_internal("mesh:nodes", coroutine)
    assert registry.get("mesh:nodes") is not None
    assert registry.capabilities() == {}
    assert registry.suggest("mesh:node") is None


def test_a_directive_that_is_close_is_suggested():
    registry = Registry()
    registry.add_function("demo:echo", function)
    assert registry.suggest("demo:eko") == "demo:echo"
    assert registry.suggest("zzzzzz") is None
