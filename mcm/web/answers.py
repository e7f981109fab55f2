"""The REST side: each answer is a question to mcm, and a record of core.web_api."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

import mcm
from mcm.client import Control
from mcm.core import ledger, readiness
from mcm.core.errors import UsageError
from mcm.core.settings_values import nearest
from mcm.core.status import Status
from mcm.core.web_api import (
    Change,
    Connection,
    Health,
    Move,
    Moves,
    OneMove,
    Readiness,
    Rebalance,
    Subscribe,
    Tickers,
    TopicTable,
    Unsubscribe,
    openapi,
)
from mcm.web.guard import NotFound
from mcm.web.pages import Pages
from mcm.web.sampler import Sampler
from mcm.web.source import Source

__all__ = ["Answers"]

TABLE_S = 1.0
COLUMNS = ["topic", "lines", "copies", "ticks_per_s", "watchlist", "age_s", "gap_since_ns", "gaps"]

Body = TypeVar("Body")


def _json(record: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(record), content_type="application/json")


async def _body(request: web.Request, kind: type[Body]) -> Body:
    """The body as a record; raises UsageError for anything else."""
    text = await request.read()
    if request.content_type != "application/json" and text:
        raise UsageError(f"a body of {request.content_type} is not read", "send application/json")
    try:
        return msgspec.json.decode(text or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body is not what is expected: {error}", "GET /api/openapi.json describes it") from None


class Answers:
    """All paths of core.web_api but the metrics."""

    def __init__(self, source: Source, sampler: Sampler, pages: Pages) -> None:
        self._source, self._sampler, self._pages = source, sampler, pages
        self._table: tuple[float, bytes] = (float("-inf"), b"")
        self._description = msgspec.json.encode(openapi(mcm.__version__))

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        lines, line = "/api/websocket/connections", "/api/connections/{id}"
        return [
            web.get("/health", self._health),
            web.get("/ready", self._ready),
            web.get("/api/openapi.json", self._openapi),
            web.get("/api/status", self._status),
            web.get("/api/configured", self._configured),
            web.get(lines, self._connections),
            web.get(lines + "/{id}", self._connection),
            web.get(lines + "/{id}/tickers", self._tickers),
            web.post("/api/websocket/rebalance", self._rebalance),
            web.get("/api/topics", self._topics),
            web.get("/api/topics/{topic:.+}", self._topic),
            web.get("/api/gaps", self._gaps),
            web.get("/api/ledger", self._ledger),
            web.post("/api/subscribe", self._subscribe),
            web.post("/api/unsubscribe", self._unsubscribe),
            web.post("/api/move", self._move),
            web.post(line + "/restart", self._changing(Control.restart)),
            web.post(line + "/pause", self._changing(Control.pause)),
            web.post(line + "/resume", self._changing(Control.resume)),
        ]

    # --- how it stands

    async def _health(self, _: web.Request) -> web.Response:
        return _json(Health("up"))

    async def _ready(self, _: web.Request) -> web.Response:
        reasons = readiness.missing(await self._source.status())
        return _json(Readiness(not reasons, reasons), 503 if reasons else 200)

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")

    async def _status(self, _: web.Request) -> web.Response:
        return _json(await self._source.status())

    async def _configured(self, _: web.Request) -> web.Response:
        return _json(await self._source.ask(Control.configured))

    async def _all_connections(self) -> dict[str, Connection]:
        status: Status = await self._source.status()
        configured = await self._source.ask(Control.configured)
        return {
            one.name: Connection(
                one.name, one.market, one.is_enabled, one.note, one.watchlists, status.connections.get(one.name)
            )
            for one in configured.connections
        }

    async def _named(self, request: web.Request) -> Connection:
        name, known = request.match_info["id"], await self._all_connections()
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
            raise NotFound(f"there is no connection {name!r}", hint)
        return known[name]

    async def _connections(self, _: web.Request) -> web.Response:
        return _json(list((await self._all_connections()).values()))

    async def _connection(self, request: web.Request) -> web.Response:
        return _json(await self._named(request))

    async def _tickers(self, request: web.Request) -> web.Response:
        name = (await self._named(request)).id
        topics = [row.topic for row in await self._source.ask(Control.topics) if name in row.lines]
        symbols = dict.fromkeys(topic.split(".", 2)[2] for topic in topics)
        return _json(Tickers(name, list(symbols), topics))

    async def _topics(self, _: web.Request) -> web.Response:
        now = time.monotonic()
        if now - self._table[0] > TABLE_S:
            self._table = now, msgspec.json.encode(await self._take_table())
        return web.Response(body=self._table[1], content_type="application/json")

    async def _take_table(self) -> TopicTable:
        found = await self._source.ask(Control.topics)
        recent = self._pages.gaps.recent
        counts = Counter(topic for one in recent if one.ev == "gap_opened" for topic in one.topics)
        now_ns = time.time_ns()
        seen = self._sampler.last_ns(row.topic for row in found)
        rows: list[list[Any]] = [
            [
                row.topic, row.lines, row.copies, row.ticks_per_s, row.watchlist,
                round((now_ns - last_ns) / 1e9, 2) if last_ns is not None else None,
                row.gap_since_ns, counts[row.topic],
            ]
            for row, last_ns in zip(found, seen, strict=True)
        ]  # fmt: skip
        return TopicTable(COLUMNS, rows, self._sampler.is_partial)

    async def _topic(self, request: web.Request) -> web.Response:
        what = request.match_info["topic"]
        try:
            return _json(await self._source.ask(lambda control: control.why(what)))
        except UsageError as error:
            raise NotFound(error.problem, error.hint) from None

    async def _gaps(self, _: web.Request) -> web.Response:
        return _json(
            await self._source.ask(lambda control: control.ask("gaps", answer=dict[str, list[dict[str, Any]]]))
        )

    async def _ledger(self, _: web.Request) -> web.Response:
        return _json(ledger.take(await self._source.status()))

    # --- what changes something

    async def _rebalance(self, request: web.Request) -> web.Response:
        wish = await _body(request, Rebalance)
        moves = await self._source.ask(lambda control: control.rebalance(dry_run=wish.dry_run))
        return _json(Moves(wish.dry_run, [OneMove(one.topic, one.source, one.target) for one in moves]))

    async def _subscribe(self, request: web.Request) -> web.Response:
        wish = await _body(request, Subscribe)
        unplaced = await self._source.ask(
            lambda control: control.subscribe(wish.topics, wish.connection, copies=wish.copies)
        )
        return _json(Change(unplaced))

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        wish = await _body(request, Unsubscribe)
        return _json(Change(still_leased=await self._source.ask(lambda control: control.unsubscribe(wish.topics))))

    async def _move(self, request: web.Request) -> web.Response:
        wish = await _body(request, Move)
        return _json(Change(await self._source.ask(lambda control: control.move(wish.what, wish.connection))))

    def _changing(self, change: Callable[[Control, str], None]) -> Handler:
        """What does that to the connection of the path."""

        async def answer(request: web.Request) -> web.Response:
            name = (await self._named(request)).id
            await self._source.ask(lambda control: change(control, name))
            return _json(Change())

        return answer
