"""The simulator as a process: alone on a terminal, or as a child of the supervisor."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from mcm import runtime
from mcm.core import control
from mcm.core.exits import Exit
from mcm.simulator import CannotListen, SimulatorSettings, serve

__all__ = ["run_child", "run_standalone"]

log = logging.getLogger("mcm.simulator")

REPORT_S = 1.0


def run_standalone(settings: SimulatorSettings) -> int:
    """Serve until SIGINT or SIGTERM and return the exit code; says on stdout where it listens."""

    def ready(port: int, orders_port: int) -> None:
        print(  # noqa: T201 - what scripts wait for
            f"simulator: listening on {settings.host}:{port}, orders on {settings.host}:{orders_port}\n"
            f"  feed    ws://{settings.host}:{port}/stocks (or options, indices, forex, crypto, futures), any key\n"
            f"  orders  POST http://{settings.host}:{orders_port}/orders/NAME; report: GET /report\n"
            "  Ctrl-C ends it",
            flush=True,
        )

    try:
        asyncio.run(_serve_until_signal(settings, ready))
    except CannotListen as error:
        print(f"simulator: {error}", file=sys.stderr)  # noqa: T201
        return Exit.USAGE
    return Exit.OK


async def _serve_until_signal(settings: SimulatorSettings, ready: Callable[[int, int], None]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await _first_of(serve(settings, ready), ended)


def run_child() -> int:
    """Serve the supervisor that started this process until it says stop or is gone; return the exit code.

    The caller has tied the process to its parent (runtime.die_with_parent) before it imported this module.
    """
    channel = runtime.start_child("simulator")
    wish = runtime.await_settings(channel, control.SimulatorSettings)
    try:
        settings = SimulatorSettings(
            port=wish.port, orders_port=wish.orders_port, seed=wish.seed, ticks_per_s=wish.ticks_per_s, cap=wish.cap
        )
        asyncio.run(_serve_supervisor(settings, channel))
    except (CannotListen, ValueError) as error:
        log.error("%s; see the [simulator] section of the configuration", error)
        channel.send(control.Failed(str(error)))
        return Exit.USAGE
    return Exit.OK


async def _serve_supervisor(settings: SimulatorSettings, channel: runtime.Channel[control.Down]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def hear() -> None:
        if any(isinstance(record, control.Stop) for record in channel.receive()) or channel.closed:
            loop.remove_reader(channel)
            ended.set()

    def ready(port: int, orders_port: int) -> None:
        log.info("listening on port %d, orders on port %d", port, orders_port)
        channel.send(control.Ready(port, orders_port))
        beat()

    def beat() -> None:
        channel.send(control.SimulatorReport(), replace=True)
        loop.call_later(REPORT_S, beat)

    loop.add_reader(channel, hear)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await _first_of(serve(settings, ready), ended)


async def _first_of(serving: Coroutine[Any, Any, None], ended: asyncio.Event) -> None:
    """Serve until *ended*; raises what serving raises."""
    server = asyncio.create_task(serving, name="simulator:serve")
    waiter = asyncio.create_task(ended.wait(), name="simulator:wait")
    try:
        await asyncio.wait({server, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        server.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await server
