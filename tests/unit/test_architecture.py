"""Who may import whom, what the pure core may not touch, and how long things may be.

The tables come first; each rule below them is a function from modules to breaches, in words, and
each has a test that shows that it finds a planted breach.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.source_tree import Import, Module, Tree, functions, impure, read_tree, tree_of

# A part is the longest of these names that a module's name begins with; it may import itself and
# the parts named here (x.*: x and all parts below it). "meshcore" is the facade: the public names,
# loaded on first use.
MAY_IMPORT: dict[str, str] = {
    "meshcore.errors": "",
    "meshcore.identity": "errors",
    "meshcore.urls": "errors",
    "meshcore.config": "errors identity urls",
    "meshcore.paths": "errors identity urls",
    "meshcore.host": "errors",
    "meshcore.payload": "errors",
    "meshcore.message": "errors payload",
    # The pure core. Its machines do not know each other; they meet in the modules above them.
    "meshcore.protocol.view": "",
    "meshcore.protocol.wire": "errors identity",
    "meshcore.protocol.machine": "errors identity",
    "meshcore.protocol.membership": "errors identity protocol.machine protocol.view protocol.wire",
    "meshcore.protocol.routing": "errors identity protocol.machine protocol.view protocol.wire",
    "meshcore.protocol.delivery": "errors identity protocol.machine protocol.view protocol.wire",
    "meshcore.protocol.election": "errors identity protocol.machine protocol.view protocol.wire",
    "meshcore.protocol.timesync": "errors identity protocol.machine protocol.view protocol.wire",
    "meshcore.protocol.catalogue": "errors identity protocol.machine protocol.view protocol.wire",
    "meshcore.protocol.replication": "errors identity protocol.machine",
    "meshcore.protocol": "errors identity protocol.*",
    # The shell: I/O without decisions, and the driver that knows both sides.
    "meshcore.transport": "errors urls protocol.wire",
    "meshcore.storage": "errors payload protocol.catalogue protocol.replication",
    "meshcore.flows": "errors protocol.catalogue work",  # loaders: from files and callables
    "meshcore.security": "errors identity",
    "meshcore.work": "errors identity payload",
    "meshcore.discovery": "errors identity urls",
    "meshcore.runtime": "errors identity urls paths config host payload message protocol.*"
    " transport storage security work discovery",
    "meshcore.sim": "errors identity protocol.*",
    # What applications use, and what is built on just that.
    "meshcore.router": "errors protocol.*",
    "meshcore.node_info": "protocol.view",
    "meshcore.events": "node_info protocol.view",
    "meshcore.connectivity": "errors config host protocol.* runtime router node_info events",
    "meshcore.mastership": "errors connectivity",
    "meshcore.responses": "errors message payload protocol.* runtime selectors",
    "meshcore.answers": "errors identity config host protocol.* runtime work router connectivity"
    " mastership selectors catalogue",
    "meshcore.announcing": "config host runtime work",
    "meshcore.catalogue": "errors config paths protocol.* runtime storage work flows router"
    " connectivity",
    "meshcore.fencing": "errors paths",
    "meshcore.owner": "errors protocol.* router",
    "meshcore.leases": "errors",
    "meshcore.services": "errors identity config paths payload message protocol.* runtime storage"
    " work router connectivity leases",
    "meshcore.selectors": "errors protocol.view router connectivity",
    "meshcore.node": "errors identity urls paths config host payload message protocol.* transport"
    " runtime work router connectivity answers announcing catalogue flows selectors"
    " owner services",
    "meshcore.controller": "errors identity urls config payload message protocol.* runtime work"
    " router connectivity mastership responses node selectors services",
    "meshcore": "errors config payload message responses node node_info events router"
    " controller services protocol.view work catalogue flows selectors fencing",
    "meshcore.__main__": "cli",
    "meshcore.cli": "meshcore errors identity urls paths config payload",
    "meshcore.web": "meshcore errors identity urls paths config payload catalogue flows"
    " protocol.catalogue",
    "meshcore.plugins": "meshcore errors payload",
}
# These parts may also import that, inside functions alone.
MAY_IMPORT_LATE: dict[str, str] = {
    "meshcore.cli": "sim runtime web services",
    "meshcore.node": "web",
}

# Third-party packages and the parts that may import them: one, behind our own interface.
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "zmq": ("meshcore.transport",),
    "msgpack": ("meshcore.protocol.wire", "meshcore.protocol.replication", "meshcore.payload"),
    "psutil": ("meshcore.host", "meshcore.work"),
    "click": ("meshcore.cli",),
    "rich": ("meshcore.cli",),
    "matplotlib": ("meshcore.cli",),
    "platformdirs": ("meshcore.paths",),
    "uvloop": ("meshcore.runtime",),
    "zeroconf": ("meshcore.discovery",),
    "lark": ("meshcore.storage",),
    "yaml": ("meshcore.flows",),
    "fastapi": ("meshcore.web",),
    "starlette": ("meshcore.web",),
    "uvicorn": ("meshcore.web",),
    "pydantic": ("meshcore.web",),
    "jinja2": ("meshcore.web",),
    "httpx": ("meshcore.web",),
    "h11": ("meshcore.web",),
    "etcd3gw": ("meshcore.leases",),
    "requests": ("meshcore.leases",),
    "distributed": ("meshcore.work",),
}
# Imported where it is needed, inside a function: it costs more than a short command takes.
LATE_ONLY = ("rich", "matplotlib", "etcd3gw", "requests", "distributed")

PURE = ("meshcore.protocol", "meshcore.errors", "meshcore.identity")
PURE_LIBRARY = frozenset(
    "__future__ abc array bisect collections contextlib copy dataclasses difflib enum functools"
    " hashlib heapq ipaddress itertools math operator random re string struct types typing"
    " zlib msgpack".split()
)  # of random its type alone
IMPURE_NAMES = frozenset("print open id hash input eval exec compile breakpoint".split())

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FORBIDDEN_MODULE_NAMES = ("utils", "util", "helpers", "helper", "manager", "misc", "common")

HELP_MAY_NOT_LOAD = (
    "zmq",
    "msgpack",
    "meshcore.web",
    "meshcore.sim",
    "asyncio",
    "rich",
    "uvloop",
    "zeroconf",
    "lark",
    "yaml",
    "sqlite3",
    "fastapi",
)
IMPORT_MAY_NOT_LOAD = (
    "zmq",
    "msgpack",
    "asyncio",
    "click",
    "psutil",
    "uvloop",
    "zeroconf",
    "lark",
    "yaml",
    "sqlite3",
    "fastapi",
)


# -- the rules -------------------------------------------------------------------------------------


def part_of(name: str) -> str:
    """The part that a module belongs to; only the facade itself belongs to `meshcore`."""
    found = [
        part
        for part in MAY_IMPORT
        if name == part or (part != "meshcore" and name.startswith(part + "."))
    ]
    return max(found, key=len, default="")


def allowed(part: str, table: dict[str, str]) -> set[str]:
    parts: set[str] = set()
    for name in table.get(part, "").split():
        if name.endswith(".*"):
            stem = "meshcore." + name.removesuffix(".*")
            parts |= {each for each in MAY_IMPORT if (each + ".").startswith(stem + ".")}
        else:
            parts.add(name if name == "meshcore" else "meshcore." + name)
    return parts


def where(module: Module, line: int) -> str:
    return f"{module.path}:{line}"


def homeless(tree: Tree) -> list[str]:
    """Modules that no row of the table speaks of."""
    return [
        f"{m.path} belongs to no part in the table" for m in tree.modules if not part_of(m.name)
    ]


def wrong_imports(tree: Tree) -> list[str]:
    """Imports between parts that the table does not have."""
    breaches = []
    for module in tree.modules:
        part = part_of(module.name)
        for item in module.imports:
            if not item.name.startswith("meshcore") or item.name == "meshcore.__version__":
                continue
            target = part_of(tree.module_of(item))
            late = allowed(part, MAY_IMPORT_LATE) if item.late else set()
            if target not in {part} | allowed(part, MAY_IMPORT) | late:
                breaches.append(f"{where(module, item.line)} {part} may not import {item.name}")
    return breaches


def wrong_third_parties(tree: Tree) -> list[str]:
    """Third-party packages outside the one part that wraps them, or unknown ones."""
    breaches = []
    for module in tree.modules:
        for item in module.imports:
            top = item.name.partition(".")[0]
            if top == "meshcore" or top in sys.stdlib_module_names:
                continue
            homes = THIRD_PARTY.get(top, ())
            if part_of(module.name) not in homes:
                home = " or ".join(homes) or "nowhere: it is not in the table"
                breaches.append(f"{where(module, item.line)} {top} is imported in {home}")
            elif top in LATE_ONLY and not (item.late or item.typing):
                breaches.append(f"{where(module, item.line)} {top} is imported inside functions")
    return breaches


def wrong_in_pure(tree: Tree) -> list[str]:
    """What the pure core imports or calls although it must not."""
    breaches = []
    for module in tree.modules:
        if not any(module.name == pure or module.name.startswith(pure + ".") for pure in PURE):
            continue
        for item in module.imports:
            top = item.name.partition(".")[0]
            if top != "meshcore" and top not in PURE_LIBRARY:
                breaches.append(f"{where(module, item.line)} the pure core may not import {top}")
        for line, what in impure(module.syntax, IMPURE_NAMES):
            breaches.append(f"{where(module, line)} the pure core may not use {what}")
    return breaches


def cycles(tree: Tree) -> list[str]:
    """Modules that import each other in a circle, by imports that happen at run time."""
    edges = {
        module.name: sorted({tree.module_of(i) for i in module.imports if not i.typing})
        for module in tree.modules
        if module.name != "meshcore"
    }
    done: set[str] = set()
    found: list[str] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name in edges and name not in done:
            for target in edges[name]:
                visit(target, [*path, name])
            done.add(name)

    for name in sorted(edges):
        visit(name, [])
    return found


def too_long(tree: Tree) -> list[str]:
    """Modules and functions beyond the limits."""
    breaches = []
    for module in tree.modules:
        if module.lines > MODULE_LINES_MAX:
            breaches.append(f"{module.path} has {module.lines} lines; at most {MODULE_LINES_MAX}")
        for name, line, length in functions(module.syntax):
            if length > FUNCTION_LINES_MAX:
                breaches.append(
                    f"{where(module, line)} {name} has {length} lines; at most {FUNCTION_LINES_MAX}"
                )
    return breaches


def wrong_names(tree: Tree) -> list[str]:
    """Modules named after nothing."""
    return [
        f"{module.path} has a name that says nothing"
        for module in tree.modules
        if module.name.rpartition(".")[2] in FORBIDDEN_MODULE_NAMES
    ]


def undocumented(tree: Tree) -> list[str]:
    """Modules without a docstring."""
    return [f"{m.path} has no docstring" for m in tree.modules if m.lines > 1 and not m.docstring]


Rule = Callable[[Tree], list[str]]
RULES: tuple[Rule, ...] = (
    homeless,
    wrong_imports,
    wrong_third_parties,
    wrong_in_pure,
    cycles,
    too_long,
    wrong_names,
    undocumented,
)


@pytest.fixture(scope="module")
def package() -> Tree:
    return read_tree(Path(__file__).parents[2], "meshcore")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule, package: Tree) -> None:
    breaches = rule(package)
    assert not breaches, "\n" + "\n".join(breaches)


def test_every_part_of_the_tables_is_spelled_right() -> None:
    named = set().union(*(allowed(p, t) for t in (MAY_IMPORT, MAY_IMPORT_LATE) for p in t))
    assert named <= {*MAY_IMPORT, "meshcore.web"}
    assert {part for parts in THIRD_PARTY.values() for part in parts} <= set(MAY_IMPORT)


# -- each rule finds what it is for ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "name", "source", "finds"),
    [
        (homeless, "meshcore.stray", "", "belongs to no part"),
        (wrong_imports, "meshcore.errors", "import meshcore.identity", "may not import"),
        (wrong_imports, "meshcore.transport.a", "from meshcore.runtime import x", "may not import"),
        (wrong_imports, "meshcore.transport.a", "from meshcore.protocol import mesh", "mesh"),
        (wrong_imports, "meshcore.protocol.wire.a", "import meshcore.protocol.mesh", "mesh"),
        (wrong_imports, "meshcore.sim.a", "import meshcore.transport.port", "meshcore.transport"),
        (wrong_imports, "meshcore.cli.a", "from meshcore.node import Node", "meshcore.node"),
        (wrong_imports, "meshcore.cli.a", "from meshcore import sim", "meshcore.sim"),
        (wrong_imports, "meshcore.work.a", "def f():\n  import meshcore.node", "meshcore.node"),
        (wrong_imports, "meshcore.protocol.routing.a", "from ..membership import b", "membership"),
        (
            wrong_imports,
            "meshcore.protocol.routing.a",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import meshcore.node",
            "meshcore.node",
        ),
        (wrong_third_parties, "meshcore.runtime.a", "import zmq.asyncio", "zmq is imported in"),
        (wrong_third_parties, "meshcore.runtime.a", "import aiohttp", "not in the table"),
        (wrong_third_parties, "meshcore.cli.a", "from rich import table", "inside functions"),
        (wrong_in_pure, "meshcore.protocol.a", "import time", "may not import time"),
        (wrong_in_pure, "meshcore.protocol.a", "def f():\n  import asyncio", "asyncio"),
        (wrong_in_pure, "meshcore.identity", "from os import urandom", "may not import os"),
        (wrong_in_pure, "meshcore.protocol.a", "x = hash(3)", "hash"),
        (wrong_in_pure, "meshcore.protocol.a", "key = map(id, ())", "id"),
        (wrong_in_pure, "meshcore.protocol.a", "import random\nx = random.random()", "random.ra"),
        (wrong_in_pure, "meshcore.protocol.a", "import random\nx = random.Random()", "random.R"),
        (wrong_in_pure, "meshcore.protocol.a", "from random import choice", "random.choice"),
        (wrong_in_pure, "meshcore.protocol.a", "for x in {1, 2}: pass", "iteration over a set"),
        (wrong_in_pure, "meshcore.protocol.a", "y = [x for x in set(z)]", "iteration over a set"),
        (wrong_in_pure, "meshcore.protocol.a", "y = list({x for x in z})", "order of a set"),
        (too_long, "meshcore.work.a", "\n" * 401, "401 lines"),
        (too_long, "meshcore.work.a", "def f():\n" + "  x = 1\n" * 70, "f has 71 lines"),
        (wrong_names, "meshcore.work.utils", "", "says nothing"),
        (undocumented, "meshcore.work.a", "x = 1\ny = 2", "no docstring"),
    ],
)
def test_a_planted_breach_is_found(rule: Rule, name: str, source: str, finds: str) -> None:
    breaches = rule(tree_of({name: source}))
    assert len(breaches) == 1
    assert finds in breaches[0]


def test_a_circle_of_imports_is_found_and_one_for_types_is_none() -> None:
    circle = {
        "meshcore.work.a": "from meshcore.work import b",
        "meshcore.work.b": "def f():\n  from meshcore.work.c import x",
        "meshcore.work.c": "import meshcore.work.a",
    }
    assert cycles(tree_of(circle)) == [
        "meshcore.work.a -> meshcore.work.b -> meshcore.work.c -> meshcore.work.a"
    ]
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import meshcore.work.a"
    assert cycles(tree_of({**circle, "meshcore.work.c": typed})) == []


def test_what_is_allowed_passes() -> None:
    fine = {
        "meshcore": '"""x"""',
        "meshcore.cli.run": '"""x"""\nfrom meshcore import Node\ndef f():\n'
        "  from meshcore.sim import x\n  import rich.table",
        "meshcore.protocol.routing.a": '"""x"""\nimport random\ndef f(r: random.Random) -> None:\n'
        "  for x in sorted({1, 2}): r.id(x)",
    }
    for rule in RULES:
        assert rule(tree_of(fine)) == []


def test_imports_are_told_apart_by_when_they_happen() -> None:
    source = (
        "import a.b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  from c import d\n"
        "class K:\n  import e\n  def f(self):\n    from . import g\n"
    )
    [module] = tree_of({"meshcore.cli.x": source}).modules
    assert [i for i in module.imports if i.name != "typing.TYPE_CHECKING"] == [
        Import("a.b", 1, late=False, typing=False),
        Import("c.d", 4, late=False, typing=True),
        Import("e", 6, late=False, typing=False),
        Import("meshcore.cli.g", 8, late=True, typing=False),
    ]


# -- what is loaded when ---------------------------------------------------------------------------


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a fresh interpreter imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    lines = (line for line in run.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def test_help_loads_neither_zeromq_nor_the_simulator() -> None:
    loaded = loaded_by("-m", "meshcore", "--help")
    assert "click" in loaded
    assert loaded.isdisjoint(HELP_MAY_NOT_LOAD)


def test_import_meshcore_loads_nothing_that_it_does_not_need() -> None:
    loaded = loaded_by("-c", "import meshcore; meshcore.Config; meshcore.NodeStatus")
    assert "meshcore.config.model" in loaded
    assert loaded.isdisjoint(IMPORT_MAY_NOT_LOAD)
