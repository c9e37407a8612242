"""Sources of flows: what each form says, what is wrong in it, and several of them together."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import meshcore
from meshcore.flows import Problem, load, load_aside, loading, sources
from meshcore.protocol.catalogue.records import Flow

A, B, C = "https://a.example/", "https://b.example/", "https://c.example/"


def urls(loaded: Any) -> list[str]:
    return [flow.url for flow in loaded.flows]


def told(loaded: Any) -> list[tuple[str, str]]:
    """Of each problem where it is and why."""
    return [(problem.where, problem.reason) for problem in loaded.problems]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Makes a module of this text; its name."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(text: str) -> str:
        name = f"flows_of_{len(made)}_{time.monotonic_ns()}"
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        return name

    yield make
    for name in made:
        sys.modules.pop(name, None)


# -- callables -------------------------------------------------------------------------------------


def a_generator() -> Iterator[Any]:
    yield {"url": A, "name": "a"}
    yield Flow(B, "b")


@pytest.mark.parametrize(
    "gives",
    [
        lambda: [{"url": A, "name": "a"}, Flow(B, "b")],
        lambda: ({"url": A, "name": "a"}, {"url": B, "name": "b"}),
        lambda: {A: {"name": "a"}, B: {"url": B, "name": "b"}},
        lambda: {A: Flow(A, "a"), B: {"name": "b"}},
        a_generator,
    ],
)
def test_a_function_gives_flows_or_tables_or_a_table_by_url(gives: Any) -> None:
    assert load([gives]) == ([Flow(A, "a"), Flow(B, "b")], [])


def test_one_flow_and_none_are_fine_too() -> None:
    assert load([lambda: {"url": A}]).flows == [Flow(A)]
    assert load([lambda: Flow(A)]).flows == [Flow(A)]
    assert load([lambda: {A: None}]).flows == [Flow(A)]
    assert load([list, dict, lambda: iter(())]) == ([], [])
    assert load([]) == ([], [])


def test_a_function_is_found_by_module_and_name(module: Any) -> None:
    name = module(
        f"class Lab:\n  @staticmethod\n  def flows():\n    yield {{'url': '{A}'}}\n"
        f"def flows():\n  return [{{'url': '{B}'}}]\n"
    )
    assert urls(load([f"{name}:flows", f"{name}:Lab.flows"])) == [B, A]


def test_a_function_is_asked_anew_each_time() -> None:
    answers = iter([[{"url": A}], [{"url": B}]])
    sources_ = [lambda: next(answers)]
    assert (urls(load(sources_)), urls(load(sources_))) == ([A], [B])


@pytest.mark.parametrize(
    ("text", "attribute", "says"),
    [
        ("import no_such_module_of_mine", "flows", "ModuleNotFoundError: No module named 'no_"),
        ("1 / 0", "flows", "ZeroDivisionError"),
        ("raise SystemExit(3)", "flows", "SystemExit: 3"),
        ("def (", "flows", "SyntaxError"),
        ("", "flows", "has no attribute 'flows'"),
        ("flows = 5", "flows", "is no function but a int"),
        ("def flows(): return 1 / 0", "flows", "raised ZeroDivisionError: division by zero"),
        ("def flows(): raise SystemExit", "flows", "raised SystemExit"),
        ("def flows(needed): pass", "flows", "raised TypeError"),
        ("def flows(): return None", "flows", "gave a NoneType"),
        ("def flows(): return 'https://x'", "flows", "gave a str"),
        ("async def flows(): return []", "flows", "asynchronous"),
        ("async def flows():\n  yield 5", "flows", "asynchronous"),
    ],
)
def test_a_function_that_cannot_be_used_is_one_problem_and_the_rest_loads(
    text: str, attribute: str, says: str, module: Any
) -> None:
    source = f"{module(text)}:{attribute}"
    loaded = load([lambda: [{"url": A}], source, lambda: [{"url": B}]])
    assert urls(loaded) == [A, B]
    [problem] = loaded.problems
    assert problem.source == source
    assert says in problem.reason
    assert str(problem).startswith(f"{source}: ")


def test_a_module_that_is_none_is_one_problem() -> None:
    [problem] = load(["no_such_package.module:flows"]).problems
    assert "cannot be imported" in problem.reason


def test_what_a_generator_gave_before_it_broke_is_used() -> None:
    def breaks() -> Iterator[Any]:
        yield {"url": A}
        yield {"url": B}
        raise OSError("disk on fire")

    loaded = load([breaks])
    assert urls(loaded) == [A, B]
    assert [reason for _, reason in told(loaded)] == [
        "raised OSError: disk on fire after 2 flows; they are used"
    ]


def test_a_generator_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ENTRIES_MAX", 5)

    def endless() -> Iterator[Any]:
        for number in range(10**9):
            yield {"url": f"{A}{number}"}

    loaded = load([endless])
    assert (len(loaded.flows), told(loaded)) == (
        5,
        [("", "more than 5 flows; the rest is left out")],
    )


def test_a_table_that_raises_when_it_is_read_is_a_problem() -> None:
    class Broken(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise RuntimeError("gone")

        def __iter__(self) -> Iterator[str]:
            return iter(["url"])

        def __len__(self) -> int:
            return 1

    loaded = load([lambda: [{"url": A}, Broken()]])
    assert urls(loaded) == [A]
    assert "RuntimeError: gone" in loaded.problems[0].reason


def test_an_action_is_no_source_but_a_plugin() -> None:
    @meshcore.action(description="x")
    async def resize(payload: Any) -> Any:
        return payload

    [problem] = load([resize]).problems
    assert "--plugin" in problem.reason
    assert problem.source.endswith("resize")


# -- files -----------------------------------------------------------------------------------------

TOML = f"""
title_of_nobody = 1

