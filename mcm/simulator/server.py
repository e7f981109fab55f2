"""The shell: aiohttp accepts and reads, `Vendor` decides, one task turns the tape.

Two ports: the vendor's paths on one, orders, reports and REST on the other.
"""

import asyncio
import itertools
import os
from collections.abc import Callable

from aiohttp import WSMsgType, web

from mcm.simulator import CannotListen, SimulatorSettings, frames
from mcm.simulator.connection import Connection, State
from mcm.simulator.orders_http import order_routes
from mcm.simulator.rest import rest_routes
from mcm.simulator.vendor import Vendor, wall_ms

__all__ = ["PATHS", "run"]

# Path → market (massive-protocol 1.2).
PATHS = {f"/{market}": market for market in ("stocks", "options", "indices", "forex", "crypto", "futures")} | {
    f"/futures/{venue}": "futures" for venue in ("cme", "cbot", "nymex", "comex")
}
MAX_CLIENT_MESSAGE_BYTES = 1_048_576
IDLE_TURN_S = 0.02


async def run(settings: SimulatorSettings, ready: Callable[[int, int], None]) -> None:
    """See `mcm.simulator.serve`."""
    vendor = Vendor(settings)
    runners: list[web.AppRunner] = []
    try:
        port = await _listen(_vendor_app(vendor), settings.host, settings.port, runners)
        orders_port = await _listen(_orders_app(vendor), settings.host, settings.orders_port, runners)
        ready(port, orders_port)
        await _turn_for_ever(vendor)
    finally:
        for connection in list(vendor.connections.values()):
            connection.abort()
        for runner in runners:
            await runner.cleanup()


async def _listen(app: web.Application, host: str, port: int, runners: list[web.AppRunner]) -> int:
    # A handler whose client is gone must end, or shutting down would wait for it.
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    runners.append(runner)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(host, port, reason) from error
    bound: int = runner.addresses[0][1]
    return bound


async def _turn_for_ever(vendor: Vendor) -> None:
    turn_s = vendor.settings.turn_ms / 1_000
    while True:
        is_behind = vendor.turn()
        wait_s = vendor.tape.wait_ms(wall_ms()) / 1_000
        await asyncio.sleep(0 if is_behind else max(min(wait_s, IDLE_TURN_S), turn_s))


def _orders_app(vendor: Vendor) -> web.Application:
    app = web.Application()
    app.add_routes(order_routes(vendor))
    app.add_routes(rest_routes(vendor))
    return app


def _vendor_app(vendor: Vendor) -> web.Application:
    app = web.Application()
    numbers = itertools.count(1)

    async def converse(request: web.Request) -> web.StreamResponse:
        market = PATHS[request.path]
        if market in vendor.refuses_upgrades:
            vendor.refuse_upgrade(market)
            raise web.HTTPServiceUnavailable
        # We answer pings and closes ourselves: see `frames`.
        socket = web.WebSocketResponse(
            autoping=False, autoclose=False, compress=False, max_msg_size=MAX_CLIENT_MESSAGE_BYTES
        )
        await socket.prepare(request)
        assert request.transport is not None
        connection = Connection(
            number=next(numbers),
            market=market,
            path=request.path,
            transport=request.transport,
            since_ms=int(wall_ms()),
            acknowledging=vendor.acknowledging[market],
            max_events_per_frame=vendor.settings.max_events_per_frame,
        )
        vendor.admit(connection)
        expiry = asyncio.get_running_loop().call_later(vendor.settings.auth_timeout_s, _expire, connection)
        try:
            await _read(vendor, connection, socket)
        finally:
            expiry.cancel()
            vendor.forget(connection)
            connection.transport.close()
        return socket

    for path in PATHS:
        app.router.add_get(path, converse)
    return app


async def _read(vendor: Vendor, connection: Connection, socket: web.WebSocketResponse) -> None:
    """Pass a client's messages on until it is gone."""
    while True:
        message = await socket.receive()
        match message.type:
            case WSMsgType.TEXT | WSMsgType.BINARY:
                # What was on its way when a half-open connection stopped reading is lost, as in a dead machine.
                if connection.state in {State.OPEN, State.SILENT}:
                    vendor.receive(connection, message.data)
            case WSMsgType.PING:
                connection.pong(message.data)
            case WSMsgType.PONG:
                pass
            case WSMsgType.CLOSE:
                connection.write(frames.close_frame(message.data or 1000))
                connection.end(f"the client closed with {message.data}")
                return
            case _:  # the TCP connection ended, or the client broke the protocol
                return


def _expire(connection: Connection) -> None:
    if not connection.is_authenticated and connection.state is not State.HALF_OPEN:
        connection.hang_up(frames.AUTH_TIMEOUT)
