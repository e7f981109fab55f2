"""The vendor's REST paths for back-filling (massive-protocol section 8), answered from what has ticked so far.

Bars are the second and minute bars of the stream, so other time spans are refused.  Pages are cut by event number.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from mcm.simulator.rest_fields import (
    Convert,
    bar_fields,
    futures_bar_fields,
    futures_fields,
    quote_fields,
    trade_fields,
)
from mcm.simulator.rest_query import BadQuery, Query, numbers_of, read_query
from mcm.simulator.tape import Topic
from mcm.simulator.vendor import Vendor

__all__ = ["rest_routes"]

RESULTS_PER_TURN = 1_000
_FAILURES = {
    401: '{"status":"ERROR","request_id":"%s","error":"Unknown API Key"}',
    403: '{"status":"NOT_AUTHORIZED","request_id":"%s","message":"You are not entitled to this data. '
    'Please upgrade your plan. https://massive.com/pricing"}',
    429: '{"status":"ERROR","request_id":"%s","error":"You\'ve exceeded the maximum requests per minute, please '
    'wait or upgrade your subscription to continue. https://massive.com/pricing"}',
}
_OTHER_FAILURE = '{"status":"ERROR","request_id":"%s","error":"internal error"}'
_TICK_CHANNELS = {
    "trades": {"stocks": "T", "options": "T", "crypto": "XT", "futures": "T"},
    "quotes": {"stocks": "Q", "options": "Q", "forex": "C", "futures": "Q"},
}
_BAR_CHANNELS = {
    "second": {"stocks": "A", "options": "A", "indices": "A", "forex": "CAS", "crypto": "XAS", "futures": "A"},
    "minute": {"stocks": "AM", "options": "AM", "indices": "AM", "forex": "CA", "crypto": "XA", "futures": "AM"},
}


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def rest_routes(vendor: Vendor) -> list[web.RouteDef]:
    """Trades, quotes and bars of all markets."""
    answer = _Answer(vendor)
    return [
        web.get("/v3/{kind:trades|quotes}/{ticker}", answer.guarded(answer.ticks)),
        web.get("/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}", answer.guarded(answer.bars)),
        web.get("/futures/v1/{kind:trades|quotes}/{ticker}", answer.guarded(answer.futures_ticks)),
        web.get("/futures/v1/aggs/{ticker}", answer.guarded(answer.futures_bars)),
    ]


class _Answer:
    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._requests = 0

    def guarded(
        self, handler: Callable[[web.Request], Awaitable[dict[str, Any]]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Do what every path has in common: ordered failures, errors as the vendor writes them, status and id."""

        async def respond(request: web.Request) -> web.Response:
            self._requests += 1
            request_id = f"{self._requests:032x}"
            try:
                if self._vendor.rest_failures:
                    raise _Refused(self._vendor.rest_failures.popleft())
                content = {**await handler(request), "status": "OK", "request_id": request_id}
            except _Refused as error:
                text = _FAILURES.get(error.status, _OTHER_FAILURE) % request_id
                return web.Response(text=text, status=error.status, content_type="application/json")
            except BadQuery as error:
                content = {"status": "ERROR", "request_id": request_id, "error": str(error)}
                return web.Response(body=msgspec.json.encode(content), status=400, content_type="application/json")
            return web.Response(body=msgspec.json.encode(content), content_type="application/json")

        return respond

    async def ticks(self, request: web.Request) -> dict[str, Any]:
        kind = request.match_info["kind"]
        market, symbol = stream_spelling(request.match_info["ticker"])
        fields = (trade_fields if kind == "trades" else quote_fields)(market)
        query = read_query(request.query, field="timestamp", limit=1_000)
        return await self._page(request, (market, _TICK_CHANNELS[kind].get(market), symbol), query, fields)

    async def futures_ticks(self, request: web.Request) -> dict[str, Any]:
        kind, ticker = request.match_info["kind"], request.match_info["ticker"]
        query = read_query(request.query, field="timestamp", limit=10 if kind == "trades" else 100)
        return await self._page(
            request, ("futures", _TICK_CHANNELS[kind]["futures"], ticker), query, futures_fields(kind)
        )

    async def bars(self, request: web.Request) -> dict[str, Any]:
        path = request.match_info
        market, symbol = stream_spelling(path["ticker"])
        if path["multiplier"] != "1" or path["timespan"] not in _BAR_CHANNELS:
            raise BadQuery("the simulator has bars of 1 second and 1 minute only")
        parameters = {**request.query, "window.gte": path["from"], "window.lte": path["to"]}
        query = read_query(parameters, field="window", limit=5_000, per_ms=1, is_descending=False)
        channel = _BAR_CHANNELS[path["timespan"]][market]
        page = await self._page(request, (market, channel, symbol), query, bar_fields)
        count = len(page["results"])
        adjusted = request.query.get("adjusted", "true") == "true"
        return {"ticker": path["ticker"], "adjusted": adjusted, "queryCount": count, "resultsCount": count, **page}

    async def futures_bars(self, request: web.Request) -> dict[str, Any]:
        span = {"1sec": "second", "1min": "minute"}.get(request.query.get("resolution", "1min"))
        if span is None:
            raise BadQuery("the simulator has the resolutions 1sec and 1min only")
        query = read_query(request.query, field="window_start", limit=1_000)
        ticker, channel = request.match_info["ticker"], _BAR_CHANNELS[span]["futures"]
        return await self._page(request, ("futures", channel, ticker), query, futures_bar_fields)

    async def _page(
        self, request: web.Request, topic_name: tuple[str, str | None, str], query: Query, convert: Convert
    ) -> dict[str, Any]:
        market, channel, symbol = topic_name
        if channel is None:
            raise BadQuery(f"{market} has none of these")
        self._authorize(request, market, channel)
        topic = self._vendor.tape.topics.get(f"{market}.{channel}.{symbol}")
        if topic is None:
            return {"results": []}
        numbers = numbers_of(topic, query)
        page = numbers[: query.limit]
        results = await _regenerate(topic, page, convert)
        if len(numbers) <= len(page):
            return {"results": results}
        next_url = request.url.update_query(cursor=str(numbers[query.limit])).without_query_params("apiKey")
        return {"results": results, "next_url": str(next_url)}

    def _authorize(self, request: web.Request, market: str, channel: str) -> None:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        key = bearer.strip() if scheme.lower() == "bearer" else request.query.get("apiKey", "")
        plan = self._vendor.keys.entitlement(key)
        if plan is None:
            raise _Refused(401)
        if not plan.covers(market) or f"{market}.{channel}" in plan.lacks:
            raise _Refused(403)


async def _regenerate(topic: Topic, numbers: range, convert: Convert) -> list[dict[str, Any]]:
    results = []
    for done, n in enumerate(numbers, start=1):
        event: Mapping[str, Any] = msgspec.json.decode(topic.final_text(n))
        results.append(convert(event))
        if not done % RESULTS_PER_TURN:
            await asyncio.sleep(0)
    return results


def stream_spelling(ticker: str) -> tuple[str, str]:
    """Market and symbol as the stream spells them (massive-protocol 8.5)."""
    prefix, colon, bare = ticker.partition(":")
    match prefix if colon else "":
        case "O":
            return "options", ticker
        case "I":
            return "indices", ticker
        case "X":
            return "crypto", bare if "-" in bare else f"{bare[:-3]}-{bare[-3:]}"
        case "C":
            return "forex", bare.replace("-", "/") if "-" in bare else f"{bare[:3]}/{bare[3:]}"
        case _:
            return "stocks", ticker
