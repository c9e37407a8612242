"""The public package: its names, loaded on first use, and what it says of itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import meshcore
from meshcore import errors

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", meshcore.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(meshcore, name) is not None
    assert name in dir(meshcore)


def test_the_names_for_type_checkers_are_those_loaded_on_first_use() -> None:
    source = Path(meshcore.__file__).read_text()
    [block] = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    typed = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == meshcore._MODULES
    assert sorted({*typed, "__version__"}) == sorted(meshcore.__all__)


def test_every_error_is_public() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert getattr(meshcore, name) is value


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'meshcore' has no attribute 'Nod'"):
        _ = meshcore.Nod
    with pytest.raises(ImportError):
        from meshcore import Nod  # type: ignore[attr-defined]  # noqa: F401


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == meshcore.__version__
    assert re.search(rf"^## .*{re.escape(meshcore.__version__)}", changelog(), re.MULTILINE)


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text()


def test_what_is_installed_is_what_is_imported() -> None:
    """Every package that the source imports is declared, and the other way round."""
    from tests.unit.test_architecture import THIRD_PARTY

    names = {"pyzmq": "zmq", "pyyaml": "yaml"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    items = list(project["dependencies"])
    for extra, more in project["optional-dependencies"].items():
        if extra not in ("test", "dev", "bench"):  # those are not for the package itself
            items += more
    brought = {"pydantic", "starlette", "h11", "requests"}  # of fastapi, uvicorn
    declared = {re.split(r"[^A-Za-z0-9_-]", item)[0] for item in items}
    assert {names.get(name, name) for name in declared} | brought == set(THIRD_PARTY)
    assert all(">=" in item for item in items)


def test_the_package_is_typed_and_licensed() -> None:
    assert (ROOT / "meshcore" / "py.typed").exists()
    assert (ROOT / "LICENSE").exists()


def test_python_dash_m_meshcore_is_meshctl() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "meshcore", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    assert meshcore.__version__ in run.stdout