[[flows]]
url = "{A}"
name = "a"
tags = ["y", "x"]

[[flows]]
name = "without url"

[[ flows ]]
url = "{B}"
description = '''
two
lines'''
"""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_toml_file_with_what_is_wrong_named_by_index_and_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", TOML)
    loaded = load([file])
    assert loaded.flows == [Flow(A, "a", tags=("x", "y")), Flow(B, description="two\nlines")]
    assert told(loaded) == [
        ("['title_of_nobody']", "unknown key; it is all in 'flows'"),
        ("flows[1], line 9", "url is missing"),
    ]
    assert str(loaded.problems[1]) == f"{file}: flows[1], line 9: url is missing"


def test_a_toml_file_may_hold_a_table_by_url(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", f'[flows."{A}"]\nname = "a"\n\n[flows."{B}"]\nurl = "{C}"\n')
    loaded = load([file])
    assert loaded.flows == [Flow(A, "a")]
    [(where, reason)] = told(loaded)
    assert where == f"flows['{B}'], line 4"
    assert "stands under another URL" in reason


def test_a_line_that_cannot_be_told_is_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", 'flows = [{url = "x"}, {url = "y"}]\n')
    assert [where for where, _ in told(load([file]))] == ["flows[0]", "flows[1]"]


YAML = f"""\
# comment
flows:
  - url: {A}
    name: a
    tags: [y, x]
  - name: without url
  - url: {B}
    author:
    description: |
      two
      lines
  - just text
  - {{url: {C}, tags: [2024]}}
  - !!python/object/apply:os.system ["true"]
"""


@pytest.fixture(params=["c", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers of PyYAML: not every installation has the one in C."""
    yaml = pytest.importorskip("yaml")
    if request.param == "pure":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML without libyaml")


def test_a_yaml_file_with_what_is_wrong_named_by_index_and_line(
    tmp_path: Path, parser: None
) -> None:
    loaded = load([write(tmp_path / "a.yaml", YAML)])
    assert loaded.flows == [Flow(A, "a", tags=("x", "y")), Flow(B, description="two\nlines\n")]
    assert [where for where, _ in told(loaded)] == [
        "flows[5], line 14",
        "flows[1], line 6",
        "flows[3], line 12",
        "flows[4], line 13",
    ]
    reasons = [reason for _, reason in told(loaded)]
    assert "constructor" in reasons[0]
    assert reasons[1] == "url is missing"
    assert "must be a table" in reasons[2]
    assert "tag 2024" in reasons[3]


@pytest.mark.parametrize(
    "text",
    [
        f"- url: {A}\n  name: a\n- url: {B}\n",
        f"{A}:\n  name: a\n{B}:\n",
        f"flows:\n  {A}:\n    name: a\n  {B}: {{}}\n",
        f"\ufeffflows: [{{url: '{A}', name: a}}, {{url: '{B}'}}]\n",
        f"base: &b\n  name: a\nflows:\n- url: {A}\n  <<: *b\n- url: {B}\n",
    ],
)
def test_the_forms_of_a_yaml_file(text: str, tmp_path: Path, parser: None) -> None:
    loaded = load([write(tmp_path / "a.yml", text)])
    assert loaded.flows == [Flow(A, "a"), Flow(B)]


