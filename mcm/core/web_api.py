"""The REST side of the dashboard as records, and its description in OpenAPI 3.1."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from mcm.core.ledger import Ledger
from mcm.core.overview import Configured
from mcm.core.status import ConnectionStatus, Status, TopicStatus

__all__ = [
    "PATHS",
    "Change",
    "Connection",
    "Failure",
    "Health",
    "Move",
    "Moves",
    "OneMove",
    "Readiness",
    "Rebalance",
    "Subscribe",
    "Tickers",
    "TopicTable",
    "Unsubscribe",
    "openapi",
]

Topics = Annotated[list[str], Meta(min_length=1, max_length=10_000)]


class _Body(Struct, frozen=True, forbid_unknown_fields=True):
    """What a request may hold."""


class Subscribe(_Body, frozen=True):
    """Have topics (``T.AAPL``, ``stocks.T.AAPL``) carried, by *connection* or by whom the strategy decides."""

    topics: Topics
    connection: str | None = None
    copies: Annotated[int, Meta(ge=1, le=100)] = 1


class Unsubscribe(_Body, frozen=True):
    """Have topics carried no more."""

    topics: Topics


class Move(_Body, frozen=True):
    """Pin a topic, or all topics of a symbol, to a connection."""

    what: str
    connection: str


class Rebalance(_Body, frozen=True):
    """Even out the lines, or only show by which moves."""

    dry_run: bool = False


class Change(Struct, frozen=True):
    """Topics that nobody can carry, with the reason; topics that go on because a program leases them."""

    unplaced: dict[str, str] = {}
    still_leased: list[str] = []


class OneMove(Struct, frozen=True):
    """A topic and the lines between which it moves."""

    topic: str
    source: str
    target: str


class Moves(Struct, frozen=True):
    """The moves of a rebalancing, made or only shown."""

    is_dry_run: bool
    moves: list[OneMove]


class Connection(Struct, frozen=True):
    """A connection that is configured; *status* is null while it has no process of its own."""

    id: str
    market: str
    is_enabled: bool
    note: str
    watchlists: list[str]
    status: ConnectionStatus | None


class Tickers(Struct, frozen=True):
    """What a connection carries: symbols, and topics."""

    id: str
    tickers: list[str]
    topics: list[str]


class TopicTable(Struct, frozen=True):
    """Every wanted topic as a row of *columns*; *is_sampled*: ticks may have come since what ``age_s`` says."""

    columns: list[str]
    rows: list[list[Any]]
    is_sampled: bool


class Health(Struct, frozen=True):
    """The process is up."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether every wanted topic is confirmed and ticks have come; and why not."""

    ready: bool
    reasons: list[str]


class Failure(Struct, frozen=True):
    """Why there is no answer: HTTP status, what is wrong, and what helps."""

    status: int
    problem: str
    hint: str


class _Operation(Struct, frozen=True):
    summary: str
    answer: Any
    body: Any = None
    parameters: Mapping[str, str] = {}
    also: Mapping[int, Any] = {}


_ID = {"id": "name of a connection"}
PATHS: Mapping[str, Mapping[str, _Operation]] = {
    "/health": {"get": _Operation("whether the process is up; needs no token", Health)},
    "/ready": {"get": _Operation("whether everything wanted arrives", Readiness, also={503: Readiness})},
    "/metrics": {"get": _Operation("metrics for Prometheus", str)},
    "/api/openapi.json": {"get": _Operation("this description", dict[str, Any])},
    "/api/status": {"get": _Operation("everything, as `mcm status --json`", Status)},
    "/api/configured": {"get": _Operation("connections and watchlists as configured", Configured)},
    "/api/websocket/connections": {"get": _Operation("every connection that is configured", list[Connection])},
    "/api/websocket/connections/{id}": {"get": _Operation("one connection", Connection, parameters=_ID)},
    "/api/websocket/connections/{id}/tickers": {"get": _Operation("what it carries", Tickers, parameters=_ID)},
    "/api/websocket/rebalance": {"post": _Operation("even out the lines", Moves, Rebalance)},
    "/api/topics": {"get": _Operation("every wanted topic in short", TopicTable)},
    "/api/topics/{topic}": {
        "get": _Operation(
            "where a topic, or each of a symbol, is carried, and why", list[TopicStatus],
            parameters={"topic": "stocks.T.AAPL, T.AAPL or AAPL"},
        )
    },
    "/api/gaps": {"get": _Operation("open gaps and the latest records of others", dict[str, list[dict[str, Any]]])},
    "/api/ledger": {"get": _Operation("that every tick is accounted for", Ledger)},
    "/api/subscribe": {"post": _Operation("have topics carried", Change, Subscribe)},
    "/api/unsubscribe": {"post": _Operation("have topics carried no more", Change, Unsubscribe)},
    "/api/move": {"post": _Operation("pin a symbol or topic to a connection", Change, Move)},
    "/api/connections/{id}/restart": {"post": _Operation("start it afresh", Change, parameters=_ID)},
    "/api/connections/{id}/pause": {"post": _Operation("close it until it is resumed", Change, parameters=_ID)},
    "/api/connections/{id}/resume": {"post": _Operation("open it again", Change, parameters=_ID)},
}  # fmt: skip
_TO_NAME = str.maketrans({"/": "_", "{": None, "}": None, ".": "_"})
_REFERENCE = "#/components/schemas/{name}"


def openapi(version: str) -> dict[str, Any]:
    """The description of all :data:`PATHS`."""
    kinds = [Failure]
    for operations in PATHS.values():
        for one in operations.values():
            kinds += [kind for kind in (one.answer, one.body, *one.also.values()) if kind is not None]
    found, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schemas = {str(kind): schema for kind, schema in zip(kinds, found, strict=True)}
    paths = {
        path: {method: _described(path, one, schemas) for method, one in operations.items()}
        for path, operations in PATHS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mcm",
            "version": version,
            "description": "One account's market-data connections: how they stand, and what can be changed.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _described(path: str, one: _Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    kind = "text/plain" if one.answer is str else "application/json"
    answers = {"200": _content(one.summary, kind, schemas[str(one.answer)])}
    for status, other in one.also.items():
        answers[str(status)] = _content("why not", "application/json", schemas[str(other)])
    answers["default"] = _content("what is wrong, and what helps", "application/json", schemas[str(Failure)])
    found: dict[str, Any] = {
        "operationId": path.strip("/").translate(_TO_NAME),
        "summary": one.summary,
        "responses": answers,
    }
    if one.parameters:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "description": words, "schema": {"type": "string"}}
            for name, words in one.parameters.items()
        ]
    if one.body is not None:
        found["requestBody"] = {"content": {"application/json": {"schema": schemas[str(one.body)]}}}
    return found


def _content(words: str, kind: str, schema: Any) -> dict[str, Any]:
    return {"description": words, "content": {kind: {"schema": schema}}}
