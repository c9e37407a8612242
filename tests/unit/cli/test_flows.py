"""flows and counts: the catalogue of a mesh that exists on paper."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshcore.errors import BadPayloadError, UnreachableError

ITEM = {
    "registry": "beta",
    "node": "gamma",
    "mesh": "mesh",
    "organization": "acme",
    "created": 1_800_000_000.0,
    "modified": 1_800_000_000.25,
    "heartbeat": None,
    "url": "https://lab.example/resize",
    "name": "Resize",
    "author": "me",
    "description": "Makes images smaller\nand smaller",
    "tags": ["cpu", "image"],
    "status": "online",
    "kind": "flow",
}
BARE = {**ITEM, "url": "x://y", "name": "", "organization": None, "tags": [], "description": ""}


def page(*items: Any, **more: Any) -> dict[str, Any]:
    return {
        "total": len(items),
        "filtered": len(items),
        "p": 0,
        "pp": 10,
        "items": list(items),
        "by": "",
        "q": "",
        "registry": "beta",
        **more,
    }


@pytest.fixture
def catalogue(mesh: Any) -> Any:
    mesh.answers["mesh:flows"] = page(ITEM, BARE)
    mesh.answers["mesh:flows_add"] = lambda flow: {"url": flow["url"]}
    mesh.answers["mesh:flows_remove"] = lambda url: {"url": url, "removed": "lab" in url}
    return mesh


def test_the_table_has_a_line_for_each_and_says_who_knows_it(catalogue: Any, run: Any) -> None:
    done = run("flows")
    assert done.code == 0
    header, first, second = done.out.splitlines()
    assert header.split() == "NAME NODE ORG STATUS TAGS DESCRIPTION URL".split()
    assert first.split("  ")[0] == "Resize"
    for part in ("gamma", "acme", "online", "cpu, image", "Makes images smaller", ITEM["url"]):
        assert part in first
    assert second.split() == ["-", "gamma", "-", "online", "-", "-", "x://y"]
    assert done.err == "1 to 2 of 2; from beta\n"
    assert catalogue.asked == [("alpha", "mesh:flows", {"q": "", "by": "", "p": 0, "pp": 10})]


def test_the_query_its_order_and_its_page_are_asked_for(catalogue: Any, run: Any) -> None:
    asked = ("--by", "name:d,node", "--page", "3", "--per-page", "7")
    assert run("flows", 'name == "x" & tags', *asked).code == 0
    assert catalogue.asked[-1][2] == {
        "q": 'name == "x" & tags',
        "by": "name:d,node",
        "p": 3,
        "pp": 7,
    }
    assert run("flows", "--by", "name", "resize", "images").code == 0
    assert catalogue.asked[-1][2]["q"] == "resize images"
    for query in ('"add"', "list", "adding", "query"):
        assert run("flows", query).code == 0
        assert catalogue.asked[-1][1:] == ("mesh:flows", {"q": query, "by": "", "p": 0, "pp": 10})


@pytest.mark.parametrize(
    "wrong",
    [("--page", "-1"), ("--page", "x"), ("--per-page", "0"), ("--per-page", "1001"), ("--what",)],
)
def test_a_page_that_cannot_be_is_a_usage_error(
    wrong: tuple[str, ...], catalogue: Any, run: Any
) -> None:
    assert run("flows", *wrong).code == 2
    assert catalogue.asked == []


def test_json_is_the_page_with_its_times_as_iso(catalogue: Any, run: Any) -> None:
    done = run("flows", "--json")
    assert done.err == ""
    found = json.loads(done.out)
    dated = {
        **ITEM,
        "created": "2027-01-15T08:00:00Z",
        "modified": "2027-01-15T08:00:00.250000Z",
        "heartbeat": None,
    }
    assert found["items"][0] == dated
    assert {key: found[key] for key in found if key != "items"} == {
        key: value for key, value in page(ITEM, BARE).items() if key != "items"
    }


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (page(ITEM, total=25, filtered=25), "1 of 25; from beta; --page 1 shows more"),
        (
            page(ITEM, BARE, total=1234, filtered=1200, p=100),
            "1,001 to 1,002 of 1,200 that fit, of",
        ),
        (page(ITEM, BARE, total=1234, filtered=1200, p=100), "--page 101 shows more"),
        (page(ITEM, total=11, filtered=11, p=1), "11 of 11; from beta\n"),
        (page(ITEM, registry=None), "from alpha, which knows its own alone: there is no registry"),
        (page(), "nothing is offered yet; offer something with 'meshctl run --flows FILE'"),
        (page(total=7, q="zzz"), "none of the 7 that are offered fits 'zzz'"),
        (page(total=25, filtered=25, p=9), "there is no page 9; the last one is --page 2"),
        (
            page(ITEM, q="a ==", reason="unexpected end"),
            "taken as plain words: unexpected end\n1 of",
        ),
    ],
)
def test_below_the_table_stands_what_there_is_beyond_it(
    answer: dict[str, Any], says: str, catalogue: Any, run: Any
) -> None:
    catalogue.answers["mesh:flows"] = answer
    done = run("flows")
    assert done.code == 0
    assert says in done.err
    assert bool(done.out) == bool(answer["items"])
    as_json = run("flows", "--json")
    assert (as_json.code, as_json.err) == (0, "")
    assert json.loads(as_json.out).get("reason") == answer.get("reason")


def test_what_the_node_cannot_make_sense_of_is_a_usage_error(catalogue: Any, run: Any) -> None:
    catalogue.answers["mesh:flows"] = BadPayloadError(
        "by: unknown column 'nam'; did you mean name?"
    )
    done = run("flows", "--by", "nam")
    assert (done.code, done.out) == (2, "")
    assert "did you mean name?" in done.err
    catalogue.answers["mesh:flows"] = UnreachableError("gone")
    assert run("flows").code == 3


def test_what_others_wrote_does_not_reach_the_terminal_as_it_is(catalogue: Any, run: Any) -> None:
    catalogue.answers["mesh:flows"] = page(
        {**ITEM, "name": "\x1b[31mred\nline"}, reason="\x1b[2Jgone", q="x"
    )
    done = run("flows")
    assert "\x1b" not in done.out + done.err
    assert len(done.out.splitlines()) == 2


def test_help_names_the_commands_beside_the_query(run: Any) -> None:
    out = run("flows", "--help").out
    assert "[QUERY]" in out
    for part in ("--by", "--per-page", "\n  add ", "\n  remove "):
        assert part in out
    assert "--tag" in run("flows", "add", "--help").out


def test_add_offers_a_flow_on_the_node(catalogue: Any, run: Any) -> None:
    flags = ("--name", "Resize", "--description", "Smaller", "--author", "me", "--tag", "b")
    done = run("flows", "add", "https://lab.example/r", *flags, "--tag", "a")
    assert (done.code, done.out) == (0, "alpha offers https://lab.example/r until it stops\n")
    flow = {
        "url": "https://lab.example/r",
        "name": "Resize",
        "description": "Smaller",
        "author": "me",
        "tags": ["a", "b"],
    }
    assert catalogue.asked == [("alpha", "mesh:flows_add", flow)]
    done = run("flows", "add", "https://lab.example/r", *flags, "--tag", "a", "--json")
    assert json.loads(done.out) == {"node_id": "alpha", "flow": flow}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("javascript:alert(1)",), "javascript: is not allowed"),
        (("https://x", "--tag", ""), "tag '' must be a text of 1 to 64"),
        (("https://x", "--name", "n" * 257), "at most 256 characters"),
        ((), "Missing argument 'URL'"),
    ],
)
def test_a_flow_that_cannot_be_is_a_usage_error_and_nobody_is_asked(
    arguments: tuple[str, ...], says: str, catalogue: Any, run: Any
) -> None:
    done = run("flows", "add", *arguments)
    assert (done.code, catalogue.asked, catalogue.attached) == (2, [], 0)
    assert says in done.err


def test_what_the_node_refuses_to_add_is_said(catalogue: Any, run: Any) -> None:
    catalogue.answers["mesh:flows_add"] = BadPayloadError("too many flows")
    done = run("flows", "add", "https://x")
    assert done.code == 2
    assert "too many flows" in done.err


def test_remove_takes_a_flow_back_and_says_where_there_is_none(catalogue: Any, run: Any) -> None:
    done = run("flows", "remove", "https://lab.example/r")
    assert (done.code, done.out) == (0, "alpha offers https://lab.example/r no more\n")
    assert catalogue.asked == [("alpha", "mesh:flows_remove", "https://lab.example/r")]
    done = run("flows", "remove", "https://lab.example/r", "--json")
    assert json.loads(done.out) == {
        "node_id": "alpha",
        "url": "https://lab.example/r",
        "removed": True,
    }
    done = run("flows", "remove", "https://other.example/r")
    assert (done.code, done.out) == (1, "")
    assert "alpha does not offer https://other.example/r" in done.err
    done = run("flows", "remove", "https://other.example/r", "--json")
    assert json.loads(done.out)["error"]["node_id"] == "alpha"


COUNTS = {
    "total": 1234,
    "organization": {"acme": 1000, "": 234},
    "node": {f"n{n:02}": 50 - n for n in range(25)},
    "tags": {},
    "registry": "beta",
}


def test_counts_are_tables_with_the_most_frequent_first(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:counts"] = COUNTS
    done = run("counts")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "1,234 offered, from beta"
    assert [line.split() for line in lines[2:5]] == [
        ["ORGANIZATION", "OFFERED"],
        ["acme", "1,000"],
        ["-", "234"],
    ]
    assert lines[6].split() == ["NODE", "OFFERED"]
    assert lines[7].split() == ["n00", "50"]
    assert lines[-1].split() == ["5", "more", "140"]
    assert "TAG" not in done.out
    assert mesh.asked == [("alpha", "mesh:counts", None)]


def test_counts_as_json_are_all_of_them(mesh: Any, run: Any) -> None:
    mesh.answers["mesh:counts"] = COUNTS
    assert json.loads(run("counts", "--json").out) == COUNTS
    mesh.answers["mesh:counts"] = {"total": 0, "registry": None}
    assert run("counts").out == "0 offered, of alpha: there is no registry\n"
