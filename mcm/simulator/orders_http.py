"""Orders, reports and the tape over HTTP: ``POST /orders/NAME``, ``GET /report``, ``GET /tape``.

Every request is answered with JSON: orders with ``{"ok": …}``, and what cannot be done with status 400 and
``{"error": {"problem": …, "hint": …}}``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from mcm.simulator.orders import ORDERS, BadOrder
from mcm.simulator.report import TapeSlice, report_on
from mcm.simulator.vendor import Vendor

__all__ = ["order_routes"]

MAX_SLICE = 100_000
# Events written between two turns of the loop: the tape must not stutter because somebody reads it.
SLICE_PER_TURN = 1_000

Answer = Callable[[web.Request], Awaitable[web.Response]]


def order_routes(vendor: Vendor) -> list[web.RouteDef]:
    """What the orders port answers, REST apart."""

    async def order(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        kind = ORDERS.get(name)
        if kind is None:
            raise BadOrder(f"{name} is no order", f"orders: {', '.join(ORDERS)}")
        try:
            wanted = msgspec.json.decode(await request.read() or b"{}", type=kind)
        except msgspec.DecodeError as error:
            fields = ", ".join(field.encode_name for field in msgspec.structs.fields(kind)) or "none"
            raise BadOrder(str(error), f"{name} is a JSON object; its fields: {fields}") from error
        return _json({"ok": wanted.carry_out(vendor)})

    async def report(_request: web.Request) -> web.Response:
        return _json(report_on(vendor))

    async def tape(request: web.Request) -> web.Response:
        name = request.query.get("topic", "")
        topic = vendor.tape.topics.get(name)
        if topic is None:
            raise BadOrder(f"nobody has subscribed to the topic {name!r} yet", "name it like stocks.T.AAPL")
        first, last = _number(request, "first", 1), _number(request, "last", topic.count)
        if not 1 <= first <= last + 1 <= topic.count + 1 or last - first >= MAX_SLICE:
            raise BadOrder(
                f"{name} has events 1 to {topic.count}, not {first} to {last}", f"ask for at most {MAX_SLICE} at once"
            )
        events: list[str] = []
        for n in range(first, last + 1):
            events.append(topic.text(n))
            if not n % SLICE_PER_TURN:
                await asyncio.sleep(0)
        return _json(TapeSlice(name, first, last, events))

    return [
        web.post("/orders/{name}", _explained(order)),
        web.get("/report", _explained(report)),
        web.get("/tape", _explained(tape)),
    ]


def _explained(answer: Answer) -> Answer:
    async def explain(request: web.Request) -> web.Response:
        try:
            return await answer(request)
        except BadOrder as error:
            return _json({"error": {"problem": error.problem, "hint": error.hint}}, status=400)

    return explain


def _number(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError:
        raise BadOrder(f"{name} is {request.query[name]!r}", f"{name} is a whole number from 1 on") from None


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
