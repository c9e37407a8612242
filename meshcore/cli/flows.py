"""`meshctl flows`: what can be done where, in the whole mesh and beyond; and offering something.

`flows add` and `flows remove` are commands; any other first word belongs to a query. Who looks for
one of the two words writes it in quotes: `meshctl flows '"add"'`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from meshcore.cli import render
from meshcore.cli.attach import Session, session
from meshcore.cli.failure import one_line
from meshcore.cli.interrupts import run_async
from meshcore.cli.options import Options, examples, with_options
from meshcore.cli.render import Column
from meshcore.errors import BadPayloadError, MeshError

PER_PAGE = 10
PER_PAGE_MAX = 1000
_TIMES = ("created", "modified", "heartbeat")  # of an item, in Unix seconds
_COLUMNS = (
    Column("NAME", style="bold", wraps=True),
    Column("NODE"),
    Column("ORG", rank=3),
    Column("STATUS", rank=1),
    Column("TAGS", rank=2, wraps=True),
    Column("DESCRIPTION", rank=4, wraps=True),
    Column("URL", wraps=True),
)
_NOTHING_YET = (
    "nothing is offered yet; offer something with 'meshctl run --flows FILE', with"
    " 'meshctl flows add URL --name NAME', or with actions ('meshctl run --plugin demo')"
)


_offering = click.Group(name="flows")  # the commands beside the query


class _Query(click.Command):
    """The query; its help names the commands beside it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str()) for name, each in _offering.commands.items()]
            )


class _Flows(click.Group):
    """`add`, `remove`, and everything else is a query, of which it shows the options."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> click.Context:
        chosen = _offering if args and args[0] in self.commands else query
        return chosen.make_context(info_name, args, parent, **extra)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or query


@click.command(
    cls=_Query,
    options_metavar="[OPTIONS]",
    epilog=examples(
        "meshctl flows",
        "meshctl flows resize images",
        'meshctl flows \'organization == "acme" & @tag("gpu")\' --by modified:d',
        "meshctl flows --page 2 --per-page 50",
        "meshctl flows --json | jq -r '.items[].url'",
        "meshctl flows add https://lab.example/resize --name Resize --tag image",
        "meshctl flows remove https://lab.example/resize",
    ),
)
@click.argument("words", nargs=-1, metavar="[QUERY]")
@click.option("--by", default="", metavar="COLUMNS", help="Sort, as in name,modified:d.")
@click.option(
    "--page",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Show this page; the first is 0.",
)
@click.option(
    "--per-page",
    type=click.IntRange(1, PER_PAGE_MAX),
    default=PER_PAGE,
    metavar="N",
    help=f"How many are on a page.  [default: {PER_PAGE}]",
)
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def query(options: Options, *, words: tuple[str, ...], by: str, page: int, per_page: int) -> None:
    """List what can be done where: flows and actions, in the whole mesh and beyond.

    QUERY is plain words, all of which have to be found in what an entry says of itself; or it
    compares fields: name, node, organization, status, author, description, url, kind, tags,
    created, modified, heartbeat, registry. What is no comparison is taken as plain words.

    The nearest registry of the mesh answers; where there is none, the node that this command is
    attached to, which knows what it offers itself.
    """
    asked = {"q": " ".join(words), "by": by, "p": page, "pp": per_page}
    run_async(_show(options, asked))


async def _show(options: Options, asked: dict[str, Any]) -> None:
    async with session(options) as client:
        found = await _ask(client, "mesh:flows", asked)
    if options.json:
        render.print_json({**found, "items": [_with_dates(item) for item in found["items"]]})
        return
    if found["items"]:
        render.print_table(_COLUMNS, [_cells(item) for item in found["items"]])
    for line in _notes(found, client.node_id):
        click.echo(one_line(line), err=True)


async def _ask(client: Session, directive: str, payload: Any) -> Any:
    """What the node answers; what it cannot make sense of is our user's mistake, and says so."""
    try:
        return await client.ask(directive, payload)
    except BadPayloadError as error:
        raise click.UsageError(str(error)) from error


def _with_dates(item: dict[str, Any]) -> dict[str, Any]:
    dated = dict(item)
    for key in _TIMES:
        value = item.get(key)
        if isinstance(value, int | float):
            dated[key] = datetime.fromtimestamp(value, UTC)
    return dated


