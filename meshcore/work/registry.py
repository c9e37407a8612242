"""Which action answers a directive, and where actions come from.

A node has one `Registry`. Actions come from plugins (modules whose functions carry the mark of
`@action`; their namespace is the last part of the module's name, or given as `name=pkg.mod`), from
the entry-point group `meshcore.plugins` (its name is the namespace; loaded only when named), and
one by one. The namespace `mesh` is the node's own.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable
from types import ModuleType
from typing import Any

from meshcore.errors import ConfigError
from meshcore.work.actions import MARK, ActionSpec, Options, describe

ENTRY_POINTS = "meshcore.plugins"
RESERVED = "mesh"


class Registry:
    """The actions of one node; `revision` grows with every one that is added."""

    def __init__(self) -> None:
        self.specs: dict[str, ActionSpec] = {}  # read on the hot path; added to only by `add`
        self.revision = 0

    def add(self, namespace: str, spec: ActionSpec) -> None:
        """Add an action under `namespace`.

        Raises ConfigError for the reserved namespace, a directive that is taken, and a spec of
        another namespace.
        """
        if namespace == RESERVED:
            raise ConfigError(f"action {spec.directive}: namespace {RESERVED!r} is reserved")
        if spec.namespace != namespace:
            raise ConfigError(f"action {spec.directive} is not of namespace {namespace!r}")
        self._put(spec)

    def add_function(self, directive: str, function: Callable[..., Any], **options: Any) -> None:
        """Add one function as `directive`, with the options of `@action`."""
        spec = describe(directive, function, Options(**options))
        self.add(spec.namespace, spec)

    def add_internal(self, directive: str, function: Callable[..., Any], **options: Any) -> None:
        """Add one of the node's own directives (`mesh:…`); they are never listed or suggested."""
        self._put(describe(directive, function, Options(**options)))

    def add_plugin(self, plugin: str | ModuleType, *, namespace: str | None = None) -> list[str]:
        """Add all actions of a module; the directives that were added.

        Args:
            plugin: a module, its dotted name, `namespace=dotted.name`, or the name of an entry
                point of the group `meshcore.plugins`.
            namespace: overrides the one that follows from the name.

        Raises ConfigError where it cannot be imported or has no actions.
        """
        if isinstance(plugin, str):
            module, found = _load(plugin)
        else:
            module, found = plugin, plugin.__name__.rpartition(".")[2]
        functions = _actions_of(module)
        if not functions:
            raise ConfigError(f"plugin {module.__name__!r} defines no actions (@action)")
        specs = [
            describe(f"{namespace or found}:{options.name or function.__name__}", function, options)
            for function, options in functions
        ]
        for spec in specs:
            self.add(spec.namespace, spec)
        return [spec.directive for spec in specs]

    def get(self, directive: str) -> ActionSpec | None:
        """The action of this directive, or None."""
        return self.specs.get(directive)

    def suggest(self, directive: str) -> str | None:
        """The directive that was probably meant, or None."""
        known = [name for name in self.specs if not name.startswith(RESERVED + ":")]
        close = difflib.get_close_matches(directive[:256], known, n=1)
        return close[0] if close else None

    def capabilities(self) -> dict[str, dict[str, Any]]:
        """What the mesh is told: directive to name, description, author and tags."""
        return {
            directive: spec.capability()
            for directive, spec in sorted(self.specs.items())
            if spec.namespace != RESERVED
        }

    def _put(self, spec: ActionSpec) -> None:
        taken = self.specs.get(spec.directive)
        if taken is not None:
            raise ConfigError(
                f"action {spec.directive} is already {taken.function.__module__}."
                f"{taken.function.__qualname__}; choose another namespace or name"
            )
        self.specs[spec.directive] = spec
        self.revision += 1


def _load(plugin: str) -> tuple[ModuleType, str]:
    """The module of a plugin's name, and its namespace."""
    namespace, equals, dotted = plugin.partition("=")
    if not equals:
        namespace, dotted = plugin.rpartition(".")[2], plugin
        for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=plugin):
            dotted = entry_point.module
    if not all(part.isidentifier() for part in dotted.split(".")):
        raise ConfigError(
            f"plugin {plugin!r} must be a module (pkg.mod), namespace=pkg.mod, "
            f"or the name of an entry point of {ENTRY_POINTS}"
        )
    return _import(dotted), namespace


def _import(dotted: str) -> ModuleType:
    try:
        return importlib.import_module(dotted)
    except ImportError as error:
        raise ConfigError(f"plugin {dotted!r} cannot be imported: {error}") from error
    except Exception as error:  # a plugin may raise anything while it is imported
        raise ConfigError(
            f"plugin {dotted!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _actions_of(module: ModuleType) -> list[tuple[Callable[..., Any], Options]]:
    """The marked functions that this module, or a submodule of it, defines, in order, each once."""
    found: dict[Callable[..., Any], Options] = {}
    for value in vars(module).values():
        options = getattr(value, MARK, None)
        if not isinstance(options, Options):
            continue
        home = getattr(value, "__module__", None) or ""
        # What a plugin merely imported from another one is not its own.
        if home == module.__name__ or home.startswith(module.__name__ + "."):
            found[value] = options
    return list(found.items())
