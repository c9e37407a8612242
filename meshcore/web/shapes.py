"""The bodies of requests and answers, as the OpenAPI document describes them.

What programs and registries send is checked by these models, so that an error names the field. The
catalogue, which reads the same messages from the mesh, checks what no model can say.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from meshcore.flows.entry import without_controls
from meshcore.protocol.catalogue.messages import AGE_MAX, FLOWS_MAX, NODES_MAX
from meshcore.protocol.catalogue.records import (
    AUTHOR_MAX,
    DESCRIPTION_MAX,
    NAME_MAX,
    ORGANIZATION_MAX,
    TAG_MAX,
    TAGS_MAX,
    URL_MAX,
)

TTL, TTL_MIN, TTL_MAX = 300.0, 1.0, 7 * 86_400.0  # seconds
REGISTERED_MAX = 10_000  # flows of one program


class ErrorBody(BaseModel):
    name: str = Field(description="of the error of meshcore", examples=["BadPayloadError"])
    message: str = Field(description="what is wrong, for people")
    field: str | None = Field(None, description="what it is about, such as `flows[2].url`")


class ErrorAnswer(BaseModel):
    error: ErrorBody


class Health(BaseModel):
    status: str = Field(examples=["ok"])
    node_id: str
    version: str


class About(BaseModel):
    url: str | None = Field(description="where this node is reached over HTTP")
    node_id: str
    organization: str | None
    registry: bool = Field(description="whether it keeps what others offer")
    feed: bool = Field(description="whether it passes on what others told it")
    connection: dict[str, datetime | None] = Field(
        description="the registries it tells, and when each was last heard"
    )
    started_at: datetime
    idle: bool = Field(description="whether nothing is under way")
    now: datetime
    version: str


class Map(About):
    providers: list[str] = Field(description="who tells this node: nodes, registries, programs")
    registers: list[str] = Field(description="which registries it tells")


class Counts(BaseModel):
    total: int
    organization: dict[str, int]
    node: dict[str, int]
    tags: dict[str, int]


class Item(BaseModel):
    """A flow or an action. Times are those of the registry that is asked, null on other nodes."""

    registry: str | None = Field(description="who told this registry")
    node: str = Field(description="who offers it: a node, or the URL of a program outside")
    mesh: str
    organization: str | None
    created: datetime | None = Field(description="first seen")
    modified: datetime | None
    heartbeat: datetime | None = Field(description="when its node was last known to live")
    url: str
    name: str
    author: str
    description: str
    tags: list[str]
    status: str = Field(description="online, stale (not heard of since a restart) or offline")
    kind: str = Field(description="flow or action")


class Flows(BaseModel):
    total: int = Field(description="how many there are")
    filtered: int = Field(description="how many the query finds")
    p: int
    pp: int
    items: list[Item]
    by: str
    q: str
    reason: str | None = Field(None, description="why the query was taken as plain words")


class Record(Item):
    """An item with its version, which counts up in each life of its node."""

    incarnation: int
    version: int
    deleted: bool


class Registered(About):
    message: list[str] = Field(
        description="what came of it",
        examples=[
            ["registered node https://a.example/ (first visit)"],
            ["received 4 flows, registered 3 flows"],
        ],
    )


_HOST = r"([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
_PROGRAM = re.compile(
    rf"^[A-Za-z][A-Za-z0-9+.-]*://{_HOST}([/?#][A-Za-z0-9._~!$&'()*+,;=:@%/?#-]*)?$"
)
_REGISTRY = re.compile(rf"^https?://{_HOST}(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?$")


# Not by the rules of flows: nobody follows these, and a rule that is a pattern can be published.
def _program(text: str) -> str:
    if not _PROGRAM.fullmatch(text):
        raise ValueError("it must be a URL such as https://HOST:PORT/…, without user and password")
    return text


def _registry(text: str) -> str:
    if not _REGISTRY.fullmatch(text):
        raise ValueError("it must be http://HOST:PORT or https://HOST, perhaps with a path")
    return text


_PLAIN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"


def _plain(text: str) -> str:
    if without_controls(text) != text:
        raise ValueError("it must not contain line breaks or other control characters")
    return text


_FLOW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "maxLength": URL_MAX, "examples": ["https://a.example/ocr"]},
        "name": {"type": "string", "maxLength": NAME_MAX},
        "description": {"type": "string", "maxLength": DESCRIPTION_MAX},
        "author": {"type": "string", "maxLength": AUTHOR_MAX},
        "tags": {
            "type": "array",
            "maxItems": TAGS_MAX,
            "items": {"type": "string", "maxLength": TAG_MAX},
        },
    },
}
_FLOWS: dict[str, Any] = {
    "description": "A list of flows, or an object of them by URL. A flow that cannot be used is"
    " refused in a message of its own; the rest is registered.",
    "anyOf": [
        {"type": "array", "maxItems": REGISTERED_MAX, "items": {"anyOf": [_FLOW, {}]}},
        {
            "type": "object",
            "maxProperties": REGISTERED_MAX,
            "additionalProperties": {"anyOf": [_FLOW, {}]},
        },
    ],
}


class Registration(BaseModel):
    """A program outside the mesh, and exactly what it offers from now on."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "url": "https://ocr.example/",
                    "organization": "acme",
                    "flows": [{"url": "https://ocr.example/run", "name": "ocr", "tags": ["text"]}],
                }
            ]
        },
    )

    url: Annotated[str, AfterValidator(_program)] = Field(
        max_length=URL_MAX,
        description="of the program, which it is known by",
        json_schema_extra={"pattern": _PROGRAM.pattern},
    )
    organization: Annotated[str, AfterValidator(_plain)] = Field(
        "", max_length=ORGANIZATION_MAX, json_schema_extra={"pattern": _PLAIN}
    )
    flows: Annotated[
        Annotated[list[Any], Field(max_length=REGISTERED_MAX)]
        | Annotated[dict[str, Any], Field(max_length=REGISTERED_MAX)],
        WithJsonSchema(_FLOWS),
    ]
    ttl: float = Field(
        TTL,
        ge=TTL_MIN,
        le=TTL_MAX,
        allow_inf_nan=False,
        description="seconds; it counts as gone when it has not registered again by then",
    )