def test_a_url_that_stands_twice_in_a_table_is_a_double_too(tmp_path: Path, parser: None) -> None:
    file = write(tmp_path / "a.yaml", f"{A}: {{name: first}}\n{A}: {{name: last}}\n")
    loaded = load([file])
    assert loaded.flows == [Flow(A, "last")]
    assert told(loaded) == [
        (f"['{A}'], line 2", f"{A} is defined once more; it replaces {file}: ['{A}'], line 1")
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.toml", None, "no such file"),
        ("none.yaml", None, "no such file"),
        ("a.toml", b"[[flows]\n", "not TOML"),
        ("a.toml", b"[[flows]]\nurl = '" + A.encode() + b"'\nurl = 'x://y'\n", "not TOML"),
        ("a.toml", b"\xff\xfe", "not UTF-8"),
        ("a.toml", b"", "must hold flows"),
        ("a.toml", b"flows = 5\n", "must hold flows"),
        ("a.toml", b"[[flow]]\nurl = 'x://y'\n", "did you mean flows?"),
        ("a.yaml", b"flows: [\n", "not YAML"),
        ("a.yaml", b"a: b: c\n", "in line 1"),
        ("a.yaml", b"", "must hold flows"),
        ("a.yaml", b"5\n", "must hold flows"),
        ("a.yaml", b"flows:\n", "must hold flows"),
        ("a.yaml", b"flow: []\n", "did you mean flows?"),
        ("a.yaml", b"--- 1\n--- 2\n", "not YAML"),
        ("a.yaml", b"\x00", "not YAML"),
        ("a.json", b"[]", "must be a file .toml, .yaml or .yml, or module:callable"),
        ("flows", b"", "must be a file .toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_problem_and_the_rest_loads(
    name: str, content: bytes | None, says: str, tmp_path: Path, parser: None
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    loaded = load([str(file), lambda: [{"url": B}]])
    assert urls(loaded) == [B]
    [problem] = loaded.problems
    assert problem.source == str(file)
    assert says in problem.reason


def test_a_directory_and_a_name_that_cannot_be_are_problems(tmp_path: Path) -> None:
    (tmp_path / "d.toml").mkdir()
    reasons = [reason for _, reason in told(load([tmp_path / "d.toml", "a\0.toml"]))]
    assert reasons[0] == "Is a directory"
    assert "null" in reasons[1]


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    assert load([tmp_path / "zero.toml"]).problems[0].reason == "has more than 64 MiB"


def test_yaml_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    loaded = load([write(tmp_path / "a.yaml", f"- url: {A}\n"), lambda: [{"url": B}]])
    assert urls(loaded) == [B]
    assert "pip install meshcore-runtime[yaml]" in loaded.problems[0].reason


# -- several ---------------------------------------------------------------------------------------


def test_the_last_definition_of_a_url_wins_and_each_double_is_told(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml",
        f'[[flows]]\nurl = "{A}"\nname = "1"\n\n[[flows]]\nurl = "{A}"\nname = "2"\n',
    )

    def three() -> list[Any]:
        return [{"url": B}, {"url": A, "name": "3"}]

    loaded = load([file, three])
    assert loaded.flows == [Flow(A, "3"), Flow(B)]
    source = f"{three.__module__}:{three.__qualname__}"
    assert loaded.problems == [
        Problem(
            file,
            "flows[1], line 5",
            f"{A} is defined once more; it replaces {file}: flows[0], line 1",
        ),
        Problem(source, "[1]", f"{A} is defined once more; it replaces {file}: flows[1], line 5"),
    ]


def test_an_invalid_entry_does_not_replace_a_valid_one() -> None:
    loaded = load([lambda: [{"url": A, "name": "fine"}, {"url": A, "name": 5}]])
    assert loaded.flows == [Flow(A, "fine")]
    assert [where for where, _ in told(loaded)] == ["[1]"]


def test_problems_without_number_are_told_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PROBLEMS_MAX", 3)
    loaded = load([lambda: [{"url": "x"}] * 10 + [{"url": A}]])
    assert urls(loaded) == [A]
    assert [str(problem) for problem in loaded.problems][3:] == ["and 7 more"]


# -- beside the loop -------------------------------------------------------------------------------


def test_reading_aside_gives_the_same_and_does_not_hold_the_loop_up() -> None:
    go_on = threading.Event()

    def waits() -> list[Any]:
        assert go_on.wait(20)
        return [{"url": A}]

    async def scenario() -> Any:
        reading = asyncio.ensure_future(load_aside([waits, lambda: [{"url": B}]]))
        await asyncio.sleep(0)
        assert not reading.done()
        go_on.set()  # the loop runs, or this line would not be reached
        return await reading

    assert asyncio.run(scenario()) == ([Flow(A), Flow(B)], [])


def test_a_source_that_hangs_is_left_out_and_the_others_are_read() -> None:
    go_on = threading.Event()

    def hangs() -> list[Any]:
        go_on.wait(20)
        return [{"url": A}]

    async def scenario() -> Any:
        return await load_aside([hangs, lambda: [{"url": B}]], timeout=0.5)

    try:
        loaded = asyncio.run(scenario())
        assert urls(loaded) == [B]
        assert "took longer than 0.5 s" in loaded.problems[0].reason
    finally:
        go_on.set()
