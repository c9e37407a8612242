"""A package as its source shows it: modules, their imports, and what they call.

Only syntax is read; nothing of the package is imported, so that a breach cannot hide behind an
import that fails. The rules that use this are in test_architecture.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ORDER_TAKERS = ("list", "tuple", "enumerate", "iter", "next", "dict")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Import:
    """One imported name, absolute; `late`: inside a function; `typing`: for type checkers only."""

    name: str
    line: int
    late: bool
    typing: bool


@dataclass(frozen=True)
class Module:
    name: str
    path: str
    syntax: ast.Module
    lines: int
    imports: tuple[Import, ...]

    @property
    def docstring(self) -> str | None:
        return ast.get_docstring(self.syntax)


@dataclass(frozen=True)
class Tree:
    modules: list[Module] = field(default_factory=list)

    def module_of(self, item: Import) -> str:
        """The module that an import loads: of `from a.b import c` it is `a.b.c` or `a.b`."""
        names = {module.name for module in self.modules}
        if item.name in names:
            return item.name
        parent = item.name.rpartition(".")[0]
        return parent if parent in names else item.name


def read_tree(root: Path, package: str) -> Tree:
    """All modules of a package below `root`."""
    modules = []
    for path in sorted((root / package).rglob("*.py")):
        relative = path.relative_to(root)
        parts = relative.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        source = path.read_text(encoding="utf-8")
        modules.append(_module(name, str(relative), source, parts[-1] == "__init__"))
    return Tree(modules)


def tree_of(sources: dict[str, str]) -> Tree:
    """A tree of invented modules, by name."""
    return Tree([_module(name, name, source, False) for name, source in sources.items()])


def _module(name: str, path: str, source: str, is_package: bool) -> Module:
    syntax = ast.parse(source)
    package = name if is_package else name.rpartition(".")[0]
    imports = tuple(_imports(syntax, package, late=False, typing=False))
    return Module(name, path, syntax, len(source.splitlines()), imports)


def _imports(node: ast.AST, package: str, *, late: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, late, typing)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                kept = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*kept, base] if base else kept)
            for alias in child.names:
                yield Import(f"{base}.{alias.name}", child.lineno, late, typing)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), package, late=late, typing=True)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), package, late=late, typing=typing)
        else:
            inside = late or isinstance(child, _FUNCTIONS)
            yield from _imports(child, package, late=inside, typing=typing)


def functions(syntax: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Name, first line and number of lines of every function, decorators not counted."""
    for node in ast.walk(syntax):
        if isinstance(node, _FUNCTIONS) and node.end_lineno is not None:
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def impure(syntax: ast.Module, banned: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Banned names, random numbers, and what depends on the order of a set: line and what."""
    called = {id(node.func) for node in ast.walk(syntax) if isinstance(node, ast.Call)}
    for node in ast.walk(syntax):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in banned:
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random":
            if node.attr != "Random" or id(node) in called:
                yield node.lineno, f"random.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "random":
            for alias in node.names:
                if alias.name != "Random":
                    yield node.lineno, f"random.{alias.name}"
        elif isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
            yield node.iter.lineno, "iteration over a set"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in _ORDER_TAKERS
            and node.args
            and _is_set(node.args[0])
        ):
            yield node.lineno, "the order of a set"


def _is_set(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_set(node.left) or _is_set(node.right)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return isinstance(node, ast.Set | ast.SetComp)