def _whole(value: Any) -> Any:
    """JSON has one kind of numbers: 7.0 is 7."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Almost 2^63, and a bound that those can tell, too, who read the numbers of JSON as doubles.
_NUMBER_MAX = 9 * 10**18
Number = Annotated[int, Field(ge=0, le=_NUMBER_MAX), BeforeValidator(_whole)]
AnyNumber = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
HttpUrl = Annotated[
    str,
    Field(max_length=URL_MAX, json_schema_extra={"pattern": _REGISTRY.pattern}),
    AfterValidator(_registry),
]


class Told(BaseModel):
    """A part of what registries tell each other: nothing is taken for something else."""

    model_config = ConfigDict(strict=True)


class Change(Told):
    url: str = Field(min_length=1, max_length=URL_MAX)
    name: str = Field(max_length=NAME_MAX)
    description: str = Field(max_length=DESCRIPTION_MAX)
    author: str = Field(max_length=AUTHOR_MAX)
    tags: list[Annotated[str, Field(min_length=1, max_length=TAG_MAX)]] = Field(max_length=TAGS_MAX)
    kind: Literal["flow", "action"] = "flow"
    version: Number
    deleted: bool


class NodeEntry(Told):
    """How much the sender holds of a node, or (with flows) what has changed there."""

    mesh: str = Field(max_length=64)
    node: str = Field(min_length=1, max_length=URL_MAX)
    organization: str = Field(max_length=ORGANIZATION_MAX)
    incarnation: Number
    version: Number
    complete: bool = Field(description="whether that is all that there is up to `version`")
    alive: bool
    age: float = Field(
        0,
        ge=0,
        le=AGE_MAX,
        allow_inf_nan=False,
        description="seconds since it was heard of, if not",
    )
    distance: Number = Field(0, description="how many registries have passed on whether it lives")
    since: Number = Field(0, description="the flows are the changes after this version")
    flows: list[Change] | None = Field(
        None, max_length=FLOWS_MAX, description="their versions rise from `since` to `version`"
    )
    refused: bool = Field(False, description="the sender does not take this node from us")


class Message(Told):
    """What one registry tells another."""

    url: HttpUrl = Field(description="where the sender is reached")
    organization: str = Field("", max_length=ORGANIZATION_MAX)
    feed: bool = Field(description="whether the sender passes on what others told it")
    mesh: str = Field("", max_length=64, description="the mesh of the sender")
    life: AnyNumber = Field(0, description="another one: the sender has started anew")
    nodes: list[NodeEntry] = Field(max_length=NODES_MAX)