def _cells(item: dict[str, Any]) -> list[str]:
    return [
        item.get("name") or render.UNKNOWN,
        render.known(item.get("node")),
        item.get("organization") or render.UNKNOWN,
        render.known(item.get("status")),
        ", ".join(item.get("tags") or ()) or render.UNKNOWN,
        (item.get("description") or "").partition("\n")[0] or render.UNKNOWN,
        render.known(item.get("url")),
    ]


def _notes(found: dict[str, Any], node_id: str) -> list[str]:
    """What is said below the table, or instead of it."""
    total, filtered, shown = found["total"], found["filtered"], len(found["items"])
    page, per_page, asked = found["p"], found["pp"], found["q"]
    notes = []
    if found.get("reason"):
        notes.append(f"taken as plain words: {found['reason']}")
    if not total:
        return [*notes, _NOTHING_YET]
    if not filtered:
        return [*notes, f"none of the {total:,} that are offered fits {asked!r}"]
    last = (filtered - 1) // per_page
    if not shown:
        return [*notes, f"there is no page {page:,}; the last one is --page {last}"]
    first = page * per_page
    rows = f"{first + 1:,}" if shown == 1 else f"{first + 1:,} to {first + shown:,}"
    text = f"{rows} of {filtered:,}"
    if filtered != total:
        text += f" that fit, of {total:,} in all"
    registry = found.get("registry")
    text += f"; from {registry or node_id}"
    if registry is None:
        text += ", which knows its own alone: there is no registry (meshctl run --registry)"
    if page < last:
        text += f"; --page {page + 1} shows more"
    return [*notes, text]


@_offering.command(
    "add",
    short_help="Offer a flow on the node that it is attached to.",
    epilog=examples(
        "meshctl flows add https://lab.example/resize --name Resize --tag image --tag gpu",
    ),
)
@click.argument("url")
@click.option("--name", default="", metavar="TEXT", help="What people call it.")
@click.option("--description", default="", metavar="TEXT", help="What it does.")
@click.option("--author", default="", metavar="TEXT", help="Whom to ask about it.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT", help="A word to find it by.")
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def add(options: Options, **fields: Any) -> None:
    """Offer the service at URL, in the name of the node that this command is attached to.

    It is offered until that node stops; what is to be offered for longer belongs into a file
    (meshctl run --flows FILE). What was offered under the same URL is replaced.
    """
    from meshcore import flow_from

    flow = flow_from({**fields, "tags": list(fields["tags"])})
    said = {name: getattr(flow, name) for name in ("url", "name", "description", "author")}
    run_async(_add(options, {**said, "tags": list(flow.tags)}))


async def _add(options: Options, flow: dict[str, Any]) -> None:
    async with session(options) as client:
        await _ask(client, "mesh:flows_add", flow)
    if options.json:
        render.print_json({"node_id": client.node_id, "flow": flow})
    else:
        click.echo(one_line(f"{client.node_id} offers {flow['url']} until it stops"))


@_offering.command(
    "remove",
    short_help="Offer a flow no more.",
    epilog=examples("meshctl flows remove https://lab.example/resize"),
)
@click.argument("url")
@with_options(timeout=5.0, timeout_help="How long to wait for an answer.")
def remove(options: Options, *, url: str) -> None:
    """Have the node that this command is attached to offer URL no more.

    What comes out of a file or a function is offered again when these are read again: at the next
    SIGHUP or start of the node. Exits with 1 if the node does not offer URL.
    """
    run_async(_remove(options, url))


async def _remove(options: Options, url: str) -> None:
    async with session(options) as client:
        answer = await _ask(client, "mesh:flows_remove", url)
    if not answer["removed"]:
        raise MeshError(
            f"{client.node_id} does not offer {url} (meshctl flows 'node == \"{client.node_id}\"')",
            node_id=client.node_id,
            may_have_run=False,
        )
    if options.json:
        render.print_json({"node_id": client.node_id, "url": url, "removed": True})
    else:
        click.echo(one_line(f"{client.node_id} offers {url} no more"))


command = _Flows(name="flows", params=query.params, commands=_offering.commands)
